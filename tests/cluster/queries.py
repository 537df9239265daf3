"""An agent that asks its database something twenty times a second, and reads its lease again when it has changed.

It is given to the python3 of the demo agent's image as text, where the module `postgres` is in the root folder. Each
query is an entry in the journal, so that the database can be asked what has arrived. What became of all is in
/tmp/report.json: `sent`, `lost` (number and reason of each that failed), and `users`, the roles it was, in order.
Started with `idle` it makes one entry and keeps its session open instead.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.append("/")

import postgres  # type: ignore[import-not-found]

FOLDER = Path("/var/run/bulkhead/credentials/warehouse")
REPORT = Path("/tmp/report.json")  # noqa: S108 - the pod's own
AT = os.environ.get("DATABASE", "")
PER_SECOND = 20
PATIENCE = 30
"""Seconds. A query that waits because the machine stands still is late and not lost."""


def tell(report: dict[str, object]) -> None:
    """Replace the report."""
    fresh = REPORT.with_suffix(".new")
    fresh.write_text(json.dumps(report))
    fresh.rename(REPORT)


def enter(session: postgres.Session, number: int) -> None:
    """Make an entry."""
    session.run(f"INSERT INTO journal (what) VALUES ('{os.environ['RUN']} {number}')")  # noqa: S608


def main() -> None:
    """Go on until SIGTERM."""
    ended = threading.Event()
    if "deaf" not in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
    read, session = "", None
    sent, lost, users = 0, [], []
    due = time.monotonic()
    while not ended.wait(max(0.0, due - time.monotonic())):
        due += 1 / PER_SECOND
        try:
            if (now := os.readlink(FOLDER / "..data")) != read:
                fresh = postgres.Session(postgres.lease(FOLDER, at=AT), seconds=PATIENCE)
                if session is not None:
                    session.close()
                read, session = now, fresh
                users.append(fresh.user)
            if sent == 0 or "idle" not in sys.argv:
                enter(session, sent)
                sent += 1
        except (OSError, postgres.RefusedError) as error:
            lost.append({"number": sent, "why": f"{type(error).__name__}: {error}"})
            sent += 1
            read = ""
        if sent % 10 == 1:
            tell({"sent": sent, "lost": lost, "users": users})
    tell({"sent": sent, "lost": lost, "users": users})


main()
