"""The evidence from pods, the proof and alerts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import trips
from bulkhead.plan.breakerrules import Counting, Patience, Rules
from bulkhead.plan.circuit import MAX_WINDOW, Circuit, Counted, Occurrence, State, Trip, TripType, read, write
from bulkhead.plan.exits import Exit
from bulkhead.plan.isolation import Evidence as Proof
from bulkhead.plan.signals import Alert, Limit, Query, Reading, Sample, Signals
from bulkhead.plan.trips import Evidence, added, collect, counted_trips, settled
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, observed, seconds_ago

SHORT, LONG = timedelta(seconds=600), timedelta(seconds=3600)
RULES = Rules(
    restarts=(Counting(count=5, window=SHORT, by="SandboxPolicy default"),),
    out_of_memory=(Counting(count=3, window=SHORT, by="SandboxPolicy default"),),
    start=Patience(limit=SHORT, by="SandboxPolicy default"),
    blind={},
    alerts=frozenset({"ToolLoop"}),
)
CLOSED = Circuit(since=NOW - timedelta(seconds=9000))


def ended(seconds: float, *, reason: str = "Error", lasted: float = 5, code: int = 1) -> dict[str, Any]:
    times = {"startedAt": seconds_ago(seconds + lasted), "finishedAt": seconds_ago(seconds)}
    return {"terminated": {"exitCode": code, "reason": reason, **times}}


def container(restarts: int, *, state: Any = None, last: Any = None) -> dict[str, Any]:
    return {
        "name": "agent",
        "restartCount": restarts,
        "state": state or {"running": {"startedAt": seconds_ago(1)}},
        "lastState": last or {},
    }


def pod(status: dict[str, Any] | None = None, ordinal: int = 0, created: float = 60, **known: Any) -> dict[str, Any]:
    made = samples.pod(ordinal, container=status, **known)
    made["metadata"]["creationTimestamp"] = seconds_ago(created)
    return made


def found(
    *own_pods: dict[str, Any],
    circuit: Circuit = CLOSED,
    rules: Rules = RULES,
    isolation: Proof | None = None,
    wanted: int = 1,
    leads: bool = True,
    now: datetime = NOW,
    **known: Any,
) -> Evidence:
    world = samples.surroundings(signals=Signals() if leads else None)
    seen = observed(agent(), pods=own_pods, surroundings=world, **known)
    return collect(seen, circuit, rules, isolation=isolation, wanted=wanted, runs=True, now=now)


def told(evidence: Evidence) -> list[tuple[str, int, int]]:
    """Each occurrence: its type, how many, and how many seconds ago."""
    return [(str(one.type), one.count, round((NOW - one.at).total_seconds())) for one in evidence.occurrences]


def test_a_restart_is_counted_when_its_container_ended() -> None:
    evidence = found(pod(container(1, last=ended(3))))
    assert told(evidence) == [("Restarts", 1, 3)]
    assert evidence.counted == (Counted(pod_uid="pod-0", container="agent", restarts=1),)


def test_what_was_counted_is_not_counted_again() -> None:
    own = pod(container(2, last=ended(3, reason="OOMKilled", code=137)))
    first = found(own)
    assert told(found(own, circuit=replace(CLOSED, counted=first.counted))) == []


def test_restarts_that_nobody_saw_were_over_when_the_last_run_began() -> None:
    assert told(found(pod(container(7, last=ended(3, lasted=4))))) == [("Restarts", 1, 3), ("Restarts", 6, 7)]


def test_restarts_of_long_ago_open_nothing_when_the_operator_starts() -> None:
    evidence = found(pod(container(30, last=ended(3, lasted=86400))))
    assert counted_trips(added((), evidence.occurrences, RULES, now=NOW), RULES, (), now=NOW) == ()


def test_a_crash_loop_that_went_on_while_no_operator_ran_opens_when_one_starts() -> None:
    evidence = found(pod(container(5, last=ended(3))))
    (opened,) = counted_trips(added((), evidence.occurrences, RULES, now=NOW), RULES, (), now=NOW)
    assert (opened.type, opened.value) == (TripType.RESTARTS, "5")


def test_an_end_for_want_of_memory_is_counted_once_whichever_way_it_is_told() -> None:
    out = ended(3, reason="OOMKilled", code=137)
    first = found(pod(container(0, state=out)))
    assert told(first) == [("OutOfMemory", 1, 3)]
    restarted = found(pod(container(1, last=out)), circuit=replace(CLOSED, counted=first.counted))
    assert told(restarted) == [("Restarts", 1, 3)]


def test_two_ends_for_want_of_memory_that_one_status_tells_are_two() -> None:
    own = pod(container(1, state=ended(1, reason="OOMKilled"), last=ended(9, reason="OOMKilled")))
    assert sorted(told(found(own))) == [("OutOfMemory", 1, 1), ("OutOfMemory", 1, 9), ("Restarts", 1, 9)]


def test_ends_that_nobody_saw_are_taken_to_be_for_want_of_memory_if_the_last_was() -> None:
    evidence = found(pod(container(3, last=ended(3, reason="OOMKilled", lasted=4))))
    (opened,) = counted_trips(added((), evidence.occurrences, RULES, now=NOW), RULES, (), now=NOW)
    assert (opened.type, opened.value) == (TripType.OUT_OF_MEMORY, "3")


def test_the_gates_restarts_are_not_the_agents() -> None:
    own = pod(gate=[{**one, "restartCount": 9} for one in samples.gate_status()])
    assert found(own).occurrences == ()


def test_a_node_whose_clock_is_ahead_tells_of_nothing_that_is_to_come() -> None:
    assert told(found(pod(container(1, last=ended(-500))))) == [("Restarts", 1, 0)]


OOM_TIMES = {
    "in time": seconds_ago(3),
    "ahead of our clock": seconds_ago(-4),
    "far ahead of our clock": seconds_ago(-(10**7)),
    "no time": None,
    "no time of this century": "9999-12-31T23:59:59Z",
}


@pytest.mark.parametrize("finished_at", OOM_TIMES.values(), ids=OOM_TIMES)
def test_an_end_for_want_of_memory_is_counted_once_whatever_the_nodes_clock_says(finished_at: str | None) -> None:
    out = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": finished_at}}
    circuit, counted = CLOSED, 0
    for seconds, status in enumerate((container(0, state=out), *[container(1, last=out)] * 3)):
        evidence = found(pod(status), circuit=circuit, now=NOW + timedelta(seconds=seconds))
        assert all(one.at <= NOW + timedelta(seconds=seconds) for one in evidence.occurrences)
        counted += sum(one.count for one in evidence.occurrences if one.type is TripType.OUT_OF_MEMORY)
        circuit = read(write(replace(circuit, counted=evidence.counted)), now=NOW)
    assert (counted, circuit.state) == (1, State.CLOSED)


def test_an_end_for_want_of_memory_is_counted_though_the_nodes_clock_was_set_back() -> None:
    known = Counted(pod_uid="pod-0", container="agent", restarts=1, oom_at=NOW + timedelta(seconds=500))
    own = pod(container(2, last=ended(3, reason="OOMKilled")))
    first = found(own, circuit=replace(CLOSED, counted=(known,)))
    assert told(first) == [("OutOfMemory", 1, 3), ("Restarts", 1, 3)]
    assert told(found(own, circuit=replace(CLOSED, counted=first.counted))) == []


@pytest.mark.parametrize("status", [{}, {"terminated": {"exitCode": 1, "finishedAt": None}}])
def test_a_restart_of_which_no_time_is_told_is_counted_now(status: dict[str, Any]) -> None:
    assert told(found(pod(container(1, last=status)))) == [("Restarts", 1, 0)]


def test_an_evicted_pod_counts_as_one_restart() -> None:
    """Its successor's counters begin at zero: what fills its disk again and again would never be seen."""
    own = pod()
    own["status"] |= {"phase": "Failed", "reason": "Evicted"}
    first = found(own)
    assert told(first) == [("Restarts", 1, 0)]
    assert told(found(own, circuit=replace(CLOSED, counted=first.counted))) == []


def test_a_pod_that_was_told_to_end_and_failed_counts_as_none() -> None:
    own = pod(deleting=True)
    own["status"]["phase"] = "Failed"
    assert found(own).occurrences == ()


def test_what_a_reset_forgave_is_not_counted_when_it_is_seen_late() -> None:
    forgiven = replace(CLOSED, reset_at=NOW - timedelta(seconds=5))
    assert told(found(pod(container(4, last=ended(3))), circuit=forgiven)) == [("Restarts", 1, 3)]


def test_counters_of_pods_that_are_gone_are_forgotten() -> None:
    known = replace(CLOSED, counted=(Counted(pod_uid="gone", container="agent", restarts=4),))
    assert found(pod(container(0)), circuit=known).counted == ()


def occurrences(*seconds: float, kind: TripType = TripType.RESTARTS) -> list[Occurrence]:
    return [
        Occurrence(at=NOW - timedelta(seconds=one), type=kind, pod_uid="pod-0", container="agent") for one in seconds
    ]


@pytest.mark.parametrize(
    ("seconds", "opens"),
    {
        "enough": ((1, 2, 3, 4, 600), True),
        "one too few": ((1, 2, 3, 4), False),
        "one too old": ((1, 2, 3, 4, 601), False),
        "ahead of the clock": ((-9, -8, -7, -6, -5), True),
    }.values(),
)
def test_so_many_within_the_window_open(seconds: tuple[float, ...], *, opens: bool) -> None:
    assert bool(counted_trips(occurrences(*seconds), RULES, (), now=NOW)) is opens


def test_each_rule_is_judged_by_itself_and_the_first_that_is_broken_is_told() -> None:
    own = Counting(count=2, window=timedelta(seconds=60), by="the agent's own spec.circuitBreaker")
    (opened,) = counted_trips(occurrences(1, 2), replace(RULES, restarts=(*RULES.restarts, own)), (), now=NOW)
    assert "the agent's own spec.circuitBreaker opens at 2" in opened.message
    assert opened.threshold == "2 in 60 s"


def test_a_trip_tells_how_the_container_ended_and_what_it_wrote_last() -> None:
    ends = [
        Exit(pod="scout-0", container="agent", exit_code=1, reason="Error", finished_at=NOW, message="no route"),
        Exit(
            pod="scout-0",
            container="agent",
            exit_code=137,
            reason="OOMKilled",
            finished_at=NOW - timedelta(seconds=9),
        ),
    ]
    many = [*occurrences(1, 2, 3, 4, 5), *occurrences(1, 2, 3, kind=TripType.OUT_OF_MEMORY)]
    restarts, memory = counted_trips(many, RULES, ends, now=NOW)
    last = "the last end was scout-0/agent: Error, code 1 at 2026-03-01T12:00:00Z; it wrote last: no route"
    assert restarts.message.endswith(last)
    assert "OOMKilled, code 137 at 2026-03-01T11:59:51Z" in memory.message


@given(st.lists(st.tuples(st.integers(0, 700), st.booleans(), st.integers(1, 3)), max_size=300))
def test_a_window_that_overflows_never_counts_less(happened: list[tuple[int, bool, int]]) -> None:
    window: tuple[Occurrence, ...] = ()
    for seconds, memory, count in happened:
        kind = TripType.OUT_OF_MEMORY if memory else TripType.RESTARTS
        window = added(window, [replace(*occurrences(seconds, kind=kind), count=count)], RULES, now=NOW)
    assert len(window) <= MAX_WINDOW
    for kind, memory in ((TripType.OUT_OF_MEMORY, True), (TripType.RESTARTS, False)):
        wanted = sum(count for seconds, each, count in happened if each is memory and seconds <= 600)
        assert sum(one.count for one in window if one.type is kind) >= wanted


def test_a_window_keeps_what_any_rule_still_counts() -> None:
    longer = replace(RULES, restarts=(*RULES.restarts, Counting(count=9, window=LONG, by="SandboxPolicy strict")))
    (new,) = occurrences(0)
    assert len(added(tuple(occurrences(3000, 3601)), [new], longer, now=NOW)) == 2


WAITING = container(0, state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})


def test_a_pod_that_does_not_get_to_run_opens_after_its_time_and_says_why() -> None:
    (opened,) = found(pod(WAITING, created=601)).standing
    assert opened.type is TripType.CANNOT_START
    assert "pod scout-0 did not get to run in 601 s" in opened.message
    assert opened.message.endswith("ImagePullBackOff: no such image")
    assert (opened.value, opened.threshold) == ("601 s", "600 s")


def test_a_pod_that_may_still_come_up_is_looked_at_when_its_time_is_over() -> None:
    evidence = found(pod(WAITING, created=590), pod(WAITING, ordinal=1, created=10))
    assert evidence.standing == ()
    assert evidence.next_look == timedelta(seconds=10)


RAN = {
    "it runs": pod(container(0), created=9000),
    "it ran": pod(container(0, state={"waiting": {"reason": "CrashLoopBackOff"}}, last=ended(3)), created=9000),
    "it ended": pod(container(0, state=ended(3)), created=9000),
    "it was told to end": pod(WAITING, created=9000, deleting=True),
}


@pytest.mark.parametrize("own", RAN.values(), ids=RAN)
def test_what_ran_once_or_is_to_end_does_not_fail_to_start(own: dict[str, Any]) -> None:
    assert found(own).standing == ()


def test_the_time_of_a_pod_that_waits_begins_again_with_a_reset() -> None:
    forgiven = replace(CLOSED, reset_at=NOW - timedelta(seconds=100))
    evidence = found(pod(WAITING, created=9000), circuit=forgiven)
    assert (evidence.standing, evidence.next_look) == ((), timedelta(seconds=500))


LOST = Proof(result="Lost", message="metadata answered", answered=("metadata",), at=NOW)


def test_a_lost_isolation_always_trips() -> None:
    evidence = found(isolation=LOST)
    assert [one.type for one in evidence.standing] == [TripType.ISOLATION_LOST]
    assert evidence.unquiet == ("its pod still says that its isolation is lost",)


def alert(name: str = "ToolLoop", *, began: float = 5) -> Alert:
    return Alert(
        name=name,
        fingerprint="f1",
        starts_at=NOW - timedelta(seconds=began),
        received_at=NOW,
        message="it calls one tool again and again",
        record="bulkhead-alert-1",
    )


def tripped(one: Alert) -> Trip:
    (opened,) = found(alerts=(one,)).standing
    return opened


def test_an_alert_that_a_policy_names_trips() -> None:
    opened = tripped(alert())
    assert (opened.type, opened.name) == (TripType.ALERT, "ToolLoop")
    assert "fires since 2026-03-01T11:59:55Z: it calls one tool again and again" in opened.message


ALERTS = {
    "one that no policy names": (alert("Other"), CLOSED, False),
    "one that began before the last reset": (alert(), replace(CLOSED, reset_at=NOW), False),
    "one that began after it": (alert(), replace(CLOSED, reset_at=NOW - timedelta(seconds=6)), True),
    "one that opened before and is delivered again": (alert(), replace(CLOSED, trips=(tripped(alert()),)), False),
    "one of that name that began anew": (alert(), replace(CLOSED, trips=(tripped(alert(began=99)),)), True),
    "one that began before another one opened": (
        alert(),
        replace(CLOSED, trips=(replace(tripped(alert()), name="Other"),)),
        True,
    ),
}


@pytest.mark.parametrize(("given", "circuit", "news"), ALERTS.values(), ids=ALERTS)
def test_an_alert_opens_once_and_its_record_goes_when_it_is_known(
    given: Alert, circuit: Circuit, *, news: bool
) -> None:
    assert bool(found(alerts=(given,), circuit=circuit).standing) is news
    assert bool(settled((given,), circuit, RULES)) is not news


def test_an_alert_of_a_clock_that_is_ahead_opens_once_and_not_after_a_reset() -> None:
    first = replace(alert(began=-5), received_at=NOW)
    again = replace(first, received_at=NOW + timedelta(seconds=1800))
    assert not found(alerts=(again,), circuit=replace(CLOSED, trips=(tripped(first),))).standing
    assert not found(alerts=(first,), circuit=replace(CLOSED, reset_at=NOW + timedelta(seconds=1))).standing
    assert "fires since 2026-03-01T12:00:00Z" in tripped(first).message


def test_a_star_is_every_alert() -> None:
    assert found(alerts=(alert("Whatever"),), rules=replace(RULES, alerts=frozenset({"*"}))).standing


READY = {
    "all of them": ((pod(ready=True), pod(ordinal=1, ready=True)), 2, True),
    "one of two": ((pod(ready=True), pod(ordinal=1)), 2, False),
    "none is wanted": ((), 0, False),
    "one is about to go": ((pod(ready=True, deleting=True),), 1, False),
}


@pytest.mark.parametrize(("own_pods", "wanted", "ready"), READY.values(), ids=READY)
def test_an_agent_is_ready_with_all_of_its_replicas(own_pods: Any, wanted: int, *, ready: bool) -> None:
    assert found(*own_pods, wanted=wanted).ready is ready


RATE = Query(policy="default", name="rate", expression="q", interval=timedelta(seconds=15), limit=Limit(above=10))


@pytest.mark.parametrize(("runs", "view"), [(True, "Blind"), (False, "Seeing")])
def test_series_are_missed_of_what_runs(*, runs: bool, view: str) -> None:
    known = Reading(policy="default", name="rate", ok=True, problem="", at=NOW, since=NOW)
    state = {"running": {}} if runs else {"waiting": {"reason": "ContainerCreating"}}
    of = agent(status={"runStartedAt": seconds_ago(500)})
    world = samples.surroundings(signals=Signals(readings={RATE.key: known}))
    evidence = collect(
        observed(of, pods=(pod(container(0, state=state)),), surroundings=world),
        replace(CLOSED, seen=("default/rate",)),
        replace(RULES, queries=(RATE,)),
        isolation=None,
        wanted=1,
        runs=True,
        now=NOW,
    )
    assert evidence.sight.view == view


BEGINNINGS: dict[str, tuple[Any, Circuit, bool]] = {
    "while the clock was right": (seconds_ago(600), CLOSED, True),
    "while the clock was an hour ahead": (seconds_ago(-3600), CLOSED, True),
    "at a time that cannot be read": ("soon", CLOSED, True),
    "after the sample": (seconds_ago(0.5), CLOSED, False),
    "with a trial, while the clock was an hour ahead": (
        seconds_ago(-3600),
        replace(CLOSED, state=State.HALF_OPEN, since=NOW + timedelta(seconds=3600)),
        True,
    ),
    "right, with a reset while the clock was an hour ahead": (
        seconds_ago(600),
        replace(CLOSED, reset_at=NOW + timedelta(seconds=3600)),
        True,
    ),
}


@pytest.mark.parametrize("case", BEGINNINGS)
@pytest.mark.parametrize("limit", [Limit(above=10), Limit(below=1000)], ids=["above", "below"])
def test_a_query_trips_whatever_the_clock_said_when_the_run_began(case: str, limit: Limit) -> None:
    started, circuit, opens = BEGINNINGS[case]
    query = replace(RATE, limit=limit, duration=timedelta(seconds=60))
    read_at = Reading(policy="default", name="rate", ok=True, problem="", at=NOW, since=NOW - timedelta(seconds=900))
    sample = Sample(value=100, at=NOW - timedelta(seconds=1), exceeds_since=NOW - timedelta(seconds=300))
    signals = Signals(readings={RATE.key: read_at}, samples={RATE.key: sample})
    own = pod(container(0), ready=True)
    own["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": started}]
    evidence = collect(
        observed(
            agent(status={"runStartedAt": started}), pods=(own,), surroundings=samples.surroundings(signals=signals)
        ),
        circuit,
        replace(RULES, queries=(query,)),
        isolation=None,
        wanted=1,
        runs=True,
        now=NOW,
    )
    assert bool(evidence.standing) is opens


def test_only_the_replica_that_builds_waits_for_what_is_left_of_the_last_run() -> None:
    """Another one may see the pods of a new run before its record, and would take down what the leader builds."""
    opened = replace(CLOSED, state=State.OPEN)
    assert found(pod(), circuit=opened).unquiet == ("its pods are not gone yet",)
    assert found(pod(), circuit=opened, leads=False).unquiet == ()


def test_the_first_of_each_kind_trips_on_trial() -> None:
    happened = [*occurrences(1, 2), *occurrences(3, kind=TripType.OUT_OF_MEMORY)]
    first = trips.first_trips(happened, (), now=NOW)
    assert {(one.type, one.value) for one in first} == {(TripType.RESTARTS, "2"), (TripType.OUT_OF_MEMORY, "1")}
