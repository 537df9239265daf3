"""Checkpoints in a folder: the last one that was written whole is found, whatever happened since."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

State = dict[str, Any]
"""What a checkpoint holds: anything that JSON can."""


class DamagedError(Exception):
    """There are checkpoints, and none of them is whole."""


class Checkpoints:
    """The last two checkpoints of one process.

    A checkpoint is written to a file of its own, flushed, and renamed over the one before (rename(2) is atomic): who
    is killed at any moment leaves the old one or the new one, and at most a file that nobody reads. The one before is
    kept all the same, for a disk can lose what it said it had.

    Args:
        folder: below the workspace; made if it is not there. One process at a time may write to it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._current, self._previous = folder / "current.json", folder / "previous.json"

    def load(self) -> State | None:
        """Returns the state that was saved last; None where nothing was ever saved.

        Raises:
            DamagedError: something was saved and cannot be read. To begin again from nothing would do all the work a
                second time, so that is left to a person.
        """
        there = [file for file in (self._current, self._previous) if file.exists()]
        for file in there:
            state = _read(file)
            if state is not None:
                return state
        if there:
            raise DamagedError(
                f"none of {', '.join(map(str, there))} is whole; restore one, or remove both to begin anew"
            )
        return None

    def save(self, state: State) -> None:
        """Writes a checkpoint; it is on the disk when this returns.

        Raises:
            OSError: it could not be written, for example because the workspace is full. The last one stays.
        """
        written = self._folder / "next.json"
        with written.open("w", encoding="utf-8") as file:
            json.dump({"state": state, "sha256": _digest(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        if _read(self._current) is not None:
            # A link, so that there is a `current.json` at every moment.
            self._previous.unlink(missing_ok=True)
            os.link(self._current, self._previous)
        written.replace(self._current)
        _sync_folder(self._folder)


def _read(file: Path) -> State | None:
    """Returns what a checkpoint holds, None where it is not there or not whole."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        state = found["state"]
        return state if isinstance(state, dict) and found["sha256"] == _digest(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(state: State) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Waits until the disk has the folder's entries: a rename is one of these."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
