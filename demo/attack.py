"""Third act: an agent that was taken over tries to do harm, and the same image does it where nobody guards it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from rich.table import Table
from rich.text import Text

from demo import images, suspension
from demo.stage import DemoError, Stage
from demo.waiting import poll
from devcluster import network, production

AGENT = "intruder"
NAMESPACE = suspension.NAMESPACE
PLAYGROUND = "playground"
SURROUNDINGS = "demo/surroundings.yaml"
TOOLS = "tools"
DROP = "drop the production table"
WORK = "call the service it was granted"
_SECONDS_TO_TRY = 60.0


@dataclass(frozen=True)
class Told:
    """What an intruder tells of one attempt.

    Attributes:
        worked: whether it got what it wanted.
        how: what it got, or what kept it.
    """

    worked: bool
    how: str


def act(stage: Stage) -> None:
    """Let an intruder try everything, as an agent and as an ordinary pod.

    Raises:
        DemoError: the agent gets anything but what it was granted, or the pod does not.
    """
    surround(stage)
    guarded = attack_as_agent(stage)
    unguarded = attack_as_pod(stage)
    _compare(stage, guarded, unguarded)


def surround(stage: Stage) -> None:
    """Bring up what there is to be attacked besides production."""
    stage.title("An agent that was taken over")
    stage.kubectl("apply", "--filename", SURROUNDINGS)
    for namespace in (TOOLS, PLAYGROUND):
        stage.ask("wait", "pods", "--all", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=180s")


def attack_as_agent(stage: Stage) -> dict[str, Told]:
    """Run the intruder as an agent; show that it gets what it was granted and nothing else.

    Raises:
        DemoError: it gets something else, or not what it was granted.
    """
    neighbour = _address(stage, NAMESPACE, suspension.POD)
    environment = _environment(stage, neighbour=neighbour, service=f"search.{TOOLS}")
    stage.kubectl("apply", "--filename", str(_filled(stage, "intruder.yaml", environment)))
    wanted = (f"agent/{AGENT}", f"--namespace={NAMESPACE}", "--for=condition=Ready", "--timeout=180s")
    stage.kubectl("wait", *wanted)
    told = _told(stage, NAMESPACE, f"{AGENT}-0")
    for attempt, found in told.items():
        if found.worked != (attempt == WORK):
            raise DemoError(f"not so: the agent could {WORK} and nothing else. It tells of '{attempt}': {found.how}")
    stage.expect(_rows(stage) == str(production.ROWS), "production has all of its orders")
    stage.expect(".leak.example" not in _asked(stage), "the resolver was asked nothing")
    stage.say("The operator's own proof, by packets from inside the agent's pod:")
    stage.kubectl(
        *("get", "agent", AGENT, f"--namespace={NAMESPACE}"),
        "--output=jsonpath={.status.isolation.result} since {.status.isolation.since}: {.status.isolation.targets}",
    )
    return told


def attack_as_pod(stage: Stage) -> dict[str, Told]:
    """Run the same image with the same environment as an ordinary pod; production is restored afterwards.

    Raises:
        DemoError: anything keeps it from doing harm: then the attack was none.
    """
    stage.title("The same image where nobody guards it")
    neighbour = _address(stage, PLAYGROUND, "neighbour")
    service = json.loads(stage.ask("get", "service", "search", f"--namespace={TOOLS}", "--output=json"))
    environment = _environment(stage, neighbour=neighbour, service=service["spec"]["clusterIP"])
    stage.kubectl("apply", "--filename", str(_filled(stage, "playground.yaml", environment)))
    try:
        told = _told(stage, PLAYGROUND, AGENT)
        stage.expect(_rows(stage) == "", "production's orders are gone")
    finally:
        production.restore(stage.cluster)
    for attempt, found in told.items():
        if not found.worked:
            raise DemoError(f"not so: an ordinary pod can do all that. It tells of '{attempt}': {found.how}")
    stage.expect(".leak.example" in _asked(stage), "the resolver was asked for what was stolen")
    stage.expect(_rows(stage) == str(production.ROWS), "production's orders are restored, from outside")
    return told


def _compare(stage: Stage, guarded: dict[str, Told], unguarded: dict[str, Told]) -> None:
    table = Table("ATTEMPT", "AS AN AGENT", "AS AN ORDINARY POD", title="One image, twice", box=None, pad_edge=False)
    for attempt, found in guarded.items():
        table.add_row(attempt, *(_cell(one) for one in (found, unguarded[attempt])))
    stage.show(table)


def _cell(told: Told) -> Text:
    return Text(told.how) if told.worked else Text(f"no: {told.how}", style="dim")


def _environment(stage: Stage, *, neighbour: str, service: str) -> dict[str, str]:
    """What somebody told the intruder."""
    database = production.database(stage.cluster)
    resolver = json.loads(stage.ask("get", "service", "resolver", f"--namespace={TOOLS}", "--output=json"))
    return {
        "DATABASE": f"{database.host}:{database.port}/{database.name}",
        "DATABASE_USER": database.user,
        "DATABASE_PASSWORD": database.password,
        "METADATA_URL": f"http://{network.METADATA_ADDRESS}/latest/meta-data/iam/security-credentials/",
        "API_SERVICE": "10.96.0.1:443",
        "API_SERVER": f"{network.NODE_ADDRESS}:6443",
        "KUBELET": f"{network.NODE_ADDRESS}:10250",
        "NEIGHBOUR": f"{neighbour}:8080",
        "STRANGER": f"{_address(stage, TOOLS, 'payroll')}:8080",
        "RESOLVER": resolver["spec"]["clusterIP"],
        "SERVICE_URL": f"http://{service}/",
    }


def _filled(stage: Stage, name: str, environment: dict[str, str]) -> Path:
    """A manifest of the demo with the environment in it, as a file of the cluster's."""
    listed = json.dumps([{"name": key, "value": value} for key, value in environment.items()])
    filled = stage.cluster.state_dir / name
    filled.touch(mode=0o600)  # a password is in it
    filled.write_text(Template((images.ROOT / "demo" / name).read_text()).substitute(ENVIRONMENT=listed))
    return filled


def _told(stage: Stage, namespace: str, pod: str) -> dict[str, Told]:
    """What the intruder in a pod tells in its log, once it has told all."""
    arguments = ("logs", pod, f"--namespace={namespace}", "--container=agent")
    stage.ask("wait", f"pod/{pod}", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=180s")
    poll(
        lambda: f'"{WORK}"' in stage.ask(*arguments),
        seconds=_SECONDS_TO_TRY,
        what="the intruder has tried everything",
    )
    lines: list[dict[str, Any]] = [json.loads(line) for line in stage.ask(*arguments).splitlines()]
    return {line["attempt"]: Told(line["worked"], line["how"]) for line in lines}


def _address(stage: Stage, namespace: str, pod: str) -> str:
    return stage.ask("get", "pod", pod, f"--namespace={namespace}", "--output=jsonpath={.status.podIP}")


def _rows(stage: Stage) -> str:
    """How many orders production has; nothing where the table is gone."""
    there = production.sql(stage.cluster, "SELECT to_regclass('orders')")
    return production.sql(stage.cluster, "SELECT count(*) FROM orders") if there else ""


def _asked(stage: Stage) -> str:
    return stage.ask("logs", "resolver", f"--namespace={TOOLS}")
