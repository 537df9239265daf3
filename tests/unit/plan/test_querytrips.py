"""What queries tell of one agent: a limit that is exceeded, and what cannot be seen."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bulkhead.plan.breakerrules import Counting, Patience, Rules
from bulkhead.plan.circuit import Circuit, State, TripType
from bulkhead.plan.querytrips import Run, Sight, View, look
from bulkhead.plan.signals import Limit, Query, Reading, Sample, Signals
from tests.unit.plan.samples import NOW

INTERVAL = timedelta(seconds=15)
PATIENCE = timedelta(seconds=300)
CALLS = Query(policy="default", name="calls", expression="rate(calls[1m])", interval=INTERVAL, limit=Limit(above=10))
LOW = replace(CALLS, name="beats", limit=Limit(below=1))
NORMAL = replace(CALLS, name="bursts", limit=Limit(times=10, at_least=20), baseline="rate(calls[1d])")
COUNTING = Counting(count=5, window=timedelta(seconds=600), by="SandboxPolicy default")
RULES = Rules(
    restarts=(COUNTING,),
    out_of_memory=(COUNTING,),
    start=Patience(limit=timedelta(seconds=600), by="SandboxPolicy default"),
    queries=(CALLS,),
    blind={"default": PATIENCE},
)
WAITING = replace(RULES, blind={"default": None})


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


RUN = Run(began=ago(1000), ready_since=ago(900))
CLOSED = Circuit(since=ago(1000))
OPEN = Circuit(state=State.OPEN, since=ago(60))


def reading(query: Query = CALLS, *, failing: float | None = None) -> Reading:
    ok = failing is None
    problem = "" if ok else "connection refused"
    return Reading(policy=query.policy, name=query.name, ok=ok, problem=problem, at=ago(1), since=ago(failing or 5000))


def known(query: Query = CALLS, value: float | None = 5, *, failing: float | None = None, **sample: Any) -> Signals:
    samples = {} if value is None else {query.key: Sample(value=value, **{"at": ago(1), **sample})}
    return Signals(readings={query.key: reading(query, failing=failing)}, samples=samples)


def seen(signals: Signals | None, *, circuit: Circuit = CLOSED, rules: Rules = RULES, run: Run | None = RUN) -> Sight:
    return look(circuit, rules, signals, run=run, now=NOW)


def test_a_value_within_its_limit_is_seen_and_trips_nothing() -> None:
    assert seen(known()) == Sight(seen=("default/calls",))


def test_a_value_over_its_limit_trips_with_its_numbers_its_time_and_its_query() -> None:
    (trip,) = seen(known(value=99.5, exceeds_since=ago(1))).trips
    assert (trip.type, trip.name, trip.value, trip.threshold) == (TripType.QUERY, "default/calls", "99.5", "10")
    assert trip.query == "rate(calls[1m])"
    assert trip.message == "query default/calls gave 99.5 at 2026-03-01T11:59:59Z; accepted is at most 10"


def test_many_times_its_own_normal_trips_and_says_what_is_normal() -> None:
    rules = replace(RULES, queries=(NORMAL,))
    (trip,) = seen(known(NORMAL, 50.0, normal=4.0, exceeds_since=ago(1)), rules=rules).trips
    assert trip.message.endswith("accepted is 10 times its own normal of 4, or 40")
    assert seen(known(NORMAL, 39.0, normal=4.0), rules=rules).trips == ()
    assert seen(known(NORMAL, 19.0, normal=0.0), rules=rules).trips == (), "less than what is worth a trip"


@pytest.mark.parametrize(("held", "trips"), [(58, False), (59, False), (61, True)])
def test_a_limit_that_must_be_exceeded_for_a_while_trips_after_it(held: float, *, trips: bool) -> None:
    rules = replace(RULES, queries=(replace(CALLS, duration=timedelta(seconds=60)),))
    assert bool(seen(known(value=99.0, exceeds_since=ago(held)), rules=rules).trips) is trips


def test_a_sample_from_before_the_run_does_not_count_and_the_next_is_looked_at() -> None:
    sight = seen(known(value=99.0, at=ago(20)), run=Run(began=ago(10), ready_since=ago(5)))
    assert sight.trips == ()
    assert sight.next_look == INTERVAL, "nobody else would tell: the verdict is the same"


def test_too_little_is_no_fault_of_an_agent_that_is_not_up_yet() -> None:
    rules = replace(RULES, queries=(LOW,))
    low = known(LOW, 0.0, exceeds_since=ago(500))
    assert seen(low, rules=rules).trips
    assert seen(low, rules=rules, run=Run(began=ago(1000))).trips == ()
    fresh = Run(began=ago(1000), ready_since=ago(30))
    slow = replace(RULES, queries=(replace(LOW, duration=timedelta(seconds=60)),))
    assert seen(low, rules=slow, run=fresh).trips == (), "it was up for less than it may be idle"
    assert seen(low, rules=rules, run=fresh).trips


def test_one_failed_evaluation_is_no_blindness_yet() -> None:
    sight = seen(known(failing=5))
    assert (sight.view, sight.since, sight.next_look) == (View.UNKNOWN, None, timedelta(seconds=10))


def test_a_failure_of_a_query_that_is_seldom_put_is_not_borne_longer_than_another() -> None:
    rare = replace(CALLS, interval=timedelta(hours=1))
    rules = replace(RULES, queries=(rare,))
    assert seen(known(rare, failing=29), rules=rules).view is View.UNKNOWN
    sight = seen(known(rare, failing=60), rules=rules)
    assert (sight.view, sight.since, sight.next_look) == (View.BLIND, ago(60), timedelta(seconds=240))


@pytest.mark.parametrize("limit", [Limit(above=10), Limit(below=1)], ids=["too much", "too little"])
def test_what_is_no_number_exceeds_no_limit_and_is_seen(limit: Limit) -> None:
    query = replace(CALLS, limit=limit)
    sight = seen(
        known(query, math.nan), rules=replace(RULES, queries=(query,)), circuit=replace(CLOSED, seen=("default/calls",))
    )
    assert (sight.view, sight.trips, sight.seen) == (View.SEEING, (), ("default/calls",))


def test_a_query_that_goes_on_failing_makes_blind() -> None:
    sight = seen(known(failing=20))
    assert (sight.view, sight.since) == (View.BLIND, ago(20))
    assert sight.problems == ("query default/calls fails: connection refused",)
    assert sight.next_look == PATIENCE - timedelta(seconds=20)


def test_a_series_that_is_gone_makes_blind_and_one_that_never_was_does_not() -> None:
    assert seen(known(value=None)).view is View.SEEING
    sight = seen(known(value=None), circuit=replace(CLOSED, seen=("default/calls",)))
    assert (sight.view, sight.since) == (View.BLIND, NOW)
    assert sight.seen == ("default/calls",)
    assert sight.problems == ("query default/calls has no series of this agent any more",)


def test_an_agent_of_which_nothing_runs_has_no_series_that_could_be_missed() -> None:
    """Scaled to zero, or on its way to another node."""
    sight = seen(known(value=None), circuit=replace(CLOSED, seen=("default/calls",)), run=replace(RUN, up=False))
    assert (sight.view, sight.since) == (View.SEEING, None)
    assert sight.seen == ("default/calls",), "when it runs again it has to be seen again"


def test_what_the_last_run_did_for_long_this_one_has_to_do_as_long() -> None:
    rules = replace(RULES, queries=(replace(CALLS, duration=timedelta(seconds=60)),))
    sight = seen(known(value=99.0, exceeds_since=ago(500)), rules=rules, run=Run(began=ago(20)))
    assert (sight.trips, sight.next_look) == ((), timedelta(seconds=40))
    assert seen(known(value=99.0, exceeds_since=ago(500)), rules=rules, run=Run(began=ago(61))).trips


def test_what_was_not_evaluated_yet_says_nothing() -> None:
    for signals in (None, Signals()):
        assert seen(signals) == Sight(view=View.UNKNOWN)


def test_a_new_leader_does_not_forget_since_when_nothing_is_seen() -> None:
    blind = replace(CLOSED, blind_since=ago(200), seen=("default/calls",))
    sight = seen(Signals(), circuit=blind)
    assert (sight.view, sight.since, sight.seen, sight.trips) == (View.UNKNOWN, ago(200), ("default/calls",), ())
    assert seen(known(failing=20), circuit=blind).since == ago(200)
    assert seen(known(), circuit=blind).since is None


@pytest.mark.parametrize(("failing", "trips"), [(299, False), (300, True), (5000, True)])
def test_blindness_opens_after_the_patience_of_the_policy(failing: float, *, trips: bool) -> None:
    run = Run(began=ago(10000))
    found = seen(known(failing=failing), run=run).trips
    assert bool(found) is trips
    for trip in found:
        assert (trip.type, trip.threshold) == (TripType.BLIND, "300 s")
        assert "connection refused" in trip.message


def test_the_patience_begins_with_the_run() -> None:
    assert seen(known(failing=5000), run=Run(began=ago(10))).trips == ()


def test_a_policy_that_waits_is_never_impatient() -> None:
    sight = seen(known(failing=900), rules=WAITING)
    assert (sight.view, sight.trips, sight.next_look) == (View.BLIND, (), None)


def test_the_blindness_of_one_policy_is_borne_as_long_as_that_one_says() -> None:
    strict = replace(CALLS, policy="strict")
    rules = replace(RULES, queries=(CALLS, strict), blind={"default": None, "strict": timedelta(seconds=60)})
    readings = {CALLS.key: reading(failing=100), strict.key: reading(strict, failing=100)}
    assert [one.name for one in seen(Signals(readings=readings), rules=rules).trips] == ["strict/calls"]


def test_of_what_does_not_run_nothing_is_to_be_seen() -> None:
    blind = replace(CLOSED, seen=("default/calls",), blind_since=ago(5))
    assert seen(known(value=99.0, failing=900), circuit=blind, run=None) == Sight()


AGAINST: dict[str, tuple[Signals | None, Query, Rules, tuple[str, ...]]] = {
    "a value that is still too high": (known(value=99.0), CALLS, RULES, ("query default/calls still exceeds 10",)),
    "a value that is low enough": (known(), CALLS, RULES, ()),
    "too little, which it cannot help": (known(LOW, 0.0), LOW, replace(RULES, queries=(LOW,)), ()),
    "no series": (known(value=None), CALLS, RULES, ()),
    "a query that fails": (
        known(value=None, failing=60),
        CALLS,
        RULES,
        ("query default/calls fails: connection refused",),
    ),
    "a query that fails, where the policy waits": (known(value=None, failing=60), CALLS, WAITING, ()),
    "nothing evaluated yet": (Signals(), CALLS, RULES, ("query default/calls was not evaluated yet",)),
    "a replica that evaluates nothing": (None, CALLS, RULES, ()),
}


@pytest.mark.parametrize(("signals", "query", "rules", "unquiet"), AGAINST.values(), ids=AGAINST)
def test_an_open_breaker_waits_for_what_queries_still_say(
    signals: Signals | None, query: Query, rules: Rules, unquiet: tuple[str, ...]
) -> None:
    assert seen(signals, circuit=OPEN, rules=rules, run=None).unquiet == unquiet
    assert query in rules.queries


def test_queries_that_no_policy_has_any_more_are_forgotten() -> None:
    assert seen(known(), circuit=replace(CLOSED, seen=("default/calls", "old/gone"))).seen == ("default/calls",)
