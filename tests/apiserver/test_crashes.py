"""The operator is killed at random moments, and what should be is still what comes about."""

from __future__ import annotations

import random
import time
from pathlib import Path

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

AGENTS = [f"agent-{number}" for number in range(20)]
KILLS = 20


class Users:
    """People who create, suspend, resume and delete agents, and remember what they asked for last."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        self.lab = lab
        self.chance = chance
        self.wanted: dict[str, bool] = {}
        """Agents that exist: whether each should run."""

    def act(self) -> None:
        name = self.chance.choice(AGENTS)
        if name not in self.wanted:
            suspended = self.chance.random() < 0.2
            self.lab.create(name, suspend=suspended, suspendGraceSeconds=0, workspace={"size": "1Gi"})
            self.wanted[name] = not suspended
        elif self.chance.random() < 0.25:
            self.lab.delete("AgentDeployment", name)
            del self.wanted[name]
        else:
            self.wanted[name] = not self.wanted[name]
            self.lab.patch(name, suspend=not self.wanted[name])


def test_twenty_kills_during_the_work_on_twenty_agents_duplicate_nothing_and_leave_nothing_running(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    lab = Lab(rest, sandbox)
    users = Users(lab, random.Random(20))  # noqa: S311 (the moments of the kills are what differs from run to run)
    operator = OperatorProcess(install_rights(apiserver), tmp_path)
    try:
        operator.start()
        for _ in range(KILLS):
            for _ in range(8):
                users.act()
            time.sleep(users.chance.uniform(0, 0.3))
            operator.kill()
            users.act()
            operator.start()
        eventually(lambda: as_wanted(lab, users.wanted), f"what the users want: {users.wanted}", within=180)
    finally:
        operator.kill()
    assert operator.errors() == []


def as_wanted(lab: Lab, wanted: dict[str, bool]) -> bool:
    """Exactly one workload, identity and pod for each agent that should run, and nothing for any other."""
    running = sorted(name for name, runs in wanted.items() if runs)
    owners = {agent["metadata"]["name"]: agent["metadata"]["uid"] for agent in lab.list("AgentDeployment")}
    sets = {one["metadata"]["name"]: one["metadata"]["ownerReferences"] for one in lab.list("StatefulSet")}
    suspended = [name for name, runs in wanted.items() if not runs]
    return (
        sorted(owners) == sorted(wanted)
        and sorted(sets) == running
        and lab.names("Pod") == [f"{name}-0" for name in running]
        and [name for name in lab.names("ServiceAccount") if name != "default"] == [f"agent-{name}" for name in running]
        and all(sets[name][0]["uid"] == owners[name] for name in running)
        and all(lab.state(name) == "Suspended" for name in suspended)
        and lab.names("NetworkPolicy") == ["bulkhead-deny-all"]
    )
