"""What policies say about circuit breakers: named cases of what is refused and accepted, and strategies.

They are a part of the tables of tests/policy_specs.py, which the tests of policies use.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.breaker_specs import (
    BREAKER,
    DECIMAL,
    DECIMALS,
    NAME,
    QUERY,
    TIMES,
    TIMES_ACCEPTED,
    counts,
    day_seconds,
    decimals,
    names,
    recoveries,
    times,
    unlike,
)
from tests.specs import Refused, Spec


def policy(**fields: Any) -> Spec:
    """A policy with this circuit breaker."""
    return {"circuitBreaker": fields}


def query(**fields: Any) -> Spec:
    """A policy with one query, which has a bound unless these fields say otherwise."""
    return policy(queries=[{"name": "tool-calls", "query": "up", **fields}])


def baseline(**fields: Any) -> Spec:
    """A policy with one query that is relative to what is normal."""
    return query(baseline={"query": "up", "times": "10", "atLeast": "20", **fields})


def alerts(*names: Any) -> Spec:
    """A policy with these alerts."""
    return policy(alerts={"names": list(names)})


_BLANK = "accepted is a query in PromQL, not blank"
_CONTROL = "accepted is text without control characters"
_ALERT = "accepted is the value of the label alertname exactly, or '*' alone"

REFUSED: dict[str, Refused] = {
    "no restart at all": Refused(policy(restarts={"count": 0}), f"{BREAKER}.restarts.count", None),
    "a window of 9 seconds": Refused(
        policy(outOfMemory={"count": 1, "windowSeconds": 9}), f"{BREAKER}.outOfMemory.windowSeconds", None
    ),
    "restarts without a count": Refused(policy(restarts={}), f"{BREAKER}.restarts.count", None),
    "a start within 9 seconds": Refused(policy(cannotStartSeconds=9), f"{BREAKER}.cannotStartSeconds", None),
    "a query without a bound": Refused(query(), QUERY, "exactly one of above, below and baseline"),
    "a query with two bounds": Refused(query(above="2", below="1"), QUERY, "exactly one of above, below and baseline"),
    "a query with a bound and a baseline": Refused(
        query(above="2", baseline={"query": "up", "times": "10", "atLeast": "20"}),
        QUERY,
        "exactly one of above, below and baseline",
    ),
    "a query without a query": Refused(policy(queries=[{"name": "a", "above": "1"}]), f"{QUERY}.query", None),
    "a query without a name": Refused(policy(queries=[{"query": "up", "above": "1"}]), f"{QUERY}.name", None),
    "a query with a name in capitals": Refused(query(name="ToolCalls", above="1"), f"{QUERY}.name", NAME),
    "a query with a name of 64 characters": Refused(query(name="q" * 64, above="1"), f"{QUERY}.name", None),
    "an empty query": Refused(query(query="", above="1"), f"{QUERY}.query", None),
    "a blank query": Refused(query(query=" \n\t ", above="1"), f"{QUERY}.query", _BLANK),
    "a query with a NUL": Refused(query(query="up\x00", above="1"), f"{QUERY}.query", _CONTROL),
    "a query that would write to a terminal": Refused(query(query="up\x1b[2J", above="1"), f"{QUERY}.query", _CONTROL),
    "a query that would write to a terminal in one character": Refused(
        query(query="up\x9b2J", above="1"), f"{QUERY}.query", _CONTROL
    ),
    "a query of 2049 characters": Refused(query(query="u" * 2049, above="1"), f"{QUERY}.query", None),
    "a query every 4 seconds": Refused(query(above="1", intervalSeconds=4), f"{QUERY}.intervalSeconds", None),
    "a query every 3601 seconds": Refused(query(above="1", intervalSeconds=3601), f"{QUERY}.intervalSeconds", None),
    "a query that holds for -1 seconds": Refused(query(above="1", forSeconds=-1), f"{QUERY}.forSeconds", None),
    "a query that holds for 3601 seconds": Refused(query(above="1", forSeconds=3601), f"{QUERY}.forSeconds", None),
    "a bound that is a number": Refused(query(above=100), f"{QUERY}.above", None),
    "a bound that is no number": Refused(query(below="NaN"), f"{QUERY}.below", DECIMAL),
    "a baseline without a query": Refused(
        query(baseline={"times": "10", "atLeast": "20"}), f"{QUERY}.baseline.query", None
    ),
    "a baseline with a blank query": Refused(baseline(query=" "), f"{QUERY}.baseline.query", _BLANK),
    "a baseline with a query that has an escape": Refused(baseline(query="\x1b"), f"{QUERY}.baseline.query", _CONTROL),
    "a baseline without times": Refused(
        query(baseline={"query": "up", "atLeast": "20"}), f"{QUERY}.baseline.times", None
    ),
    "a baseline of half of what is normal": Refused(baseline(times="0.5"), f"{QUERY}.baseline.times", TIMES_ACCEPTED),
    "a baseline that takes the quietest agent for loud": Refused(
        query(baseline={"query": "up", "times": "10"}), f"{QUERY}.baseline.atLeast", None
    ),
    "a baseline from infinity": Refused(baseline(atLeast="Inf"), f"{QUERY}.baseline.atLeast", DECIMAL),
    "a query twice": Refused(
        policy(queries=[{"name": "a", "query": "up", "above": str(n)} for n in range(2)]), f"{BREAKER}.queries", None
    ),
    "33 queries": Refused(
        policy(queries=[{"name": f"q{n}", "query": "up", "above": "1"} for n in range(33)]), f"{BREAKER}.queries", None
    ),
    "an alert by a pattern": Refused(alerts("Agent*"), f"{BREAKER}.alerts.names[0]", _ALERT),
    "an alert of two lines": Refused(alerts("A\nB"), f"{BREAKER}.alerts.names[0]", _ALERT),
    "an alert with a space at its end": Refused(alerts("*", "A "), f"{BREAKER}.alerts.names[1]", _ALERT),
    "an empty alert": Refused(alerts(""), f"{BREAKER}.alerts.names[0]", None),
    "an alert of 257 characters": Refused(alerts("A" * 257), f"{BREAKER}.alerts.names[0]", None),
    "an alert twice": Refused(alerts("A", "A"), f"{BREAKER}.alerts.names", None),
    "65 alerts": Refused(alerts(*[f"A{n}" for n in range(65)]), f"{BREAKER}.alerts.names", None),
    "an unknown action of the blind": Refused(policy(blind={"action": "Ignore"}), f"{BREAKER}.blind.action", None),
    "a patience of -1 seconds": Refused(
        policy(blind={"patienceSeconds": -1}), f"{BREAKER}.blind.patienceSeconds", None
    ),
    "a patience of more than a day": Refused(
        policy(blind={"patienceSeconds": 86_401}), f"{BREAKER}.blind.patienceSeconds", None
    ),
    "an unknown mode of recovery": Refused(policy(recovery={"mode": "Never"}), f"{BREAKER}.recovery.mode", None),
    "a cool-down of 9 seconds": Refused(
        policy(recovery={"coolDownSeconds": 9}), f"{BREAKER}.recovery.coolDownSeconds", None
    ),
    "101 attempts": Refused(policy(recovery={"maxAttempts": 101}), f"{BREAKER}.recovery.maxAttempts", None),
    "a trial of 9 seconds": Refused(policy(recovery={"trialSeconds": 9}), f"{BREAKER}.recovery.trialSeconds", None),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "in a circuit breaker": (policy(enabled=False), f"{BREAKER}.enabled"),
    "in a query": (query(above="1", tenant="a"), f"{QUERY}.tenant"),
    "in a baseline": (baseline(unless="0"), f"{QUERY}.baseline.unless"),
    "that only agents have": (policy(resetAt="2026-01-31T12:00:00Z"), f"{BREAKER}.resetAt"),
}

ACCEPTED: dict[str, Spec] = {
    "a circuit breaker with nothing in it": policy(),
    "the least of each part of a circuit breaker": policy(
        restarts={"count": 1}, outOfMemory={"count": 1}, queries=[], alerts={}, blind={}, recovery={}
    ),
    "queries of each kind": policy(
        queries=[
            {
                "name": "tool-calls",
                "query": "sum by (namespace, agent) (\n\trate(tool_calls_total[1m])\n)",
                "above": "100",
            },
            {"name": "heartbeat", "query": "up", "below": "1", "intervalSeconds": 5, "forSeconds": 60},
            {
                "name": "spend",
                "query": "agent:spend:rate5m",
                "baseline": {"query": "agent:spend:rate1d", "times": "10", "atLeast": "0.5"},
            },
        ]
    ),
    "alerts of each kind": alerts("*", "AgentSpendsTooMuch", "agent spends: too much!", "агент"),
    "no alert at all": alerts(),
    "a policy that waits while it is blind": policy(blind={"action": "Wait", "patienceSeconds": 0}),
    "a policy that never tries again": policy(recovery={"mode": "Manual", "maxAttempts": 0}),
    "the most of each bound of a circuit breaker": policy(
        restarts={"count": 100, "windowSeconds": 86_400},
        outOfMemory={"count": 100, "windowSeconds": 86_400},
        cannotStartSeconds=86_400,
        queries=[
            {
                "name": f"{'q' * 61}{n:02}",
                "query": "q" * 2048,
                "baseline": {"query": "n" * 2048, "times": TIMES[-1], "atLeast": DECIMALS[-1]},
                "intervalSeconds": 3600,
                "forSeconds": 3600,
            }
            for n in range(32)
        ],
        alerts={"names": [f"{'A' * 254}{n:02}" for n in range(64)]},
        blind={"patienceSeconds": 86_400},
        recovery={"coolDownSeconds": 86_400, "maxAttempts": 100, "trialSeconds": 86_400},
    ),
}


# Strategies.

_promql = st.sampled_from(["up", "sum by (namespace, agent) (rate(x[5m]))", "a\n/\nb", "vector(1) > 0"])


def policy_breakers() -> st.SearchStrategy[Spec]:
    """Circuit breakers of policies that are accepted."""
    relative = st.fixed_dictionaries({"query": _promql, "times": times, "atLeast": decimals})
    bounds = st.one_of(
        st.fixed_dictionaries({"above": decimals}),
        st.fixed_dictionaries({"below": decimals}),
        st.fixed_dictionaries({"baseline": relative}),
    )
    rhythm = st.fixed_dictionaries(
        {}, optional={"intervalSeconds": st.integers(5, 3600), "forSeconds": st.integers(0, 3600)}
    )
    queries = st.builds(
        lambda name, text, bound, seconds: {"name": name, "query": text, **bound, **seconds},
        names,
        _promql,
        bounds,
        rhythm,
    )
    wanted = st.lists(st.sampled_from(["*", "AgentLoops", "a b"]), max_size=3, unique=True)
    blind = {"action": st.sampled_from(["Open", "Wait"]), "patienceSeconds": st.integers(0, 86_400)}
    return st.fixed_dictionaries(
        {},
        optional={
            "restarts": counts,
            "outOfMemory": counts,
            "cannotStartSeconds": day_seconds,
            "queries": unlike(queries),
            "alerts": st.fixed_dictionaries({}, optional={"names": wanted}),
            "blind": st.fixed_dictionaries({}, optional=blind),
            "recovery": recoveries(),
        },
    )
