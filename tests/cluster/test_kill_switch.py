"""A kill switch over one of three tenants on a real node: it alone is stopped, whatever befalls the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from rich.console import Console
from rich.table import Table

from demo.stage import Stage
from tests.cluster import replicas
from tests.cluster.agents import MARGIN, SMALL, Sandbox
from tests.cluster.fleet import Fleet
from tests.cluster.pods import wait_for

TENANTS = {"amber": 4, "blue": 3, "coral": 3}
UNDISTURBED, KILLED, TAKING_OVER = 2, 10, 10
"""Rounds: in twenty of them an operator is killed."""

GRACE = 2
BUSY = "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 60 & wait; done"
"""A shell program that takes a moment to save its work."""

DELAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds from the kill switch to the end of the operator: before, in and after each step of the cut."""

GOAL = GRACE + MARGIN
"""Seconds until nothing of the tenant runs, from the kill switch or from when an operator was there again."""
BOUND = GRACE + 5 * MARGIN
"""What is a failure on any machine."""

TAKEN_OVER = (2, 5)
"""Rounds in which the killed replica does not come back, so that another has to lead."""


@pytest.fixture(scope="module")
def fleet(operator: Stage) -> Iterator[Fleet]:
    """Ten agents of three tenants that run."""
    members = {tenant: tuple(f"{tenant}-{n}" for n in range(count)) for tenant, count in TENANTS.items()}
    with Sandbox.opened(operator.cluster) as sandbox:
        for tenant, names in members.items():
            for name in names:
                sandbox.agent(name, BUSY, tenant=tenant, resources=SMALL, suspendGraceSeconds=GRACE)
        made = Fleet(sandbox, members)
        sandbox.running(*(name for names in members.values() for name in names), within=120)
        yield made


@dataclass(frozen=True)
class Round:
    """What one took, in seconds.

    Attributes:
        tenant: whose agents.
        killed_after: from the kill switch to the end of the operator; 0 where nobody ended it.
        absent: from there until that operator was ready again; 0 where another was there all along.
        gone: from the kill switch until none of the tenant's processes was left.
        told: until its status said Stopped.
    """

    tenant: str
    killed_after: float
    absent: float
    gone: float
    told: float


def print_rounds(capsys: pytest.CaptureFixture[str], title: str, rounds: list[Round]) -> None:
    table = Table("ROUND", "TENANT", "OPERATOR KILLED", "BACK AFTER", "GONE", "STOPPED", box=None, title=title)
    for number, one in enumerate(rounds, start=1):
        times = (one.killed_after, one.absent, one.gone, one.told)
        table.add_row(str(number), one.tenant, *(f"{seconds:.2f}" for seconds in times))
    with capsys.disabled():
        print()
        Console(width=120).print(table)


def play(
    fleet: Fleet, number: int, *, kill: Callable[[], object] | None = None, is_back: Callable[[], bool] | None = None
) -> Round:
    """Pull the switch for a tenant, kill an operator in the middle, and see who stops; then let them go on.

    Args:
        fleet: the agents.
        number: of the round: by it the tenant and the moment are chosen.
        kill: ends the operator; nobody does if not given.
        is_back: whether it is there again, where no other one is.
    """
    sandbox, name = fleet.sandbox, f"{fleet.sandbox.name}-{number}"
    order = list(fleet.members)
    tenant, running, returning = (order[(number + at) % len(order)] for at in range(len(order)))
    # The third tenant is still coming back from the round before. An operator that was just started takes away what is
    # half built there, as its own canaries have not answered it yet: that is another stop, but not by this switch.
    sandbox.running(*fleet.members[tenant], *fleet.members[running], within=180)
    mine, others = (fleet.processes(fleet.members[one]) for one in (tenant, running))
    before = fleet.stopped(running)
    delay = DELAYS[number % len(DELAYS)]
    began = time.monotonic()
    fleet.pull(name, tenants=[tenant])
    try:
        killed_after = gone = back = 0.0
        if kill is not None:
            time.sleep(max(0.0, began + delay - time.monotonic()))
            killed_after = time.monotonic() - began
            kill()

        def over() -> bool:
            nonlocal gone, back
            now = time.monotonic() - began
            if not gone and not any(process.is_alive for process in mine):
                gone = now
            if not back and is_back is not None and is_back():
                back = now
            return bool(gone) and (bool(back) or is_back is None)

        wait_for(over, seconds=120, what=f"nothing of {tenant} runs", interval=0.01)
        wait_for(lambda: fleet.condition(name, "Stopped") == "True", seconds=120, what="its status says so")
        told = time.monotonic() - began
        status = fleet.switch(name)
        assert (status["matched"], status["stopped"]) == (len(fleet.members[tenant]),) * 2
        assert not status.get("pending")
        assert fleet.condition(name, "CutOff") == "True"
        assert all(process.is_alive for process in others), f"an agent of {running} was touched"
        assert fleet.stopped(running) == before, "an agent of another tenant was stopped"
        assert fleet.stopped_by(returning, name) == set(), "one that comes back was stopped by this switch"
        pods = {pod.rpartition("-")[0] for pod in sandbox.lab.names("Pod")}
        assert pods.isdisjoint(fleet.members[tenant])
        sandbox.suspended(*fleet.members[tenant])
        assert fleet.stopped_by(tenant, name) == set(fleet.members[tenant]), "this test can see whom it has stopped"
        assert gone - (back or 0.0) <= BOUND
        return Round(tenant, killed_after, back - killed_after if back else 0.0, gone, told)
    finally:
        fleet.release(name)


def test_only_its_agents_stop(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [play(fleet, number) for number in range(UNDISTURBED)]
    print_rounds(capsys, f"kill switch, undisturbed: seconds after the switch (goal: gone by {GOAL:g} s)", rounds)


def test_only_its_agents_stop_with_the_operator_killed_in_the_middle_each_time(
    fleet: Fleet, operator: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = fleet.sandbox.lab.rest
    rounds = []
    for number in range(KILLED):
        replicas.until_ready(rest, 1)
        leader = replicas.leader(operator, rest)
        rounds.append(play(fleet, number, kill=leader.kill, is_back=partial(replicas.is_back, rest, leader)))
    title = f"kill switch, one operator, killed in the middle: seconds after the switch (goal: gone by {GOAL:g} s)"
    print_rounds(capsys, title, rounds)


def test_only_its_agents_stop_when_a_second_operator_has_to_take_over(
    fleet: Fleet, operator: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = fleet.sandbox.lab.rest
    rounds = []
    with replicas.scaled(operator, rest, 2):
        for number in range(TAKING_OVER):
            replicas.until_ready(rest, 2)
            leader = replicas.leader(operator, rest)
            if number in TAKEN_OVER:
                rounds.append(play(fleet, number, kill=partial(replicas.lose, rest, leader)))
                # What was told may be the last that the former said.
                replicas.until_another_leads(rest, leader)
            else:
                rounds.append(play(fleet, number, kill=leader.kill))
            assert rounds[-1].gone <= BOUND, "a standby cuts as well as a leader"
    title = f"kill switch, two operators, the leader killed: seconds after the switch (goal: gone by {GOAL:g} s)"
    print_rounds(capsys, title, rounds)


def test_who_matches_and_comes_later_never_starts(fleet: Fleet) -> None:
    sandbox = fleet.sandbox
    fleet.pull(f"{sandbox.name}-later", tenants=["dust"])
    try:
        sandbox.agent("dust-0", tenant="dust")
        sandbox.lab.until_state("dust-0", "Suspended")
        reasons = sandbox.lab.status("dust-0")["suspension"]["reasons"]
        assert [(one["type"], "a test" in one["message"]) for one in reasons] == [("KillSwitch", True)]
        assert "dust-0-0" not in sandbox.lab.names("Pod")
    finally:
        fleet.release(f"{sandbox.name}-later")
    sandbox.running("dust-0")
