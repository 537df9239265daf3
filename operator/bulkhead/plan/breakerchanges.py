"""What a breaker did between two statuses of one agent: for events, metrics and whoever asked to be notified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from bulkhead.api import conditions
from bulkhead.plan import circuit, killswitch
from bulkhead.plan.circuit import Circuit, State
from bulkhead.plan.observed import Object


class Kind(StrEnum):
    """A change of a breaker, as the reason of its event."""

    OPENED = "CircuitOpened"
    HALF_OPENED = "CircuitHalfOpened"
    CLOSED = "CircuitClosed"


_KINDS = {State.OPEN: Kind.OPENED, State.HALF_OPEN: Kind.HALF_OPENED, State.CLOSED: Kind.CLOSED}
_TYPES = {
    Kind.OPENED: "dev.bulkhead.circuit.opened",
    Kind.HALF_OPENED: "dev.bulkhead.circuit.halfopened",
    Kind.CLOSED: "dev.bulkhead.circuit.closed",
}
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
"""The time of a breaker whose record makes no sense: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A breaker came into a state.

    Attributes:
        kind: which.
        type: of the event: a breaker that opens is a warning.
        at: when.
        circuit: the breaker since then.
        note: the same for people, with the evidence.
    """

    kind: Kind
    type: Literal["Normal", "Warning"]
    at: datetime
    circuit: Circuit
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A change, for receivers outside of the cluster, in the terms of CloudEvents 1.0.

    Attributes:
        id: the same for the same change, whoever tells it and however often.
        type: what happened.
        subject: to whom: `NAMESPACE/NAME`.
        time: when.
        data: the evidence, as plain JSON; no secrets.
    """

    id: str
    type: str
    subject: str
    time: datetime
    data: Mapping[str, Any]


def changes(previous: Object, current: Object) -> tuple[Change, ...]:
    """Returns what the breaker did between two statuses of one agent; nothing where it came into no state.

    Args:
        previous: the status as it was.
        current: the status as it is.
    """
    before = circuit.read(previous.get("circuit"), now=_NEVER)
    after = circuit.read(current.get("circuit"), now=_NEVER)
    same = before.state is after.state and (after.state is State.CLOSED or before.since == after.since)
    if same or after.since is None:
        return ()
    kind = _KINDS[after.state]
    level: Literal["Normal", "Warning"] = "Warning" if kind is Kind.OPENED else "Normal"
    return (Change(kind=kind, type=level, at=after.since, circuit=after, note=_note(kind, after)),)


def notices(agent: Object, previous: Object, current: Object) -> tuple[Notice, ...]:
    """Returns what is to be told to receivers outside of the cluster.

    Args:
        agent: the AgentDeployment.
        previous: its status as it was.
        current: its status as it is.
    """
    data, raw = agent["metadata"], agent.get("spec")
    owner = raw.get("owner") if isinstance(raw, dict) else None
    who = {
        "namespace": data["namespace"],
        "name": data["name"],
        "uid": data["uid"],
        "owner": owner if isinstance(owner, str) else "",
        "tenant": killswitch.tenant_of(agent) or "",
        "workflow": killswitch.workflow_of(agent),
    }
    return tuple(
        Notice(
            id=f"{data['uid']}/{one.circuit.state}/{conditions.format_micro_time(one.at)}",
            type=_TYPES[one.kind],
            subject=f"{data['namespace']}/{data['name']}",
            time=one.at,
            data={"agent": who, "note": one.note, "circuit": _told(one.circuit)},
        )
        for one in changes(previous, current)
    )


def _told(after: Circuit) -> Object:
    """Returns what others are told of a circuit: not what it counts and remembers for itself."""
    written = circuit.write(after)
    return {key: written[key] for key in ("state", "since", "attempts", "retryAt", "trips") if key in written}


def _note(kind: Kind, after: Circuit) -> str:
    why = "; ".join(one.message for one in after.last_opened_by)
    if kind is Kind.OPENED:
        if after.retry_at is None:
            return f"the breaker opened and stays open until spec.circuitBreaker.resetAt: {why}"
        return f"the breaker opened until {conditions.format_time(after.retry_at)}: {why}"
    if kind is Kind.HALF_OPENED:
        return f"the agent runs on trial, attempt {after.attempts}; the breaker had opened: {why}"
    if after.reset_at is not None and not after.attempts:
        return f"the breaker was reset by spec.circuitBreaker.resetAt {conditions.format_time(after.reset_at)}"
    return f"the breaker closed: the agent behaved on trial, attempt {after.attempts}"
