"""The breaker in the plan of an agent: what it stops, what it lets run, and what its status says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bulkhead.plan.agent import Plan, plan
from bulkhead.plan.exits import Exit
from bulkhead.plan.observed import Cut, Observed, Outcome
from bulkhead.plan.signals import Alert, Signals
from bulkhead.plan.status import status
from tests.stored import unfit_agent_status
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, observed, pod, seconds_ago, stateful_set

LOST = samples.gate_status(answered="metadata TCP 169.254.169.254 80 accepted")
OPEN = {
    "state": "Open",
    "since": seconds_ago(60),
    "attempts": 1,
    "retryAt": seconds_ago(30),
    "trips": [{"type": "IsolationLost", "at": seconds_ago(60), "message": "it reached the metadata service"}],
}
ALERT = Alert(name="Loop", fingerprint="f", starts_at=NOW, received_at=NOW, message="again and again", record="r")


def crashing(restarts: int = 5) -> dict[str, Any]:
    times = {"startedAt": seconds_ago(4), "finishedAt": seconds_ago(2)}
    last = {"terminated": {"exitCode": 1, "reason": "Error", **times}}
    return {"name": "agent", "restartCount": restarts, "state": {"running": {}}, "lastState": last}


def running(of: dict[str, Any], *own_pods: dict[str, Any], leads: bool = True, **known: Any) -> Observed:
    world = samples.surroundings(signals=Signals() if leads else None)
    seen = {"surroundings": world, "pods_are_live": True, **known}
    return observed(of, stateful_set=stateful_set(of), pods=own_pods, **seen)


def stopped(of: dict[str, Any], *, leads: bool = True) -> Observed:
    world = samples.surroundings(signals=Signals() if leads else None)
    return observed(of, surroundings=world, pods_are_live=True)


def written(seen: Observed, made: Plan) -> dict[str, Any]:
    cut = Cut(since=NOW, stopped=NOW) if made.suspends else None
    found = status(seen, made, Outcome(), cut=cut, now=NOW)
    assert unfit_agent_status(found) == []
    return found


def condition(of: dict[str, Any], kind: str = "CircuitClosed") -> tuple[str, str]:
    (found,) = [one for one in of["conditions"] if one["type"] == kind]
    return found["status"], found["reason"]


def types(made: Plan) -> list[str]:
    return [one.type for one in made.reasons]


def test_a_crash_loop_stops_the_agent_with_the_evidence_in_its_status() -> None:
    last = Exit(
        pod="scout-0", container="agent", exit_code=1, reason="Error", finished_at=NOW, message="loop 17, no route"
    )
    seen = running(agent(), pod(container=crashing()), exits=(last,))
    made = plan(seen, now=NOW)
    assert types(made) == ["CircuitOpen"]
    assert made.opens
    assert not made.desired
    found = written(seen, made)
    assert (found["state"], condition(found)) == ("CircuitOpen", ("False", "Open"))
    (trip,) = found["circuit"]["trips"]
    assert (trip["type"], trip["value"], trip["threshold"]) == ("Restarts", "5", "5 in 600 s")
    assert trip["message"].endswith("it wrote last: loop 17, no route")
    assert condition(found, "Suspended") == ("True", "CircuitOpen")


def test_an_open_breaker_holds_the_agent_when_its_pods_and_their_evidence_are_gone() -> None:
    seen = running(agent(), pod(container=crashing()))
    found = written(seen, plan(seen, now=NOW))
    later = plan(stopped(agent(status=found)), now=NOW + timedelta(seconds=20))
    assert types(later) == ["CircuitOpen"]
    assert not later.opens, "the status says so already"
    assert later.next_look is not None and later.next_look <= timedelta(seconds=16)


def test_a_lost_isolation_stops_at_once_and_the_breaker_holds_on() -> None:
    seen = running(agent(), pod(ready=True, gate=LOST))
    made = plan(seen, now=NOW)
    assert types(made) == ["IsolationLost", "CircuitOpen"]
    found = written(seen, made)
    assert found["circuit"]["trips"][0]["type"] == "IsolationLost"
    held = stopped(agent(status=found))
    made = plan(held, now=NOW + timedelta(seconds=5))
    assert types(made) == ["CircuitOpen"]
    assert "169.254.169.254" in made.reasons[0].message
    again = written(held, made)
    assert condition(again, "Isolated") == ("False", "Lost")
    assert again["isolation"]["lostAt"] == found["isolation"]["lostAt"]


def test_an_alert_stops_the_agent_and_its_record_is_settled_by_the_same_status() -> None:
    named = samples.surroundings(
        samples.sandbox_policy(circuitBreaker={"alerts": {"names": ["Loop"]}}), signals=Signals()
    )
    seen = running(agent(), pod(ready=True), alerts=(ALERT,), surroundings=named)
    made = plan(seen, now=NOW)
    assert types(made) == ["CircuitOpen"]
    assert made.settled_alerts == (ALERT,)


def test_an_alert_about_an_agent_in_no_sandbox_is_not_settled() -> None:
    made = plan(replace(running(agent(), alerts=(ALERT,)), namespace=None, surroundings=None), now=NOW)
    assert made.settled_alerts == ()


@pytest.mark.parametrize(
    ("text", "honoured"),
    {"2000-01-01T00:00:00Z": True, "2000-01-01T00:00:00+01:00": False, "2099-12-31T23:59:59Z": False}.items(),
)
def test_a_reset_that_is_honoured_can_be_read_again(text: str, *, honoured: bool) -> None:
    seen = stopped(agent(circuitBreaker={"resetAt": text}))
    found = written(seen, plan(seen, now=NOW))
    assert ("resetAt" in found["circuit"]) is honoured
    again = stopped(agent(circuitBreaker={"resetAt": text}, status=found))
    assert types(plan(again, now=NOW)) == []


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "standby"])
def test_what_lets_an_agent_run_again_is_on_record_before_anything_is_built(*, leads: bool) -> None:
    seen = stopped(agent(status={"circuit": OPEN}), leads=leads)
    first = plan(seen, now=NOW)
    assert not first.suspends
    assert not first.desired
    assert not first.phases
    assert first.next_look == timedelta(0)
    found = written(seen, first)
    assert (found["circuit"]["state"], condition(found)) == ("HalfOpen", ("False", "HalfOpen"))
    assert "runStartedAt" not in found
    second = plan(stopped(agent(status=found)), now=NOW)
    assert [one.object["kind"] for one in second.desired][-1] == "StatefulSet"


def test_a_reset_lets_the_agent_run_and_its_status_says_why_it_had_stopped() -> None:
    held = {**OPEN, "attempts": 9}
    del held["retryAt"]
    assert plan(stopped(agent(status={"circuit": held})), now=NOW).suspends
    seen = stopped(agent(status={"circuit": held}, circuitBreaker={"resetAt": seconds_ago(1)}))
    found = written(seen, plan(seen, now=NOW))
    assert found["circuit"]["state"] == "Closed"
    assert found["circuit"]["trips"] == written(seen, plan(seen, now=NOW))["circuit"]["trips"]
    assert "attempts" not in found["circuit"]


def test_pods_beside_the_record_of_an_open_breaker_are_taken_down_by_the_leader() -> None:
    """An operator died after it had built and before it wrote that it may."""
    seen = running(agent(status={"circuit": OPEN}), pod(ready=True))
    made = plan(seen, now=NOW)
    assert types(made) == ["CircuitOpen"]
    assert "its pods are not gone yet" in made.reasons[0].message
    standby = replace(seen, surroundings=samples.surroundings())
    assert not plan(standby, now=NOW).suspends, "it may see the new pods before the new status"


def test_the_first_restart_on_trial_opens_the_breaker_again() -> None:
    trial = {**OPEN, "state": "HalfOpen", "since": seconds_ago(10)}
    seen = running(agent(status={"circuit": trial}), pod(container=crashing(1)))
    made = plan(seen, now=NOW)
    assert types(made) == ["CircuitOpen"]
    found = written(seen, made)
    assert found["circuit"]["attempts"] == 2
    assert found["circuit"]["trips"][0]["threshold"] == "1 on trial"


def test_an_agent_that_somebody_stopped_is_not_tried_meanwhile() -> None:
    made = plan(stopped(agent(suspend=True, status={"circuit": OPEN})), now=NOW)
    assert types(made) == ["Requested", "CircuitOpen"]
    assert made.breaker is not None and made.breaker.circuit.state.value == "Open"


def test_a_spec_that_cannot_be_parsed_still_has_a_breaker_and_a_reset() -> None:
    of = {**agent(status={"circuit": OPEN}), "spec": {"replicas": -1, "circuitBreaker": {"resetAt": seconds_ago(1)}}}
    made = plan(stopped(of), now=NOW)
    assert types(made) == ["Invalid"]
    assert made.breaker is not None and made.breaker.circuit.state.value == "Closed"


@pytest.mark.parametrize("given", ["soon", 5, None, [], "2026-03-01T12:00:00"])
def test_a_reset_that_is_no_time_does_nothing(given: Any) -> None:
    of = {**agent(status={"circuit": OPEN}), "spec": {"circuitBreaker": {"resetAt": given}}}
    made = plan(stopped(of), now=NOW - timedelta(seconds=40))
    assert "CircuitOpen" in types(made)


def test_a_quiet_agents_circuit_is_written_once() -> None:
    seen = running(agent(), pod(ready=True))
    first = written(seen, plan(seen, now=NOW))
    assert first["circuit"] == {"state": "Closed", "since": "2026-03-01T12:00:00.000000Z"}
    assert condition(first) == ("True", "Closed")
    again = running(agent(status=first), pod(ready=True))
    assert plan(again, now=NOW + timedelta(hours=1)).breaker == plan(again, now=NOW).breaker
