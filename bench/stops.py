"""What is measured of a fleet: the stop of one of its agents, of a tenant's, and of all.

Everything shares the machine, so beside each time it is said how much CPU each process took in it: that tells what was
the bound.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench import process
from bench.audit import carried_out
from bench.figures import Figure, latency
from bench.site import SPEC, Name, Site, accounts_path, pods_path, policies_path, workloads_path
from bench.wire import Object
from bulkhead.api import meta
from bulkhead.engine import fleet
from devcluster import niceness, processes
from devcluster.progress import Progress
from tests.operator_process import OperatorProcess

SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"
NAMESPACES = 50
TENANTS = 5
AT_ONCE = 32
GOALS_IDLE_MS = (20.0, 60.0)
GOALS_LOADED_MS = (250.0, 250.0)
ONE = "one of {agents} suspended by patch, {state}"
POLL = 0.05
PROFILE_SECONDS = 8
STOPPED_WITHIN = 900
REMADE_WITHIN = 120.0
REACTING = ("kube-controller-manager", "kube-scheduler", "kwok")
"""Who follows what is deleted, and can be made to give way: the 50 nodes that kwok plays have processors of their own,
and controllers, bound to 20 requests a second each as Kubernetes delivers them, are let go fifty times as fast here so
that fleets are made soon. With equal shares of two cores two thirds of the time of 1,000 deletions are theirs."""
NICE = 15
POLITE = "; controllers and kubelets give way"


def spec_of(name: Name) -> Object:
    """An agent with rules of its own, of one of five tenants, all of which are in every namespace."""
    caller = {"pods": {"namespace": name.namespace, "labels": {"app": "caller"}}}
    number = int(name.name.rpartition("-")[2])
    return {
        **{key: value for key, value in SPEC.items() if key != "workspace"},
        "tenant": tenant_of(number),
        "ports": [{"containerPort": 8080}],
        "network": {"ingress": [{"from": caller}]},
    }


def tenant_of(number: int) -> str:
    """The tenant of the agent of a number."""
    return f"tenant-{number // NAMESPACES % TENANTS}"


@dataclass(slots=True)
class Cost:
    """CPU seconds that processes took, by name."""

    pids: dict[str, int]
    before: dict[str, float] = field(default_factory=dict)
    began: float = 0.0

    def start(self) -> None:
        """Begins to count."""
        self.before = {name: process.cpu_seconds(pid) for name, pid in self.pids.items()}
        self.began = time.monotonic()

    def tell(self) -> str:
        """Says what each took since, in cores."""
        took = time.monotonic() - self.began
        cores = {name: (process.cpu_seconds(pid) - self.before[name]) / took for name, pid in self.pids.items()}
        return ", ".join(f"{name} {value:.2f}" for name, value in cores.items()) + f" cores over {took:.1f} s"


class FleetBench:
    """One run.

    Args:
        site: where.
        operator: the operator, which runs.
        agents: how many.
        tries: suspensions in each state of load.
        rate: pod events a second, under load.
        rounds: of kill switches.
        progress: told about it.
        figures: where what was measured goes, as soon as it is.
    """

    def __init__(
        self,
        site: Site,
        operator: OperatorProcess,
        *,
        agents: int,
        tries: int,
        rate: int,
        rounds: int,
        progress: Progress,
        figures: list[Figure],
    ) -> None:
        self._site, self._operator, self._progress = site, operator, progress
        self._tries, self._rate, self._rounds = tries, rate, rounds
        self._names = site.names(agents, "agent")
        pids = {one.component: one.pid for one in processes.records(site.cluster)}
        self._cost = Cost({**pids, "operator": operator.pid})
        self.figures = figures

    async def build(self) -> None:
        """Makes the fleet."""
        site = self._site
        began = time.monotonic()
        gate = asyncio.Semaphore(AT_ONCE)

        async def create(name: Name) -> None:
            async with gate:
                await site.create(name)

        self._cost.start()
        await asyncio.gather(*(create(name) for name in self._names))
        await self._until_pods(len(self._names))
        self._progress.say(f"  made in {time.monotonic() - began:.0f} s: {self._cost.tell()}")
        self._progress.say(f"  operator resident: {process.resident_mb(self._operator.pid):.0f} MB")
        await self._settled()

    async def idle(self) -> None:
        """Suspends one after the other on a cluster where nothing else happens."""
        await self._one_by_one("idle", goals=GOALS_IDLE_MS)

    async def loaded(self, folder: Path) -> None:
        """The same while pods change all the time."""
        async with self._pressure(folder) as log:
            await asyncio.sleep(5.0)
            await self._one_by_one(f"under up to {self._rate} pod events/s", goals=GOALS_LOADED_MS)
            rates = [int(line.split()[0]) for line in log.read_text().splitlines()[3:]]
            self._progress.say(f"  pod events/s: mean {sum(rates) / max(len(rates), 1):.0f}, least {min(rates)}")

    async def switch(
        self,
        what: str,
        selector: Object,
        matched: int,
        goal: float,
        *,
        polite: bool,
        profile: Path | None = None,
        resumed: bool = True,
    ) -> None:
        """Throws a kill switch over a part of the fleet, waits until it says Stopped, and removes it.

        Args:
            what: in words.
            selector: of the switch.
            matched: how many agents it selects.
            goal: seconds until all deletes are accepted.
            polite: whether simulated kubelets and controllers give way until it is stopped.
            profile: where a CPU profile of the API server during the last round goes.
            resumed: whether it is waited until all of them run again after the last round.
        """
        group = f"KillSwitch over {matched} of {len(self._names)} agents ({what}{POLITE if polite else ''})"
        taken: dict[str, list[float]] = {}
        for number in range(self._rounds):
            with self._progress.step(f"{group}, round {number + 1} of {self._rounds}"):
                async with self._profiled(profile if number == self._rounds - 1 else None):
                    with self._giving_way(polite):
                        found = await self._throw(selector, matched)
                for name, seconds in found.items():
                    taken.setdefault(name, []).append(seconds)
                if resumed or number < self._rounds - 1:
                    await self._resume()
        for name, values in taken.items():
            wanted = goal if name == "all deletes accepted" else None
            self.figures.append(Figure(group=group, name=name, unit="s", rounds=tuple(values), goal=wanted))

    async def _throw(self, selector: Object, matched: int) -> dict[str, float]:
        site = self._site
        site.log.forget()
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "KillSwitch",
            "metadata": {"name": "bench"},
            "spec": {"selector": selector, "reason": "a measurement"},
        }
        self._cost.start()
        sent = await site.admin.timed("POST", SWITCHES, body)
        status: dict[str, Any] = {}
        seen: dict[str, float] = {}
        while "Stopped" not in seen:
            status = (await site.admin.get(f"{SWITCHES}/bench")).get("status") or {}
            for one in status.get("conditions") or ():
                if one["status"] == "True":
                    seen.setdefault(one["type"], time.time())
            if time.time() - sent > STOPPED_WITHIN:
                raise TimeoutError(f"not stopped after {STOPPED_WITHIN} s: {status}")
            await asyncio.sleep(POLL)
        self._progress.say(f"  until Stopped: {self._cost.tell()}")
        if (status["matched"], status["stopped"]) != (matched, matched):
            raise ValueError(f"{matched} agents were to be stopped: {status}")
        taken = self._deletes(sent)
        taken["status says CutOff"] = seen["CutOff"] - sent
        taken["status says Stopped, verified"] = seen["Stopped"] - sent
        self._cost.start()
        began = time.monotonic()
        await self._settled()
        self._progress.say(f"  until each agent's status was written: {time.monotonic() - began:.1f} s more")
        return taken

    async def bare(self, *, polite: bool) -> None:
        """Ends the operator, and has a bare client delete what it had made: the networks, then all else at once.

        What that takes is the API server's time and that of the controllers which follow, the simulated kubelets too.

        Args:
            polite: whether these give way.
        """
        site = self._site
        self._operator.terminate()
        self._cost.pids.pop("operator", None)
        gate = asyncio.Semaphore(fleet.AT_ONCE)
        managed = f"labelSelector={quote(f'{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY_VALUE},{meta.AGENT_UID_LABEL}')}"

        async def delete(path: str) -> None:
            async with gate:
                await site.admin.send("DELETE", f"{path}?{managed}")

        self._cost.start()
        group = f"{len(self._names)} agents, the same deletions by a bare client{POLITE if polite else ''}"
        with self._giving_way(polite):
            began = time.monotonic()
            for name, paths in (
                ("networks", (policies_path,)),
                ("all deletes accepted", (workloads_path, pods_path, accounts_path)),
            ):
                await asyncio.gather(*(delete(path(namespace)) for namespace in site.namespaces for path in paths))
                self.figures.append(Figure(group=group, name=name, unit="s", rounds=(time.monotonic() - began,)))
        self._progress.say(f"  by a bare client: {self._cost.tell()}")

    @contextmanager
    def _giving_way(self, polite: bool) -> Iterator[None]:
        """Has those who react give way meanwhile."""
        pids = [pid for name, pid in self._cost.pids.items() if polite and name in REACTING]
        for pid in pids:
            niceness.give_way(pid, NICE)
        try:
            yield
        finally:
            for pid in pids:
                niceness.give_way(pid, 0)

    async def _resume(self) -> None:
        await self._site.admin.send("DELETE", f"{SWITCHES}/bench")
        began = time.monotonic()
        await self._until_pods(len(self._names))
        self._progress.say(f"  resumed in {time.monotonic() - began:.0f} s")
        await self._settled()

    @asynccontextmanager
    async def _profiled(self, file: Path | None) -> AsyncIterator[None]:
        """Has the API server profile itself for a while, for `go tool pprof`."""
        if file is None:
            yield
            return
        cluster = self._site.cluster
        command = [str(cluster.binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "get", "--raw"]
        with file.open("wb") as out:
            made = await asyncio.create_subprocess_exec(
                *command, f"/debug/pprof/profile?seconds={PROFILE_SECONDS}", stdout=out
            )
            yield
            await made.wait()

    def _deletes(self, sent: float) -> dict[str, float]:
        """Says when the last deletion of each kind by the operator was accepted."""
        self._site.log.read()
        last: dict[str, float] = {}
        singles = 0
        for one in self._site.log.seen:
            if one.agent.startswith("bulkhead/") and one.verb in ("deletecollection", "delete") and one.done:
                singles += one.verb == "delete"
                last[one.resource] = max(last.get(one.resource, 0.0), one.answered - sent)
        calls = sum(one.verb == "deletecollection" for one in self._site.log.seen)
        self._progress.say(
            f"  {calls} collections and {singles} objects deleted by the operator; last accepted: "
            + ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in sorted(last.items(), key=lambda one: one[1]))
        )
        return {
            "network of all cut off": last.get("networkpolicies", 0.0),
            "all deletes accepted": max(last.values()),
        }

    async def _one_by_one(self, state: str, *, goals: tuple[float, float]) -> None:
        site = self._site
        cuts, ends = [], []
        self._cost.start()
        step = max(1, len(self._names) // self._tries)
        for name in self._names[::step][: self._tries]:
            site.log.forget()
            sent = await site.suspend(name, True)
            rule = await site.log.until(
                carried_out("delete", "networkpolicies", name.namespace, f"agent-{name.name}"),
                f"the rules of {name} deleted",
            )
            pod = await site.log.until(
                carried_out("delete", "pods", name.namespace, f"{name.name}-0"),
                f"the pod of {name} deleted",
            )
            cuts.append(rule.answered - sent)
            ends.append(pod.answered - sent)
            await asyncio.sleep(0.1)
            site.log.forget()
            await site.suspend(name, False)
            await site.log.until(
                carried_out("create", "pods", name.namespace, f"{name.name}-0"),
                f"the pod of {name} made again",
                within=REMADE_WITHIN,
            )
            await asyncio.sleep(0.15)
        self._progress.say(f"  {state}: {self._cost.tell()}")
        group = ONE.format(agents=len(self._names), state=state)
        self.figures += latency(group, "patch sent → network cut", [cuts], goals=goals)
        self.figures += latency(group, "patch sent → pod's deletion accepted", [ends], goals=goals)

    @asynccontextmanager
    async def _pressure(self, folder: Path) -> AsyncIterator[Path]:
        log = folder / "pressure.log"
        arguments = [str(self._site.cluster.kubeconfig), str(self._rate), str(NAMESPACES), str(len(self._names))]
        with log.open("wb") as out:
            made = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.pressure", *arguments, stdout=out)
        self._cost.pids["pressure"] = made.pid
        try:
            yield log
        finally:
            del self._cost.pids["pressure"]
            with suppress(ProcessLookupError):
                made.kill()
            await made.wait()

    async def _until_pods(self, count: int, *, within: float = 1200.0) -> None:
        """Waits until so many pods exist, none of them on its way out.

        Raises:
            TimeoutError: they do not.
        """
        deadline = time.monotonic() + within
        while True:
            page = await self._site.admin.get("/api/v1/pods?limit=1&labelSelector=")
            found = len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)
            if found >= count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{found} of {count} pods after {within:.0f} s")
            await asyncio.sleep(0.5)

    async def _settled(self) -> None:
        await self._site.quiet(2.0, within=600.0)
