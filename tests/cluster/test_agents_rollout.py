"""An agent that does not come up says why, in the words of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.api import conditions
from demo.stage import Stage
from tests.apiserver.agents import Object
from tests.cluster.agents import PRODUCTION, WORKER, Sandbox
from tests.cluster.pods import wait_for

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none"},
    "spec": {"hard": {"pods": "0"}},
}

# An agent that fails: what its program and spec are, and what its condition Ready then says.
FAILING: dict[str, tuple[str, dict[str, Any], set[str], tuple[str, ...]]] = {
    "missing-image": (
        WORKER,
        {"image": "localhost/bulkhead/missing:1"},
        {"ErrImagePull", "ImagePullBackOff"},
        ("localhost/bulkhead/missing:1",),
    ),
    "no-such-node": (
        WORKER,
        {"placement": {"nodeSelector": {"example.com/pool": "elsewhere"}}},
        {"Unschedulable"},
        ("0/1 nodes are available", "didn't match Pod's node affinity/selector"),
    ),
    "too-big": (
        WORKER,
        {"resources": {"limits": {"cpu": "512"}}},
        {"Unschedulable"},
        ("0/1 nodes are available", "Insufficient cpu"),
    ),
    "crashing": ("exit 3", {}, {"CrashLoopBackOff"}, ("code 3", "restarts")),
    "no-such-program": (
        "",
        {"command": ["/no/such/program"]},
        {"RunContainerError", "CrashLoopBackOff"},
        ("/no/such/program",),
    ),
}

PATIENT: Object = {
    "production": PRODUCTION,
    "circuitBreaker": {"restarts": {"count": 100, "windowSeconds": 10}},
}
"""A policy under which no breaker opens while one looks at what fails: that is a test of its own."""


@pytest.fixture(scope="module")
def failing(operator: Stage) -> Iterator[Sandbox]:
    """A sandbox in which every agent of `FAILING` was created, all at once: each takes some time to fail."""
    with Sandbox.opened(operator.cluster, PATIENT) as sandbox:
        for name, (program, spec, _, _) in FAILING.items():
            sandbox.agent(name, program, **spec)
        yield sandbox


def until_ready_says(sandbox: Sandbox, agent: str, reasons: set[str], words: tuple[str, ...] = ()) -> Object:
    """Wait until the condition Ready of an agent is False for one of some reasons, in some words.

    Returns:
        The status that says so. The next one may say something else: what crashes is started every two seconds.
    """
    seen: list[Object] = []

    def says() -> bool:
        seen[:] = [sandbox.lab.status(agent)]
        found = conditions.find(seen[0].get("conditions") or [], "Ready") or {}
        return (
            found.get("status") == "False"
            and found.get("reason") in reasons
            and all(word in found["message"] for word in words)
        )

    try:
        wait_for(says, seconds=180, what=f"{agent} says {reasons}", interval=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {seen}") from None
    return seen[0]


@pytest.mark.parametrize("agent", FAILING)
def test_a_rollout_that_fails_says_why(failing: Sandbox, agent: str) -> None:
    _, _, reasons, words = FAILING[agent]
    assert until_ready_says(failing, agent, reasons, words)["state"] == "Failing"


def test_a_quota_that_refuses_pods_is_quoted(sandbox: Sandbox) -> None:
    sandbox.create(QUOTA)
    wait_for(
        lambda: sandbox.get("resourcequota", "none").get("status", {}).get("hard") == {"pods": "0"},
        seconds=120,  # its controller stands still while it learns of new kinds
        what="the quota is in force",
    )
    sandbox.agent("refused")
    until_ready_says(sandbox, "refused", {"FailedCreate"}, ("exceeded quota: none",))
    sandbox.kubectl("delete", "resourcequota", "none")
    # The StatefulSet controller has waited twice as long after each refusal.
    sandbox.running("refused", within=300)


def test_an_agent_that_is_mended_comes_up(failing: Sandbox) -> None:
    until_ready_says(failing, "crashing", {"CrashLoopBackOff", "Error"})
    failing.lab.patch("crashing", command=["sh", "-c", WORKER])
    failing.running("crashing", within=120)


def test_an_image_reference_that_is_none_is_refused_at_once(sandbox: Sandbox) -> None:
    answer = sandbox.lab.try_create("typo", image="Not An Image")
    assert answer.status == 422
    assert "accepted is an image reference" in answer.message
