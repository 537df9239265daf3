"""Every status that is planned can be stored as it is, and is not planned otherwise a second time.

A status that the API server refuses is a breaker without a memory; one that it changes is written without end.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead.plan import status
from bulkhead.plan.agent import plan
from bulkhead.plan.circuit import Circuit, Counted, Occurrence, State, Trip, TripType, write
from bulkhead.plan.exits import Exit
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.observed import Cut, Observed, Outcome
from bulkhead.plan.signals import Alert
from tests.apiserver import statuses
from tests.breaker_specs import specs_with_breakers
from tests.specs import json_values
from tests.stored import unfit_agent_status
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW

START = datetime(2026, 1, 1, tzinfo=UTC)
_moments = st.integers(0, 10**12).map(lambda micros: START + timedelta(microseconds=micros))
_maybe = st.none() | _moments
_texts = st.text(max_size=40) | st.sampled_from(["x" * 5000, ""])
_words = st.text("abc-", min_size=1, max_size=36)
_types = st.sampled_from(list(TripType))
_circuits = st.builds(
    Circuit,
    state=st.sampled_from(list(State)),
    since=_moments,
    trips=st.lists(
        st.builds(
            Trip, type=_types, name=_texts, at=_moments, message=_texts, value=_texts, threshold=_texts, query=_texts
        ),
        max_size=20,
    ).map(tuple),
    attempts=st.integers(0, 10**6),
    retry_at=_maybe,
    trial_ends_at=_maybe,
    reset_at=_maybe,
    window=st.lists(
        st.builds(Occurrence, at=_moments, type=_types, pod_uid=_words, container=_words, count=st.integers(0, 10**6)),
        max_size=140,
    ).map(tuple),
    seen=st.sets(_words, max_size=140).map(sorted).map(tuple),
    blind_since=_maybe,
    counted=st.lists(
        st.builds(Counted, pod_uid=_words, container=_words, restarts=st.integers(0, 10**6), oom_at=_maybe),
        max_size=140,
    ).map(tuple),
)


@given(_circuits)
def test_every_breaker_that_is_written_can_be_stored_as_it_is(circuit: Circuit) -> None:
    assert unfit_agent_status({"circuit": write(circuit)}) == []


_around = st.integers(-3600, 3600).map(lambda seconds: NOW + timedelta(seconds=seconds))
_switches = st.lists(
    st.builds(
        Switch,
        name=st.from_regex(r"\A[a-z]{1,63}\Z").filter(str.isascii),
        uid=_words,
        reason=st.sampled_from(["it spends", "r" * 1024]),
        grace_seconds=st.none() | st.integers(2, 30),
    ),
    max_size=20,
    unique_by=lambda one: one.name,
).map(tuple)
_alerts = st.lists(
    st.builds(
        Alert,
        name=st.sampled_from(["AgentLoops", "b" * 600]),
        fingerprint=st.text("0123456789abcdef", min_size=16, max_size=16),
        starts_at=_around,
        received_at=_around,
        message=st.sampled_from(["", "m" * 512]),
        record=st.just("bulkhead-alert-x"),
    ),
    max_size=20,
).map(tuple)
_exits = st.lists(
    st.builds(
        Exit,
        pod=st.just("scout-0"),
        pod_uid=_words,
        container=st.just("agent"),
        exit_code=st.integers(0, 255),
        reason=st.sampled_from(["", "Error", "r" * 128]),
        finished_at=st.none() | _around,
        message=st.sampled_from(["", "m" * 1024]),
    ),
    max_size=50,
).map(tuple)
_CUT = Cut(since=NOW - timedelta(seconds=3), network=NOW, credentials=NOW, processes=NOW, stopped=NOW)
_TRIES = settings(max_examples=50)


def written(known: Observed) -> dict[str, Any]:
    decided = plan(known, now=NOW)
    return dict(status.status(known, decided, Outcome(), cut=_CUT if decided.suspends else None, now=NOW))


def crashing(restarts: int) -> dict[str, Any]:
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": samples.seconds_ago(5)}
    container = {"name": "agent", "restartCount": restarts, "lastState": {"terminated": ended}}
    return samples.pod(ready=True, container=container)


@_TRIES
@given(
    spec=specs_with_breakers(),
    suspend=st.booleans(),
    sandbox=st.booleans(),
    circuit=_circuits,
    restarts=st.none() | st.integers(0, 200),
    others=st.fixed_dictionaries({"switches": _switches, "alerts": _alerts, "exits": _exits}),
)
def test_every_status_can_be_stored_as_it_is_and_settles(
    spec: dict[str, Any],
    suspend: bool,
    sandbox: bool,
    circuit: Circuit,
    restarts: int | None,
    others: dict[str, Any],
) -> None:
    agent = {**samples.agent(), "spec": {**spec, "suspend": suspend}, "status": {"circuit": write(circuit)}}
    policy = samples.sandbox_policy(circuitBreaker={"alerts": {"names": ["*"]}})
    around = {"surroundings": samples.surroundings(policy)} if sandbox else {"namespace": None, "surroundings": None}
    known = samples.observed(agent, pods=() if restarts is None else (crashing(restarts),), **around, **others)
    first = written(known)
    second = written(replace(known, agent={**agent, "status": first}))
    assert [*unfit_agent_status(first), *unfit_agent_status(second)] == []
    assert written(replace(known, agent={**agent, "status": second})) == second


@_TRIES
@given(json_values)
def test_whatever_stood_in_its_place_a_breaker_can_be_stored(circuit: Any) -> None:
    agent = {**samples.agent(), "status": {"circuit": circuit}}
    assert unfit_agent_status(written(samples.observed(agent, pods=(samples.pod(),)))) == []


NO_TIMES = (
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+01:00",
    "2026-02-31T00:00:00Z",
    "2026-01-01T00:00:00+99:99",
)
_ISOLATION = {"result": "Proven", "since": samples.seconds_ago(5)}
_STOPPING = {"reasons": [{"type": "Requested", "message": "m"}], "graceSeconds": 5, "since": samples.seconds_ago(9)}
GARBAGE: dict[str, dict[str, Any]] = {
    "a target of one word": {"isolation": {**_ISOLATION, "targets": ["x"]}},
    "a target of five words": {"isolation": {**_ISOLATION, "targets": ["api-server TCP 10.9.0.1 6443 balanced"]}},
    "a target with a named port": {"isolation": {**_ISOLATION, "targets": ["api-server TCP 10.9.0.1 https"]}},
    **{f"runStartedAt {text}": {"runStartedAt": text} for text in NO_TIMES},
    **{f"suspension.since {text}": {"suspension": {**_STOPPING, "since": text}} for text in NO_TIMES},
    **{f"suspension.stoppedAt {text}": {"suspension": {**_STOPPING, "stoppedAt": text}} for text in NO_TIMES},
    **{f"isolation.since {text}": {"isolation": {**_ISOLATION, "since": text}} for text in NO_TIMES},
}
STOP = (Switch(name="stop", uid="u", reason="r"),)
LIFETIMES: tuple[dict[str, Any], ...] = ({}, {"lifetime": {"maxSeconds": 60}})


def must_stop(recorded: dict[str, Any], **spec: Any) -> None:
    """An agent that runs and must not is stopped, whatever its status says."""
    agent = samples.agent(suspend=True, status=recorded, **spec)
    running = {"stateful_set": samples.stateful_set(samples.agent()), "pods": (samples.pod(ready=True),)}
    known = samples.observed(agent, switches=STOP, **running)

    decided = plan(known, now=NOW)
    result = written(known)

    assert {"Requested", "KillSwitch"} <= {one.type for one in decided.reasons}
    assert [one.name for phase in decided.phases for one in phase.removals if one.kind == "Pod"] == ["scout-0"]
    assert unfit_agent_status(result) == []
    status.transitions({}, result)
    again = written(replace(known, agent={**agent, "status": result}))
    assert written(replace(known, agent={**agent, "status": again})) == again


@pytest.mark.parametrize("lifetime", LIFETIMES, ids=("without a lifetime", "with a lifetime"))
@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_in_a_record_never_keeps_an_agent_from_being_stopped(case: str, lifetime: dict[str, Any]) -> None:
    must_stop(GARBAGE[case], **lifetime)


@pytest.mark.parametrize("text", [*NO_TIMES, "1999-12-31T23:59:59Z", "soon", "", None, 7])
def test_garbage_for_a_reset_never_keeps_an_agent_from_being_stopped(text: Any) -> None:
    must_stop({}, circuitBreaker={"resetAt": text})


@pytest.mark.parametrize("text", NO_TIMES)
def test_a_run_of_which_no_beginning_can_be_read_has_expired_where_it_has_a_lifetime(text: str) -> None:
    recorded = {"runStartedAt": text}
    expiring = samples.observed(samples.agent(lifetime={"maxSeconds": 60}, status=recorded))
    assert [one.type for one in plan(expiring, now=NOW).reasons] == ["LifetimeExpired"]
    assert written(expiring)["runStartedAt"] == text, "it has expired until somebody asks for a new run"

    endless = samples.agent(status=recorded)
    running = samples.observed(endless, stateful_set=samples.stateful_set(endless), pods=(samples.pod(ready=True),))
    assert written(running)["runStartedAt"] == samples.seconds_ago(0)


_recorded_times = st.sampled_from([*NO_TIMES, samples.seconds_ago(9)]) | st.text(max_size=40)
_records = st.fixed_dictionaries(
    {},
    optional={
        "runStartedAt": _recorded_times,
        "isolation": st.fixed_dictionaries(
            {"result": st.sampled_from(["Proven", "Lost"]), "since": _recorded_times},
            optional={
                "provenAt": _recorded_times,
                "lostAt": _recorded_times,
                "targets": st.lists(st.text("api-server TCP 10.9", max_size=40), max_size=4),
            },
        ),
        "suspension": st.fixed_dictionaries(
            {"reasons": st.just(_STOPPING["reasons"]), "graceSeconds": st.just(5), "since": _recorded_times},
            optional=dict.fromkeys(("networkCutAt", "processesSignalledAt", "stoppedAt"), _recorded_times),
        ),
        "lastExits": st.lists(
            st.fixed_dictionaries(
                {"pod": _words, "container": _words, "exitCode": st.integers(0, 255)},
                optional={"finishedAt": _recorded_times},
            ),
            max_size=3,
        ),
    },
)


@_TRIES
@given(_records, st.sampled_from(LIFETIMES))
def test_whatever_stood_in_its_record_an_agent_is_stopped(recorded: dict[str, Any], lifetime: dict[str, Any]) -> None:
    must_stop(recorded, **lifetime)


def test_the_example_of_a_status_can_be_stored_as_it_is() -> None:
    assert unfit_agent_status(statuses.STATUS) == []


@pytest.mark.parametrize(
    "status, complaint",
    [
        ({"circuits": {}}, "status.circuits is unknown"),
        ({"circuit": {"state": "Closed"}}, "status.circuit.since is missing"),
        ({"circuit": {"state": "Shut", "since": "x"}}, "status.circuit.state is 'Shut'"),
        ({"circuit": {"state": "Open", "since": "x", "attempts": -1}}, "status.circuit.attempts is -1"),
        ({"circuit": {"state": "Open", "since": "x", "attempts": True}}, "status.circuit.attempts is no integer"),
        ({"circuit": {"state": "Open", "since": "x", "seen": ["a", "a"]}}, "status.circuit.seen has doubles"),
        ({"state": "S" * 65}, "status.state has 65 characters"),
        ({"policies": ["p"] * 65}, "status.policies has 65 items"),
        (
            {"suspension": {"reasons": [{"type": "Requested"}]}},
            "status.suspension.reasons[0].message has a default and is left out",
        ),
        (
            {"suspension": {"reasons": [{"type": "KillSwitch", "message": message} for message in "ab"]}},
            "status.suspension.reasons has doubles",
        ),
    ],
)
def test_what_would_be_refused_or_changed_is_told(status: Any, complaint: str) -> None:
    assert unfit_agent_status(status) == [complaint]
