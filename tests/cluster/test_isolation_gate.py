"""The gate on a real node: no agent runs before its walls are proven, and none goes on when they fall."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
from rich.console import Console
from rich.table import Table

from demo import containers
from devcluster import cilium, network, production
from devcluster.api import RunningCluster
from tests.apiserver.agents import Object
from tests.cluster.agents import POLICIES, PRODUCTION, WORKER, WORKSPACE, Sandbox, own_policy
from tests.cluster.pods import Manifest, Namespace, restricted_pod, wait_for

FLEET = 50
TINY = {"limits": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"}}
SAYING_WHEN = f"date +%s.%N; {WORKER}"
SECONDS_TO_NOTICE = 75.0
"""Five times what it takes at most where the machine keeps up: an interval of ten, a round, the kubelet, the stop."""
SECONDS_TO_ENFORCE = 120.0
"""Cilium goes through all endpoints for it, also those of the fifty agents before that are just being deleted."""

NOBODY = "10.200.0.77"
"""An address in production that nobody has."""

DENY_ALL: Manifest = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


def gate_of(pod: Object) -> Object:
    """How the gate of a pod ended."""
    (gate,) = [one for one in pod["status"]["initContainerStatuses"] if one["name"] == "isolation-gate"]
    terminated: Object = gate["state"]["terminated"]
    return terminated


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def quantiles(seconds: list[float]) -> list[str]:
    ordered = sorted(seconds)
    return [f"{value:.1f}" for value in (statistics.median(ordered), ordered[-1 - len(ordered) // 100], ordered[-1])]


def until_said(sandbox: Sandbox, pod: str) -> str:
    """The first line of an agent's log: it is ready when its container runs, and has said nothing yet."""
    found: list[str] = []

    def said() -> bool:
        found[:] = [line for line in sandbox.kubectl("logs", pod).splitlines(keepends=True) if line.endswith("\n")]
        return bool(found)

    wait_for(said, seconds=60, what=f"{pod} says something", interval=0.2)
    return found[0].strip()


def test_of_fifty_agents_started_at_once_none_ran_before_its_gate_passed(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"agent-{number}" for number in range(FLEET)]
    for name in names:
        sandbox.agent(name, SAYING_WHEN, resources=TINY)
    sandbox.running(*names, within=300)
    gates, starts = [], []
    for name in names:
        pod = sandbox.pod(name)
        gate = gate_of(pod)
        assert gate["exitCode"] == 0
        proven = re.fullmatch(r"closed [1-9]\d* targets at (\S+)", gate["message"].splitlines()[0])
        assert proven is not None, gate["message"]
        (container,) = pod["status"]["containerStatuses"]
        assert container["restartCount"] == 0
        began = float(until_said(sandbox, f"{name}-0"))
        assert moment(proven[1]) <= began, f"{name} ran before its gate passed"
        assert moment(gate["finishedAt"]) <= moment(container["state"]["running"]["startedAt"])
        gates.append(moment(proven[1]) - moment(gate["startedAt"]))
        starts.append(began - moment(pod["metadata"]["creationTimestamp"]))
    table = Table("SECONDS", "P50", "P99", "MAX", box=None, title=f"{FLEET} agents started at once on one node")
    table.add_row("from the gate's start to its proof", *quantiles(gates))
    table.add_row("from the pod's creation to the agent's start", *quantiles(starts))
    with capsys.disabled():
        print()
        Console(width=120).print(table)


@contextmanager
def broken_enforcement(cluster: RunningCluster) -> Iterator[None]:
    """As long as this lasts, no NetworkPolicy of the cluster is enforced; it begins and ends when that is so."""
    with Namespace.created(cluster) as guarded:
        guarded.run(restricted_pod("guarded"))
        guarded.create(DENY_ALL)

        def open_() -> bool:
            return guarded.reaches("guarded", network.PRODUCTION_ADDRESS, production.PORT)

        wait_for(lambda: not open_(), seconds=SECONDS_TO_ENFORCE, what="policies are enforced")
        cilium.set_enforcement(cluster, "never")
        try:
            wait_for(open_, seconds=SECONDS_TO_ENFORCE, what="policies are not enforced any more")
            yield
        finally:
            cilium.set_enforcement(cluster, "default")
            wait_for(lambda: not open_(), seconds=SECONDS_TO_ENFORCE, what="policies are enforced again")


def begun(sandbox: Sandbox, pod: str) -> bool:
    """Whether the agent's own container of a pod has ever run."""
    found = sandbox.lab.get("Pod", pod) or {}
    for status in found.get("status", {}).get("containerStatuses", ()):
        if set(status["state"]) & {"running", "terminated"} or status["restartCount"] or status["lastState"]:
            return True
    return False


def test_with_enforcement_broken_none_starts_and_who_runs_is_stopped_until_it_is_mended(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    counting = {"workspace": WORKSPACE, "suspendGraceSeconds": 2}
    sandbox.start("runs", f"echo begun >> /workspace/runs; {WORKER}", **counting)
    assert sandbox.lab.condition("runs", "Isolated")["status"] == "True"
    tasks = sandbox.tasks("runs")
    with broken_enforcement(sandbox.cluster):
        sandbox.agent("starts", f"echo begun >> /workspace/runs; {WORKER}", **counting)
        stopped = wait_for(
            lambda: not any(task.is_alive for task in tasks), seconds=SECONDS_TO_NOTICE, what="who runs is stopped"
        )
        wait_for(
            lambda: sandbox.lab.condition("runs", "Isolated").get("status") == "False",
            seconds=30,
            what="its status says that it was not isolated any more",
        )
        # Not all, where enforcement ended in the middle of a round.
        assert sandbox.lab.status("runs")["isolation"]["answered"]
        # The gate of the other gives up after half a minute, and another one is tried.
        wait_for(
            lambda: (
                sandbox.lab.condition("starts", "Isolated").get("status") == "False"
                and network.PRODUCTION_ADDRESS in json.dumps(sandbox.lab.status("starts")["isolation"].get("answered"))
            ),
            seconds=180,
            what="the gate says what is open, production among it",
            interval=0.2,
        )
        assert not begun(sandbox, "starts-0")
        assert not begun(sandbox, "runs-0"), "nor does the one that was stopped"
        assert {task.container for task in containers.running(sandbox.cluster, sandbox.name)} <= {
            containers.SANDBOX,
            "isolation-gate",
        }
    sandbox.running("runs", "starts", within=180)
    assert sandbox.lab.condition("runs", "Isolated")["status"] == "True"
    for name, times in (("runs", 2), ("starts", 1)):  # the one again, the other for the first time
        sandbox.until_begun(name, times)
    with capsys.disabled():
        print(f"\nenforcement broken: no process of a running agent was left {stopped:.1f} s later")


def test_a_canary_that_never_answers_the_operator_proves_nothing(sandbox: Sandbox) -> None:
    """An agent cannot reach it either, but that might be so because nobody is there."""
    silent = {"cidrs": [network.PRODUCTION_CIDR], "canaries": [{"name": "gone", "address": NOBODY, "port": 5432}]}
    with Sandbox.opened(sandbox.cluster, {"production": silent}) as own:
        own.agent("waits")

        def unknown() -> bool:
            said = own.lab.condition("waits", "Isolated")
            return said.get("status") == "Unknown" and "gone" in said["message"]

        wait_for(unknown, seconds=90, what="it says that nothing is known, and of whom")
        assert own.lab.names("Pod") == []

        answering = own_policy(own.name, {"production": PRODUCTION})
        found = own.lab.rest.patch(f"{POLICIES}/{own.name}", answering)
        assert found.ok, found.message
        own.running("waits")
