"""The page about breakers: its examples are accepted, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.circuitbreaker import CircuitBreakerPolicy
from bulkhead.plan import policy
from bulkhead.plan.breakerrules import rules
from bulkhead.plan.circuit import TripType
from tests.unit.plan.policies import bounds_of

TEXT = (Path(__file__).parents[3] / "docs" / "breaker.md").read_text(encoding="utf-8")
POLICY, AGENT = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))


def test_the_examples_are_accepted_and_the_agent_tightens_the_policy() -> None:
    given = policy.parse(POLICY)
    assert given.problems == ()
    parse_spec(AGENT["spec"], name="scout")
    found = rules(bounds_of(given), AGENT["spec"])
    assert [one.count for one in found.restarts] == [5, 2]
    assert [one.limit.above for one in found.queries] == [20]
    assert found.closing.manual


@pytest.mark.parametrize("kind", [one for one in TripType if one is not TripType.UNREADABLE])
def test_every_trip_is_in_the_table(kind: TripType) -> None:
    assert f"\n| `{kind}` |" in TEXT


def test_the_defaults_of_the_page_are_those_of_a_policy_that_says_nothing() -> None:
    given = CircuitBreakerPolicy()
    assert f"| {given.restarts.count} in {given.restarts.window_seconds} s | `restarts` |" in TEXT
    assert f"| {given.out_of_memory.count} in {given.out_of_memory.window_seconds} s | `outOfMemory` |" in TEXT
    assert f"| {given.cannot_start_seconds} s | `cannotStartSeconds` |" in TEXT
    assert f"| after {given.blind.patience_seconds} s | `blind` |" in TEXT
    for field, default, how in (
        ("mode", f"`{given.recovery.mode}`", "`Manual` wins"),
        ("coolDownSeconds", given.recovery.cool_down_seconds, "the longest"),
        ("maxAttempts", given.recovery.max_attempts, "the fewest"),
        ("trialSeconds", given.recovery.trial_seconds, "the longest"),
    ):
        assert re.search(rf"^\| `{field}` \|.*\| {default} \| {how} \|$", TEXT, re.MULTILINE), field
