"""What an agent has left when it is stopped: no network, its grace, its workspace, and its last words in status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.stage import Stage
from devcluster import images, warehouse
from tests.apiserver.agents import Object
from tests.cluster.agents import BOUND, ROOM, WORKSPACE, Sandbox, timed
from tests.cluster.breakers import seconds
from tests.cluster.pods import wait_for

SAVING = Path(__file__).with_name("saving.py").read_text()
PEER = f"{warehouse.ADDRESS}:{warehouse.PORT}"
GRANTED: Object = {"egress": [{"to": {"cidr": f"{warehouse.ADDRESS}/32"}, "ports": [{"port": warehouse.PORT}]}]}
GRACE = 20
SHORT = 3
"""Grace of the one whose farewell never ends."""
TAKES = 1.5
"""Seconds that saving takes."""
AFTERWARDS = 2
"""Seconds for SIGTERM's handler that the kubelet gives where the command before it took all of the grace."""
ENDLESS = ["sleep", "60"]
AGENTS = ("saves", "fails", "dawdles")


@dataclass(frozen=True)
class Outcome:
    """One suspension of three agents.

    Attributes:
        sandbox: where they are.
        gone: seconds until none of their processes was left.
        suspensions: what the status of each said at its end.
    """

    sandbox: Sandbox
    gone: float
    suspensions: dict[str, Object]

    def diary(self, name: str) -> list[Object]:
        """What an agent, which runs again, wrote of itself."""
        return [json.loads(line) for line in self.sandbox.read(name, "/workspace/diary").splitlines()]

    def exit(self, name: str) -> Object:
        """How its container ended."""
        (found,) = [one for one in self.suspensions[name]["exits"] if one["container"] == "agent"]
        told: Object = found
        return told


def saving(sandbox: Sandbox, name: str, code: int, *, takes: float = TAKES, **spec: Any) -> None:
    """Create an agent that runs `saving.py`."""
    sandbox.lab.create(
        name,
        image=images.TOOLBOX,
        command=["python3", "-u", "-c", SAVING, PEER, str(code), str(takes)],
        network=GRANTED,
        resources=ROOM,
        workspace=WORKSPACE,
        **{"suspendGraceSeconds": GRACE, **spec},
    )


def until_begun(sandbox: Sandbox, name: str, times: int) -> None:
    """Wait until an agent has written so often that it has begun, and so listens.

    It is ready when its container runs. Its interpreter may not have started by then, and the first process of a
    container gets no signal that it has no handler for.
    """

    def begun() -> bool:
        diary = sandbox.inside(f"{name}-0", "sh", "-c", "cat /workspace/diary || true")
        return sum(line.endswith("}") and "begun at step" in line for line in diary.splitlines()) >= times

    wait_for(begun, seconds=90, what=f"{name} has begun {times} times", interval=0.2)


@pytest.fixture(scope="module")
def outcome(operator: Stage) -> Iterator[Outcome]:
    """One that saves and says farewell, one that ends with an error, one whose farewell never ends; all run again."""
    farewell = {"command": ["python3", "-c", SAVING, "farewell", PEER]}
    with Sandbox.opened(operator.cluster) as sandbox:
        saving(sandbox, "saves", 0, preStop=farewell)
        saving(sandbox, "fails", 7)
        saving(sandbox, "dawdles", 0, takes=60, preStop={"command": ENDLESS}, suspendGraceSeconds=SHORT)
        sandbox.running(*AGENTS)
        for name in AGENTS:
            until_begun(sandbox, name, 1)
        sandbox.settled(*AGENTS)
        tasks = [task for name in AGENTS for task in sandbox.tasks(name)]

        def suspend() -> None:
            for name in AGENTS:
                sandbox.lab.patch(name, suspend=True)

        gone = timed(suspend, tasks, within=60)
        sandbox.suspended(*AGENTS)
        wait_for(
            lambda: all(sandbox.lab.status(name)["suspension"].get("exits") for name in AGENTS),
            seconds=30,
            what="how they ended is on record",
        )
        suspensions = {name: sandbox.lab.status(name)["suspension"] for name in AGENTS}
        for name in AGENTS:
            sandbox.lab.patch(name, suspend=False)
        sandbox.running(*AGENTS)
        for name in AGENTS:
            until_begun(sandbox, name, 2)
        yield Outcome(sandbox, gone, suspensions)


def test_all_of_them_are_gone_when_their_grace_is_over(outcome: Outcome) -> None:
    # The longest of them is done after five seconds. A kubelet that was not told how long gives thirty.
    assert outcome.gone <= GRACE
    assert all(one["stoppedAt"] for one in outcome.suspensions.values())


@pytest.mark.parametrize("name", AGENTS)
def test_sigterm_comes_with_the_network_already_gone(outcome: Outcome, name: str) -> None:
    begun, *farewells = outcome.diary(name)[:-1]
    assert begun["reached"], "as long as it works it reaches its peer"
    assert farewells[-1]["what"] == "SIGTERM"
    assert farewells[-1]["at"] >= seconds(outcome.suspensions[name]["networkCutAt"])
    assert not any(one["reached"] for one in farewells)


def test_the_command_before_it_runs_first_and_without_network_too(outcome: Outcome) -> None:
    assert [one["what"] for one in outcome.diary("saves")[1:-1]] == ["preStop", "SIGTERM"]
    assert not outcome.diary("saves")[1]["reached"]


def test_what_was_saved_is_there_in_the_next_run(outcome: Outcome) -> None:
    for name in ("saves", "fails"):
        first, *_, again = outcome.diary(name)
        assert first["what"] == "begun at step 0"
        step = int(again["what"].rpartition(" ")[2])
        assert step > 0
        assert again["what"] == f"begun at step {step}"


def test_how_each_ended_is_in_its_status(outcome: Outcome) -> None:
    assert (outcome.exit("saves")["exitCode"], outcome.exit("saves")["reason"]) == (0, "Completed")
    failed = outcome.exit("fails")
    assert (failed["exitCode"], failed["reason"]) == (7, "Error")
    assert "saved step" in failed["message"], "its last words"
    assert outcome.exit("dawdles")["exitCode"] == 137, "SIGKILL"


def test_a_farewell_that_never_ends_is_ended_with_the_grace(outcome: Outcome) -> None:
    record = outcome.suspensions["dawdles"]
    # Not from `processesSignalledAt` on: the garbage collector may have told the pod to end before the operator did.
    began = seconds(record["networkCutAt"])
    _, told, _ = outcome.diary("dawdles")
    assert told["what"] == "SIGTERM"
    assert SHORT - 1 <= told["at"] - began <= SHORT + BOUND
    assert not told["reached"]
    lasted = seconds(record["stoppedAt"]) - began
    assert SHORT + AFTERWARDS - 1 <= lasted <= SHORT + AFTERWARDS + BOUND
