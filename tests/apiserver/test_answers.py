"""Somebody else's change that the answer to a write of our own is the first to show: the watch's event is no news then.

The watch is frozen here, so that nothing but the answer can tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.engine import finalizer
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.reconcile import CONFIRM_AFTER
from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.rest import MERGE, Rest
from tests.faults import Delay, DropAfter, FaultProxy, Freeze
from tests.operator_process import OperatorProcess, eventually, install_rights

HELD = 3.0
"""Seconds for which a write of status is held back: long enough to change the object meanwhile."""
QUIET = 1.5
"""Seconds without a request after which no look is under way."""
SOON = 40.0
"""Seconds; a watch that says nothing is given up after 50."""


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as made:
        yield made


@pytest.fixture
def operator(apiserver: RunningCluster, proxy: FaultProxy, tmp_path: Path) -> OperatorProcess:
    user = yaml.safe_load(install_rights(apiserver).read_text())["users"][0]["user"]
    return OperatorProcess(proxy.write_kubeconfig(tmp_path / "kubeconfig", token=user["token"]), tmp_path)


def hold_status(proxy: FaultProxy, plural: str, name: str) -> None:
    """Freezes the watch of a kind, and holds back each write of one object's status."""
    proxy.on("GET", f"/{plural}", Freeze(), watch=True, times=None)
    proxy.on("PATCH", f"/{plural}/{name}/status", Delay(HELD), times=None)


def says(lab: Lab, words: str) -> None:
    """Has the scheduler tell why it places the agent's pod nowhere."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    pod = f"{lab.path('Pod', 'scout-0')}/status"
    assert lab.rest.send("PATCH", pod, {"status": {"conditions": [condition]}}, content_type=MERGE).ok


def test_a_suspension_that_only_the_answer_to_a_write_of_status_shows_is_carried_out(
    proxy: FaultProxy, operator: OperatorProcess, rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    with operator:
        lab.create("scout")
        lab.until_built(["scout"])
        eventually(lambda: lab.status("scout").get("replicas") == 1, "the pod is seen, and written down")
        lab.until_state("scout", "Starting")
    hold_status(proxy, "agentdeployments", "scout")
    written = proxy.seen("PATCH", "/scout/status")
    with operator:
        # At the second news of the pod all else is said and done: nothing but the answer has it look once more.
        says(lab, "no node")
        eventually(lambda: "no node" in lab.condition("scout", "Ready")["message"], "the first is written")
        eventually(lambda: time.monotonic() - proxy.requests[-1].at > QUIET, "nothing is asked any more")
        says(lab, "no room")
        eventually(lambda: proxy.seen("PATCH", "/scout/status") >= written + 2, "the second is on its way")
        lab.patch("scout", suspend=True)
        lab.until_state("scout", "Suspended", within=SOON)
        assert (lab.list("Pod"), lab.list("StatefulSet")) == ([], [])


def test_what_a_status_says_is_told_though_the_answer_to_its_write_was_lost(
    proxy: FaultProxy, operator: OperatorProcess, rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    with operator:
        lab.create("scout")
        lab.until_built(["scout"])
        proxy.on("PATCH", "/agentdeployments/scout/status", DropAfter(), times=None)
        lab.patch("scout", suspend=True)
        lab.until_state("scout", "Suspended")
        told = "Suspended"
        eventually(lambda: told in [one.get("reason") for one in operator.records()], f"it says {told} in its log")
        eventually(lambda: time.monotonic() - proxy.requests[-1].at > QUIET, "nothing is asked any more")
        assert [one.get("reason") for one in operator.records()].count(told) == 1


def test_nothing_is_built_from_nothing_for_an_agent_that_was_suspended_while_the_watch_was_silent(
    proxy: FaultProxy, operator: OperatorProcess, rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    with operator:
        lab.create("scout")
        lab.until_built(["scout"])
    proxy.on("GET", "/agentdeployments", Freeze(), watch=True, times=None)
    with operator:
        eventually(lambda: proxy.seen("GET", "/agentdeployments", watch=True) >= 2, "the agents are watched again")
        eventually(lambda: time.monotonic() - proxy.requests[-1].at > QUIET, "nothing is asked any more")
        began = time.monotonic()
        lab.patch("scout", suspend=True)
        eventually(lambda: time.monotonic() - began > CONFIRM_AFTER, "what is known of the agent is old")
        built = proxy.seen("POST", "/statefulsets")
        lab.delete("StatefulSet", "scout")
        lab.until_state("scout", "Suspended", within=SOON)
        assert proxy.seen("POST", "/statefulsets") == built


def test_what_an_agent_had_ends_though_only_the_answer_to_a_write_of_status_shows_that_it_is_deleted(
    proxy: FaultProxy, operator: OperatorProcess, rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    lab.create("scout")
    hold_status(proxy, "agentdeployments", "scout")
    with operator:
        eventually(lambda: proxy.seen("PATCH", "/agentdeployments/scout/status"), "a write of status is on its way")
        lab.delete("AgentDeployment", "scout")
        told = ("agent is deleted and gone", sandbox)
        eventually(
            lambda: told in [(one["message"], one.get("namespace")) for one in operator.records()], told[0], within=SOON
        )
        assert (lab.list("Pod"), lab.list("StatefulSet")) == ([], [])


def test_a_policy_whose_new_ceiling_only_the_answer_to_a_write_of_status_shows_is_in_force(
    proxy: FaultProxy, operator: OperatorProcess, rest: Rest, sandbox: str
) -> None:
    lab, strict = Lab(rest, sandbox), f"strict-{sandbox}"
    selector = {"matchLabels": {"kubernetes.io/metadata.name": sandbox}}
    assert rest.post(POLICIES, policy(strict, namespaceSelector=selector)).ok
    lab.create("pair", replicas=2)
    hold_status(proxy, "sandboxpolicies", strict)
    try:
        with operator:
            eventually(lambda: proxy.seen("PATCH", f"/sandboxpolicies/{strict}/status"), "a write is on its way")
            tightened = {"spec": {"workload": {"maxReplicas": 1}}}
            assert rest.send("PATCH", f"{POLICIES}/{strict}", tightened, content_type=MERGE).ok
            lab.until_state("pair", "Refused", within=SOON)
    finally:
        rest.delete(f"{POLICIES}/{strict}")


def test_a_suspension_that_is_met_when_the_finalizer_is_written_is_told(
    apiserver: RunningCluster, rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    told: list[bool] = []

    def changed(_: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        told.append(new is not None and bool(new["spec"].get("suspend")))

    async def add() -> None:
        store = AgentStore(clock=time.monotonic, on_change=changed)
        client = Client(await Connection.load(kubeconfig=apiserver.kubeconfig), deadline=60.0, connect_timeout=60.0)
        try:
            seen = lab.create("scout")
            store.observe(seen)
            lab.patch("scout", suspend=True)
            await finalizer.add(client, store, seen)
        finally:
            await client.close()

    asyncio.run(add())
    assert told == [False, True]
    lab.patch("scout", suspend=False)
    assert rest.send(
        "PATCH", lab.path("AgentDeployment", "scout"), {"metadata": {"finalizers": None}}, content_type=MERGE
    ).ok
