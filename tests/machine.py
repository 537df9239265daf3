"""Tests side by side on one machine: some compare the machine with itself, others change it meanwhile.

Network namespaces, interfaces and mounts are there for every test of a run, whichever worker it is in.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def kept_as_it_is() -> AbstractContextManager[None]:
    """As long as this lasts, no other test changes the machine; it waits for those that do."""
    return _locked(fcntl.LOCK_EX)


def changed() -> AbstractContextManager[None]:
    """As long as this lasts, no other test compares the machine with itself; several may change it at a time."""
    return _locked(fcntl.LOCK_SH)


@contextmanager
def _locked(kind: int) -> Iterator[None]:
    # The lock is on a folder that is there anyway; it goes with the process that holds it.
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
