"""Circuit breakers and commands before SIGTERM of agents: named cases of what is refused and accepted, and strategies.

The same cases are put to `parse_spec` (tests/unit) and to the API server (tests/apiserver): both must agree.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from tests.specs import Refused, Spec, minimal, valid_specs


def breaker(**fields: Any) -> Spec:
    """An agent with this circuit breaker."""
    return minimal(circuitBreaker=fields)


def tightened(**fields: Any) -> Spec:
    """An agent that tightens one query."""
    return breaker(queries=[{"name": "tool-calls", **fields}])


def pre_stop(*command: Any) -> Spec:
    """An agent with this command before SIGTERM."""
    return minimal(preStop={"command": list(command)})


def reset(time: Any) -> Spec:
    """An agent that was reset at this time."""
    return breaker(resetAt=time)


BREAKER = "spec.circuitBreaker"
QUERY = "spec.circuitBreaker.queries[0]"
DECIMAL = 'accepted is a decimal number in quotes, such as "100" or "0.25"'
TIMES_ACCEPTED = 'accepted is a decimal number in quotes from "1" to "999999.999"'
_TIME = "accepted is a time of RFC 3339 with a zone"
NAME = "as in tool-calls"

NO_DECIMALS = ("NaN", "Inf", "+Inf", "-inf", "1e3", "0x10", "1,5", ".5", "5.", "+1", " 1", "1 ", "1\n", "-", "٣", "1_0")
DECIMALS = ("0", "-0", "007", "100", "0.25", "-3.5", "9" * 15 + "." + "9" * 9, "-" + "9" * 15 + "." + "9" * 9)
NO_TIMES = ("0", "0.9", "00.5", "-2", "NaN", "1e1", "1000000", "2.0001", "01", "1.")
TIMES = ("1", "1.0", "2.5", "10", "999999.999")

NO_MOMENTS = (
    "now",
    "2026-01-31",
    "2026-01-31T12:00:00",
    "2026-01-31 12:00:00Z",
    "2026-01-31t12:00:00z",
    "2026-01-31T12:00Z",
    "2026-01-31T24:00:00Z",
    "2026-01-31T12:60:00Z",
    "2026-01-31T12:00:60Z",
    "2026-01-31T12:00:00,5Z",
    "2026-01-31T12:00:00.Z",
    "2026-01-31T12:00:00.1234567890Z",
    "2026-01-31T12:00:00+0100",
    "2026-01-31T12:00:00+24:00",
    "2026-01-31T12:00:00+01:60",
    "2026-01-31T12:00:00Z\n",
    "2026-00-31T12:00:00Z",
    "2026-13-31T12:00:00Z",
    "2026-01-00T12:00:00Z",
    "2026-01-32T12:00:00Z",
    "2026-04-31T12:00:00Z",
    "2026-02-29T12:00:00Z",
    "2026-02-30T12:00:00Z",
    "1999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    "20260-01-31T12:00:00Z",
    "٢٠٢٦-01-31T12:00:00Z",
)
MOMENTS = (
    "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:00.5Z",
    "2026-01-31T12:00:00.123456789Z",
    "2026-01-31T12:00:00+01:00",
    "2026-01-31T12:00:00-23:59",
    "2026-04-30T00:00:00Z",
    "2028-02-29T23:59:59Z",
    "2000-02-29T00:00:00Z",
    "2099-12-31T23:59:59.999999999-23:59",
)

REFUSED: dict[str, Refused] = {
    "no restart at all": Refused(breaker(restarts={"count": 0}), f"{BREAKER}.restarts.count", None),
    "101 restarts": Refused(breaker(restarts={"count": 101}), f"{BREAKER}.restarts.count", None),
    "restarts without a count": Refused(breaker(restarts={"windowSeconds": 60}), f"{BREAKER}.restarts.count", None),
    "a count in quotes": Refused(breaker(restarts={"count": "5"}), f"{BREAKER}.restarts.count", None),
    "a window of 9 seconds": Refused(
        breaker(restarts={"count": 5, "windowSeconds": 9}), f"{BREAKER}.restarts.windowSeconds", None
    ),
    "a window of more than a day": Refused(
        breaker(outOfMemory={"count": 5, "windowSeconds": 86_401}), f"{BREAKER}.outOfMemory.windowSeconds", None
    ),
    "a start within 9 seconds": Refused(breaker(cannotStartSeconds=9), f"{BREAKER}.cannotStartSeconds", None),
    "a start within more than a day": Refused(
        breaker(cannotStartSeconds=86_401), f"{BREAKER}.cannotStartSeconds", None
    ),
    "a query without a bound": Refused(tightened(), QUERY, "exactly one of threshold and timesNormal"),
    "a query with two bounds": Refused(
        tightened(threshold="1", timesNormal="2"), QUERY, "exactly one of threshold and timesNormal"
    ),
    "a query without a name": Refused(breaker(queries=[{"threshold": "1"}]), f"{QUERY}.name", None),
    "a query with a name of two words": Refused(tightened(name="tool calls", threshold="1"), f"{QUERY}.name", NAME),
    "a threshold that is a number": Refused(tightened(threshold=100), f"{QUERY}.threshold", None),
    "an empty threshold": Refused(tightened(threshold=""), f"{QUERY}.threshold", None),
    "a query twice": Refused(
        breaker(queries=[{"name": "a", "threshold": "1"}, {"name": "a", "threshold": "2"}]), f"{BREAKER}.queries", None
    ),
    "17 queries": Refused(
        breaker(queries=[{"name": f"q{n}", "threshold": "1"} for n in range(17)]), f"{BREAKER}.queries", None
    ),
    "an unknown mode of recovery": Refused(breaker(recovery={"mode": "Never"}), f"{BREAKER}.recovery.mode", None),
    "a cool-down of 9 seconds": Refused(
        breaker(recovery={"coolDownSeconds": 9}), f"{BREAKER}.recovery.coolDownSeconds", None
    ),
    "101 attempts": Refused(breaker(recovery={"maxAttempts": 101}), f"{BREAKER}.recovery.maxAttempts", None),
    "-1 attempts": Refused(breaker(recovery={"maxAttempts": -1}), f"{BREAKER}.recovery.maxAttempts", None),
    "a trial of more than a day": Refused(
        breaker(recovery={"trialSeconds": 86_401}), f"{BREAKER}.recovery.trialSeconds", None
    ),
    "an empty reset": Refused(reset(""), f"{BREAKER}.resetAt", None),
    "a reset that is a number": Refused(reset(1_767_225_600), f"{BREAKER}.resetAt", None),
    "no command before SIGTERM": Refused(pre_stop(), "spec.preStop.command", None),
    "a command before SIGTERM that is not given": Refused(minimal(preStop={}), "spec.preStop.command", None),
    "a command before SIGTERM with a NUL": Refused(pre_stop("a\x00"), "spec.preStop.command", "without NUL"),
    "a command before SIGTERM of 65 strings": Refused(pre_stop(*["a"] * 65), "spec.preStop.command", None),
    **{
        f"a threshold {text!r}": Refused(tightened(threshold=text), f"{QUERY}.threshold", DECIMAL)
        for text in NO_DECIMALS
    },
    **{
        f"{text!r} times its own normal": Refused(tightened(timesNormal=text), f"{QUERY}.timesNormal", TIMES_ACCEPTED)
        for text in NO_TIMES
    },
    **{f"a reset at {text!r}": Refused(reset(text), f"{BREAKER}.resetAt", _TIME) for text in NO_MOMENTS},
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "that would loosen alerts": (breaker(alerts={"names": []}), f"{BREAKER}.alerts"),
    "that would loosen blindness": (breaker(blind={"action": "Wait"}), f"{BREAKER}.blind"),
    "that would turn the breaker off": (breaker(enabled=False), f"{BREAKER}.enabled"),
    "that would ask a query of its own": (tightened(threshold="1", query="up"), f"{QUERY}.query"),
    "of Kubernetes' own preStop": (minimal(preStop={"command": ["a"], "sleep": {"seconds": 1}}), "spec.preStop.sleep"),
    "of a preStop that sends a request": (minimal(preStop={"command": ["a"], "httpGet": {}}), "spec.preStop.httpGet"),
}

ACCEPTED: dict[str, Spec] = {
    "a circuit breaker with nothing in it": breaker(),
    "the least of each part of a circuit breaker": breaker(recovery={}, queries=[]),
    "the least of each bound of a circuit breaker": breaker(
        restarts={"count": 1, "windowSeconds": 10},
        outOfMemory={"count": 1, "windowSeconds": 10},
        cannotStartSeconds=10,
        recovery={"mode": "Manual", "coolDownSeconds": 10, "maxAttempts": 0, "trialSeconds": 10},
    ),
    "the most of each bound of a circuit breaker": minimal(
        preStop={"command": ["x" * 8192] * 64},
        circuitBreaker={
            "restarts": {"count": 100, "windowSeconds": 86_400},
            "outOfMemory": {"count": 100, "windowSeconds": 86_400},
            "cannotStartSeconds": 86_400,
            "queries": [{"name": f"{'q' * 61}{n:02}", "threshold": DECIMALS[-1]} for n in range(16)],
            "recovery": {"mode": "Automatic", "coolDownSeconds": 86_400, "maxAttempts": 100, "trialSeconds": 86_400},
            "resetAt": MOMENTS[-1],
        },
    ),
    "queries with each bound": breaker(
        queries=[{"name": "tool-calls", "threshold": "100"}, {"name": "spend", "timesNormal": "3"}]
    ),
    "a shell before SIGTERM": pre_stop("/bin/sh", "-c", "sync; echo saved > /workspace/done", ""),
    **{f"a threshold {text}": tightened(threshold=text) for text in DECIMALS},
    **{f"{text} times its own normal": tightened(timesNormal=text) for text in TIMES},
    **{f"a reset at {text}": reset(text) for text in MOMENTS},
}


# Strategies.

names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
decimals = st.one_of(st.sampled_from(DECIMALS), st.from_regex(r"\A-?[0-9]{1,15}(\.[0-9]{1,9})?\Z").filter(str.isascii))
times = st.one_of(st.sampled_from(TIMES), st.from_regex(r"\A[1-9][0-9]{0,5}(\.[0-9]{1,3})?\Z").filter(str.isascii))
day_seconds = st.integers(10, 86_400)
counts = st.fixed_dictionaries({"count": st.integers(1, 100)}, optional={"windowSeconds": day_seconds})
_modes = st.sampled_from(["Automatic", "Manual"])


def unlike(entries: st.SearchStrategy[Spec]) -> st.SearchStrategy[list[Spec]]:
    """Lists of entries of which no two have the same name."""
    return st.lists(entries, max_size=3, unique_by=lambda entry: str(entry["name"]))


def recoveries() -> st.SearchStrategy[Spec]:
    """How breakers close again, of agents and of policies alike."""
    return st.fixed_dictionaries(
        {},
        optional={
            "mode": _modes,
            "coolDownSeconds": day_seconds,
            "maxAttempts": st.integers(0, 100),
            "trialSeconds": day_seconds,
        },
    )


def moments() -> st.SearchStrategy[str]:
    """Times of resets, of many spellings."""
    zones = st.one_of(st.just("Z"), st.from_regex(r"\A[+-]([01][0-9]|2[0-3]):[0-5][0-9]\Z").filter(str.isascii))
    digits = st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=9).map(".{}".format))
    seconds = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31, 23, 59, 59)).map(
        lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S")
    )
    return st.builds("{}{}{}".format, seconds, digits, zones)


def breakers() -> st.SearchStrategy[Spec]:
    """Circuit breakers of agents that are accepted."""
    bounds = st.one_of(st.fixed_dictionaries({"threshold": decimals}), st.fixed_dictionaries({"timesNormal": times}))
    queries = unlike(st.builds(lambda name, bound: {"name": name, **bound}, names, bounds))
    return st.fixed_dictionaries(
        {},
        optional={
            "restarts": counts,
            "outOfMemory": counts,
            "cannotStartSeconds": day_seconds,
            "queries": queries,
            "recovery": recoveries(),
            "resetAt": moments(),
        },
    )


@st.composite
def specs_with_breakers(draw: st.DrawFn) -> Spec:
    """Specs of agents with circuit breakers and commands before SIGTERM."""
    spec = {**draw(valid_specs()), "circuitBreaker": draw(breakers())}
    if draw(st.booleans()):
        words = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
        spec["preStop"] = {"command": draw(st.lists(words, min_size=1, max_size=3))}
    return spec
