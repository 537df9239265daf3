"""Waiting between attempts: exponential, jittered, bounded."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Gives the delays of one streak of failures, each a random part of a ceiling that doubles ("full jitter").

    The random part lies between a half and the whole of the ceiling: clients that failed together spread out, and none
    comes back at once.
    """

    def __init__(self, *, first: float, limit: float, rand: Callable[[], float] | None = None) -> None:
        """Keeps the bounds.

        Args:
            first: Ceiling of the first delay, in seconds.
            limit: The largest ceiling, in seconds.
            rand: Gives numbers in [0, 1).
        """
        self._first = first
        self._limit = limit
        self._rand = rand or random.SystemRandom().random
        self.failures = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Counts a failure and gives the seconds to wait: at least what the server asked for."""
        ceiling: float = min(self._limit, self._first * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return max(at_least, float(ceiling) * (0.5 + self._rand() / 2))

    def reset(self) -> None:
        """Ends the streak."""
        self.failures = 0
