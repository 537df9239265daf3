"""A kill switch that is thrown while the operator is killed, hangs, or has a second replica beside it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.killswitches import Panel
from tests.apiserver.killswitches import panel as panels
from tests.apiserver.replicas import holder, lease_lasts, two
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

NAMES = [f"agent-{number}" for number in range(10)]
MATCHED = [f"{name}-0" for name in NAMES[::2]]
OTHERS = sorted(f"{name}-0" for name in NAMES[1::2])


@pytest.fixture
def panel(rest: Rest) -> Iterator[Panel]:
    yield from panels(rest)


def populate(lab: Lab) -> None:
    """Ten agents of two tenants in turn."""
    for number, name in enumerate(NAMES):
        lab.create(name, tenant=("acme", "other")[number % 2], suspendGraceSeconds=0)
    lab.until_built(NAMES)


@pytest.fixture
def replicas(apiserver: RunningCluster, rest: Rest, tmp_path: Path) -> Iterator[dict[str, OperatorProcess]]:
    yield from two(apiserver, rest, tmp_path)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4])
def test_an_operator_killed_in_the_midst_of_it_finishes_after_its_start(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path, panel: Panel, moment: float
) -> None:
    lab = Lab(rest, sandbox)
    operator = OperatorProcess(install_rights(apiserver), tmp_path)
    try:
        operator.start()
        populate(lab)
        others = {pod["metadata"]["uid"] for pod in lab.list("Pod") if pod["metadata"]["name"] in OTHERS}
        panel.throw("acme", tenants=["acme"], namespaces=[sandbox])
        time.sleep(moment)
        operator.kill()
        operator.start()
        status = panel.until("acme", "Stopped")
        assert (status["matched"], status["stopped"]) == (5, 5)
        assert {pod["metadata"]["uid"] for pod in lab.list("Pod")} == others
        eventually(lambda: all(lab.state(name) == "Suspended" for name in NAMES[::2]), "each says so")
    finally:
        operator.kill()


def test_a_switch_thrown_while_no_operator_runs_stops_at_its_start(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path, panel: Panel
) -> None:
    lab = Lab(rest, sandbox)
    operator = OperatorProcess(install_rights(apiserver), tmp_path)
    try:
        operator.start()
        populate(lab)
        operator.kill()
        panel.throw("acme", tenants=["acme"], namespaces=[sandbox])
        lab.create("late", tenant="acme")
        operator.start()
        status = panel.until("acme", "Stopped")
        assert (status["matched"], status["stopped"]) == (6, 6)
        assert lab.names("Pod") == OTHERS
    finally:
        operator.kill()


def test_the_standby_cuts_while_the_leader_hangs_and_says_stopped_when_it_leads(
    rest: Rest, sandbox: str, replicas: dict[str, OperatorProcess], panel: Panel
) -> None:
    lab = Lab(rest, sandbox)
    populate(lab)

    def hung() -> OperatorProcess | None:
        leader = replicas[holder(rest)]
        os.kill(leader.pid, signal.SIGSTOP)
        # On a busy machine the standby may take longer to cut than a lease lasts: it is not to lead before it has.
        lease_lasts(rest, 3600)
        if holder(rest) == leader.replica:
            return leader
        os.kill(leader.pid, signal.SIGCONT)  # its lease had just run out
        lease_lasts(rest, 6)
        return None

    leader = eventually(hung, "the leader hangs")
    panel.throw("acme", tenants=["acme"], namespaces=[sandbox])
    eventually(lambda: lab.names("Pod") == OTHERS, "the standby has cut")
    assert holder(rest) == leader.replica, "that was a new leader, and not the standby"
    lease_lasts(rest, 6)
    status = panel.until("acme", "Stopped", within=60)
    assert (status["matched"], status["stopped"]) == (5, 5)
    assert holder(rest) != leader.replica
    os.kill(leader.pid, signal.SIGCONT)
    panel.remove("acme")
    lab.until_built(NAMES)


def test_two_replicas_that_cut_at_once_do_each_other_no_harm(
    rest: Rest, sandbox: str, replicas: dict[str, OperatorProcess], panel: Panel
) -> None:
    lab = Lab(rest, sandbox)
    populate(lab)
    for _ in range(3):
        panel.throw("acme", tenants=["acme"], namespaces=[sandbox])
        panel.until("acme", "Stopped")
        assert lab.names("Pod") == OTHERS
        panel.remove("acme")
        lab.until_built(NAMES)
    for operator in replicas.values():
        operator.terminate()
        assert operator.errors() == []


def test_a_standby_that_comes_to_it_when_all_is_over_leaves_alone_who_runs_again(
    rest: Rest, sandbox: str, replicas: dict[str, OperatorProcess], panel: Panel
) -> None:
    lab = Lab(rest, sandbox)
    populate(lab)
    leader = holder(rest)
    (standby,) = (one for name, one in replicas.items() if name != leader)

    def accounts() -> list[str]:
        return [lab.the("ServiceAccount", f"agent-{name}")["metadata"]["uid"] for name in NAMES]

    os.kill(standby.pid, signal.SIGSTOP)
    panel.throw("acme", tenants=["acme"], namespaces=[sandbox])
    panel.until("acme", "Stopped")
    panel.remove("acme")
    lab.until_built(NAMES)
    before = accounts()
    # It now hears of the switch and, at once, of its end.
    os.kill(standby.pid, signal.SIGCONT)
    eventually(lambda: [one["agents"] for one in standby.records() if one["message"] == "agents are cut"], "it cuts")
    assert [one["agents"] for one in standby.records() if one["message"] == "agents are cut"] == [0]
    assert accounts() == before
