"""The operator's parts as tasks that never should end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Tasks:
    """What runs in the background as long as the operator does.

    Attributes:
        failed: names of the parts that have ended though they never should; then the operator must be restarted.
    """

    def __init__(self) -> None:
        """Holds nothing yet."""
        self.failed: list[str] = []
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs a part from now on."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Ends all of them, and returns when they have."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._stopping:
            return
        self.failed.append(task.get_name())
        logger.critical("%s ended", task.get_name(), exc_info=None if task.cancelled() else task.exception())
