"""Second act: an agent at work is stopped by one patch, and goes on later where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from demo import containers, lease
from demo.containers import Task
from demo.stage import DemoError, Stage
from demo.waiting import poll

NAMESPACE = "research"
AGENT = "counter"
POD = f"{AGENT}-0"
LOG = "/workspace/progress.log"
BREAK_GLASS = ("--container=agent", "--as=auditor", "--as-group=bulkhead:break-glass", "--as-group=system:masters")
"""Arguments of `kubectl exec` that make the administrator somebody whom admission lets do everything."""

MARGIN_SECONDS = 10.0
"""What is a failure beyond the agent's grace period, on any machine, until no container is left; the goal is 2."""

_SUSPEND = '{"spec":{"suspend":true,"suspendReason":"the demo says so"}}'
_RESUME = '{"spec":{"suspend":false}}'
_STEPS = (
    ("since", "the operator has seen the patch"),
    ("networkCutAt", "network: nothing is open"),
    ("credentialsRevokedAt", "credentials: the service account is deleted, the lease is revoked"),
    ("processesSignalledAt", "processes: told to end"),
    ("stoppedAt", "proof: the API server shows no pod"),
)

_PLAIN: dict[str, Any] = {"box": None, "title_justify": "left", "pad_edge": False}

Object = dict[str, Any]


@dataclass(frozen=True)
class Stopped:
    """What a suspension was measured to take, all in seconds after the patch was sent.

    Attributes:
        steps: the steps by the name of their field in status.suspension.
        containers: until no process of the agent existed on the node.
        grace: the agent's grace period; not counted from the patch.
        last_step: the number of the last step in the agent's log.
        account: UID of the service account that the agent had.
        began: when the patch was sent.
    """

    steps: dict[str, float]
    containers: float
    grace: int
    last_step: int
    account: str
    began: datetime


def act(stage: Stage) -> None:
    """Create an agent, watch it work, copy its lease, suspend it, see that nothing runs or is of use, resume it.

    Raises:
        DemoError: something is not as it should be.
    """
    start(stage)
    copied = lease.show(stage, NAMESPACE, AGENT, BREAK_GLASS)
    with lease.stolen(stage, copied) as thief:
        stopped = suspend(stage)
        stage.say("And what of the lease that somebody had copied?")
        lease.expect_dead(stage, copied, thief, began=stopped.began.timestamp())
        resume(stage, stopped)
        lease.expect_another(stage, NAMESPACE, AGENT, copied, thief)


def start(stage: Stage) -> None:
    """Create a sandbox namespace and an agent in it, and see it work."""
    stage.title("A sandbox namespace and an agent in it")
    stage.kubectl("apply", "--filename", "demo/namespace.yaml")
    stage.kubectl("apply", "--filename", "demo/agent.yaml")
    stage.kubectl("wait", f"agent/{AGENT}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=180s")
    stage.kubectl("get", "agents", "--namespace", NAMESPACE)
    stage.say("It counts, and writes every step into its workspace:")
    before = _last_step(stage)
    poll(lambda: _last_step(stage) >= before + 3, seconds=60, what="the agent counts")
    stage.kubectl("logs", POD, "--namespace", NAMESPACE, "--container=agent", "--tail=3")
    stage.say("Nobody may enter an agent's pod but the group for emergencies, so the audience plays it:")
    stage.kubectl("exec", POD, "--namespace", NAMESPACE, *BREAK_GLASS, "--", "tail", "-n", "3", LOG)
    show_tasks(stage, containers.running(stage.cluster, NAMESPACE))


def suspend(stage: Stage) -> Stopped:
    """Stop the agent by a patch; show the time of each step, and that nothing is left of it.

    Raises:
        DemoError: something is left, or it took too long.
    """
    stage.title("One patch stops it")
    tasks = containers.running(stage.cluster, NAMESPACE)
    if not tasks:
        raise DemoError("not so: the agent runs before it is suspended")
    pod, account = _get(stage, "pod", POD), _get(stage, "serviceaccount", f"agent-{AGENT}")
    last_step = _last_step(stage)
    began = datetime.now(UTC)
    _patch(stage, _SUSPEND)
    poll(lambda: not any(task.is_alive for task in tasks), seconds=120, what="the agent's processes end", pause=0.01)
    gone = (datetime.now(UTC) - began).total_seconds()
    stage.kubectl("wait", f"agent/{AGENT}", "--namespace", NAMESPACE, "--for=condition=Suspended", "--timeout=180s")
    stage.kubectl("get", "agents", "--namespace", NAMESPACE)
    # Processes do not wait for issuers, so the proof may be there before the last lease is revoked.
    asked = ("get", "agent", AGENT, "--namespace", NAMESPACE, "--output=jsonpath-as-json={.status.suspension}")
    poll(lambda: "credentialsRevokedAt" in stage.ask(*asked), seconds=30, what="the lease is revoked")
    shown = stage.kubectl(*asked)
    record = json.loads(shown)[0]
    stopped = Stopped(
        steps={field: (_time(record[field]) - began).total_seconds() for field, _ in _STEPS},
        containers=gone,
        grace=record["graceSeconds"],
        last_step=last_step,
        account=account["metadata"]["uid"],
        began=began,
    )
    _show_times(stage, stopped)
    _expect_nothing_left(stage, stopped, pod_uid=pod["metadata"]["uid"])
    return stopped


def resume(stage: Stage, stopped: Stopped) -> None:
    """Let the agent run again; see that it goes on where it stopped, as somebody new to the API server.

    Raises:
        DemoError: it does not.
    """
    stage.title("The same patch the other way round lets it go on")
    _patch(stage, _RESUME)
    stage.kubectl("wait", f"agent/{AGENT}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=180s")
    poll(lambda: _last_step(stage) >= stopped.last_step + 3, seconds=60, what="the agent goes on counting")
    stage.kubectl("get", "agents", "--namespace", NAMESPACE)
    stage.kubectl(
        "exec", POD, "--namespace", NAMESPACE, *BREAK_GLASS, "--", "grep", "-B", "2", "-A", "3", "checkpoint", LOG
    )
    lines = _log(stage)
    steps = [int(line.split()[0]) for line in lines if line[:1].isdigit()]
    stage.expect(
        any(line.startswith("checkpoint after ") for line in lines),
        "it used its grace period: the checkpoint it wrote on SIGTERM is in its log",
    )
    stage.expect(
        steps == list(range(1, len(steps) + 1)),
        f"it went on where it stopped: steps 1 to {len(steps)} are in its workspace, each once",
    )
    account = _get(stage, "serviceaccount", f"agent-{AGENT}")["metadata"]["uid"]
    stage.expect(
        account != stopped.account, "its service account is a new one: no token of the earlier run is of any use"
    )


def show_tasks(stage: Stage, tasks: list[Task]) -> None:
    """Show containers that run."""
    table = Table("POD", "CONTAINER", "PROCESS ON THE NODE", title="What containerd runs for the namespace", **_PLAIN)
    for task in tasks:
        table.add_row(task.pod, task.container, str(task.pid))
    stage.show(table)


def _show_times(stage: Stage, stopped: Stopped) -> None:
    table = Table("STEP", "SECONDS AFTER THE PATCH WAS SENT", title="The suspension, measured", **_PLAIN)
    rows = [(words, stopped.steps[field]) for field, words in _STEPS]
    rows.append(("the node: no process of the agent is left", stopped.containers))
    for words, seconds in sorted(rows, key=lambda row: row[1]):
        table.add_row(words, f"{seconds:7.3f}")
    stage.show(table)


def _expect_nothing_left(stage: Stage, stopped: Stopped, *, pod_uid: str) -> None:
    stage.kubectl("get", "pods", "--namespace", NAMESPACE)
    listed = stage.ask("get", "pods,statefulsets,serviceaccounts", "--namespace", NAMESPACE, "--output=name").split()
    stage.expect(listed == ["serviceaccount/default"], "Kubernetes has no pod, workload or account of the agent")
    stage.expect(not containers.running(stage.cluster, NAMESPACE), "containerd runs nothing for the namespace")
    stage.expect(
        not containers.processes_of_pod(stage.cluster, pod_uid), "no process is left in the cgroups of the agent's pod"
    )
    bound = stopped.grace + MARGIN_SECONDS
    stage.expect(
        stopped.containers <= bound,
        f"that took {stopped.containers:.1f} s; its grace was {stopped.grace} s",
    )
    claim = _get(stage, "persistentvolumeclaim", f"workspace-{POD}")
    stage.expect(claim["status"]["phase"] == "Bound", "its workspace is kept")


def _patch(stage: Stage, patch: str) -> None:
    stage.kubectl("patch", "agentdeployment", AGENT, "--namespace", NAMESPACE, "--type", "merge", "-p", patch)


def _get(stage: Stage, kind: str, name: str) -> Object:
    found: Object = json.loads(stage.ask("get", kind, name, "--namespace", NAMESPACE, "--output=json"))
    return found


def _log(stage: Stage) -> list[str]:
    """The agent's log; nothing where it has none yet."""
    reading = ("sh", "-c", f"cat {LOG} || true")
    return stage.ask("exec", POD, "--namespace", NAMESPACE, *BREAK_GLASS, "--", *reading).splitlines()


def _last_step(stage: Stage) -> int:
    return max((int(line.split()[0]) for line in _log(stage) if line[:1].isdigit()), default=0)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
