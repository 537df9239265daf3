"""Reading what a decision needs: from caches, and from the live API where a cache would prove nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from bulkhead.api import conditions, meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.engine import rawspec
from bulkhead.engine.credentials import Credentials
from bulkhead.engine.evidence import Evidence
from bulkhead.engine.livereads import LiveReads
from bulkhead.engine.switches import Switches
from bulkhead.engine.view import View
from bulkhead.engine.world import World
from bulkhead.plan import agent as agent_plan
from bulkhead.plan import identity, names, suspension, trips, workspace
from bulkhead.plan.observed import Observed, Taken, Warned
from bulkhead.plan.surroundings import Surroundings

Object = dict[str, Any]

WARNINGS_READ = 50

UserNamespaces = Literal["auto", "always", "never"]


class Gatherer:
    """Gives `Observed` for one agent at a time.

    Args:
        view: the caches of what agents are made of.
        world: the caches of what surrounds them.
        credentials: what is known of their leases.
        switches: the kill switches.
        evidence: what tells breakers from outside of the pods.
        client: for what must be read live.
        reads: of what agents run, live.
        user_namespaces: whether agents get user namespaces, or that the nodes decide.
        patience: how long the deletion of an agent waits for leases that cannot be revoked.
    """

    def __init__(
        self,
        view: View,
        world: World,
        credentials: Credentials,
        switches: Switches,
        evidence: Evidence,
        client: Client,
        *,
        reads: LiveReads,
        user_namespaces: UserNamespaces,
        patience: timedelta,
    ) -> None:
        self._view = view
        self._world = world
        self._credentials = credentials
        self._switches = switches
        self._evidence = evidence
        self._patience = patience
        self._user_namespaces = user_namespaces
        self._client = client
        self._reads = reads

    async def gather(self, agent: Object, *, live: bool) -> Observed:
        """Reads all that a decision about the agent needs.

        Args:
            agent: the AgentDeployment.
            live: read the workload and the pods from the API server, because their absence is to be proven.

        Raises:
            ClusterError: something that had to be read live could not be.
        """
        metadata = agent["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        view = self._view
        stateful_set = view.stateful_sets.get(namespace, names.stateful_set_name(name))
        if live:
            stateful_set, own = await self._reads.read(agent)
        else:
            own = self._cached_pods(agent)
        sandbox = self._world.sandbox(namespace)
        return Observed(
            agent=agent,
            namespace=sandbox,
            surroundings=self._surroundings(agent, sandbox) if sandbox is not None else None,
            network_policy=view.network_policies.get(namespace, names.network_policy_name(name)),
            cilium_policy=view.cilium_policies.get(namespace, names.network_policy_name(name)),
            role=view.roles.get(namespace, names.role_name(name)),
            role_binding=view.role_bindings.get(namespace, names.role_name(name)),
            service_account=view.service_accounts.get(namespace, names.service_account_name(name)),
            stateful_set=stateful_set,
            pods=own,
            claims=self._claims(agent),
            taken=await self._taken(agent),
            pull_secrets=tuple(identity.pull_secret_names(view.default_accounts.get(namespace, "default"))),
            pods_are_live=live,
            user_namespaces=self._user_namespaces == "always"
            or (self._user_namespaces == "auto" and self._world.has_user_namespaces()),
            books=self._credentials.books(agent),
            switches=self._switches.of(agent),
            alerts=self._evidence.alerts.of(agent),
            exits=view.exits(agent),
            revocation_patience=self._patience,
        )

    async def warned(self, observed: Observed, *, wanted: int) -> tuple[Warned, ...]:
        """Returns the warnings of Kubernetes about the agent's workload, newest first, if a rollout is stuck."""
        if observed.stateful_set is None or not agent_plan.is_stuck(observed, wanted=wanted):
            return ()
        concerned = [observed.stateful_set, *observed.pods]
        lists = await asyncio.gather(*(self._events(obj) for obj in concerned[:4]))
        return tuple(one for found in lists for one in found)

    def _surroundings(self, agent: Object, sandbox: Object) -> Surroundings:
        """Returns the world around an agent, and what the queries of its policies tell about it."""
        found = self._world.surroundings(agent, sandbox)
        return replace(found, signals=self._evidence.ask(agent, trips.queries(found.bounds, agent.get("spec"))))

    def _cached_pods(self, agent: Object) -> tuple[Object, ...]:
        return tuple(self._view.pods.by_index((agent["metadata"]["namespace"], agent["metadata"]["uid"])))

    async def _taken(self, agent: Object) -> tuple[Taken, ...]:
        """Looks for strangers' objects under the names of an agent.

        The cache has every NetworkPolicy. Of the other kinds it has ours alone: an agent learns of a stranger's by
        the refusal of its next write, and these names are looked up only while such a conflict holds it.
        """
        policies = self._taken_policies(agent)
        ready = conditions.find((agent.get("status") or {}).get("conditions") or [], "Ready")
        if ready is None or ready.get("reason") != suspension.CONFLICT:
            return policies
        namespace, name, uid = (agent["metadata"][key] for key in ("namespace", "name", "uid"))
        wanted = [
            (resources.SERVICE_ACCOUNTS, names.service_account_name(name), uid),
            (resources.STATEFUL_SETS, names.stateful_set_name(name), uid),
        ]
        if rawspec.wants_api(agent):
            wanted += [(kind, names.role_name(name), uid) for kind in (resources.ROLES, resources.ROLE_BINDINGS)]
        found = await asyncio.gather(
            *(self._client.get(resource, namespace=namespace, name=child) for resource, child, _ in wanted)
        )
        strangers = [
            taken(obj)
            for obj, (_, _, owner) in zip(found, wanted, strict=True)
            if obj is not None and not meta.is_owned_by(obj, owner)
        ]
        return (*policies, *strangers, *await self.taken_claims(agent))

    def _taken_policies(self, agent: Object) -> tuple[Taken, ...]:
        namespace, name, uid = (agent["metadata"][key] for key in ("namespace", "name", "uid"))
        sandbox = self._world.sandbox(namespace)
        if sandbox is None:
            return ()
        wanted = {names.DENY_ALL: sandbox["metadata"]["uid"]}
        if rawspec.wants_rules(agent):
            wanted[names.network_policy_name(name)] = uid
        found = [(self._world.network_policies.get(namespace, child), owner) for child, owner in wanted.items()]
        if rawspec.wants_api(agent):
            found.append((self._world.cilium.get(namespace, names.network_policy_name(name)), uid))
        return tuple(taken(obj) for obj, owner in found if obj is not None and not meta.is_owned_by(obj, owner))

    def _claims(self, agent: Object) -> tuple[Object, ...]:
        """Returns the workspace claims that the agent's pods may mount, a retained predecessor's included."""
        namespace, uid = agent["metadata"]["namespace"], agent["metadata"]["uid"]
        found = {one["metadata"]["name"]: one for one in self._view.claims.by_index((namespace, uid))}
        for claim in _claim_names(agent):
            cached = self._view.claims.get(namespace, claim)
            if cached is not None and workspace.may_use(cached, agent):
                found[claim] = cached
        return tuple(found[claim] for claim in sorted(found))

    async def taken_claims(self, agent: Object) -> tuple[Taken, ...]:
        """Looks for claims that stand under the names of the agent's workspaces and were not made for one."""
        namespace = agent["metadata"]["namespace"]
        known = {one["metadata"]["name"] for one in self._claims(agent)}
        found = await asyncio.gather(
            *(
                self._client.get(resources.CLAIMS, namespace=namespace, name=claim)
                for claim in _claim_names(agent)
                if claim not in known
            )
        )
        return tuple(taken(obj) for obj in found if obj is not None and not workspace.may_use(obj, agent))

    async def _events(self, obj: Object) -> list[Warned]:
        metadata = obj["metadata"]
        events, _ = await self._client.list(
            resources.CORE_EVENTS,
            namespace=metadata["namespace"],
            field_selector=f"involvedObject.uid={metadata['uid']},type=Warning",
            limit=WARNINGS_READ,
        )
        events.sort(key=_event_time, reverse=True)
        return [
            Warned(
                kind=obj["kind"],
                name=metadata["name"],
                reason=str(event.get("reason") or ""),
                message=str(event.get("message") or ""),
            )
            for event in events
        ]


def _claim_names(agent: Object) -> list[str]:
    """The names under which the StatefulSet controller looks for the workspaces of the wanted replicas."""
    spec = agent.get("spec")
    if not isinstance(spec, dict) or not spec.get("workspace"):
        return []
    replicas = spec.get("replicas", 1)
    return [
        names.claim_name(agent["metadata"]["name"], one) for one in range(replicas if isinstance(replicas, int) else 0)
    ]


def taken(obj: Object) -> Taken:
    """Describes an object that stands under a name of ours and is somebody else's."""
    owners = [f"{one['kind']} {one['name']}" for one in meta.owner_references(obj)]
    return Taken(kind=obj["kind"], name=obj["metadata"]["name"], owner=" and ".join(owners) or "nobody")


def _event_time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
