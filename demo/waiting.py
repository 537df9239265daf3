"""Waiting for something to become so."""

from __future__ import annotations

import time
from collections.abc import Callable

from demo.stage import DemoError


def poll(condition: Callable[[], bool], *, seconds: float, what: str, pause: float = 0.1) -> None:
    """Wait until a condition holds.

    Args:
        condition: what is waited for.
        seconds: how long at most.
        what: the condition, as a sentence.
        pause: seconds between two looks.

    Raises:
        DemoError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"not so within {seconds:g} s: {what}")
        time.sleep(pause)
