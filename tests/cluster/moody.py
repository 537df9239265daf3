"""An agent that does its work until it is told to go wrong: how is in a file of its workspace, its mood.

Standard library only, one file: it is given to a pod's python3 as text. As the workspace survives every end of it, so
does the mood.

    crash   say what went wrong, the password of the workspace among it, and exit with 3
    eat     take memory until the kernel ends it
    loop    call tools a thousand times as often, as an agent does that goes round in a circle
    fail    have every call fail

Its own figures are at /metrics, in Prometheus' text format.
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 9100
WORKSPACE = Path("/workspace")
MOOD = WORKSPACE / "mood"
RUNS = WORKSPACE / "runs"
PASSWORD = WORKSPACE / "password"

TICK = 0.05
USUAL = 1.0
"""Calls in a second."""
LOOPING = 1000.0

LAST_WORDS = """step 41: asked the search tool for suppliers in Lyon
the search tool answered 500 three times, giving up
the connection was postgres://agent:{password}@db.example/stock"""


class Figures:
    """What it counts."""

    calls = 0.0
    errors = 0.0


class Handler(BaseHTTPRequestHandler):
    """Tells the figures to whoever asks."""

    def do_GET(self) -> None:
        """Answer."""
        body = (
            "# TYPE agent_tool_calls_total counter\n"
            f"agent_tool_calls_total {Figures.calls}\n"
            "# TYPE agent_tool_errors_total counter\n"
            f"agent_tool_errors_total {Figures.errors}\n"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: its log is for its last words."""


def crash() -> None:
    """End with an error."""
    print(LAST_WORDS.format(password=PASSWORD.read_text()), flush=True)
    sys.exit(3)


def eat() -> None:
    """Take memory, and touch it, without end."""
    taken = []
    while True:
        taken.append(b"\x01" * (4 << 20))


def main() -> None:
    """Work, and look at the mood now and then."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not PASSWORD.exists():
        PASSWORD.write_text(secrets.token_urlsafe(12))
    with RUNS.open("a") as file:
        file.write(f"{time.time()}\n")
    server = ThreadingHTTPServer(("", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        mood = MOOD.read_text().strip() if MOOD.exists() else ""
        if mood == "crash":
            crash()
        if mood == "eat":
            eat()
        calls = TICK * (LOOPING if mood == "loop" else USUAL)
        Figures.calls += calls
        Figures.errors += calls if mood == "fail" else 0
        time.sleep(TICK)


if __name__ == "__main__":
    main()
