"""What signals tell about an agent: samples of Prometheus queries, and alerts; and how a sample is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

AgentKey = tuple[str, str]
"""Namespace and name of an agent."""

QueryKey = tuple[str, str]
"""Name of a SandboxPolicy, and of one of its queries."""

SURE_AFTER: Final = timedelta(seconds=30)
"""Failures that lasted as long, or for the query's interval where that is shorter, mean that it is blind.

One lost request would otherwise change the condition of every agent there is, twice.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a value must not be. Exactly one of `above`, `below` and `times` is given.

    Attributes:
        above: it must not be greater than this.
        below: it must not be less than this.
        times: it must not be greater than so many times the agent's normal, where it is `at_least` or more.
        at_least: see `times`.
    """

    above: float | None = None
    below: float | None = None
    times: float | None = None
    at_least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query as it holds for one agent: a policy's, with the agent's own limit where that is tighter.

    Attributes:
        policy: the policy that has it.
        name: its name there.
        expression: PromQL; its series carry the labels `namespace` and `agent`.
        interval: between two evaluations.
        limit: what trips.
        duration: how long the limit must be exceeded without a break; zero: one sample is enough.
        baseline: PromQL of the agent's normal, for a limit by `times`.
    """

    policy: str
    name: str
    expression: str
    interval: timedelta
    limit: Limit
    duration: timedelta = timedelta(0)
    baseline: str | None = None

    @property
    def key(self) -> QueryKey:
        """The policy and the name."""
        return (self.policy, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The value that a query had for one agent.

    Attributes:
        value: what the query gave; NaN exceeds no limit.
        at: the time the query was evaluated for.
        normal: what the baseline had; None where there is none, or none for this agent (yet).
        exceeds_since: time of the first of the samples without a break that exceeded the limit; None: it does not.
    """

    value: float
    at: datetime
    normal: float | None = None
    exceeds_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a query fares, for the whole fleet.

    Attributes:
        name: of the query.
        policy: that has it.
        ok: whether it was answered. False: nothing is known of any agent, whatever older samples say.
        problem: why not, for people; empty when it is ok. No secrets.
        at: time of the last evaluation that gave an answer or failed.
        since: since when it is ok, or since the first of the failures without a break.
    """

    name: str
    policy: str
    ok: bool
    problem: str
    at: datetime
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What the queries tell about one agent.

    A query that has no reading has not been evaluated yet by this leader: it says neither that all is well nor that
    the breaker is blind. One that is ok and has no sample has no series for this agent.
    """

    readings: Mapping[QueryKey, Reading] = field(default_factory=dict)
    samples: Mapping[QueryKey, Sample] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert that Alertmanager delivered about one agent.

    Attributes:
        name: its `alertname`.
        fingerprint: Alertmanager's identifier of its labels.
        starts_at: since when it fires, by the clock of Prometheus, which may be ahead: with its fingerprint, what the
            alert is known by.
        received_at: when it was delivered here first.
        message: its summary or description, redacted, at most 512 characters.
        record: name of the ConfigMap that holds it until it is in the agent's status.
    """

    name: str
    fingerprint: str
    starts_at: datetime
    received_at: datetime
    message: str
    record: str

    @property
    def began(self) -> datetime:
        """Since when it fires as far as can be: a clock that is ahead, or a forger's, makes it newer than all else."""
        return min(self.starts_at, self.received_at)


def exceeds(limit: Limit, value: float, normal: float | None) -> bool:
    """Says whether a value exceeds a limit. An agent without a normal has none that it could exceed."""
    if limit.above is not None:
        return value > limit.above
    if limit.below is not None:
        return value < limit.below
    if limit.times is None or normal is None or not math.isfinite(normal):
        return False
    return value >= limit.at_least and value > limit.times * normal


def trips(query: Query, sample: Sample) -> bool:
    """Says whether a sample trips: it exceeds the limit, and did so for long enough.

    The time is counted up to the sample, not up to now: nothing is known of what came after it.
    """
    if not exceeds(query.limit, sample.value, sample.normal):
        return False
    return sample.at - (sample.exceeds_since or sample.at) >= query.duration


def threshold(query: Query, sample: Sample) -> float:
    """Returns the number that the sample's value is compared with, for people."""
    limit = query.limit
    if limit.above is not None:
        return limit.above
    if limit.below is not None:
        return limit.below
    return max(limit.at_least, (limit.times or 0.0) * (sample.normal or 0.0))
