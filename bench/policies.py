"""How long a policy's edit takes to reach every agent, and what the rest of the cluster costs that is watched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.figures import Figure
from bench.site import BARE, POLICIES, POLICY, Name, Site
from bench.wire import MERGE, Object

GROUP = "policy edit → all agents"
FOREIGN = 1000
"""Services, and NetworkPolicies, that are made in a namespace with which the operator has nothing to do."""
AT_ONCE = 64


async def edits(site: Site, fleet: Sequence[Name], *, rounds: int) -> list[Figure]:
    """Edits the policy that covers the fleet: first so that each pod's gate changes, then so that no agent is accepted.

    Args:
        site: with an operator that runs.
        fleet: agents that have pods.
        rounds: how often.
    """
    rewritten, stopped, back = [], [], []
    for number in range(rounds):
        await site.quiet(1.0)
        site.log.forget()
        sent = await _edit(site, {"isolation": {"intervalSeconds": 20 + number}})
        rewritten.append(max(await _all(site, "patch", "statefulsets", fleet)) - sent)
        await site.quiet(1.0)
        site.log.forget()
        sent = await _edit(site, {"workload": {"maxReplicas": 0}})
        stopped.append(max(await _all(site, "delete", "statefulsets", fleet)) - sent)
        await site.quiet(1.0)
        site.log.forget()
        sent = await _edit(site, {"workload": {"maxReplicas": None}})
        back.append(max(await _all(site, "create", "statefulsets", fleet)) - sent)
    count = len(fleet)
    return [
        Figure(group=GROUP, name=f"{count} re-planned → last workload rewritten", unit="s", rounds=tuple(rewritten)),
        Figure(group=GROUP, name=f"{count} refused → last workload deleted", unit="s", rounds=tuple(stopped)),
        Figure(group=GROUP, name=f"{count} accepted again → last workload made", unit="s", rounds=tuple(back)),
    ]


async def crowd(site: Site) -> None:
    """Makes what a large cluster has that is not the operator's and that it watches all the same."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def make(path: str, body: Object) -> None:
        async with gate:
            await site.admin.create(path, body)

    services, policies = (
        f"/api/v1/namespaces/{BARE}/services",
        f"/apis/networking.k8s.io/v1/namespaces/{BARE}/networkpolicies",
    )
    spec = {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 9090}]}
    allow = {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"from": [{"podSelector": {}}]}]}
    await asyncio.gather(
        *(make(services, {"metadata": {"name": f"crowd-{n}"}, "spec": spec}) for n in range(FOREIGN)),
        *(make(policies, {"metadata": {"name": f"crowd-{n}"}, "spec": allow}) for n in range(FOREIGN)),
    )


async def _edit(site: Site, spec: Object) -> float:
    return await site.admin.timed("PATCH", f"{POLICIES}/{POLICY}", {"spec": spec}, content_type=MERGE)


async def _all(site: Site, verb: str, resource: str, fleet: Sequence[Name]) -> list[float]:
    """Waits until the API server has accepted this for every agent of the fleet; gives when."""
    missing = {(name.namespace, name.name) for name in fleet}
    times: list[float] = []
    checked = 0
    async with asyncio.timeout(300):
        while missing:
            site.log.read()
            for one in site.log.seen[checked:]:
                if one.done and (one.verb, one.resource) == (verb, resource) and (one.namespace, one.name) in missing:
                    missing.discard((one.namespace, one.name))
                    times.append(one.answered)
            checked = len(site.log.seen)
            await asyncio.sleep(0.02)
    return times
