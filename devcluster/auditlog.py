"""Reading the API server's audit log while it is being written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CHUNK = 64 * 1024


def end(log: Path) -> int:
    """Give the place after the last whole entry.

    The file's size is no such place: a long entry appears page by page, and a reader that began in one failed.
    """
    with log.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        while place:
            start = max(0, place - CHUNK)
            file.seek(start)
            newline = file.read(place - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            place = start
    return 0


def entries(log: Path, start: int) -> list[dict[str, Any]]:
    """Give the whole entries that follow a place which `end` gave."""
    with log.open("rb") as file:
        file.seek(start)
        *lines, _ = file.read().split(b"\n")
    return [json.loads(line) for line in lines]
