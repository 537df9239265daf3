"""How long it takes from an apply until the children are written, beside a bare client that writes the same."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field

from bench.audit import Request
from bench.figures import Figure, latency, ratios
from bench.site import BARE, Name, Site, accounts_path, claims_path, workloads_path
from bench.wire import Object

GROUP = "apply → children written"
SETTLE = 0.08


@dataclass(slots=True)
class Round:
    """What one round measured, in seconds, try by try."""

    post: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    bare_whole: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Children:
    """The objects that the bare client writes: those that the operator wrote, under other names."""

    account: Object
    workload: Object
    owner: Object

    @classmethod
    async def like(cls, site: Site, agent: Name) -> Children:
        """Takes an agent's children as the pattern."""
        namespace = await site.admin.get(f"/api/v1/namespaces/{BARE}")
        owner = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "name": BARE,
            "uid": namespace["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        account = await site.admin.get(accounts_path(agent.namespace, f"agent-{agent.name}"))
        workload = await site.admin.get(workloads_path(agent.namespace, agent.name))
        return cls(_stripped(account), _stripped(workload), owner)

    def named(self, name: str) -> tuple[Object, Object]:
        """Gives a service account and a workload of that name."""
        account, workload = copy.deepcopy(self.account), copy.deepcopy(self.workload)
        for obj, called in ((account, f"agent-{name}"), (workload, name)):
            obj["metadata"].update(name=called, namespace=BARE, ownerReferences=[self.owner])
            obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] = BARE
        labels = {"bulkhead.dev/agent-uid": f"bare-{name}"}
        spec = workload["spec"]
        spec["selector"] = {"matchLabels": labels}
        spec["template"]["metadata"]["labels"].update({**labels, "app.kubernetes.io/managed-by": BARE})
        spec["template"]["spec"]["serviceAccountName"] = f"agent-{name}"
        for template in spec.get("volumeClaimTemplates") or ():
            template["metadata"]["labels"]["app.kubernetes.io/managed-by"] = BARE
        return account, workload


def _stripped(obj: Object) -> Object:
    """Takes off what the API server put on."""
    obj.pop("status", None)
    obj["metadata"] = {
        key: value for key, value in obj["metadata"].items() if key in ("name", "namespace", "labels", "annotations")
    }
    return obj


async def measure(site: Site, *, rounds: int, tries: int, pattern: Name) -> list[Figure]:
    """Applies agents one after the other, and lets the bare client write the same after each.

    The operator's time ends when the API server has answered its last create; the bare client's too. Every agent is
    deleted when its try is over, so that the number of agents present stays the same.

    Args:
        site: with an operator that runs.
        rounds: how often.
        tries: of each round.
        pattern: an agent whose children the bare client copies.
    """
    children = await Children.like(site, pattern)
    done = []
    for number in range(rounds):
        result = Round()
        for name in site.names(tries, f"new{number}"):
            await _operator(site, name, result)
            await _bare(site, name.name, children, result)
        done.append(result)
    accepted, bare = [one.accepted for one in done], [one.bare for one in done]
    whole, bare_whole = [one.whole for one in done], [one.bare_whole for one in done]
    return [
        *latency(GROUP, "from sending the apply", whole, goals=None),
        *latency(GROUP, "from the apply's acceptance", accepted, goals=None),
        *latency(GROUP, "bare client, the two writes", bare, goals=None),
        *ratios(GROUP, "ratio to the bare client, from sending", whole, bare_whole, goal=1.5),
        *ratios(GROUP, "ratio to the bare client, from acceptance", accepted, bare, goal=None),
    ]


async def _operator(site: Site, name: Name, result: Round) -> None:
    site.log.forget()
    sent = await site.create(name)
    workload = await site.log.until(lambda one: _made(one, "statefulsets", name), f"the StatefulSet of {name}")
    applied = next(one for one in site.log.of("create", "agentdeployments") if one.name == name.name)
    result.post.append(applied.answered - sent)
    result.whole.append(workload.answered - sent)
    result.accepted.append(workload.answered - applied.answered)
    await site.log.until(lambda one: _made(one, "pods", name), f"the pod of {name}")
    await site.quiet(SETTLE)
    await site.delete(name)
    await site.quiet(SETTLE)


async def _bare(site: Site, name: str, children: Children, result: Round) -> None:
    account, workload = children.named(name)
    site.log.forget()
    sent = time.time()
    await site.bare.create(accounts_path(BARE), account)
    made = await site.bare.create(workloads_path(BARE), workload)
    place = Name(BARE, name)
    written = await site.log.until(lambda one: _made(one, "statefulsets", place), f"the bare StatefulSet {name}")
    result.bare.append(written.answered - sent)
    # The bare client has no AgentDeployment to write: the time of the apply itself is that of the operator's try.
    result.bare_whole.append(result.post[-1] + result.bare[-1])
    await site.log.until(lambda one: _made(one, "pods", place), f"the pod of the bare {name}")
    await site.quiet(SETTLE)
    await site.admin.delete(workloads_path(BARE, name), uid=made["metadata"]["uid"])
    await site.admin.send("DELETE", claims_path(BARE, f"workspace-{name}-0"))
    await site.admin.send("DELETE", accounts_path(BARE, f"agent-{name}"))
    await site.quiet(SETTLE)


def _made(request: Request, resource: str, name: Name) -> bool:
    called = f"{name.name}-0" if resource == "pods" else name.name
    return (
        request.done
        and request.verb == "create"
        and request.resource == resource
        and (request.namespace, request.name) == (name.namespace, called)
    )
