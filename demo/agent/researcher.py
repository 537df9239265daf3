"""The demo's researcher: it puts one question after the other to a search tool, until one makes it go round in circles.

It saves how far it is to /workspace/research.json after each question. The question LOOPS_AT sends it round: it asks
the same again and again, as often as it can. On SIGTERM it gives that question up, says so in its termination message,
and exits 0; the next run goes on after it. Its own figures are at port 9100, in Prometheus' text format.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.request
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 9100
USUAL, LOOPING = 0.25, 0.01
"""Seconds between two calls."""
CALL_SECONDS = 1.0
LAST_WORDS = Path("/dev/termination-log")


@dataclass
class Research:
    """How far it is.

    Attributes:
        question: number of the present question.
        given_up: questions that it did not get out of.
    """

    question: int = 1
    given_up: list[int] = field(default_factory=list)

    @classmethod
    def resume(cls, file: Path) -> Research:
        """Read how far the last run was."""
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def save(self, file: Path) -> None:
        """Write it, whole or not at all."""
        written = file.with_suffix(".new")
        with written.open("w") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        written.replace(file)


class Figures:
    """What it counts."""

    calls = 0


class Handler(BaseHTTPRequestHandler):
    """Tells the figures to whoever may ask."""

    def do_GET(self) -> None:
        """Answer."""
        body = f"# TYPE agent_tool_calls_total counter\nagent_tool_calls_total {Figures.calls}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def ask(url: str) -> None:
    """Call the tool; what it says does not matter here."""
    Figures.calls += 1
    try:
        with urllib.request.urlopen(url, timeout=CALL_SECONDS) as answer:  # noqa: S310 - its own setting
            answer.read()
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}", flush=True)


def work(file: Path, *, url: str, loops_at: int, stop: threading.Event) -> None:
    """Ask one question after the other until it is to stop."""
    research = Research.resume(file)
    print(f"question {research.question}", flush=True)
    asked = 0
    while not stop.wait(LOOPING if research.question == loops_at else USUAL):
        ask(url)
        asked += 1
        if research.question != loops_at:
            research.question += 1
            research.save(file)
            asked = 0
    if research.question == loops_at:
        research.given_up.append(research.question)
        LAST_WORDS.write_text(f"question {research.question} was put {asked} times and never answered; it is given up")
        research.question += 1
        research.save(file)


def main() -> int:
    """Run until SIGTERM. WORKSPACE, TOOL (a URL) and LOOPS_AT (a number) come from the environment."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=ThreadingHTTPServer(("", PORT), Handler).serve_forever, daemon=True).start()
    file = Path(os.environ.get("WORKSPACE", "/workspace")) / "research.json"
    work(file, url=os.environ["TOOL"], loops_at=int(os.environ["LOOPS_AT"]), stop=stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
