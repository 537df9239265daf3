from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.circuitbreaker import CircuitBreaker, CircuitBreakerPolicy
from bulkhead.api.conditions import parse_time
from bulkhead.api.sandboxpolicy import parse_policy
from tests import breaker_policy_specs, breaker_specs, specs
from tests.policy_specs import NEAR_MISSES, mutated


def problems(raw: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name="agent")
    return refused.value.problems


@pytest.mark.parametrize("case", breaker_specs.REFUSED.values(), ids=breaker_specs.REFUSED.keys())
def test_a_bad_breaker_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    assert any(sentence.startswith((f"{case.path}:", f"{case.path} ", f"{case.path}[")) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found


@pytest.mark.parametrize("spec, path", breaker_specs.UNKNOWN_FIELDS.values(), ids=breaker_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_a_breaker_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", breaker_specs.ACCEPTED.values(), ids=breaker_specs.ACCEPTED.keys())
def test_a_good_breaker_is_accepted(spec: specs.Spec) -> None:
    parse_spec(spec, name="agent")


def test_an_agent_without_a_breaker_of_its_own_has_what_the_policies_say() -> None:
    spec = parse_spec(specs.minimal(), name="agent")
    assert spec.pre_stop is None
    assert spec.circuit_breaker == CircuitBreaker()
    assert set(spec.circuit_breaker.model_dump(exclude={"queries", "recovery"}).values()) == {None}
    assert set(spec.circuit_breaker.recovery.model_dump().values()) == {None}
    assert spec.circuit_breaker.queries == []


@pytest.mark.parametrize("raw", [{}, {"circuitBreaker": {}}], ids=["not given", "empty"])
def test_a_policy_that_says_nothing_has_a_working_breaker(raw: specs.Spec) -> None:
    breaker = parse_policy(raw, name="default").circuit_breaker
    assert breaker == CircuitBreakerPolicy()
    assert (breaker.restarts.count, breaker.restarts.window_seconds) == (5, 600)
    assert (breaker.out_of_memory.count, breaker.out_of_memory.window_seconds) == (3, 600)
    assert breaker.cannot_start_seconds == 600
    assert (breaker.queries, breaker.alerts.names) == ([], [])
    assert (breaker.blind.action, breaker.blind.patience_seconds) == ("Open", 300)
    recovery = breaker.recovery
    assert (recovery.mode, recovery.cool_down_seconds, recovery.max_attempts, recovery.trial_seconds) == (
        "Automatic",
        30,
        5,
        300,
    )


def test_a_query_is_asked_every_15_seconds_and_trips_at_once_unless_said_otherwise() -> None:
    [query] = parse_policy(breaker_policy_specs.query(above="1"), name="default").circuit_breaker.queries
    assert (query.interval_seconds, query.for_seconds) == (15, 0)
    assert (query.above, query.below, query.baseline) == ("1", None, None)


def test_what_is_refused_says_how_a_number_is_written() -> None:
    [sentence] = problems(breaker_specs.tightened(threshold="1e3"))
    assert sentence == (
        'spec.circuitBreaker.queries[0].threshold: "1e3" was given; accepted is a decimal number in quotes, such as '
        '"100" or "0.25", with up to 15 digits before the point and 9 after it.'
    )


def test_a_list_without_entries_is_answered_with_how_many_are_accepted() -> None:
    assert problems(breaker_specs.pre_stop()) == (
        "spec.preStop.command: a list of 0 was given; accepted are 1 or more entries.",
    )
    [sentence] = problems(breaker_specs.pre_stop(*["a"] * 65))
    assert sentence == "spec.preStop.command: a list of 65 was given; accepted are up to 64 entries."


@pytest.mark.parametrize(
    "spec", [breaker_specs.pre_stop("hunter2\x00"), specs.minimal(preStop={"command": "run --password=hunter2"})]
)
def test_a_command_before_sigterm_is_never_repeated(spec: specs.Spec) -> None:
    assert not any("hunter2" in sentence for sentence in problems(spec))


def test_a_credential_in_a_command_before_sigterm_is_refused() -> None:
    token = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    [sentence] = problems(breaker_specs.pre_stop("curl", token))
    assert sentence.startswith("spec.preStop.command[1]: ")
    assert "spec.credentials" in sentence
    assert token not in sentence


@given(breaker_specs.moments())
def test_every_accepted_reset_is_a_time_of_this_century(text: str) -> None:
    reset = parse_spec(breaker_specs.reset(text), name="agent").circuit_breaker.reset_at
    assert reset is not None
    assert abs((parse_time(reset) - datetime(2050, 1, 1, tzinfo=UTC)).days) < 51 * 366


@given(st.from_regex(r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}T12:00:00Z\Z").filter(str.isascii))
def test_a_day_is_accepted_exactly_if_the_calendar_has_it(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        assert any("RFC 3339" in sentence for sentence in problems(breaker_specs.reset(text)))
    else:
        parse_spec(breaker_specs.reset(text), name="agent")


@given(breaker_specs.decimals)
def test_every_accepted_decimal_is_a_finite_number(text: str) -> None:
    [query] = parse_spec(breaker_specs.tightened(threshold=text), name="agent").circuit_breaker.queries
    assert query.threshold is not None
    assert math.isfinite(float(query.threshold))


@given(breaker_specs.times)
def test_every_accepted_multiple_is_at_least_one(text: str) -> None:
    [query] = parse_spec(breaker_specs.tightened(timesNormal=text), name="agent").circuit_breaker.queries
    assert query.times_normal is not None
    assert 1 <= float(query.times_normal) < 1_000_000


@given(breaker_specs.specs_with_breakers())
def test_every_breaker_that_the_strategy_makes_is_accepted(raw: specs.Spec) -> None:
    parse_spec(raw, name="agent")


@given(mutated(breaker_specs.specs_with_breakers(), st.one_of(NEAR_MISSES, specs.json_values)))
def test_whatever_a_breaker_holds_is_either_accepted_or_refused_in_bounded_sentences(raw: Any) -> None:
    try:
        parse_spec(raw, name="agent")
    except InvalidSpec as error:
        assert error.problems
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
