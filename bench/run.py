"""The order of the measurements, and what they share: one cluster, one fleet."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import apply, leases, policies, process, suspend
from bench.figures import Figure
from bench.image import ImageOperator
from bench.requests import count
from bench.site import Name, Site, open_site
from devcluster.progress import Progress
from tests.operator_process import OperatorProcess

PARTS = ("process", "apply", "suspend", "all", "policy", "leases")
NAMESPACES = 10
GOAL_MB = 80.0
PROCESS = "operator process"
REST_SECONDS = 3.0
"""What was set off by the start is over by then, and caches are filled."""
AT_ONCE = 32
"""Agents that are created at the same time when the fleet is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        agents: how many are present.
        rounds: of each measurement.
        tries: of each round of apply and suspend.
        idle: seconds for the CPU at idle.
        parts: of `PARTS`.
    """

    agents: int
    rounds: int
    tries: int
    idle: float
    parts: frozenset[str]


class Bench:
    """One run.

    Args:
        site: where.
        plan: what.
        folder: for the operator's log.
        progress: told about it.
    """

    def __init__(self, site: Site, plan: Plan, *, folder: Path, progress: Progress) -> None:
        self._site, self._plan, self._folder, self._progress = site, plan, folder, progress
        self._fleet = site.names(plan.agents, "agent")
        self.figures: list[Figure] = []

    async def run(self) -> None:
        """Measures everything that is planned."""
        rounds = self._plan.rounds
        with self._operator() as operator:
            await process.start(self._site, operator)  # The first start writes the bytecode, and counts for nothing.
        if "process" in self._plan.parts:
            with self._progress.step(f"start and size with no agents, {rounds} rounds"):
                await self._starts("with no agents", goal=GOAL_MB)
        with self._operator() as operator:
            await process.start(self._site, operator)
            with self._progress.step(f"{self._plan.agents} agents are made"):
                await self._build(operator)
            await self._latencies()
            self._note("resident after all that was measured", "MB", [process.resident_mb(operator.pid)])
        if "process" in self._plan.parts:
            with self._progress.step(f"start and size with {self._plan.agents} agents, {rounds} rounds"):
                await self._starts(f"with {self._plan.agents} agents", goal=GOAL_MB)
            with self._progress.step(f"the same among {policies.FOREIGN} foreign Services and NetworkPolicies each"):
                await policies.crowd(self._site)
                await self._starts(f"with {self._plan.agents} agents in a crowd")

    async def clear(self) -> None:
        """Deletes the fleet, for what is measured with another."""
        await asyncio.gather(*(self._site.delete(name) for name in self._fleet))
        await self._site.quiet(1.0)

    async def _latencies(self) -> None:
        site, fleet, plan = self._site, self._fleet, self._plan
        if "apply" in plan.parts:
            with self._progress.step(f"apply, {plan.rounds} rounds of {plan.tries}"):
                self.figures += await apply.measure(site, rounds=plan.rounds, tries=plan.tries, pattern=fleet[0])
        if "suspend" in plan.parts:
            with self._progress.step(f"suspend, {plan.rounds} rounds of {plan.tries}"):
                self.figures += await suspend.one_by_one(site, fleet, rounds=plan.rounds, tries=plan.tries)
        if "all" in plan.parts:
            with self._progress.step(f"all {plan.agents} suspended and resumed, {plan.rounds} rounds"):
                self.figures += await suspend.all_at_once(site, fleet, rounds=plan.rounds)
        if "policy" in plan.parts:
            with self._progress.step(f"policy edits over {plan.agents} agents, {plan.rounds} rounds"):
                self.figures += await policies.edits(site, fleet, rounds=plan.rounds)

    @contextmanager
    def _operator(self) -> Iterator[OperatorProcess]:
        operator = ImageOperator(self._site.kubeconfig, self._folder)
        try:
            yield operator
        finally:
            operator.terminate()

    async def _starts(self, what: str, *, goal: float | None = None) -> None:
        starts, sizes, peaks, idle = [], [], [], []
        for _ in range(self._plan.rounds):
            with self._operator() as operator:
                starts.append(await process.start(self._site, operator))
                await asyncio.sleep(REST_SECONDS)
                await self._site.quiet(0.5)
                idle.append(await process.idle_cpu(operator.pid, self._plan.idle))
                sizes.append(process.resident_mb(operator.pid))
                peaks.append(process.peak_mb(operator.pid))
        self._note(f"start → synced {what}", "s", starts)
        self._note(f"resident {what}, freshly started", "MB", sizes, goal=goal)
        self._note(f"peak resident {what}, freshly started", "MB", peaks)
        self._note(f"CPU at idle {what}, of one core", "%", idle)

    async def _build(self, operator: OperatorProcess) -> None:
        """Makes the fleet, and notes how long the whole of it took and what of the API server it used."""
        site = self._site
        site.log.forget()
        began = time.time()
        gate = asyncio.Semaphore(AT_ONCE)

        async def create(name: Name) -> None:
            async with gate:
                await site.create(name)

        await asyncio.gather(*(create(name) for name in self._fleet))
        await site.quiet(1.0)
        ended = max(one.answered for one in site.log.of("create", "statefulsets"))
        self._note(f"{len(self._fleet)} agents created → last StatefulSet accepted", "s", [ended - began])
        self._note("resident after making them", "MB", [process.resident_mb(operator.pid)], goal=GOAL_MB)
        self._progress.say("  requests per agent made: " + count(site.log.seen, agents=len(self._fleet)))

    def _note(self, name: str, unit: str, rounds: list[float], *, goal: float | None = None) -> None:
        self.figures.append(Figure(group=PROCESS, name=name, unit=unit, rounds=tuple(rounds), goal=goal))


async def run(plan: Plan, *, folder: Path) -> list[Figure]:
    """Brings everything up, measures, takes everything down, and gives the figures by group."""
    progress = Progress()
    with tempfile.TemporaryDirectory() as bytecode:
        process.with_bytecode(Path(bytecode))
        figures = await _measured(plan, folder, progress)
    groups = list(dict.fromkeys(one.group for one in figures if one.group != PROCESS))
    return [one for group in (*groups, PROCESS) for one in figures if one.group == group]


async def _measured(plan: Plan, folder: Path, progress: Progress) -> list[Figure]:
    async with open_site(namespaces=NAMESPACES) as site:
        bench = Bench(site, plan, folder=folder, progress=progress)
        if plan.parts != {"leases"}:
            await bench.run()
            await bench.clear()
        if "leases" in plan.parts:
            tries = min(plan.tries, plan.agents // 5)
            bench.figures += await leases.measure(
                site, agents=plan.agents, tries=tries, folder=folder, progress=progress
            )
    return bench.figures
