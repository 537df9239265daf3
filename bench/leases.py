"""What credentials cost: until one is there, in rotation, and when a whole fleet is suspended.

The issuer is one that answers at once (a file for each credential), so that what is measured is Bulkhead's own part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import process
from bench.audit import Request
from bench.figures import Figure, latency
from bench.image import ImageOperator
from bench.site import POLICIES, POLICY, SPEC, Name, Site, agents_path, by_operator
from bench.wire import MERGE, Object
from devcluster.progress import Progress
from tests.apiserver.credentials import Files
from tests.operator_process import NAMESPACE, OperatorProcess

GROUP = "credentials"
AT_ONCE = 32
TTL_SECONDS = 900
LEASES = 5000
"""For how many the cost is told, from what it is for one."""
ROTATED_AFTER = TTL_SECONDS * (2 / 3 - 1 / 40)
"""Seconds from one rotation of a lease to the next, on average."""
CEILING: Object = {"custom": [{"issuer": "files", "parameters": {"turn": ["1", "2"]}}]}
RECORDS = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=bulkhead.dev/lease"


async def measure(site: Site, *, agents: int, tries: int, folder: Path, progress: Progress) -> list[Figure]:
    """Measures it all, with an operator of its own.

    Args:
        site: without agents.
        agents: how many there are in the end, each with one credential.
        tries: agents that are made one after the other.
        folder: for the operator's log and the issuer's files.
        progress: told about it.
    """
    files = Files(folder / "issuer")
    policy = f"{POLICIES}/{POLICY}"
    await site.admin.send("PATCH", policy, {"spec": {"credentials": CEILING}}, content_type=MERGE)
    operator = ImageOperator(site.kubeconfig, folder, extra=files.arguments, packages=[files.packages])
    try:
        await process.start(site, operator)
        fleet = site.names(agents, "holder")
        with progress.step(f"apply with a credential, {tries} agents"):
            figures = await _one_by_one(site, fleet[:tries])
        with progress.step(f"{agents - tries} more agents at once"):
            figures += await _at_once(site, fleet[tries:])
        figures.append(_figure("resident with all of them", "MB", process.resident_mb(operator.pid)))
        figures.append(_figure("CPU at idle, of one core", "%", await process.idle_cpu(operator.pid, 20)))
        with progress.step(f"{agents} rotations at once, and the leases before revoked"):
            figures += await _rotate(site, operator, fleet)
        with progress.step(f"all {agents} suspended"):
            figures += await _suspend(site, fleet)
    finally:
        operator.terminate()
    return figures


async def _one_by_one(site: Site, fleet: Sequence[Name]) -> list[Figure]:
    secrets, workloads = [], []
    for name in fleet:
        site.log.forget()
        sent = await _create(site, name)
        written = await site.log.until(_is("create", "secrets", name), f"the Secret of {name}")
        secrets.append(written.answered - sent)
        built = await site.log.until(_is("create", "statefulsets", name), f"the StatefulSet of {name}")
        workloads.append(built.answered - sent)
        await site.quiet()
    return [
        *latency(GROUP, "apply → credential in its Secret", [secrets], goals=None),
        *latency(GROUP, "apply → StatefulSet, with a credential", [workloads], goals=None),
    ]


async def _at_once(site: Site, fleet: Sequence[Name]) -> list[Figure]:
    site.log.forget()
    gate = asyncio.Semaphore(AT_ONCE)

    async def create(name: Name) -> float:
        async with gate:
            return await _create(site, name)

    began = min(await asyncio.gather(*(create(name) for name in fleet)))
    last = max(await _all(site, "create", "secrets", fleet))
    await site.quiet(1.0)
    return [_figure(f"{len(fleet)} agents created → last credential in its Secret", "s", last - began)]


async def _rotate(site: Site, operator: OperatorProcess, fleet: Sequence[Name]) -> list[Figure]:
    """Has every lease replaced at once: what is asked for is another, and the present lease is kept for its overlap."""
    idle = await process.idle_cpu(operator.pid, 10) / 100
    site.log.forget()
    before, began = process.cpu_seconds(operator.pid), time.time()
    await asyncio.gather(*(_ask(site, name, "2") for name in fleet))
    last = max(await _all(site, "patch", "secrets", fleet))
    await _books(site, len(fleet), every=1.0)
    await site.quiet(1.0)
    spent = process.cpu_seconds(operator.pid) - before - idle * (time.time() - began)
    each = spent / len(fleet)
    rotations = LEASES / ROTATED_AFTER
    return [
        _figure(f"{len(fleet)} rotations at once → last Secret written", "s", last - began),
        _figure("CPU of a rotation and the revocation after it", "ms", each * 1000),
        _figure(
            f"CPU for {LEASES} leases of {TTL_SECONDS // 60} min ({rotations:.1f} rotations a second), of one core",
            "%",
            each * rotations * 100,
        ),
    ]


async def _suspend(site: Site, fleet: Sequence[Name]) -> list[Figure]:
    site.log.forget()
    began = min(await asyncio.gather(*(site.suspend(name, True) for name in fleet)))
    secrets = max(await _all(site, "delete", "secrets", fleet))
    await _books(site, 0, every=0.1)
    await site.quiet(0.5)
    gone = max(one.answered for one in site.log.of("delete", "configmaps") if by_operator(one))
    return [
        _figure(f"{len(fleet)} suspended → last credential's Secret gone", "s", secrets - began),
        _figure("→ last credential revoked and off the books", "s", gone - began),
    ]


async def _create(site: Site, name: Name) -> float:
    body = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name.name},
        "spec": {**SPEC, "credentials": _credentials("1")},
    }
    return await site.admin.timed("POST", agents_path(name.namespace), body)


async def _ask(site: Site, name: Name, turn: str) -> None:
    patch = {"spec": {"credentials": _credentials(turn)}}
    await site.admin.timed("PATCH", agents_path(name.namespace, name.name), patch, content_type=MERGE)


def _credentials(turn: str) -> list[Object]:
    return [{"name": "store", "ttlSeconds": TTL_SECONDS, "custom": {"issuer": "files", "parameters": {"turn": turn}}}]


def _is(verb: str, resource: str, name: Name) -> Callable[[Request], bool]:
    wanted = f"agent-{name.name}.store" if resource == "secrets" else name.name

    def found(request: Request) -> bool:
        # What is created has its name in the body, so the audit log at level Metadata has it only where it is patched.
        named = request.name in ("", wanted)
        what = (request.verb, request.resource, request.namespace)
        return request.done and by_operator(request) and named and what == (verb, resource, name.namespace)

    return found


async def _all(site: Site, verb: str, resource: str, fleet: Sequence[Name]) -> list[float]:
    """Waits until as many requests of a kind were carried out as there are agents; gives when each was answered."""
    times: list[float] = []
    checked = 0
    async with asyncio.timeout(300):
        while len(times) < len(fleet):
            site.log.read()
            times += [
                one.answered
                for one in site.log.seen[checked:]
                if one.done and by_operator(one) and (one.verb, one.resource) == (verb, resource)
            ]
            checked = len(site.log.seen)
            await asyncio.sleep(0.02)
    return times


async def _books(site: Site, most: int, *, every: float) -> None:
    """Waits until there are no more leases on the books than these."""
    async with asyncio.timeout(600):
        while True:
            if len((await site.admin.get(RECORDS))["items"]) <= most:
                return
            await asyncio.sleep(every)


def _figure(name: str, unit: str, value: float) -> Figure:
    return Figure(group=GROUP, name=name, unit=unit, rounds=(value,))
