"""What is in force for a breaker: the strictest of what policies and the agent say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import policy
from bulkhead.plan.breakerrules import THE_AGENT, Closing, Rules, queries, rules
from bulkhead.plan.policy import Bounds, violations
from bulkhead.plan.signals import Limit, exceeds
from tests.unit.plan.samples import agent, namespace, sandbox_policy

CALLS = {"name": "calls", "query": "rate(calls[1m])", "above": "100"}
BEATS = {"name": "beats", "query": "rate(beats[1m])", "below": "1"}
BURSTS = {"name": "bursts", "query": "a", "baseline": {"query": "b", "times": "10", "atLeast": "20"}}


def bounds(**breakers: dict[str, Any]) -> Bounds:
    given = [policy.parse(sandbox_policy(name, circuitBreaker=one)) for name, one in breakers.items()]
    assert all(one.problems == () for one in given)
    return policy.bounds(given, namespace=namespace(), namespaces=[namespace()])


def in_force(own: dict[str, Any] | None = None, **breakers: dict[str, Any]) -> Rules:
    return rules(bounds(**(breakers or {"default": {}})), {"circuitBreaker": own} if own is not None else {})


def test_a_policy_that_says_nothing_has_trips_that_work() -> None:
    found = in_force()
    assert [(one.count, one.window) for one in found.restarts] == [(5, timedelta(seconds=600))]
    assert [(one.count, one.window) for one in found.out_of_memory] == [(3, timedelta(seconds=600))]
    assert found.start.limit == timedelta(seconds=600)
    assert found.closing == Closing()
    assert found.blind == {"default": timedelta(seconds=300)}
    assert (found.queries, found.alerts) == ((), frozenset())


def test_counts_of_all_policies_and_of_the_agent_hold_side_by_side() -> None:
    found = in_force({"restarts": {"count": 9, "windowSeconds": 60}}, a={}, b={"restarts": {"count": 2}})
    assert [(one.count, one.by) for one in found.restarts] == [
        (5, "SandboxPolicy a"),
        (2, "SandboxPolicy b"),
        (9, THE_AGENT),
    ]


MINUTE_AND_A_HALF = timedelta(seconds=90)
RECOVERIES = {
    "Manual of one policy": ({}, {"mode": "Manual"}, Closing(manual=True)),
    "Manual of the agent": ({"mode": "Manual"}, {}, Closing(manual=True)),
    "Automatic of the agent loosens nothing": ({"mode": "Automatic"}, {"mode": "Manual"}, Closing(manual=True)),
    "the longest cool-down": (
        {"coolDownSeconds": 10},
        {"coolDownSeconds": 60},
        Closing(cool_down=timedelta(minutes=1)),
    ),
    "the agent's longer cool-down": ({"coolDownSeconds": 90}, {}, Closing(cool_down=MINUTE_AND_A_HALF)),
    "the fewest attempts": ({"maxAttempts": 9}, {"maxAttempts": 1}, Closing(max_attempts=1)),
    "no attempts": ({"maxAttempts": 0}, {}, Closing(max_attempts=0)),
    "the longest trial": ({"trialSeconds": 900}, {"trialSeconds": 600}, Closing(trial=timedelta(minutes=15))),
}


@pytest.mark.parametrize(("own", "policys", "closing"), RECOVERIES.values(), ids=RECOVERIES)
def test_the_most_careful_recovery_counts(own: dict[str, Any], policys: dict[str, Any], closing: Closing) -> None:
    assert in_force({"recovery": own}, a={}, b={"recovery": policys}).closing == closing


def test_a_trial_is_not_over_before_each_query_could_trip_anew() -> None:
    slow = {**CALLS, "name": "slow", "intervalSeconds": 60, "forSeconds": 900}
    rare = {**CALLS, "name": "rare", "intervalSeconds": 600}
    assert in_force(default={"queries": [CALLS, slow]}).closing.trial == timedelta(seconds=960)
    assert in_force(default={"queries": [CALLS, rare]}).closing.trial == timedelta(seconds=600)
    assert in_force(default={"queries": [CALLS]}).closing.trial == timedelta(seconds=300)


def test_the_shortest_time_to_start_counts_and_names_who_says_it() -> None:
    by_agent = in_force({"cannotStartSeconds": 60}).start
    assert (by_agent.limit, by_agent.by) == (timedelta(seconds=60), THE_AGENT)
    by_policy = in_force({"cannotStartSeconds": 900}, default={}, strict={"cannotStartSeconds": 30}).start
    assert (by_policy.limit, by_policy.by) == (timedelta(seconds=30), "SandboxPolicy strict")


TIGHTENED = {
    "a lower bound above": (CALLS, {"threshold": "20"}, Limit(above=20)),
    "a looser one changes nothing": (CALLS, {"threshold": "2000"}, Limit(above=100)),
    "a higher bound below": (BEATS, {"threshold": "3"}, Limit(below=3)),
    "a looser one below changes nothing": (BEATS, {"threshold": "0.5"}, Limit(below=1)),
    "fewer times its normal": (BURSTS, {"timesNormal": "3"}, Limit(times=3, at_least=20)),
    "more times changes nothing": (BURSTS, {"timesNormal": "30"}, Limit(times=10, at_least=20)),
    "a number for a query with a baseline": (BURSTS, {"threshold": "3"}, Limit(times=10, at_least=20)),
    "times for a query without one": (CALLS, {"timesNormal": "3"}, Limit(above=100)),
}


@pytest.mark.parametrize(("query", "own", "limit"), TIGHTENED.values(), ids=TIGHTENED)
def test_an_agent_tightens_a_query_and_never_loosens_it(
    query: dict[str, Any], own: dict[str, Any], limit: Limit
) -> None:
    (found,) = in_force({"queries": [{"name": query["name"], **own}]}, default={"queries": [query]}).queries
    assert found.limit == limit


@given(st.sampled_from([CALLS, BEATS]), st.integers(-999, 999), st.floats(-2000, 2000, allow_nan=False))
def test_what_a_policy_would_open_for_opens_whatever_the_agent_says(
    query: dict[str, Any], own: int, value: float
) -> None:
    given_queries = {"queries": [{"name": query["name"], "threshold": str(own)}]}
    (alone,) = queries(bounds(default={"queries": [query]}), {})
    (tightened,) = queries(bounds(default={"queries": [query]}), {"circuitBreaker": given_queries})
    assert exceeds(tightened.limit, value, None) or not exceeds(alone.limit, value, None)


def test_a_query_is_tightened_in_every_policy_that_has_it() -> None:
    breakers: dict[str, Any] = {
        "a": {"queries": [CALLS]},
        "b": {"queries": [{**CALLS, "above": "5", "forSeconds": 30}]},
    }
    found = in_force({"queries": [{"name": "calls", "threshold": "20"}]}, **breakers).queries
    assert [(one.key, one.limit.above, one.duration.total_seconds()) for one in found] == [
        (("a", "calls"), 20, 0),
        (("b", "calls"), 5, 30),
    ]


def test_alerts_of_all_policies_open() -> None:
    found = in_force(a={"alerts": {"names": ["Loop"]}}, b={"alerts": {"names": ["Spend"]}})
    assert found.opens("Loop") and found.opens("Spend") and not found.opens("Other")
    assert in_force(default={"alerts": {"names": ["*"]}}).opens("Other")


NONSENSE: list[Any] = [None, 5, [], {"circuitBreaker": 5}, {"circuitBreaker": {"restarts": "many"}}]


@pytest.mark.parametrize("raw", NONSENSE)
def test_a_spec_that_makes_no_sense_loosens_nothing(raw: Any) -> None:
    known = bounds(default={"queries": [CALLS]})
    assert rules(known, raw) == rules(known, {})
    assert queries(known, raw) == queries(known, {})


def test_without_a_policy_the_defaults_count() -> None:
    for nothing in (None, policy.bounds([], namespace=namespace(), namespaces=[])):
        assert [one.count for one in rules(nothing, {}).restarts] == [5]
        assert queries(nothing, {}) == ()


def test_a_policy_that_cannot_be_understood_is_left_out() -> None:
    broken = policy.parse(sandbox_policy("broken", circuitBreaker={"restarts": "many"}))
    known = policy.bounds([broken], namespace=namespace(), namespaces=[namespace()])
    assert rules(known, {}).closing == Closing()
    assert known.problems, "nothing runs under it"


REFUSED = {
    "a query that no policy has": (
        {"name": "cals", "threshold": "5"},
        "spec.circuitBreaker.queries[0].name: no SandboxPolicy of this namespace has a query cals; "
        "accepted are bursts and calls",
    ),
    "a number for a query with a baseline": (
        {"name": "bursts", "threshold": "5"},
        "spec.circuitBreaker.queries[0].threshold: query bursts is compared with the agent's own normal; "
        "accepted is timesNormal",
    ),
    "times for a query without a baseline": (
        {"name": "calls", "timesNormal": "5"},
        "spec.circuitBreaker.queries[0].timesNormal: query calls is compared with a number, it has no baseline; "
        "accepted is threshold",
    ),
}


@pytest.mark.parametrize(("own", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bound_that_would_have_no_effect_is_refused(own: dict[str, Any], message: str) -> None:
    known = bounds(default={"queries": [CALLS, BURSTS]})
    spec = parse_spec(agent(circuitBreaker={"queries": [own]})["spec"], name="scout")
    assert [str(one) for one in violations(spec, known, namespace="lab", reserved=())] == [message]


def test_a_bound_that_has_one_is_accepted() -> None:
    known = bounds(default={"queries": [CALLS, BURSTS]})
    own = [{"name": "calls", "threshold": "5"}, {"name": "bursts", "timesNormal": "5"}]
    spec = parse_spec(agent(circuitBreaker={"queries": own})["spec"], name="scout")
    assert violations(spec, known, namespace="lab", reserved=()) == ()


def test_where_policies_have_no_queries_that_is_said() -> None:
    spec = parse_spec(agent(circuitBreaker={"queries": [{"name": "calls", "threshold": "5"}]})["spec"], name="scout")
    (found,) = violations(spec, bounds(default={}), namespace="lab", reserved=())
    assert found.message.endswith("accepted are none: they have no queries")
