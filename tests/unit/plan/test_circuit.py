"""The memory of a breaker: what is written is read again, and what makes no sense is Open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import circuit
from bulkhead.plan.circuit import Circuit, Counted, Occurrence, State, Trip, TripType
from tests.stored import unfit_agent_status
from tests.unit.plan.samples import NOW

times = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
words = st.text(max_size=40)
uids = st.text("abc0-", min_size=1, max_size=36)
circuits = st.builds(
    Circuit,
    state=st.sampled_from(State),
    since=times,
    trips=st.lists(
        st.builds(Trip, type=st.sampled_from(TripType), name=words, at=times, message=words, value=words), max_size=16
    ).map(tuple),
    attempts=st.integers(0, 10**6),
    retry_at=st.none() | times,
    trial_ends_at=st.none() | times,
    reset_at=st.none() | times,
    window=st.lists(
        st.builds(
            Occurrence,
            at=times,
            type=st.sampled_from([TripType.RESTARTS, TripType.OUT_OF_MEMORY]),
            pod_uid=uids,
            container=uids,
            count=st.integers(1, 1000),
        ),
        max_size=8,
    ).map(tuple),
    seen=st.lists(uids, unique=True, max_size=8).map(tuple),
    blind_since=st.none() | times,
    counted=st.lists(
        st.builds(Counted, pod_uid=uids, container=uids, restarts=st.integers(0, 1000), oom_at=st.none() | times),
        max_size=8,
    ).map(tuple),
)


@given(circuits)
def test_what_is_written_is_read_again_and_fits_the_schema(known: Circuit) -> None:
    written = circuit.write(known)
    assert circuit.read(written, now=NOW) == known
    assert unfit_agent_status({"circuit": written}) == []


def test_a_circuit_that_is_not_there_is_new_and_closed() -> None:
    assert circuit.read(None, now=NOW) == Circuit()


GOOD: dict[str, Any] = {
    "state": "Closed",
    "since": "2026-03-01T11:00:00.000000Z",
    "trips": [{"type": "Alert", "at": "2026-03-01T11:00:00Z"}],
    "window": [{"at": "2026-03-01T11:00:00Z", "type": "Restarts", "podUID": "a", "container": "agent", "count": 1}],
    "counted": [{"podUID": "a", "container": "agent", "restarts": 1}],
}
NONSENSE: dict[str, Any] = {
    "a list": [],
    "a word": "Closed",
    "a number": 3,
    "nothing in it": {},
    "no time": {"state": "Closed"},
    "a state that this operator does not know": {**GOOD, "state": "Ajar"},
    "a time without a zone": {**GOOD, "since": "2026-03-01T11:00:00"},
    "a time that is a number": {**GOOD, "since": 5},
    "a time at the end of all times": {**GOOD, "since": "9999-12-31T23:59:59Z"},
    "a time at the beginning of all times": {**GOOD, "retryAt": "0001-01-01T00:00:00Z"},
    "attempts in words": {**GOOD, "attempts": "many"},
    "attempts below zero": {**GOOD, "attempts": -1},
    "attempts that are true": {**GOOD, "attempts": True},
    "trips that are no list": {**GOOD, "trips": {}},
    "a trip that is no object": {**GOOD, "trips": [3]},
    "a trip of a type that this operator does not know": {**GOOD, "trips": [{**GOOD["trips"][0], "type": "Mood"}]},
    "a trip whose message is no text": {**GOOD, "trips": [{**GOOD["trips"][0], "message": 5}]},
    "an occurrence without a time": {**GOOD, "window": [{"type": "Restarts", "podUID": "a", "container": "b"}]},
    "an occurrence without a pod": {**GOOD, "window": [{"at": "2026-03-01T11:00:00Z", "type": "Restarts"}]},
    "a counter in words": {**GOOD, "counted": [{**GOOD["counted"][0], "restarts": "many"}]},
    "seen that are no texts": {**GOOD, "seen": [1]},
}


def test_the_example_itself_is_read() -> None:
    assert circuit.read(GOOD, now=NOW).state is State.CLOSED


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE)
def test_what_makes_no_sense_is_open_and_says_so(raw: Any) -> None:
    found = circuit.read(raw, now=NOW)
    assert found.state is State.OPEN
    assert [(one.type, one.at) for one in found.trips] == [(TripType.UNREADABLE, NOW)]
    assert "status.circuit" in found.trips[0].message


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | times.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "attempts", "seen"]), inner),
    max_leaves=8,
)


@given(anything, st.dictionaries(st.sampled_from([*GOOD, "attempts", "seen", "retryAt"]), anything, max_size=2))
def test_nothing_whatever_breaks_the_reader_and_only_a_closed_circuit_is_read_as_one(raw: Any, over: Any) -> None:
    for one in (raw, {**GOOD, **over}):
        found = circuit.read(one, now=NOW)
        if found.state is not State.OPEN and one is not None:
            assert one["state"] == found.state
            assert found.since is not None


def test_what_is_too_long_is_cut_to_what_the_crd_holds() -> None:
    long = Trip(type=TripType.QUERY, name="n" * 999, at=NOW, message="m" * 9999, value="v" * 99, query="q" * 9999)
    written = circuit.write(Circuit(since=NOW, trips=(long,) * 40, seen=tuple(map(str, range(400)))))
    assert unfit_agent_status({"circuit": written}) == []
    assert circuit.read(written, now=NOW).trips[0].message == "m" * 1023 + "…"
