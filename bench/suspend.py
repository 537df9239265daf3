"""How long it takes from a patch of spec.suspend until the pods' deletion is accepted: one agent, and all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bench.audit import Request, carried_out
from bench.figures import Figure, latency
from bench.site import Name, Site

ONE = "patch → pod deletion accepted"
ALL = "all agents at once"
SETTLE = 0.08
GOALS_MS = (20.0, 60.0)


async def one_by_one(site: Site, fleet: Sequence[Name], *, rounds: int, tries: int) -> list[Figure]:
    """Suspends one agent after the other, each back at work before the next.

    Args:
        site: with an operator that runs.
        fleet: agents that have pods.
        rounds: how often.
        tries: of each round; the fleet is gone through in turn.
    """
    sent_at, received_at, accounts = [], [], []
    turn = 0
    for _ in range(rounds):
        from_sending: list[float] = []
        from_receipt: list[float] = []
        credentials: list[float] = []
        for _ in range(tries):
            name = fleet[turn % len(fleet)]
            turn += 1
            site.log.forget()
            sent = await site.suspend(name, True)
            cut = await site.log.until(_pod("delete", name), f"the pod of {name} deleted")
            # They may be answered, and so be in the log, after the pod's deletion.
            patch = await site.log.until(
                carried_out("patch", "agentdeployments", name.namespace, name.name), f"the patch of {name}"
            )
            account = await site.log.until(
                carried_out("delete", "serviceaccounts", name.namespace, f"agent-{name.name}"),
                f"the account of {name} deleted",
            )
            from_sending.append(cut.answered - sent)
            from_receipt.append(cut.answered - patch.answered)
            credentials.append(account.answered - sent)
            await site.quiet(SETTLE)
            site.log.forget()
            await site.suspend(name, False)
            await site.log.until(_pod("create", name), f"the pod of {name} made again")
            await site.quiet(SETTLE)
        sent_at.append(from_sending)
        received_at.append(from_receipt)
        accounts.append(credentials)
    return [
        *latency(ONE, "from sending the patch", sent_at, goals=GOALS_MS),
        *latency(ONE, "from the patch's acceptance", received_at, goals=None),
        *latency(ONE, "credentials gone, from sending", accounts, goals=None),
    ]


async def all_at_once(site: Site, fleet: Sequence[Name], *, rounds: int) -> list[Figure]:
    """Suspends the whole fleet by one patch for each agent, all sent at the same moment, and resumes it so.

    Args:
        site: with an operator that runs.
        fleet: agents that have pods.
        rounds: how often.
    """
    patching, last, middle, back = [], [], [], []
    for _ in range(rounds):
        site.log.forget()
        sent = await asyncio.gather(*(site.suspend(name, True) for name in fleet))
        cuts = await _all(site, "delete", fleet)
        patches = [one.answered for one in site.log.of("patch", "agentdeployments")]
        began = min(sent)
        patching.append(max(patches) - began)
        last.append(max(cuts) - began)
        middle.append(sorted(cuts)[len(cuts) // 2] - began)
        await site.quiet(1.0)
        site.log.forget()
        sent = await asyncio.gather(*(site.suspend(name, False) for name in fleet))
        back.append(max(await _all(site, "create", fleet)) - min(sent))
        await site.quiet(1.0)
    return [
        Figure(group=ALL, name=f"{len(fleet)} patches sent → last of them accepted", unit="s", rounds=tuple(patching)),
        Figure(group=ALL, name="→ half of the pods' deletions accepted", unit="s", rounds=tuple(middle)),
        Figure(group=ALL, name="→ last pod's deletion accepted", unit="s", rounds=tuple(last)),
        Figure(group=ALL, name=f"{len(fleet)} resumed → last pod made", unit="s", rounds=tuple(back)),
    ]


async def _all(site: Site, verb: str, fleet: Sequence[Name]) -> list[float]:
    """Waits until the pods of all are deleted, or made; gives when each was."""
    missing = {(name.namespace, f"{name.name}-0") for name in fleet}
    times: list[float] = []
    checked = 0
    async with asyncio.timeout(300):
        while missing:
            site.log.read()
            for one in site.log.seen[checked:]:
                if one.done and one.verb == verb and one.resource == "pods" and (one.namespace, one.name) in missing:
                    missing.discard((one.namespace, one.name))
                    times.append(one.answered)
            checked = len(site.log.seen)
            await asyncio.sleep(0.02)
    return times


def _pod(verb: str, name: Name) -> Callable[[Request], bool]:
    """Recognises the first request that deletes, or makes, the pod of an agent.

    The operator deletes pods itself, but Kubernetes' garbage collection, which the workload's deletion sets off, is at
    times faster: the pod's end counts, whoever's request it was.
    """
    return carried_out(verb, "pods", name.namespace, f"{name.name}-0")
