"""The memory of a circuit breaker: `status.circuit` as a value, and how it is read and written.

Everything a breaker knows is in there, so that it survives every restart of the operator and every replica decides the
same. What cannot be read means Open: a breaker that lost its memory must not let an agent run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from bulkhead.api import conditions
from bulkhead.plan.observed import Object

MAX_TRIPS: Final = 16
MAX_WINDOW: Final = 128
MAX_SEEN: Final = 128
MAX_COUNTED: Final = 128
MAX_MESSAGE: Final = 1024
MAX_QUERY: Final = 2048
MAX_NAME: Final = 256
MAX_NUMBER: Final = 64
"""Bounds of the CRD: a status beyond them would be refused as a whole."""


class State(StrEnum):
    """What a breaker is in."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class TripType(StrEnum):
    """What opens a breaker."""

    RESTARTS = "Restarts"
    OUT_OF_MEMORY = "OutOfMemory"
    CANNOT_START = "CannotStart"
    ISOLATION_LOST = "IsolationLost"
    QUERY = "Query"
    ALERT = "Alert"
    BLIND = "Blind"
    UNREADABLE = "Unreadable"
    """The memory of the breaker itself made no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """What opened a breaker, with its evidence.

    Attributes:
        type: of the evidence.
        name: of the query or the alert; empty for the others.
        at: when it was found.
        message: the evidence for people. No secrets.
        value: what was counted or measured.
        threshold: what it was compared with.
        query: the PromQL of a query.
    """

    type: TripType
    name: str = ""
    at: datetime
    message: str
    value: str = ""
    threshold: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that counts towards a trip for as long as its window is open."""

    at: datetime
    type: TripType
    pod_uid: str
    container: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A container's own counters as they were last seen, so that nothing is counted twice."""

    pod_uid: str
    container: str
    restarts: int = 0
    oom_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The state of one agent's breaker.

    Attributes:
        state: Closed lets it run, Open suspends it, HalfOpen lets it run on trial.
        since: when it came into this state; None for one that is new.
        trips: what opened it, or last opened it; and the alerts that did before, which are delivered again.
        attempts: how often it opened since it was last closed for good.
        retry_at: when an open one is tried again; None where only a reset closes it.
        trial_ends_at: when the trial of a half-open one ends; None before the agent is ready.
        reset_at: the `resetAt` that was honoured last.
        window: what is being counted.
        seen: queries (`POLICY/NAME`) that had a series of the agent in this run.
        blind_since: since when it cannot see all of its queries.
        counted: the containers' counters as they were last seen.
    """

    state: State = State.CLOSED
    since: datetime | None = None
    trips: tuple[Trip, ...] = ()
    attempts: int = 0
    retry_at: datetime | None = None
    trial_ends_at: datetime | None = None
    reset_at: datetime | None = None
    window: tuple[Occurrence, ...] = ()
    seen: tuple[str, ...] = ()
    blind_since: datetime | None = None
    counted: tuple[Counted, ...] = field(default=())

    @property
    def last_opened_by(self) -> tuple[Trip, ...]:
        """The trips of the last opening and what joined them: without alerts of earlier ones, which are only kept."""
        return tuple(one for one in self.trips if one.at >= self.trips[0].at)


def read(raw: Any, *, now: datetime) -> Circuit:
    """Reads `status.circuit`. Never raises: one that is not there is new, and one that makes no sense is Open.

    Args:
        raw: the field as the API server sends it; None where there is none.
        now: the time, for one that makes no sense.
    """
    if raw is None:
        return Circuit()
    try:
        return _read(raw)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        trip = Trip(
            type=TripType.UNREADABLE,
            at=now,
            message="status.circuit, which holds all that the breaker knows, makes no sense to this operator",
        )
        return Circuit(state=State.OPEN, since=now, trips=(trip,), attempts=1)


def write(circuit: Circuit) -> Object:
    """Returns the circuit as `status.circuit` has it; what is empty is left out."""
    entry: dict[str, Any] = {"state": str(circuit.state)}
    times = {
        "since": circuit.since,
        "retryAt": circuit.retry_at,
        "trialEndsAt": circuit.trial_ends_at,
        "resetAt": circuit.reset_at,
        "blindSince": circuit.blind_since,
    }
    entry |= {key: conditions.format_micro_time(time) for key, time in times.items() if time is not None}
    lists: dict[str, list[Any]] = {
        "trips": [_written_trip(one) for one in circuit.trips[:MAX_TRIPS]],
        "window": [_written_occurrence(one) for one in circuit.window[-MAX_WINDOW:]],
        "seen": list(circuit.seen[:MAX_SEEN]),
        "counted": [_written_counter(one) for one in circuit.counted[:MAX_COUNTED]],
    }
    if circuit.attempts:
        entry["attempts"] = circuit.attempts
    return entry | {key: listed for key, listed in lists.items() if listed}


def _read(raw: Object) -> Circuit:
    return Circuit(
        state=State(raw["state"]),
        since=_moment(raw["since"]),
        trips=tuple(map(_trip, _list(raw, "trips"))),
        attempts=_number(raw, "attempts", 0),
        retry_at=_time(raw, "retryAt"),
        trial_ends_at=_time(raw, "trialEndsAt"),
        reset_at=_time(raw, "resetAt"),
        window=tuple(map(_occurrence, _list(raw, "window"))),
        seen=tuple(_text(one) for one in _list(raw, "seen")),
        blind_since=_time(raw, "blindSince"),
        counted=tuple(map(_counter, _list(raw, "counted"))),
    )


def _trip(raw: Object) -> Trip:
    return Trip(
        type=TripType(raw["type"]),
        at=_moment(raw["at"]),
        **{key: _text(raw.get(key, "")) for key in ("name", "message", "value", "threshold", "query")},
    )


def _occurrence(raw: Object) -> Occurrence:
    return Occurrence(
        at=_moment(raw["at"]),
        type=TripType(raw["type"]),
        pod_uid=_text(raw["podUID"]),
        container=_text(raw["container"]),
        count=_number(raw, "count", 1),
    )


def _counter(raw: Object) -> Counted:
    return Counted(
        pod_uid=_text(raw["podUID"]),
        container=_text(raw["container"]),
        restarts=_number(raw, "restarts", 0),
        oom_at=_time(raw, "oomAt"),
    )


def _written_trip(trip: Trip) -> Object:
    texts = {
        "name": trip.name[:MAX_NAME],
        "message": conditions.shorten(trip.message, MAX_MESSAGE),
        "value": trip.value[:MAX_NUMBER],
        "threshold": trip.threshold[:MAX_NUMBER],
        "query": trip.query[:MAX_QUERY],
    }
    at = conditions.format_micro_time(trip.at)
    return {"type": str(trip.type), "at": at, **{key: text for key, text in texts.items() if text}}


def _written_occurrence(one: Occurrence) -> Object:
    at = conditions.format_micro_time(one.at)
    return {"at": at, "type": str(one.type), "podUID": one.pod_uid, "container": one.container, "count": one.count}


def _written_counter(one: Counted) -> Object:
    entry: Object = {"podUID": one.pod_uid, "container": one.container, "restarts": one.restarts}
    if one.oom_at is not None:
        entry["oomAt"] = conditions.format_micro_time(one.oom_at)
    return entry


def _list(raw: Object, key: str) -> list[Any]:
    found = raw.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(key)
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _number(raw: Object, key: str, absent: int) -> int:
    value = raw.get(key)
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(key)
    return value


def _time(raw: Object, key: str) -> datetime | None:
    return _moment(raw[key]) if raw.get(key) is not None else None


def _moment(text: Any) -> datetime:
    moment = conditions.read_time(text)
    if moment is None:
        raise ValueError("no time of this century")
    return moment
