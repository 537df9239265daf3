"""The record of an agent's proof of isolation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bulkhead.plan import proof
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.isolation import Evidence, Target
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, seconds_ago

TARGET = Target("metadata", "TCP", "169.254.169.254", 80)


def judged(result: str, *, at: float | None = 5, unproven: str = "", answered: tuple[str, ...] = ()) -> Assessment:
    moment = None if at is None else NOW - timedelta(seconds=at)
    evidence = Evidence(result=result, message="in words", answered=answered, at=moment)
    return Assessment(policies=("default",), evidence=evidence, unproven=unproven, targets=(TARGET,))


def record(previous: dict[str, Any] | None, now_judged: Assessment, *, runs: bool = True) -> dict[str, Any]:
    of = agent(status={"isolation": previous} if previous else {})
    return proof.record(of, now_judged, samples.surroundings(), runs=runs, now=NOW)


def test_what_was_tried_and_when_it_was_proven_is_on_record() -> None:
    made = record(None, judged("Proven"))

    assert made["result"] == "Proven"
    assert made["targets"] == ["metadata TCP 169.254.169.254 80"]
    assert made["provenAt"].startswith("2026-03-01T11:59:55")
    assert [one["name"] for one in made["layers"]] == ["NetworkPolicy"]


def test_nothing_of_the_record_changes_while_nothing_happens() -> None:
    first = record(None, judged("Proven"))
    assert record(first, judged("Proven")) == first


def test_a_loss_is_on_record_with_its_time_and_what_answered_however_often_it_is_looked_at() -> None:
    lost = judged("Lost", answered=("metadata TCP 169.254.169.254 80 accepted",))
    first = record(None, lost)

    assert first["lostAt"] == "2026-03-01T11:59:55.000000Z"
    assert first["answered"] == ["metadata TCP 169.254.169.254 80 accepted"]
    assert record(first, lost) == first


def test_a_loss_of_which_no_time_is_told_keeps_the_time_at_which_it_was_first_seen() -> None:
    first = record({"result": "Proven", "since": seconds_ago(60)}, judged("Lost", at=None))
    assert first["lostAt"] == first["since"] == "2026-03-01T12:00:00.000000Z"
    earlier = {**first, "lostAt": seconds_ago(9)}
    assert record(earlier, judged("Lost", at=None))["lostAt"] == seconds_ago(9)


def test_a_loss_stays_on_record_with_what_answered_when_its_pod_is_gone() -> None:
    first = record(None, judged("Lost", answered=("metadata TCP 169.254.169.254 80 accepted",)))

    gone = record(first, judged("Pending", at=None), runs=False)

    assert gone["result"] == "Lost"
    assert gone["answered"] == first["answered"]
    assert gone["lostAt"] == first["lostAt"]


@pytest.mark.parametrize("result", ["Pending", "Proven", "Open"])
def test_a_loss_is_over_when_the_agent_may_run_again(result: str) -> None:
    lost = record(None, judged("Lost", answered=("metadata TCP 169.254.169.254 80 accepted",)))
    held = record(lost, judged("Pending", at=None), runs=False)
    again = record(held, judged(result))

    assert again["result"] == result
    assert again["answered"] == []
    assert "lostAt" not in again


def test_the_record_stays_within_the_bounds_of_the_crd_whatever_the_gate_says() -> None:
    made = record(None, judged("Lost", answered=tuple(f"{number} " + "x" * 2000 for number in range(100))))
    assert len(made["answered"]) == 16
    assert max(map(len, made["answered"])) == 256


def test_unknown_is_what_it_says_without_a_control() -> None:
    assert record(None, judged("Proven", unproven="canary db does not answer"))["result"] == "Unknown"


def test_a_layer_is_in_force_since_it_was_first_seen() -> None:
    earlier = {
        "result": "Proven",
        "since": seconds_ago(60),
        "layers": [{"name": "NetworkPolicy", "since": "2026-01-01T00:00:00Z"}],
    }
    assert record(earlier, judged("Proven"))["layers"] == [{"name": "NetworkPolicy", "since": "2026-01-01T00:00:00Z"}]
