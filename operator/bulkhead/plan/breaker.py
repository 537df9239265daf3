"""The state machine of one agent's circuit breaker.

Closed lets the agent run, and any trip opens it. Open suspends the agent. After a cool-down, which doubles each time,
HalfOpen lets it run on trial: the first trip opens it again, and behaving for long enough closes it. A person closes it
with `resetAt`, a time: what tripped before it is forgiven.

Everything here is a pure function of what is recorded, what is known and the time. The times that hold an agent are
recorded when a state is entered, so a clock that steps back makes a hold longer and never shorter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan import trips
from bulkhead.plan.breakerrules import Closing, Rules
from bulkhead.plan.circuit import MAX_TRIPS, Circuit, State, Trip, TripType
from bulkhead.plan.querytrips import UNQUIET_LOOK, View
from bulkhead.plan.trips import Evidence
from bulkhead.plan.worldview import Verdict

__all__ = ["CIRCUIT_CLOSED", "Circuit", "Decision", "State", "Trip", "TripType", "cool_down", "forgiven", "step"]

CIRCUIT_CLOSED: Final = "CircuitClosed"
"""The condition that a breaker writes."""

COOL_DOWN_MOST: Final = timedelta(hours=1)
"""Doubling ends here; a cool-down that is longer to begin with stays as it is."""
SPREAD: Final = 0.2
"""Up to this part is added to a cool-down, so that agents that tripped together do not come back together."""
TRIPS_TOLD: Final = 3
"""Trips whose evidence is in one sentence at most; the status lists all."""
RESET_LOOK_MOST: Final = timedelta(hours=1)
"""How far ahead a look is planned for a reset in the future: who set it may mean it never comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from the state of a breaker.

    Attributes:
        open: whether the agent must not run.
        message: why, for people; empty where it may run.
        verdict: the condition `CircuitClosed`.
        next_look: when to look again, should nothing happen before.
    """

    open: bool
    message: str
    verdict: Verdict
    next_look: timedelta | None = None


def forgiven(circuit: Circuit, reset_at: datetime | None, *, now: datetime) -> Circuit:
    """Returns a circuit after a due reset: closed, with nothing counted. Each reset counts once.

    A reset is due when its time has come, and was asked for after what it is to forgive.

    Args:
        circuit: the circuit.
        reset_at: `spec.circuitBreaker.resetAt`; None where it is not given.
        now: the time.
    """
    if reset_at is None or reset_at > now or (circuit.reset_at is not None and reset_at <= circuit.reset_at):
        return circuit
    if any(one.at >= reset_at for one in circuit.trips):
        return circuit
    since = circuit.since if circuit.state is State.CLOSED else now
    return Circuit(since=since, trips=circuit.trips, reset_at=reset_at, counted=circuit.counted)


def step(
    circuit: Circuit,
    *,
    rules: Rules,
    evidence: Evidence,
    reset_at: datetime | None,
    runs_possible: bool,
    seed: str,
    now: datetime,
) -> tuple[Circuit, Decision]:
    """Takes the next step: at most one change of state, but for a reset, after which evidence may open it at once.

    Args:
        circuit: what is recorded.
        rules: what is in force.
        evidence: what is known.
        reset_at: `spec.circuitBreaker.resetAt`; None where it is not given.
        runs_possible: whether nothing but the breaker keeps the agent from running.
        seed: what the spread of the cool-down is drawn from, the same on every replica: the agent's UID.
        now: the time.
    """
    circuit = forgiven(circuit, reset_at, now=now)
    circuit = replace(circuit, since=circuit.since or now, counted=evidence.counted)
    if circuit.state is State.OPEN:
        circuit = _open(circuit, rules, evidence, runs_possible=runs_possible, seed=seed, now=now)
    elif circuit.state is State.HALF_OPEN:
        circuit = _half_open(circuit, rules, evidence, runs_possible=runs_possible, seed=seed, now=now)
    else:
        circuit = _closed(circuit, rules, evidence, seed=seed, now=now)
    waits = runs_possible and bool(evidence.unquiet)
    return circuit, _decision(circuit, rules, evidence, reset_at=reset_at, waits=waits, now=now)


def cool_down(closing: Closing, attempts: int, *, seed: str) -> timedelta:
    """Returns how long a breaker that opened so many times in a row stays open.

    Args:
        closing: the first cool-down.
        attempts: one for the first time.
        seed: what the spread is drawn from.
    """
    # The exponent is bounded: 2**12 of the shortest cool-down are over the longest.
    factor: int = 2 ** min(max(attempts, 1) - 1, 12)
    doubled = closing.cool_down * factor
    bounded = min(doubled, max(COOL_DOWN_MOST, closing.cool_down))
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{attempts}".encode()).digest()[:4]) / 2**32
    return bounded * (1 + SPREAD * drawn)


def _closed(circuit: Circuit, rules: Rules, evidence: Evidence, *, seed: str, now: datetime) -> Circuit:
    window = trips.added(circuit.window, evidence.occurrences, rules, now=now)
    circuit = replace(_seeing(circuit, evidence), window=window)
    found = (*trips.counted_trips(window, rules, evidence.exits, now=now), *evidence.standing)
    if found:
        return _opened(circuit, rules, found, seed=seed, now=now)
    if circuit.attempts and circuit.since is not None and now >= circuit.since + rules.closing.trial:
        return replace(circuit, attempts=0)
    return circuit


def _half_open(
    circuit: Circuit, rules: Rules, evidence: Evidence, *, runs_possible: bool, seed: str, now: datetime
) -> Circuit:
    circuit = _seeing(circuit, evidence)
    found = (*trips.first_trips(evidence.occurrences, evidence.exits, now=now), *evidence.standing)
    if found:
        return _opened(circuit, rules, found, seed=seed, now=now)
    if not runs_possible:
        # What was behaved before somebody stopped it proves nothing about the run to come.
        return replace(circuit, trial_ends_at=None)
    if circuit.trial_ends_at is None:
        return replace(circuit, trial_ends_at=now + rules.closing.trial) if evidence.ready else circuit
    if now < circuit.trial_ends_at or not evidence.ready or evidence.sight.view is not View.SEEING:
        return circuit
    return replace(circuit, state=State.CLOSED, since=now, trial_ends_at=None)


def _open(
    circuit: Circuit, rules: Rules, evidence: Evidence, *, runs_possible: bool, seed: str, now: datetime
) -> Circuit:
    circuit = replace(circuit, trips=_joined(circuit.trips, evidence.standing), seen=(), blind_since=None)
    retry_at = None
    if _may_retry(circuit, rules.closing):
        since = circuit.since or now
        retry_at = circuit.retry_at or since + cool_down(rules.closing, circuit.attempts, seed=seed)
    circuit = replace(circuit, retry_at=retry_at)
    if retry_at is None or now < retry_at or not runs_possible or evidence.unquiet:
        return circuit
    return replace(circuit, state=State.HALF_OPEN, since=now, retry_at=None, trial_ends_at=None, window=())


def _opened(circuit: Circuit, rules: Rules, found: tuple[Trip, ...], *, seed: str, now: datetime) -> Circuit:
    # An alert is delivered again for as long as it fires, and one that was forgotten here opened a second time.
    told = {(one.name, one.value) for one in found if one.type is TripType.ALERT}
    alerts = [one for one in circuit.trips if one.type is TripType.ALERT and (one.name, one.value) not in told]
    opened = replace(
        circuit,
        state=State.OPEN,
        since=now,
        trips=(*found, *alerts)[:MAX_TRIPS],
        attempts=circuit.attempts + 1,
        retry_at=None,
        trial_ends_at=None,
        seen=(),
        blind_since=None,
    )
    if _may_retry(opened, rules.closing):
        opened = replace(opened, retry_at=now + cool_down(rules.closing, opened.attempts, seed=seed))
    return opened


def _may_retry(circuit: Circuit, closing: Closing) -> bool:
    unreadable = any(one.type is TripType.UNREADABLE for one in circuit.trips)
    return not closing.manual and circuit.attempts <= closing.max_attempts and not unreadable


def _joined(known: tuple[Trip, ...], standing: tuple[Trip, ...]) -> tuple[Trip, ...]:
    """Adds what an open breaker learns of besides: alerts that began meanwhile, and that isolation was lost too."""
    joining = (TripType.ALERT, TripType.ISOLATION_LOST)
    told = {(one.type, one.name, one.value) for one in known}
    new = [one for one in standing if one.type in joining and (one.type, one.name, one.value) not in told]
    return (*known, *new)[:MAX_TRIPS] if new else known


def _seeing(circuit: Circuit, evidence: Evidence) -> Circuit:
    return replace(circuit, seen=evidence.sight.seen, blind_since=evidence.sight.since)


def _decision(
    circuit: Circuit, rules: Rules, evidence: Evidence, *, reset_at: datetime | None, waits: bool, now: datetime
) -> Decision:
    """Says what follows; `waits` is whether only what speaks against a try still holds the agent."""
    looks = [evidence.next_look] if evidence.next_look is not None else []
    if reset_at is not None and reset_at > now:
        looks.append(min(reset_at - now, RESET_LOOK_MOST))
    message = ""
    if circuit.state is State.OPEN:
        message = _open_words(circuit, rules, evidence, reset_at=reset_at, now=now)
        verdict = Verdict("False", str(State.OPEN), message)
        if circuit.retry_at is not None and now < circuit.retry_at:
            looks.append(circuit.retry_at - now)
        elif circuit.retry_at is not None and waits:
            looks.append(UNQUIET_LOOK)
    elif evidence.sight.view is View.BLIND:
        problems = "; ".join(evidence.sight.problems)
        verdict = Verdict("Unknown", "Blind", f"the breaker cannot see all that it should: {problems}")
    elif circuit.state is State.HALF_OPEN:
        verdict = Verdict("False", str(State.HALF_OPEN), _trial_words(circuit, rules))
    else:
        verdict = Verdict("True", str(State.CLOSED), _closed_words(rules))
    if circuit.trial_ends_at is not None and now < circuit.trial_ends_at:
        looks.append(circuit.trial_ends_at - now)
    if circuit.state is State.CLOSED and circuit.attempts and circuit.since is not None:
        looks.append(max(circuit.since + rules.closing.trial - now, timedelta(0)))
    return Decision(
        open=circuit.state is State.OPEN, message=message, verdict=verdict, next_look=min(looks, default=None)
    )


def _open_words(circuit: Circuit, rules: Rules, evidence: Evidence, *, reset_at: datetime | None, now: datetime) -> str:
    since = circuit.since or now
    words = f"the circuit breaker opened at {conditions.format_time(since)}: {_why(circuit)}"
    if circuit.retry_at is None:
        count = f" after {circuit.attempts} times in a row" if circuit.attempts > rules.closing.max_attempts else ""
        then = f"; it stays open{count} until spec.circuitBreaker.resetAt is set to a time after that, and not to come"
    else:
        waits = f", once nothing speaks against it ({'; '.join(evidence.unquiet)})" if now >= circuit.retry_at else ""
        then = f"; it is tried again at {conditions.format_time(circuit.retry_at)}{waits}"
    if reset_at is not None and reset_at > now:
        then += (
            f"; spec.circuitBreaker.resetAt is in the future, and does nothing until {conditions.format_time(reset_at)}"
        )
    return f"{words}{then}"


def _why(circuit: Circuit) -> str:
    opened_by = circuit.last_opened_by
    told = "; ".join(one.message for one in opened_by[:TRIPS_TOLD])
    more = len(opened_by) - TRIPS_TOLD
    return f"{told}; and {more} more" if more > 0 else told


def _trial_words(circuit: Circuit, rules: Rules) -> str:
    if circuit.trial_ends_at is None:
        until = f"for {rules.closing.trial.total_seconds():g} s from when it is ready"
    else:
        until = f"until {conditions.format_time(circuit.trial_ends_at)}"
    return f"the agent is on trial {until}, attempt {circuit.attempts}; the breaker had opened: {_why(circuit)}"


def _closed_words(rules: Rules) -> str:
    queries = f", {len(rules.queries)} queries" if rules.queries else ""
    alerts = ", alerts" if rules.alerts else ""
    return f"restarts, memory, starts, isolation{queries}{alerts}: nothing has tripped"
