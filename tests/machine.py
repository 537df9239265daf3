"""The machine that tests share: some compare it with itself, others change it meanwhile; and processes stand still.

Network namespaces, interfaces and mounts are there for every test of a run, whichever worker it is in.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def kept_as_it_is() -> AbstractContextManager[None]:
    """As long as this lasts, no other test changes the machine; it waits for those that do."""
    return _locked(fcntl.LOCK_EX)


def changed() -> AbstractContextManager[None]:
    """As long as this lasts, no other test compares the machine with itself; several may change it at a time."""
    return _locked(fcntl.LOCK_SH)


def halt(pid: int) -> None:
    """Stop a process; return when all of its threads stand still.

    SIGSTOP reaches one of them, which stops the others: until it gets a processor they run on and may answer.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not _stands_still(pid):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def _stands_still(pid: int) -> bool:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return all((one / "stat").read_text().rpartition(")")[2].split()[0] == "T" for one in threads)
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread ended meanwhile


@contextmanager
def _locked(kind: int) -> Iterator[None]:
    # The lock is on a folder that is there anyway; it goes with the process that holds it.
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
