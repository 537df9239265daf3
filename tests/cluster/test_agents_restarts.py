"""Whatever restarts: who is suspended stays so, and who runs comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from demo import containers, installation
from demo.containers import SANDBOX
from demo.stage import Stage
from devcluster.cluster import restart_node
from tests.cluster.agents import TASKS, WORKER, WORKSPACE, Sandbox, install
from tests.cluster.pods import wait_for


@pytest.fixture(scope="module")
def agents(operator: Stage) -> Iterator[Sandbox]:
    """A sandbox with an agent "held", which is suspended, and an agent "runs"."""
    with Sandbox.opened(operator.cluster) as sandbox:
        for name in ("held", "runs"):
            sandbox.agent(name, f"echo begun >> /workspace/runs; {WORKER}", workspace=WORKSPACE, suspendGraceSeconds=1)
        sandbox.running("held", "runs")
        sandbox.lab.patch("held", suspend=True)
        sandbox.suspended("held")
        yield sandbox


def kill_the_operator(operator: Stage) -> None:
    """As the kernel does when memory is short: SIGKILL to its process. The kubelet starts its container again."""
    (task,) = [
        task for task in containers.running(operator.cluster, installation.NAMESPACE) if task.container != SANDBOX
    ]
    os.kill(task.pid, signal.SIGKILL)
    wait_for(lambda: not task.is_alive, seconds=10, what="the operator's process ends")


def delete_the_operators_pod(operator: Stage) -> None:
    operator.ask("delete", "pods", "--all", "--namespace", installation.NAMESPACE, "--wait=true")


def restart_the_node(operator: Stage) -> None:
    restart_node(operator.cluster)


def upgrade_with_a_changed_value(operator: Stage) -> None:
    before = operator.ask("get", "pods", "--namespace", installation.NAMESPACE, "--output=name")
    install(operator, "logLevel=debug")
    assert operator.ask("get", "pods", "--namespace", installation.NAMESPACE, "--output=name") != before


@pytest.mark.parametrize(
    "disturb",
    [kill_the_operator, delete_the_operators_pod, upgrade_with_a_changed_value, restart_the_node],
    ids=lambda disturb: disturb.__name__,
)
def test_the_suspended_agent_stays_suspended_and_the_other_comes_back(
    operator: Stage, agents: Sandbox, disturb: Callable[[Stage], None]
) -> None:
    stopped = agents.lab.status("held")["suspension"]["stoppedAt"]
    disturb(operator)
    agents.until_operator_works("runs")
    # After a restart of the node the API goes on saying that the pod is ready until the kubelet has looked at it.
    wait_for(lambda: len(agents.tasks("runs")) == TASKS, seconds=180, what="all containers of the agent run")
    agents.running("runs", within=180)
    # A record of a suspension that had to be carried out again would have another time.
    assert agents.lab.state("held") == "Suspended"
    assert agents.lab.status("held")["suspension"]["stoppedAt"] == stopped
    assert agents.lab.names("Pod") == ["runs-0"]
    assert {task.pod for task in containers.running(agents.cluster, agents.name)} == {"runs-0"}


def test_after_all_that_the_suspended_agent_finds_its_workspace_as_it_left_it(agents: Sandbox) -> None:
    wait_for(
        lambda: agents.read("runs", "/workspace/runs").count("begun") > 1,
        seconds=60,
        what="the restart of the node was a new start",
    )
    agents.lab.patch("held", suspend=False)
    agents.running("held")
    # It is ready when its container runs; its shell may not have written anything yet.
    wait_for(
        lambda: agents.read("held", "/workspace/runs").splitlines() == ["begun", "begun"],
        seconds=30,
        what="it adds a line to the one that it had written",
        interval=0.2,
    )
