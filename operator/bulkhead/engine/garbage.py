"""Python's garbage collector, kept from halting the operator while somebody is to be stopped.

A full collection goes through every object that the process has, and nothing else runs meanwhile: with 1,500 agents in
the caches it took 0.6 s on a busy machine, and the cut of one of them waited for it. Caches are no garbage, and nearly
all that is goes when its last reference does; so full collections are done seldom, and when nobody waits for anything.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

INTERVAL = 3600.0
"""Seconds between two full collections."""
LOOK = 1.0
"""Seconds until it is looked again whether the operator is still busy."""
_NEVER = 1 << 30


async def collect_seldom(*, is_busy: Callable[[], bool], interval: float = INTERVAL, look: float = LOOK) -> None:
    """Takes full collections over from Python, which keeps the young generations, until cancelled.

    Args:
        is_busy: whether somebody is being stopped now.
        interval: seconds between two full collections.
        look: seconds until `is_busy` is asked again.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    pause = interval
    try:
        while True:
            await asyncio.sleep(pause)
            if is_busy():
                pause = look
            else:
                gc.collect()
                pause = interval
    finally:
        gc.set_threshold(young, middle, old)
