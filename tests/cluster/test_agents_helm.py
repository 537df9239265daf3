"""The release comes and goes; agents stay."""

from __future__ import annotations

from demo import containers, installation
from demo.stage import Stage
from tests.cluster.agents import BOUND, TASKS, WORKER, Sandbox, install, timed
from tests.cluster.pods import wait_for


def test_agents_outlive_the_release_and_are_taken_over_by_the_next(operator: Stage, sandbox: Sandbox) -> None:
    sandbox.agent("held", WORKER, suspend=True)
    sandbox.agent("runs", WORKER, suspendGraceSeconds=1)
    sandbox.running("runs")
    sandbox.suspended("held")
    tasks, pod = sandbox.tasks("runs"), sandbox.pod("runs")
    assert len(tasks) == TASKS
    try:
        operator.run("helm", "uninstall", installation.RELEASE, "--namespace", installation.NAMESPACE, "--wait")
        wait_for(
            lambda: containers.running(operator.cluster, installation.NAMESPACE) == [],
            seconds=120,  # it may take its own grace of thirty seconds
            what="the operator ends",
            interval=0.2,
        )
        assert sandbox.lab.names("AgentDeployment") == ["held", "runs"], "definitions and agents are kept"
        assert all(task.is_alive for task in tasks), "who runs goes on"
        assert "bulkhead-deny-all" in sandbox.lab.names("NetworkPolicy"), "behind its walls"
    finally:
        install(operator)
    sandbox.until_operator_works("runs")
    sandbox.running("runs")
    assert sandbox.pod("runs")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert sandbox.tasks("runs") == tasks, "it was not restarted"
    assert sandbox.lab.state("held") == "Suspended"
    assert timed(lambda: sandbox.lab.patch("runs", suspend=True), tasks, within=30) <= 1 + BOUND
