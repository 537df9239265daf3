"""What the operator tells Prometheus, as a scrape sees it."""

from __future__ import annotations

from typing import Any

from bulkhead.engine.metrics import Metrics
from bulkhead.engine.queue import Key, WorkQueue


def agent(namespace: str, state: str | None, **conditions: str) -> dict[str, Any]:
    listed = [{"type": kind, "status": status} for kind, status in conditions.items()]
    status = {"status": {"state": state, "conditions": listed}} if state else {}
    return {"metadata": {"name": "one", "namespace": namespace}, **status}


def scrape(
    *agents: dict[str, Any],
    problems: tuple[str, ...] | None = (),
    switches: tuple[dict[str, Any], ...] = (),
    leads: bool = True,
) -> list[str]:
    queue = WorkQueue(clock=lambda: 0.0)
    queue.add(Key("AgentDeployment", "lab", "one"))
    made = Metrics(
        agents=agents,
        admission=lambda: problems,
        leases=lambda: {"Active": 3, "Retiring": 1},
        switches=switches,
        signals=lambda: {"queries": {"queries": 7, "failures": 2}, "circuits": {"opened": 1}},
        queue=queue,
        is_leader=lambda: leads,
    )
    return [line for line in made.text().decode().splitlines() if not line.startswith("#")]


def test_agents_are_counted_by_namespace_and_state() -> None:
    found = scrape(agent("lab", "Running"), agent("lab", "Running"), agent("zoo", "IsolationLost"), agent("zoo", None))

    assert 'bulkhead_agents{namespace="lab",state="Running"} 2.0' in found
    assert 'bulkhead_agents{namespace="zoo",state="IsolationLost"} 1.0' in found
    assert 'bulkhead_agents{namespace="zoo",state="Unknown"} 1.0' in found


def test_agents_are_counted_by_what_their_conditions_say_and_by_none_as_unknown() -> None:
    found = scrape(agent("lab", "Running", Isolated="True"), agent("lab", "IsolationLost", Isolated="False"))

    assert 'bulkhead_agents_condition{condition="Isolated",status="True"} 1.0' in found
    assert 'bulkhead_agents_condition{condition="Isolated",status="False"} 1.0' in found
    assert 'bulkhead_agents_condition{condition="AdmissionInForce",status="Unknown"} 2.0' in found


def test_credentials_are_counted_by_the_condition_of_those_who_have_any_and_by_the_state_of_their_leases() -> None:
    found = scrape(agent("lab", "Running", CredentialsReady="True"), agent("lab", "Running"))

    assert [line for line in found if "CredentialsReady" in line] == [
        'bulkhead_agents_condition{condition="CredentialsReady",status="True"} 1.0'
    ]
    assert 'bulkhead_leases{state="Active"} 3.0' in found
    assert 'bulkhead_leases{state="Retiring"} 1.0' in found


def test_weakened_admission_shows_as_a_number_and_unknown_admission_as_no_number() -> None:
    assert "bulkhead_admission_problems 2.0" in scrape(problems=("a", "b"))
    assert "bulkhead_admission_problems 0.0" in scrape(problems=())
    assert not [line for line in scrape(problems=None) if "admission_problems" in line]


def test_the_lease_and_the_lanes_show() -> None:
    found = scrape(leads=False)

    assert "bulkhead_leader 0.0" in found
    assert 'bulkhead_queue_depth{lane="normal"} 1.0' in found
    assert 'bulkhead_queue_depth{lane="urgent"} 0.0' in found


def test_breakers_are_counted_by_their_state_and_by_none_as_unknown() -> None:
    opened = agent("lab", "CircuitOpen")
    opened["status"]["circuit"] = {"state": "Open"}
    found = scrape(opened, agent("lab", None))

    assert 'bulkhead_circuits{state="Open"} 1.0' in found
    assert 'bulkhead_circuits{state="Unknown"} 1.0' in found


def test_kill_switches_are_counted_by_whether_the_stop_was_verified() -> None:
    found = scrape(switches=({"status": {"conditions": [{"type": "Stopped", "status": "True"}]}}, {}))

    assert 'bulkhead_kill_switches{stopped="True"} 1.0' in found
    assert 'bulkhead_kill_switches{stopped="Unknown"} 1.0' in found


def test_what_came_of_signals_is_counted_by_part_and_outcome() -> None:
    found = scrape()

    assert 'bulkhead_signals_total{outcome="failures",part="queries"} 2.0' in found
    assert 'bulkhead_signals_total{outcome="opened",part="circuits"} 1.0' in found
