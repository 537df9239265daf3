from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import pods, workload
from bulkhead.plan.pods import Marks
from tests import specs

NAME = {"name": "BULKHEAD_AGENT", "value": "demo"}
UID = {"name": "BULKHEAD_AGENT_UID", "value": "uid-1"}


def pod(*env: dict[str, Any], container: str = "agent", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "demo-0", **metadata}, "spec": {"containers": [{"name": container, "env": list(env)}]}}


@pytest.mark.parametrize(
    "given_pod",
    [
        pod(NAME, UID),
        pod(NAME, UID, {"name": "OTHER", "value": "x"}),
        pod(NAME, UID, labels={"bulkhead.dev/agent": "another"}),
        pod(NAME, UID, ownerReferences=[{"kind": "Job", "uid": "another", "controller": True}]),
    ],
    ids=["plain", "with other variables", "with edited labels", "adopted by another"],
)
def test_a_pod_is_known_by_the_marks_in_its_environment_and_nothing_else(given_pod: dict[str, Any]) -> None:
    assert pods.agent_of(given_pod) == Marks("demo", "uid-1")


@pytest.mark.parametrize(
    "given_pod",
    [
        {},
        {"spec": None},
        {"spec": {"containers": [{"name": "agent"}]}},
        pod(),
        pod(NAME),
        pod(UID),
        pod(NAME, {**UID, "value": ""}),
        pod(NAME, {"name": "BULKHEAD_AGENT_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}),
        pod(NAME, UID, container="sidecar"),
        pod(labels={"bulkhead.dev/agent": "demo", "bulkhead.dev/agent-uid": "uid-1"}),
    ],
    ids=[
        "nothing",
        "no spec",
        "no environment",
        "no variables",
        "a name alone",
        "a UID alone",
        "an empty UID",
        "a UID from elsewhere",
        "marks in another container",
        "labels alone",
    ],
)
def test_a_pod_without_both_marks_is_nobody_s(given_pod: dict[str, Any]) -> None:
    assert pods.agent_of(given_pod) is None


@given(specs.valid_specs())
def test_every_pod_that_is_built_bears_its_marks_in_the_cache_too(raw: specs.Spec) -> None:
    agent = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "demo", "namespace": "sandbox", "uid": "uid-1"},
    }
    template = workload.stateful_set(agent, parse_spec(raw, name="demo"))["spec"]["template"]
    built = {"metadata": {"name": "demo-0"}, "spec": template["spec"]}
    assert pods.agent_of(built) == pods.agent_of(pods.slim(built)) == Marks("demo", "uid-1")


def gate_status(name: str = "isolation-gate", **state: Any) -> dict[str, Any]:
    return {
        "name": name,
        "restartCount": 1,
        "image": "example.test/operator:1",
        "containerID": "containerd://1",
        **state,
    }


def terminated(code: int, message: str | None = None) -> dict[str, Any]:
    given = {"message": message} if message is not None else {}
    return {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", **given}}


OPEN = "open: canary/db TCP 10.200.0.10 5432 accepted at 2026-03-01T11:59:59.500000Z"
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
HELD = "answered, although nothing should: canary/db TCP 10.200.0.10 5432 accepted"

TROUBLE: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "a gate that tries": (gate_status(state={"running": {}}), None),
    "a gate that passed": (gate_status(state=terminated(0, "closed 3 targets at T")), None),
    "a gate that found something open": (
        gate_status(state=terminated(3, OPEN)),
        ("IsolationOpen", f"isolation-gate: {HELD}; the agent is held back until that has changed"),
    ),
    "a gate that waits to try again": (
        gate_status(state=BACK_OFF, lastState=terminated(3, OPEN)),
        ("IsolationOpen", f"isolation-gate: {HELD}; the agent is held back until that has changed"),
    ),
    "a gate that tries again": (
        gate_status(state={"running": {}}, lastState=terminated(3, OPEN)),
        ("IsolationOpen", f"isolation-gate: {HELD}; the agent is held back until that has changed"),
    ),
    "a gate that passed at last": (gate_status(state=terminated(0), lastState=terminated(3, OPEN)), None),
    "a gate that could not try": (
        gate_status(state=BACK_OFF, lastState=terminated(4, "unproven: no port at T")),
        ("IsolationUnproven", "isolation-gate: unproven: no port; the agent is held back until that has changed"),
    ),
    "a gate that was set up wrongly": (
        gate_status(state=terminated(2, "misconfigured: no target")),
        (
            "GateMisconfigured",
            "isolation-gate: misconfigured: no target; the agent is held back until that has changed",
        ),
    ),
    "a gate whose image is not there": (
        gate_status(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        ("ImagePullBackOff", "no such image"),
    ),
    "a gate that was killed": (
        gate_status(state=BACK_OFF, lastState=terminated(137)),
        ("CrashLoopBackOff", "back-off 10s restarting failed container (last exit: Error, code 137, 1 restarts)"),
    ),
    "a watch that runs": (gate_status("isolation-watch", state={"running": {}}), None),
    "a watch that found something open": (
        gate_status("isolation-watch", state=terminated(3, OPEN)),
        ("IsolationLost", f"isolation-watch: {HELD}"),
    ),
    "a watch that runs again after that": (
        gate_status("isolation-watch", state={"running": {}}, lastState=terminated(3, OPEN)),
        ("IsolationLost", f"isolation-watch: {HELD}"),
    ),
    "a watch that runs again after it could not try": (
        gate_status("isolation-watch", state={"running": {}}, lastState=terminated(4, "unproven: x")),
        None,
    ),
}


@pytest.mark.parametrize(("status", "expected"), TROUBLE.values(), ids=TROUBLE.keys())
def test_a_gate_that_holds_is_told_in_words_and_not_as_a_crash(
    status: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    whole = pod(NAME, UID)
    whole["status"] = {
        "initContainerStatuses": [status],
        "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    for known in (whole, pods.slim(whole)):
        found = pods.trouble(known)
        assert (None if found is None else (found.reason, found.message)) == expected


def test_the_cache_keeps_the_gates_messages_and_of_others_what_can_be_no_secret() -> None:
    secret = "giving up: token=correct-horse"
    kept_of_it = "giving up: token=[redacted]"
    whole = pod(NAME, UID)
    whole["status"] = {
        "initContainerStatuses": [
            gate_status(state=terminated(3, OPEN), lastState=terminated(1, secret)),
            gate_status("isolation-watch", state={"running": {"startedAt": "T"}}, lastState=terminated(3, OPEN)),
            gate_status("other", state=terminated(0, secret)),
        ],
        "containerStatuses": [
            {"name": "agent", "ready": True, "state": terminated(1, secret), "lastState": terminated(1, secret)}
        ],
    }
    kept = pods.slim(whole)["status"]
    gate, watch, other = kept["initContainerStatuses"]
    assert gate["state"]["terminated"]["message"] == watch["lastState"]["terminated"]["message"] == OPEN
    assert watch["state"] == {"running": {"startedAt": "T"}}
    assert other["state"]["terminated"]["message"] == kept_of_it
    [agent] = kept["containerStatuses"]
    ended = {"exitCode": 1, "reason": "Error", "message": kept_of_it}
    assert agent["state"] == agent["lastState"] == {"terminated": ended}
    assert "horse" not in repr(kept["containerStatuses"])
    assert "containerID" not in gate and "image" not in gate
    assert whole["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == secret, (
        "the argument is as it was"
    )
