"""Many agents of several tenants on a real node, and kill switches over them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo.containers import PROCESSES
from devcluster import cgroups, resources
from devcluster.processes import start_time
from tests.apiserver.agents import Object
from tests.cluster.agents import Sandbox

SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"

_POD = re.compile(r"/pod([0-9a-f-]{36})(?=/)")


@dataclass(frozen=True, order=True)
class Process:
    """A process as the machine knows it: its pid may be given again, its birth not."""

    pid: int
    born: int

    @property
    def is_alive(self) -> bool:
        """Whether it still exists."""
        return start_time(self.pid) == self.born


@dataclass(frozen=True)
class Fleet:
    """Agents of several tenants in one sandbox.

    Attributes:
        sandbox: where they are.
        members: the agents of each tenant.
    """

    sandbox: Sandbox
    members: dict[str, tuple[str, ...]]

    def processes(self, names: Iterable[str]) -> set[Process]:
        """The first process of each container of agents, asked of the machine; each agent must have some."""
        by_pod = self._processes()
        uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.sandbox.lab.list("Pod")}
        found = set()
        for name in names:
            mine = by_pod.get(uids.get(f"{name}-0", ""), set())
            assert mine, f"{name} runs"
            found |= mine
        return found

    def stopped(self, tenant: str) -> set[str]:
        """When each agent of a tenant was last stopped, as far as its status says."""
        statuses = map(self.sandbox.lab.status, self.members[tenant])
        return {str((one.get("suspension") or one.get("lastSuspension") or {}).get("stoppedAt")) for one in statuses}

    def stopped_by(self, tenant: str, name: str) -> set[str]:
        """The agents of a tenant whose last stop was a kill switch's, by their own status."""
        found = set()
        for agent in self.members[tenant]:
            status = self.sandbox.lab.status(agent)
            reasons = (status.get("suspension") or status.get("lastSuspension") or {}).get("reasons", ())
            if any(f"KillSwitch {name}:" in one["message"] for one in reasons):
                found.add(agent)
        return found

    def pull(self, name: str, **selector: object) -> None:
        """Create a kill switch."""
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "KillSwitch",
            "metadata": {"name": name},
            "spec": {"selector": selector, "reason": "a test"},
        }
        answer = self.sandbox.lab.rest.post(SWITCHES, body)
        assert answer.ok, answer.message

    def release(self, name: str) -> None:
        """Delete a kill switch."""
        answer = self.sandbox.lab.rest.delete(f"{SWITCHES}/{name}")
        assert answer.ok or answer.status == 404, answer.message

    def switch(self, name: str) -> Object:
        """The status of a kill switch."""
        answer = self.sandbox.lab.rest.get(f"{SWITCHES}/{name}")
        assert answer.ok, answer.message
        return answer.body.get("status") or {}

    def condition(self, name: str, kind: str) -> str:
        """What a condition of a kill switch says."""
        found = [one["status"] for one in self.switch(name).get("conditions", ()) if one["type"] == kind]
        return str(found[0]) if found else ""

    def _processes(self) -> dict[str, set[Process]]:
        """The first process of each container of every pod, by the pod's UID: the oldest one in its cgroup."""
        found: dict[str, set[Process]] = {}
        for root in resources.cgroup_paths(cgroups.name(self.sandbox.cluster)):
            # Agents of the third tenant come and go meanwhile, and their groups: os.walk goes on, Path.glob raises.
            for folder, _, files in os.walk(root):
                if PROCESSES not in files:
                    continue
                listed = Path(folder, PROCESSES)
                born = [(start_time(pid), pid) for pid in _pids(listed)]
                alive = [(start, pid) for start, pid in born if start is not None]
                if alive and (match := _POD.search(str(listed))):
                    start, pid = min(alive)
                    found.setdefault(match[1], set()).add(Process(pid, start))
        return found


def _pids(listed: Path) -> list[int]:
    try:
        return [int(line) for line in listed.read_text().split()]
    except OSError:  # gone between being found and being read
        return []
