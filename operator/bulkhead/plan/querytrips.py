"""What the queries of the policies tell about one agent: whether one trips, and whether all of them can be seen.

A breaker that cannot see is no breaker. It cannot while a query fails, and while one has no series of an agent that had
one in this run. A query that never had one is about other agents. And what this leader did not evaluate yet says
nothing at all: neither that all is well, nor that anything is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan import signals
from bulkhead.plan.breakerrules import Rules
from bulkhead.plan.circuit import Circuit, State, Trip, TripType
from bulkhead.plan.signals import Query, Reading, Sample, Signals

UNQUIET_LOOK: Final = timedelta(seconds=10)
"""How often an open breaker, whose time has come, is looked at that still has something against it."""


class View(StrEnum):
    """Whether the breaker sees."""

    SEEING = "Seeing"
    BLIND = "Blind"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run that samples are about.

    Attributes:
        began: what was before is not about it.
        ready_since: since when all of it is ready; None while it is not.
        up: whether a container of it runs, so that it could have series.
    """

    began: datetime
    ready_since: datetime | None = None
    up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the queries tell at one moment.

    Attributes:
        view: whether all of them can be seen.
        since: since when they cannot all be seen; None while they can.
        problems: why, in sentences that do not change with time.
        seen: the queries (`POLICY/NAME`) that had a series of the agent in this run.
        trips: queries over their limits, and blindness that was borne for too long.
        unquiet: why an open breaker is not tried again yet, in sentences.
        next_look: when something of this may change by the time alone.
    """

    view: View = View.SEEING
    since: datetime | None = None
    problems: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    trips: tuple[Trip, ...] = ()
    unquiet: tuple[str, ...] = ()
    next_look: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Glance:
    """One query: whether it can be seen, since when not, and why not."""

    query: Query
    view: View
    since: datetime | None = None
    problem: str = ""
    sample: Sample | None = None
    next_look: timedelta | None = None


def look(circuit: Circuit, rules: Rules, known: Signals | None, *, run: Run | None, now: datetime) -> Sight:
    """Judges what the queries tell.

    Args:
        circuit: the agent's breaker.
        rules: what is in force for it.
        known: what the queries tell; None where they are not evaluated here.
        run: the present run; None while nothing runs, of which nothing is to be seen.
        now: the time.
    """
    glances = [_glance(one, circuit, known, run=run, now=now) for one in rules.queries]
    if run is None:
        # A replica that evaluates nothing builds nothing either: what it cannot know is not its to wait for.
        held = circuit.state is State.OPEN and known is not None
        return Sight(unquiet=tuple(_against(glances, rules)) if held else ())
    seen = {_id(one.query) for one in glances if one.sample is not None}
    blind = [one for one in glances if one.view is View.BLIND]
    unknown = any(one.view is View.UNKNOWN for one in glances)
    since = circuit.blind_since if unknown else None
    if blind:
        since = max(run.began, min(one.since or now for one in blind))
        since = min(since, circuit.blind_since or since)
    trips, looks = _judged(glances, run=run, now=now)
    worn, patience_looks = _worn_out(blind, rules, since=since, now=now)
    looks += [*patience_looks, *(one.next_look for one in glances if one.next_look is not None)]
    return Sight(
        view=View.BLIND if blind else View.UNKNOWN if unknown else View.SEEING,
        since=since,
        problems=tuple(one.problem for one in blind),
        seen=tuple(sorted({*circuit.seen, *seen} & {_id(one) for one in rules.queries})),
        trips=(*trips, *worn),
        next_look=min(looks, default=None),
    )


def _id(query: Query) -> str:
    return "/".join(query.key)


def _glance(query: Query, circuit: Circuit, known: Signals | None, *, run: Run | None, now: datetime) -> _Glance:
    reading = known.readings.get(query.key) if known is not None else None
    if known is None or reading is None:
        return _Glance(query, View.UNKNOWN)
    if not reading.ok:
        return _failing(query, reading, now=now)
    sample = known.samples.get(query.key)
    if sample is None and run is not None and run.up and _id(query) in circuit.seen:
        since = circuit.blind_since or now
        return _Glance(query, View.BLIND, since, f"query {_id(query)} has no series of this agent any more")
    return _Glance(query, View.SEEING, sample=sample)


def _failing(query: Query, reading: Reading, *, now: datetime) -> _Glance:
    """One failure is no blindness: for one request that was lost, the conditions of a whole fleet would be written."""
    left = reading.since + min(signals.SURE_AFTER, query.interval) - now
    if left > timedelta(0):
        return _Glance(query, View.UNKNOWN, next_look=left)
    return _Glance(query, View.BLIND, reading.since, f"query {_id(query)} fails: {reading.problem}")


def _judged(glances: Iterable[_Glance], *, run: Run, now: datetime) -> tuple[list[Trip], list[timedelta]]:
    """Returns the queries that trip, and when those are to be looked at whose samples are not about this run yet."""
    trips, looks = [], []
    for one in glances:
        query, sample = one.query, one.sample
        if sample is None or not signals.trips(query, sample):
            continue
        # Nothing is done by an agent that is not ready yet, so that too little is no fault of its before.
        began = run.ready_since if query.limit.below is not None else run.began
        if began is None:
            continue
        if sample.at - max(sample.exceeds_since or sample.at, began) >= query.duration:
            trips.append(_trip(query, sample, now=now))
        else:
            looks.append(max(began + query.duration - now, query.interval))
    return trips, looks


def _trip(query: Query, sample: Sample, *, now: datetime) -> Trip:
    limit, bound = query.limit, signals.threshold(query, sample)
    value, least = _number(sample.value), _number(bound)
    if limit.times is not None:
        accepted = f"{_number(limit.times)} times its own normal of {_number(sample.normal or 0.0)}, or {least}"
    else:
        accepted = f"{'at least' if limit.below is not None else 'at most'} {least}"
    held = f", for {query.duration.total_seconds():g} s" if query.duration else ""
    return Trip(
        type=TripType.QUERY,
        name=_id(query),
        at=now,
        message=f"query {_id(query)} gave {value} at {conditions.format_time(sample.at)}{held}; accepted is {accepted}",
        value=value,
        threshold=least,
        query=query.expression,
    )


def _number(value: float) -> str:
    return f"{value:.10g}"


def _worn_out(
    blind: list[_Glance], rules: Rules, *, since: datetime | None, now: datetime
) -> tuple[list[Trip], list[timedelta]]:
    """Returns the blindness that was borne for long enough, and when the rest will have been."""
    trips, looks = [], []
    for one in blind:
        patience = rules.blind.get(one.query.policy, timedelta(0))
        if patience is None or since is None:
            continue
        left = since + patience - now
        if left > timedelta(0):
            looks.append(left)
            continue
        seconds = patience.total_seconds()
        trips.append(
            Trip(
                type=TripType.BLIND,
                name=_id(one.query),
                at=now,
                message=f"the breaker could not see since {conditions.format_time(since)}, and SandboxPolicy "
                f"{one.query.policy} bears that for {seconds:g} s (spec.circuitBreaker.blind): {one.problem}",
                threshold=f"{seconds:g} s",
                query=one.query.expression,
            )
        )
    return trips, looks


def _against(glances: Iterable[_Glance], rules: Rules) -> Iterable[str]:
    """Yields what of the queries still stands against another try of an agent that is stopped."""
    for one in glances:
        bears = rules.blind.get(one.query.policy, timedelta(0)) is None
        if one.sample is not None and one.query.limit.below is None:
            sample = one.sample
            if signals.exceeds(one.query.limit, sample.value, sample.normal):
                bound = _number(signals.threshold(one.query, sample))
                yield f"query {_id(one.query)} still exceeds {bound}"
        elif one.view is View.BLIND and not bears:
            yield one.problem
        elif one.view is View.UNKNOWN and not bears:
            yield f"query {_id(one.query)} was not evaluated yet"
