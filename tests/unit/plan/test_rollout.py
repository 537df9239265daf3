"""Why an agent's pods are not up, in the words Kubernetes used."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.plan import pods, rollout
from bulkhead.plan.observed import Warned
from tests.unit.plan.samples import agent, pod, stateful_set

QUOTA = Warned(
    kind="StatefulSet", name="scout", reason="FailedCreate", message='pods "scout-0" is forbidden: exceeded quota'
)
MOUNT = Warned(kind="Pod", name="scout-0", reason="FailedMount", message="MountVolume.SetUp failed")
OTHER = Warned(kind="Pod", name="scout-0", reason="BackOff", message="Back-off restarting")
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}
CRASHED = {
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
    "lastState": {"terminated": {"reason": "Error", "exitCode": 3, "message": "password=hunter2"}},
}
EXITED = {"restartCount": 1, "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}


@pytest.mark.parametrize(
    ("case", "own", "warned", "reason", "words"),
    [
        ("quota refused", (), (OTHER, QUOTA), "FailedCreate", "exceeded quota"),
        ("unschedulable", (pod(node=None, conditions=[UNSCHEDULABLE]),), (), "Unschedulable", "Insufficient cpu"),
        ("bad image", (pod(waiting=("ErrImagePull", "not found")),), (QUOTA,), "ErrImagePull", "not found"),
        ("no message", (pod(waiting=("ImagePullBackOff", "")),), (), "ImagePullBackOff", "ImagePullBackOff"),
        ("crash loop", (pod(container=CRASHED),), (), "CrashLoopBackOff", "code 3, 4 restarts"),
        ("killed", (pod(container=EXITED),), (), "OOMKilled", "code 137"),
        ("volume", (pod(),), (OTHER, MOUNT), "FailedMount", "MountVolume"),
    ],
)
def test_the_cause_of_a_rollout_that_fails_is_told(
    case: str, own: tuple[dict[str, Any], ...], warned: tuple[Warned, ...], reason: str, words: str
) -> None:
    found = rollout.assess(wanted=1, stateful_set=stateful_set(agent()), own_pods=own, warned=warned)
    assert not found.complete
    assert found.cause is not None
    assert found.cause.reason == reason
    assert words in found.cause.message
    assert "scout" in found.cause.message


def test_the_last_words_of_a_container_are_not_repeated() -> None:
    found = pods.trouble(pod(container=CRASHED))
    assert found is not None
    assert "hunter2" not in found.message


@pytest.mark.parametrize(
    ("case", "wanted", "own", "seen", "complete"),
    [
        ("all ready", 1, (pod(ready=True),), 1, True),
        ("none wanted, none there", 0, (), 1, True),
        ("none wanted, one still there", 0, (pod(ready=True),), 1, False),
        ("one missing", 2, (pod(ready=True),), 1, False),
        ("one of the old revision", 2, (pod(0, ready=True), pod(1, ready=True, revision="r0")), 1, False),
        ("spec not seen by the controller yet", 1, (pod(ready=True),), 0, False),
        ("starting", 1, (pod(waiting=("ContainerCreating", "")),), 1, False),
        ("ending", 1, (pod(ready=True, deleting=True),), 1, False),
    ],
)
def test_a_rollout_is_complete_only_when_exactly_the_wanted_pods_are_ready(
    case: str, wanted: int, own: tuple[dict[str, Any], ...], seen: int, complete: bool
) -> None:
    found = rollout.assess(
        wanted=wanted, stateful_set=stateful_set(agent(), observedGeneration=seen), own_pods=own, warned=()
    )
    assert found.complete is complete
    assert found.cause is None


def test_a_slim_pod_keeps_what_decisions_read_and_nothing_else() -> None:
    full = pod(ready=True)
    full["metadata"]["annotations"] = {"big": "x" * 10_000}
    full["spec"]["volumes"] = [{"name": "tmp"}]
    full["spec"]["containers"][0]["env"].append(
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    )
    slim = pods.slim(full)
    assert "annotations" not in slim["metadata"]
    assert "volumes" not in slim["spec"]
    assert slim["spec"]["containers"] == [{"name": "agent", "env": [{"name": "BULKHEAD_AGENT_UID", "value": "a1b2c3"}]}]
    assert pods.is_ready(slim)
    assert pods.slim({"metadata": {"name": "x"}})["status"] == {}
