"""What breakers did between two statuses: events, and notices for others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bulkhead.plan import circuit
from bulkhead.plan.breakerchanges import changes, notices
from bulkhead.plan.circuit import Circuit, Counted, Occurrence, State, Trip, TripType
from bulkhead.plan.status import transitions
from tests.unit.plan.samples import NOW, agent


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


TRIP = Trip(type=TripType.QUERY, name="default/calls", at=ago(9), message="it called 900 times", value="900", query="q")
CLOSED = Circuit(since=ago(100))
OPEN = Circuit(state=State.OPEN, since=ago(9), trips=(TRIP,), attempts=1, retry_at=ago(-21))
FOR_GOOD = replace(OPEN, retry_at=None)
HALF_OPEN = Circuit(state=State.HALF_OPEN, since=ago(5), trips=(TRIP,), attempts=1)
CLOSED_AGAIN = Circuit(since=ago(1), trips=(TRIP,), attempts=1)
RESET = Circuit(since=ago(1), trips=(TRIP,), reset_at=ago(2))


def status(known: Circuit | None) -> dict[str, Any]:
    return {} if known is None else {"circuit": circuit.write(known)}


CASES: dict[str, tuple[Circuit | None, Circuit, list[tuple[str, str]], str]] = {
    "a new one": (None, CLOSED, [], ""),
    "nothing happened": (CLOSED, CLOSED, [], ""),
    "attempts were forgiven": (CLOSED_AGAIN, replace(CLOSED_AGAIN, attempts=0), [], ""),
    "it is still open": (OPEN, replace(OPEN, trips=(TRIP, replace(TRIP, name="b"))), [], ""),
    "it opened": (
        CLOSED,
        OPEN,
        [("Warning", "CircuitOpened")],
        "the breaker opened until 2026-03-01T12:00:21Z: it called 900 times",
    ),
    "it opened for good": (
        CLOSED,
        FOR_GOOD,
        [("Warning", "CircuitOpened")],
        "the breaker opened and stays open until spec.circuitBreaker.resetAt: it called 900 times",
    ),
    "it opened again": (
        HALF_OPEN,
        replace(OPEN, since=ago(0), attempts=2),
        [("Warning", "CircuitOpened")],
        "the breaker opened until 2026-03-01T12:00:21Z: it called 900 times",
    ),
    "it opened again before a status was written": (
        OPEN,
        replace(OPEN, since=ago(0)),
        [("Warning", "CircuitOpened")],
        "the breaker opened until 2026-03-01T12:00:21Z: it called 900 times",
    ),
    "it is tried": (
        OPEN,
        HALF_OPEN,
        [("Normal", "CircuitHalfOpened")],
        "the agent runs on trial, attempt 1; the breaker had opened: it called 900 times",
    ),
    "it closed": (
        HALF_OPEN,
        CLOSED_AGAIN,
        [("Normal", "CircuitClosed")],
        "the breaker closed: the agent behaved on trial, attempt 1",
    ),
    "it was reset": (
        FOR_GOOD,
        RESET,
        [("Normal", "CircuitClosed")],
        "the breaker was reset by spec.circuitBreaker.resetAt 2026-03-01T11:59:58Z",
    ),
}


@pytest.mark.parametrize(("before", "after", "events", "note"), CASES.values(), ids=CASES)
def test_a_change_of_state_is_an_event_with_the_evidence(
    before: Circuit | None, after: Circuit, events: list[tuple[str, str]], note: str
) -> None:
    found = transitions(status(before), status(after))
    assert [(one.type, one.reason) for one in found] == events
    assert [one.note for one in found] == [note] * len(events)


def test_a_record_that_makes_no_sense_and_is_open_for_it_is_told_once() -> None:
    broken = circuit.read("nonsense", now=NOW)
    assert [one.kind for one in changes({"circuit": "nonsense"}, status(broken))] == ["CircuitOpened"]
    assert changes(status(broken), status(broken)) == ()


def test_a_notice_tells_others_who_what_and_why_and_nothing_that_the_breaker_remembers_for_itself() -> None:
    remembers = replace(
        OPEN,
        window=(Occurrence(at=NOW, type=TripType.RESTARTS, pod_uid="pod-0", container="agent"),),
        counted=(Counted(pod_uid="pod-0", container="agent", restarts=3),),
    )
    (notice,) = notices(agent(tenant="blue"), status(CLOSED), status(remembers))
    assert notice.type == "dev.bulkhead.circuit.opened"
    assert notice.subject == "lab/scout"
    assert notice.time == OPEN.since
    assert notice.data["agent"] == {
        "namespace": "lab",
        "name": "scout",
        "uid": "a1b2c3",
        "owner": "team-a",
        "tenant": "blue",
        "workflow": "scout",
    }
    assert set(notice.data["circuit"]) == {"state", "since", "attempts", "retryAt", "trips"}
    assert notice.data["circuit"]["trips"][0]["value"] == "900"
    assert json.loads(json.dumps(notice.data)) == notice.data


def test_the_same_change_has_the_same_id_whoever_tells_it_and_another_has_another() -> None:
    (first,) = notices(agent(), status(CLOSED), status(OPEN))
    (again,) = notices(agent(), status(None), status(OPEN))
    (later,) = notices(agent(), status(HALF_OPEN), status(replace(OPEN, since=NOW)))
    (other,) = notices(agent(metadata={"uid": "other"}), status(CLOSED), status(OPEN))
    assert first.id == again.id
    assert len({first.id, later.id, other.id}) == 3


def test_an_agent_whose_spec_makes_no_sense_is_told_of_too() -> None:
    (notice,) = notices({**agent(), "spec": ["nonsense"]}, status(CLOSED), status(OPEN))
    assert notice.data["agent"]["owner"] == ""
