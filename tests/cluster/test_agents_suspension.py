"""Suspension on a real node: processes end in time, work is kept, and nobody is who they were."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.table import Table

from demo import containers
from tests.apiserver.agents import Object, went_down_in_order
from tests.cluster.agents import BOUND, DEAF, MARGIN, TASKS, WORKER, WORKSPACE, Sandbox, timed
from tests.cluster.pods import wait_for

ROUNDS = 10
STEPS = ("since", "networkCutAt", "credentialsRevokedAt", "processesSignalledAt", "stoppedAt")


def seconds_after(began: datetime, record: Object) -> dict[str, float]:
    """The steps of a suspension as the operator recorded them, in seconds after a moment."""
    return {step: (datetime.fromisoformat(record[step]) - began).total_seconds() for step in STEPS}


def print_times(capsys: pytest.CaptureFixture[str], rounds: list[dict[str, float]]) -> None:
    table = Table("ROUND", *rounds[0], box=None, title="seconds after the patch, and from resume to ready")
    for number, times in enumerate(rounds, start=1):
        table.add_row(str(number), *(f"{seconds:.3f}" for seconds in times.values()))
    with capsys.disabled():
        print()
        Console(width=140).print(table)


def test_ten_rounds_of_suspend_and_resume(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """All containers are gone in time, each time; a file written before is there after; each run is somebody new."""
    grace = 2
    sandbox.start("worker", f"echo begun >> /workspace/runs; {WORKER}", workspace=WORKSPACE, suspendGraceSeconds=grace)
    sandbox.inside("worker-0", "sh", "-c", "echo worth keeping > /workspace/work")
    accounts = [sandbox.account_uid("worker")]
    rounds = []
    for number in range(1, ROUNDS + 1):
        sandbox.settled("worker")
        pod, tasks = sandbox.pod("worker"), sandbox.tasks("worker")
        assert len(tasks) == TASKS, "this test can see the agent's containers and its pod's"
        began = datetime.now(UTC)
        gone = timed(lambda: sandbox.lab.patch("worker", suspend=True), tasks, within=30)
        assert gone <= grace + MARGIN
        assert containers.running(sandbox.cluster, sandbox.name) == []
        assert containers.processes_of_pod(sandbox.cluster, pod["metadata"]["uid"]) == set()
        sandbox.suspended("worker")
        record = sandbox.lab.status("worker")["suspension"]
        assert went_down_in_order(record)
        times = seconds_after(began, record)
        assert times["stoppedAt"] <= grace + MARGIN
        assert sandbox.lab.names("Pod") == sandbox.lab.names("StatefulSet") == []
        assert sandbox.lab.names("ServiceAccount") == ["default"]

        resumed = datetime.now(UTC)
        sandbox.lab.patch("worker", suspend=False)
        sandbox.running("worker")
        back = (datetime.now(UTC) - resumed).total_seconds()
        rounds.append({**times, "containers gone": gone, "resumed": back})
        assert sandbox.read("worker", "/workspace/work") == "worth keeping\n"
        sandbox.until_begun("worker", number + 1)
        accounts.append(sandbox.account_uid("worker"))
    print_times(capsys, rounds)
    assert len(set(accounts)) == ROUNDS + 1


SAVER = """
save() {
  for n in 1 2 3 4 5 6; do sleep 0.5; echo "part $n" >> /workspace/saved; done
  echo done >> /workspace/saved
  exit 0
}
trap save TERM
while :; do sleep 60 & wait; done
"""


def test_grace_is_for_saving_work_and_ends_for_those_who_do_not_listen(sandbox: Sandbox) -> None:
    sandbox.agent("saver", SAVER, workspace=WORKSPACE, suspendGraceSeconds=20)
    sandbox.agent("deaf", DEAF, suspendGraceSeconds=4)
    sandbox.settled("saver", "deaf")
    saver, deaf = sandbox.tasks("saver"), sandbox.tasks("deaf")
    assert len(saver) == len(deaf) == TASKS

    def suspend() -> None:
        sandbox.lab.patch("saver", suspend=True)
        sandbox.lab.patch("deaf", suspend=True)

    saved = timed(suspend, saver, within=30)
    assert 3 <= saved <= 3 + BOUND, "it had the time it needed and no more was waited"
    sandbox.suspended("saver", "deaf")
    assert not any(task.is_alive for task in deaf)
    record = sandbox.lab.status("deaf")["suspension"]
    # Not from `processesSignalledAt` on: the garbage collector may have told the pod to end before the operator did.
    stopping = datetime.fromisoformat(record["stoppedAt"]) - datetime.fromisoformat(record["networkCutAt"])
    assert 4 <= stopping.total_seconds() <= 4 + BOUND

    sandbox.lab.patch("saver", suspend=False)
    sandbox.running("saver")
    assert sandbox.read("saver", "/workspace/saved").splitlines() == [*(f"part {n}" for n in range(1, 7)), "done"]


def test_a_deleted_agent_is_gone_as_fast_as_a_suspended_one(sandbox: Sandbox) -> None:
    sandbox.agent("listens", suspendGraceSeconds=2)
    sandbox.agent("deaf", DEAF, suspendGraceSeconds=2)
    sandbox.settled("listens", "deaf")
    tasks = [*sandbox.tasks("listens"), *sandbox.tasks("deaf")]
    assert len(tasks) == 2 * TASKS

    def delete() -> None:
        sandbox.kubectl("delete", "agents", "listens", "deaf", "--wait=false")

    assert timed(delete, tasks, within=30) <= 2 + BOUND
    wait_for(lambda: sandbox.lab.names("Pod") == [], seconds=30, what="no pod is left")
    wait_for(lambda: sandbox.lab.names("ServiceAccount") == ["default"], seconds=30, what="no account is left")
    assert containers.running(sandbox.cluster, sandbox.name) == []
