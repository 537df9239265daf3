"""The demo's agent: it counts, slowly, into its workspace, and goes on counting where it was stopped.

Every line of /workspace/progress.log is one finished step, `STEP TIME POD`. On SIGTERM it writes a checkpoint line and
exits 0; killed without warning it loses at most the step it was in, which the next run repeats. Where it was given a
lease on a database, each step is an entry of the database's journal before it is a line of the log. To whoever may ask,
it tells on port 8080 how far it is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import postgres  # type: ignore[import-not-found]  # beside this file in the image

SECONDS = 1.0
"""For one answer of the database: below the grace, or a call that hangs when the network goes takes all of it."""


class Journal:
    """The database's journal, by way of a lease that is another one every few minutes."""

    def __init__(self, folder: Path) -> None:
        """Open nothing yet.

        Args:
            folder: where the lease is.
        """
        self._folder = folder
        self._url = ""
        self._session: postgres.Session | None = None

    def enter(self, what: str) -> bool:
        """Make an entry; tell whether the database has it. Where it has not, say why."""
        try:
            if (url := postgres.lease(self._folder)) != self._url:
                former, self._session = self._session, postgres.Session(url, seconds=SECONDS)
                self._url = url
                if former is not None:
                    former.close()
            if self._session is None:
                self._session = postgres.Session(url, seconds=SECONDS)
            self._session.run(f"INSERT INTO journal (what) VALUES ('{what}')")  # noqa: S608 - it is a number
        except (OSError, postgres.RefusedError) as error:
            print(f"no entry: {error}", flush=True)
            self._session = None
            return False
        return True


def last_step(log: Path) -> int:
    """Give the number of the last finished step, 0 for none. A line that a crash left unfinished is cut off."""
    if not log.exists():
        return 0
    text = log.read_text(encoding="utf-8")
    finished = text[: text.rfind("\n") + 1]
    if finished != text:
        log.write_text(finished, encoding="utf-8")
    steps = [int(line.split()[0]) for line in finished.splitlines() if line[:1].isdigit()]
    return max(steps, default=0)


def write_line(log: Path, line: str) -> None:
    """Append one line and wait until the disk has it: a suspension may be a moment away."""
    with log.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(line, flush=True)


def now() -> str:
    """Give the time in UTC, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def work(log: Path, *, interval: float, stop: threading.Event, journal: Journal | None) -> None:
    """Do one step every `interval` seconds until `stop` is set, then write the checkpoint."""
    pod = os.environ.get("HOSTNAME", "nowhere")
    step = last_step(log)
    print(f"resuming after step {step}" if step else "starting at step 1", flush=True)
    while not stop.wait(interval):
        if journal is None or journal.enter(f"step {step + 1}"):
            step += 1
            write_line(log, f"{step} {now()} {pod}")
    write_line(log, f"checkpoint after {step} {now()} {pod}")


def tell(log: Path) -> None:
    """Serve the number of the last step."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{last_step(log)}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer(("", 8080), Handler).serve_forever()


def main() -> int:
    """Run until SIGTERM or SIGINT. WORKSPACE, INTERVAL (seconds) and LEASE (a folder) come from the environment."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    workspace = Path(os.environ.get("WORKSPACE", "/workspace"))
    threading.Thread(target=tell, args=(workspace / "progress.log",), daemon=True).start()
    journal = Journal(Path(os.environ["LEASE"])) if "LEASE" in os.environ else None
    interval = float(os.environ.get("INTERVAL", "0.2"))
    work(workspace / "progress.log", interval=interval, stop=stop, journal=journal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
