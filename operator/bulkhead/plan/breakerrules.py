"""What opens one agent's breaker and how it closes: what all policies and the agent say, put together.

The trips of every policy that applies and those of the agent are in force side by side, each is judged by itself, and
any one opens the breaker. So an agent can add and tighten, and takes nothing away. Of how a breaker closes again the
most careful that anybody says counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from bulkhead.api.circuitbreaker import (
    EVERY_ALERT,
    Baseline,
    CircuitBreaker,
    CircuitBreakerPolicy,
    Count,
    PolicyQuery,
    TightenedQuery,
)
from bulkhead.plan import refusals
from bulkhead.plan.refusals import Violation
from bulkhead.plan.signals import Limit, Query

if TYPE_CHECKING:
    from bulkhead.plan.policy import Bounds

THE_AGENT: Final = "the agent's own spec.circuitBreaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """So many in a sliding window are too many.

    Attributes:
        count: this many open.
        window: in so long a time.
        by: who says so, for people.
    """

    count: int
    window: timedelta
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a pod may take until it runs.

    Attributes:
        limit: so long.
        by: who says so, for people.
    """

    limit: timedelta
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How a breaker closes again.

    Attributes:
        manual: only by a reset.
        cool_down: before the first try; it doubles with each further one.
        max_attempts: tries before only a reset closes it.
        trial: for how long an agent must behave after a try; not shorter than any query takes to trip.
    """

    manual: bool = False
    cool_down: timedelta = timedelta(seconds=30)
    max_attempts: int = 5
    trial: timedelta = timedelta(seconds=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything that is in force for one agent's breaker.

    Attributes:
        restarts: of the agent's containers.
        out_of_memory: ends of the agent's containers for want of memory.
        start: the shortest time in which a pod must get to run.
        queries: of the policies, each with the tighter of the policy's limit and the agent's.
        blind: how long each policy bears that one of its queries cannot be seen, by its name; None where it waits.
        alerts: values of `alertname` that open, `*` for all.
        closing: how it closes again.
    """

    restarts: tuple[Counting, ...]
    out_of_memory: tuple[Counting, ...]
    start: Patience
    queries: tuple[Query, ...] = ()
    blind: Mapping[str, timedelta | None]
    alerts: frozenset[str] = frozenset()
    closing: Closing = Closing()

    def opens(self, alertname: str) -> bool:
        """Says whether an alert of this name opens the breaker."""
        return alertname in self.alerts or EVERY_ALERT in self.alerts


def rules(bounds: Bounds | None, raw_spec: Any) -> Rules:
    """Puts together what is in force for one agent.

    Args:
        bounds: of the agent's namespace; None where that is no sandbox. Without a policy the defaults hold: nothing
            runs then, but what is counted is not lost.
        raw_spec: the agent's spec as the API server sends it. A breaker that makes no sense adds nothing: an agent
            whose spec cannot be parsed does not run.
    """
    given = _policies(bounds) or {"(default)": CircuitBreakerPolicy()}
    own = _own(raw_spec)
    named = {f"SandboxPolicy {name}": one for name, one in given.items()}
    starts = [(one.cannot_start_seconds, by) for by, one in named.items()]
    if own.cannot_start_seconds is not None:
        starts.append((own.cannot_start_seconds, THE_AGENT))
    seconds, by = min(starts)
    asked = tuple(_queries(given, own))
    return Rules(
        restarts=_countings([(one.restarts, by) for by, one in named.items()], own.restarts),
        out_of_memory=_countings([(one.out_of_memory, by) for by, one in named.items()], own.out_of_memory),
        start=Patience(limit=timedelta(seconds=seconds), by=by),
        queries=asked,
        blind={
            name: timedelta(seconds=one.blind.patience_seconds) if one.blind.action == "Open" else None
            for name, one in given.items()
        },
        alerts=frozenset(name for one in given.values() for name in one.alerts.names),
        closing=_seeing(_closing(given, own), asked),
    )


def queries(bounds: Bounds | None, raw_spec: Any) -> tuple[Query, ...]:
    """Returns the queries that are in force for one agent, each with its tightest limit (see `rules`)."""
    return tuple(_queries(_policies(bounds), _own(raw_spec)))


def violations(breaker: CircuitBreaker, bounds: Bounds) -> Iterator[Violation]:
    """Yields what of an agent's breaker has no effect, though its author counts on it.

    A query that no policy has is never evaluated, and a limit of the wrong kind is compared with nothing.
    """
    known = {query.name: query for one in _policies(bounds).values() for query in one.queries if query.baseline is None}
    relative = {query.name for one in _policies(bounds).values() for query in one.queries if query.baseline is not None}
    for number, one in enumerate(breaker.queries):
        field = f"spec.circuitBreaker.queries[{number}]"
        if one.name not in known and one.name not in relative:
            accepted = refusals.listed(sorted({*known, *relative})) or "none: they have no queries"
            message = f"no SandboxPolicy of this namespace has a query {one.name}; accepted are {accepted}"
            yield Violation(policy="", field=f"{field}.name", message=message)
        elif one.threshold is not None and one.name not in known:
            message = f"query {one.name} is compared with the agent's own normal; accepted is timesNormal"
            yield Violation(policy="", field=f"{field}.threshold", message=message)
        elif one.times_normal is not None and one.name not in relative:
            message = f"query {one.name} is compared with a number, it has no baseline; accepted is threshold"
            yield Violation(policy="", field=f"{field}.timesNormal", message=message)


def _policies(bounds: Bounds | None) -> dict[str, CircuitBreakerPolicy]:
    """Returns the breakers of the policies that can be understood, by the policies' names."""
    return {one.name: one.spec.circuit_breaker for one in (bounds.policies if bounds else ()) if one.spec is not None}


def _own(raw_spec: Any) -> CircuitBreaker:
    given = raw_spec.get("circuitBreaker") if isinstance(raw_spec, dict) else None
    try:
        return CircuitBreaker.model_validate(given if given is not None else {})
    except ValidationError:
        return CircuitBreaker()


def _countings(named: list[tuple[Count, str]], own: Count | None) -> tuple[Counting, ...]:
    given = [*named, *([(own, THE_AGENT)] if own is not None else [])]
    return tuple(Counting(count=one.count, window=timedelta(seconds=one.window_seconds), by=by) for one, by in given)


def _queries(given: Mapping[str, CircuitBreakerPolicy], own: CircuitBreaker) -> Iterator[Query]:
    tightened = {one.name: one for one in own.queries}
    for policy, breaker in given.items():
        for query in breaker.queries:
            limit = _limit(query)
            yield Query(
                policy=policy,
                name=query.name,
                expression=query.query,
                interval=timedelta(seconds=query.interval_seconds),
                limit=_tightened(limit, tightened[query.name]) if query.name in tightened else limit,
                duration=timedelta(seconds=query.for_seconds),
                baseline=query.baseline.query if query.baseline is not None else None,
            )


def _limit(query: PolicyQuery) -> Limit:
    relative: Baseline | None = query.baseline
    if relative is not None:
        return Limit(times=float(relative.times), at_least=float(relative.at_least))
    return Limit(
        above=float(query.above) if query.above is not None else None,
        below=float(query.below) if query.below is not None else None,
    )


def _tightened(limit: Limit, by: TightenedQuery) -> Limit:
    if limit.above is not None and by.threshold is not None:
        return replace(limit, above=min(limit.above, float(by.threshold)))
    if limit.below is not None and by.threshold is not None:
        return replace(limit, below=max(limit.below, float(by.threshold)))
    if limit.times is not None and by.times_normal is not None:
        return replace(limit, times=min(limit.times, float(by.times_normal)))
    return limit


def _seeing(closing: Closing, asked: tuple[Query, ...]) -> Closing:
    """Makes a trial as long as each query takes to trip anew.

    A breaker that closes before would open again as for the first time, without end: the agent would do what it must
    not nearly all of the time, and be tried as often as it likes.
    """
    return replace(closing, trial=max([closing.trial, *(one.duration + one.interval for one in asked)]))


def _closing(given: Mapping[str, CircuitBreakerPolicy], own: CircuitBreaker) -> Closing:
    said = [one.recovery for one in given.values()]
    mine = own.recovery

    def seconds(numbers: list[int], own_number: int | None) -> timedelta:
        return timedelta(seconds=max([*numbers, *([own_number] if own_number is not None else [])]))

    attempts = [one.max_attempts for one in said]
    if mine.max_attempts is not None:
        attempts.append(mine.max_attempts)
    return Closing(
        manual=mine.mode == "Manual" or any(one.mode == "Manual" for one in said),
        cool_down=seconds([one.cool_down_seconds for one in said], mine.cool_down_seconds),
        max_attempts=min(attempts),
        trial=seconds([one.trial_seconds for one in said], mine.trial_seconds),
    )
