"""Samples and what is said about them: pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """Gives a percentile by the nearest rank: a value that was measured, never one in between.

    Args:
        values: what was measured, in any order.
        share: between 0 and 1; 0.99 for the 99th percentile.

    Raises:
        ValueError: there are no values, or the share is out of its range.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    return sorted(values)[math.ceil(share * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over several rounds.

    Attributes:
        median: of the rounds.
        least: of the rounds.
        most: of the rounds.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sums rounds up. Raises `statistics.StatisticsError` when there are none."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report.

    Attributes:
        group: what the line belongs to.
        name: what was measured.
        unit: `ms`, `s`, `MB`, `%` of one core, or `x` for a ratio.
        rounds: the figure of each round, in order.
        goal: what it should be at most, if anything is asked.
        tries: measurements behind each round's figure.
    """

    group: str
    name: str
    unit: str
    rounds: tuple[float, ...]
    goal: float | None = None
    tries: int = 1

    @property
    def spread(self) -> Spread:
        """The figure over all rounds."""
        return Spread.of(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        return None if self.goal is None else self.spread.median <= self.goal


def latency(
    group: str, name: str, rounds: Sequence[Sequence[float]], *, goals: tuple[float, float] | None
) -> list[Figure]:
    """Gives the figures for p50 and p99 of times.

    Args:
        group: what the lines belong to.
        name: what was measured.
        rounds: seconds, for each round.
        goals: milliseconds for p50 and p99.
    """
    return [
        Figure(
            group=group,
            name=f"{name}, p{round(share * 100)}",
            unit="ms",
            rounds=tuple(percentile(values, share) * 1000 for values in rounds),
            goal=goals[index] if goals else None,
            tries=len(rounds[0]),
        )
        for index, share in enumerate((0.5, 0.99))
    ]


def ratios(
    group: str, name: str, ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], *, goal: float | None
) -> list[Figure]:
    """Gives the ratio of p50 to p50 and of p99 to p99, round by round."""
    return [
        Figure(
            group=group,
            name=f"{name}, p{round(share * 100)}",
            unit="x",
            rounds=tuple(percentile(a, share) / percentile(b, share) for a, b in zip(ours, theirs, strict=True)),
            goal=goal if share == 0.5 else None,
            tries=len(ours[0]),
        )
        for share in (0.5, 0.99)
    ]
