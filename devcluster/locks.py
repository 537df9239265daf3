"""One at a time, across processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.progress import Progress


@contextmanager
def locked(path: Path, progress: Progress, held_by: str) -> Iterator[None]:
    """Hold an advisory lock on a file (flock(2)) for a `with` block; wait for it, saying so, while another holds it.

    The kernel drops the lock when its holder dies, so a killed one keeps nobody waiting. The file stays: removing it
    would let one hold a lock on a file that others no longer see.

    Args:
        path: the file; it is made where it does not exist.
        progress: told about waiting.
        held_by: what is waited for, in words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for {held_by}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock on a file for a `with` block, or refuse at once where another holds it.

    The file tells who: it holds a process id from when it is claimed until it is given back, so that of a holder that
    was killed stays in it.

    Args:
        path: the file; it is made where it does not exist.
        what: what is claimed, in words.

    Raises:
        DevclusterError: another living process holds it, or this one in another place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise DevclusterError(f"{what} is in use by process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def is_abandoned(path: Path) -> bool:
    """Tell whether the last one to claim a file died without giving it back."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return bool(file.read())
    except (FileNotFoundError, BlockingIOError):
        return False
