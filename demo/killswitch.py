"""Fifth act: one object stops the agents of a tenant, wherever they are, and no other."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from demo import containers, suspension
from demo.containers import Task
from demo.stage import Stage
from demo.waiting import poll

SWITCH = "acme"
TRADING = "trading"
TENANT = {(TRADING, "buyer"), (TRADING, "seller"), (suspension.NAMESPACE, "clerk")}
"""The tenant's agents, by namespace and name."""
LATECOMER = "latecomer"
GRACE_SECONDS = 2

Object = dict[str, Any]


def start(stage: Stage) -> None:
    """Begin to start a tenant's three agents; nothing waits for them yet."""
    stage.title("A tenant's agents, in two namespaces")
    stage.kubectl("apply", "--filename", "demo/tenant.yaml")
    stage.say("They start while the next act is played.")


def act(stage: Stage) -> None:
    """See the agents of `start` run beside others, stop them by a kill switch, and let them go on.

    Raises:
        DemoError: another one is stopped, or one of them is not.
    """
    stage.title("A kill switch for the tenant")
    _wait(stage, "Ready", *sorted(TENANT))
    _show_agents(stage)
    stop(stage, running(stage))
    refuse_a_fourth(stage)
    let_go(stage)


def stop(stage: Stage, tasks: dict[tuple[str, str], list[Task]]) -> None:
    """Create the kill switch; see whose processes end, and whose do not."""
    theirs = [task for agent in TENANT for task in tasks.get(agent, [])]
    others = [task for agent, found in tasks.items() if agent not in TENANT for task in found]
    stage.expect(theirs and others, f"{len(TENANT)} agents of the tenant run, and {len(tasks) - len(TENANT)} others")
    began = datetime.now(UTC)
    stage.kubectl("create", "--filename", "demo/killswitch.yaml")
    poll(lambda: not any(task.is_alive for task in theirs), seconds=120, what="their processes end", pause=0.01)
    gone = (datetime.now(UTC) - began).total_seconds()
    stage.kubectl("wait", f"killswitch/{SWITCH}", "--for=condition=Stopped", "--timeout=180s")
    stage.kubectl("get", "killswitches")
    _show_agents(stage)
    status = _get(stage, "killswitch", SWITCH)["status"]
    _show_times(stage, status, began=began, gone=gone)
    stage.expect(
        (status["matched"], status["cutOff"], status["stopped"]) == (3, 3, 3),
        "three agents matched, three are cut off, three are stopped: the API server shows no pod of theirs",
    )
    stage.expect(all(task.is_alive for task in others), "every other agent runs on, in the processes it had")
    bound = GRACE_SECONDS + suspension.MARGIN_SECONDS
    stage.expect(
        gone <= bound, f"no process of the tenant was left after {gone:.1f} s; their grace was {GRACE_SECONDS} s"
    )


def refuse_a_fourth(stage: Stage) -> None:
    """See that an agent of the tenant that comes later does not start."""
    stage.say("A fourth one, made now:")
    stage.kubectl("apply", "--filename", "demo/latecomer.yaml")
    _wait(stage, "Suspended", (TRADING, LATECOMER))
    stage.kubectl(
        *("get", "agent", LATECOMER, "--namespace", TRADING),
        "--output=jsonpath={.status.suspension.reasons[*].message}",
    )
    listed = stage.ask("get", "pods,statefulsets", "--namespace", TRADING, "--output=name").strip()
    stage.expect(listed == "", "nothing was ever made for it")


def let_go(stage: Stage) -> None:
    """Delete the kill switch; see that what nothing else holds goes on."""
    stage.title("Without the kill switch they go on")
    stage.kubectl("delete", "killswitch", SWITCH)
    _wait(stage, "Ready", *sorted(TENANT), (TRADING, LATECOMER))
    _show_agents(stage)
    stage.good("nothing else holds them, so they run")


def running(stage: Stage) -> dict[tuple[str, str], list[Task]]:
    """Give what containerd runs in the sandbox namespaces, by namespace and agent."""
    found: dict[tuple[str, str], list[Task]] = {}
    for namespace in (suspension.NAMESPACE, TRADING):
        for task in containers.running(stage.cluster, namespace):
            found.setdefault((namespace, task.pod.rpartition("-")[0]), []).append(task)
    return found


def _show_agents(stage: Stage) -> None:
    stage.kubectl("get", "agents", "--all-namespaces")


def _show_times(stage: Stage, status: Object, *, began: datetime, gone: float) -> None:
    def after(field: str) -> float:
        return (datetime.fromisoformat(status[field]) - began).total_seconds()

    rows = [
        ("the operator has seen the kill switch", after("startedAt")),
        ("network: nothing of any of them is open", after("cutOffAt")),
        ("the node: no process of any of them is left", gone),
        ("proof: the API server shows no pod", after("stoppedAt")),
    ]
    table = Table("STEP", "SECONDS AFTER IT WAS SENT", title="The kill switch, measured", box=None, pad_edge=False)
    table.title_justify = "left"
    for words, seconds in sorted(rows, key=lambda row: row[1]):
        table.add_row(words, f"{seconds:7.3f}")
    stage.show(table)


def _wait(stage: Stage, condition: str, *agents: tuple[str, str]) -> None:
    for namespace, name in agents:
        stage.ask("wait", f"agent/{name}", f"--namespace={namespace}", f"--for=condition={condition}", "--timeout=180s")


def _get(stage: Stage, kind: str, name: str) -> Object:
    found: Object = json.loads(stage.ask("get", kind, name, "--output=json"))
    return found
