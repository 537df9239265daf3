"""SandboxPolicies: the clusterwide denies that each of them gets, and their status.

The denies lie above everything that a namespace can write, but only some network plugins have them: they are a second
wall, and no agent waits for it. The status tells people what a policy covers and who breaks it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime

from bulkhead.api import conditions, meta
from bulkhead.cluster import resources
from bulkhead.cluster.apply import Applier, Conflict
from bulkhead.cluster.client import Client
from bulkhead.cluster.discovery import Discovery, run_while_served
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.informer import Informer
from bulkhead.engine.queue import Key, WorkQueue
from bulkhead.engine.view import MANAGED, policy_key
from bulkhead.engine.world import World
from bulkhead.plan import denies as deny_plan
from bulkhead.plan import policy as policy_plan
from bulkhead.plan import policystatus
from bulkhead.plan.denies import Dialect
from bulkhead.plan.isolation import Control, ControlKey, key_of
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Policy
from bulkhead.plan.signals import QueryKey, Reading
from bulkhead.plan.worldview import POLICY_ACCEPTED, Verdict

logger = logging.getLogger(__name__)

DIALECTS: dict[Dialect, resources.Resource] = {
    "cilium": resources.CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    "clusternetworkpolicy": resources.CLUSTER_NETWORK_POLICIES,
}
"""The dialects of clusterwide denies, and what they are written as."""
FAILED = "Failed"
"""The reason of what is tried again at once: nobody said no, and what stood before still stands."""
SYNC_SECONDS = 5.0
SETTLE = 1.0
"""Seconds for which the news of many agents are gathered into one status of their policy."""
REFUSED_LOOK = 10.0
"""Seconds until a deny is tried again whose name somebody else has, or that the API server refused."""


class Denies:
    """The clusterwide denies of ours as the cluster has them, in each dialect while it is served.

    Call `run` in a task.

    Args:
        client: for the informers: a watch holds a connection.
        discovery: says which dialects are served.
        notify: told the key of the policy whose deny changed.
    """

    def __init__(self, client: Client, *, discovery: Discovery, notify: Callable[[Key], None]) -> None:
        self._notify = notify
        self._discovery = discovery
        self._informers = {
            dialect: Informer(client, resource, label_selector=MANAGED, on_change=self._changed)
            for dialect, resource in DIALECTS.items()
        }

    async def run(self) -> None:
        """Mirrors each dialect while it is served, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(run_while_served(informer, self._discovery), name=f"denies of {informer.resource}")

    async def synced(self) -> None:
        """Returns when it is known which dialects are served, and what there is of each, or after `SYNC_SECONDS`.

        Nothing is wrong without, it only costs more calls: an operator that may not read one of these kinds still has
        agents to stop.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_SECONDS):
                await self._discovery.known.wait()
                await asyncio.gather(*(self._informers[dialect].synced.wait() for dialect in self.served()))

    def known(self) -> bool:
        """Tells whether the API server has said which dialects it serves."""
        return self._discovery.known.is_set()

    def served(self) -> tuple[Dialect, ...]:
        """Returns the dialects that the cluster serves."""
        return tuple(dialect for dialect, resource in DIALECTS.items() if self._discovery.serves(resource))

    def of(self, dialect: Dialect) -> Informer:
        """Returns the mirror of a dialect's denies; empty while the cluster does not serve it."""
        return self._informers[dialect]

    def owned(self, dialect: Dialect, uid: str) -> list[Object]:
        """Returns the denies that the policy with this UID owns, without those that are being deleted."""
        return [
            one
            for one in self._informers[dialect]
            if meta.is_owned_by(one, uid) and not one["metadata"].get("deletionTimestamp")
        ]

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            for reference in meta.owner_references(obj) if obj is not None else ():
                if reference.get("kind") == meta.POLICY_KIND:
                    self._notify(policy_key(reference["name"]))


class PolicyReconciler:
    """Writes each policy's clusterwide denies and its status. Only the leader does.

    Args:
        client: for what is deleted, and the status.
        applier: creates and updates what is ours.
        world: the policies, and what they are about.
        denies: the clusterwide denies that there are.
        controls: gives the state of the canaries.
        queue: where keys go back to.
        recorder: writes events.
        is_leader: asked before each write.
        readings: gives how the queries of breakers fare.
        on_layers: told the name of a policy of which `layers_of` would now say something else than it did.
        now: the time of day.
    """

    def __init__(
        self,
        client: Client,
        applier: Applier,
        *,
        world: World,
        denies: Denies,
        controls: Callable[[], Mapping[ControlKey, Control]],
        queue: WorkQueue,
        recorder: Recorder,
        is_leader: Callable[[], bool],
        readings: Callable[[], Mapping[QueryKey, Reading]],
        on_layers: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._applier = applier
        self._world = world
        self._denies = denies
        self._controls = controls
        self._queue = queue
        self._recorder = recorder
        self._is_leader = is_leader
        self._readings = readings
        self._on_layers = on_layers
        self._now = now
        self._broken: set[tuple[str, Dialect]] = set()
        self._told: dict[str, set[frozenset[Dialect]]] = {}
        """What was said of each policy's layers since `on_layers`: who asked must learn when it is no longer so."""

    def everything(self) -> None:
        """Queues every policy: leadership, the served dialects or the reserved addresses have changed."""
        for obj in self._world.policies:
            self._queue.add(policy_key(obj["metadata"]["name"]))

    def controls_changed(self, keys: frozenset[ControlKey]) -> None:
        """Queues the policies that name one of these canaries."""
        for one in self._world.parsed_policies():
            if any(key_of(canary) in keys for canary in one.canaries):
                self._queue.add(policy_key(one.name))

    def agent_changed(self, old: Object | None, new: Object | None) -> None:
        """Queues the policies of an agent, a second later, if it appeared, went, or is judged otherwise now."""
        known = new or old
        if known is None or _judgement(old) == _judgement(new):
            return
        namespace = self._world.sandbox(known["metadata"]["namespace"])
        if namespace is None:
            return
        for one in self._world.parsed_policies():
            if policy_plan.covers(one, namespace):
                self._queue.add_after(policy_key(one.name), SETTLE)

    def layers_of(self, policies: Iterable[str]) -> tuple[str, ...]:
        """Returns the kinds of clusterwide denies that are in place for each of these policies; none for no policy."""
        found = []
        for name in policies:
            layers = self._layers(name)
            self._told.setdefault(name, set()).add(layers)
            found.append(layers)
        return tuple(
            resource.kind
            for dialect, resource in DIALECTS.items()
            if found and all(dialect in layers for layers in found)
        )

    async def reconcile(self, key: Key) -> None:
        """Brings the denies and the status of one policy to what they should be.

        What is left of a policy that is gone belongs to the garbage collector: it owned its denies.

        Raises:
            ClusterError: what may be different the next time.
        """
        obj = self._world.policies.get(None, key.name)
        if obj is None:
            self._broken -= {(key.name, dialect) for dialect in DIALECTS}
            self._told.pop(key.name, None)
        if obj is None or obj["metadata"].get("deletionTimestamp") or not self._is_leader():
            return
        policy = next((one for one in self._world.parsed_policies() if one.uid == obj["metadata"]["uid"]), None)
        if policy is None:
            return
        verdict, errors = await self._deny(policy)
        if self._told.get(key.name, set()) - {self._layers(key.name)}:
            del self._told[key.name]
            self._on_layers(key.name)
        await self._write_status(policy, obj, verdict)
        if errors:
            raise errors[0]

    def _layers(self, name: str) -> frozenset[Dialect]:
        """Returns the dialects in which a policy's denies are in place, as far as is known."""
        obj = self._world.policies.get(None, name)
        if obj is None:
            return frozenset()
        uid = obj["metadata"]["uid"]
        return frozenset(
            dialect
            for dialect in self._denies.served()
            if (name, dialect) not in self._broken and self._in_place(name, uid, dialect)
        )

    def _in_place(self, name: str, uid: str, dialect: Dialect) -> bool:
        """Says whether every deny of a policy in one dialect is there."""
        wanted = deny_plan.object_names(name, dialect=dialect, hosts=self._world.hosts())
        return set(wanted) <= {one["metadata"]["name"] for one in self._denies.owned(dialect, uid)}

    async def _deny(self, policy: Policy) -> tuple[Verdict, list[ClusterError]]:
        """Writes the denies in every dialect that is served; returns what to say of them and what to try again."""
        if policy.spec is None:
            return _NOT_UNDERSTOOD, []
        served = self._denies.served()
        if not served:
            return (_NOT_SERVED if self._denies.known() else _NOT_KNOWN), []
        problems: dict[Dialect, tuple[str, str]] = {}
        errors: list[ClusterError] = []
        for dialect in served:
            try:
                await self._ensure(policy, dialect)
            except Conflict as conflict:
                problems[dialect] = ("Conflict", str(conflict))
            except deny_plan.UnwritableError as error:
                problems[dialect] = ("Unwritable", str(error))
            except ApiError as error:
                reason = "Refused" if error.invalid or error.forbidden else FAILED
                problems[dialect] = (reason, f"{DIALECTS[dialect].kind}: {error.message}")
                if reason == FAILED:
                    errors.append(error)
            except ClusterError as error:
                problems[dialect] = (FAILED, str(error))
                errors.append(error)
        # What could not be written just now stands as it was.
        self._broken -= {(policy.name, dialect) for dialect in DIALECTS if dialect not in problems}
        self._broken |= {(policy.name, dialect) for dialect, (reason, _) in problems.items() if reason != FAILED}
        if not errors and any(reason in ("Conflict", "Refused") for reason, _ in problems.values()):
            self._queue.add_after(policy_key(policy.name), REFUSED_LOOK)
        return _verdict(served, problems), errors

    async def _ensure(self, policy: Policy, dialect: Dialect) -> None:
        """Brings a policy's denies in one dialect to what is wanted, and takes away others that the policy owns."""
        wanted = deny_plan.denies(policy, dialect=dialect, hosts=self._world.hosts())
        for one in wanted:
            await self._apply(policy, dialect, one)
        names = {one["metadata"]["name"] for one in wanted}
        for other in self._denies.owned(dialect, policy.uid):
            data = other["metadata"]
            if data["name"] not in names and self._is_leader():
                await self._client.delete(DIALECTS[dialect], namespace=None, name=data["name"], uid=data["uid"])
                logger.info("denies under another name are removed", extra=_about(policy, object=data["name"]))

    async def _apply(self, policy: Policy, dialect: Dialect, wanted: Object) -> None:
        informer, name = self._denies.of(dialect), wanted["metadata"]["name"]
        applied = await self._applier.ensure(wanted, live=informer.get(None, name), owner_uid=policy.uid)
        if applied.changed:
            informer.observe(applied.object)
            logger.info("clusterwide denies are in place", extra=_about(policy, kind=wanted["kind"], how=applied.how))
        if applied.how == "terminating":
            raise ClusterError(f"{wanted['kind']} {name} is still being deleted")

    async def _write_status(self, policy: Policy, obj: Object, denies: Verdict) -> None:
        """Writes the status, in one patch, if anything of it changed."""
        world = self._world
        agents = [
            agent
            for namespace in world.sandboxes()
            if policy_plan.covers(policy, namespace)
            for agent in world.agents.in_namespace(namespace["metadata"]["name"])
        ]
        current = policystatus.status(
            policy,
            obj,
            namespaces=tuple(world.namespaces),
            agents=agents,
            controls=self._controls(),
            denies=denies,
            readings=self._readings(),
            now=self._now(),
        )
        previous = obj.get("status") or {}
        if current == previous or not self._is_leader():
            return
        try:
            written = await self._client.replace_status(
                resources.SANDBOX_POLICIES, namespace=None, name=policy.name, uid=policy.uid, status=current
            )
        except ApiError as error:
            if error.not_found or error.conflict:
                return  # deleted, or made again: the watch tells of it
            raise
        world.policies.observe(written, is_ours=False)
        for one in policystatus.transitions(previous, current):
            level = logging.WARNING if one.type == "Warning" else logging.INFO
            logger.log(level, one.note, extra=_about(policy, reason=one.reason))
            self._recorder.record(obj, reason=one.reason, note=one.note, action="Reconcile", type=one.type)


_NOT_UNDERSTOOD = Verdict(
    "Unknown", "Invalid", "the policy is not understood; denies that were written before stay as they are"
)
_NOT_KNOWN = Verdict("Unknown", "NotKnown", "the API server has not said yet which kinds it serves")
_NOT_SERVED = Verdict(
    "False",
    "NotServed",
    f"the cluster serves neither {' nor '.join(str(one) for one in DIALECTS.values())}; NetworkPolicies alone hold",
)
_WORDS: dict[Dialect, str] = {"cilium": "Cilium", "clusternetworkpolicy": "ClusterNetworkPolicy"}


def _verdict(served: Iterable[Dialect], problems: Mapping[Dialect, tuple[str, str]]) -> Verdict:
    """Says how the denies of the served dialects are: in place only if all of them are."""
    if problems:
        said_no = sorted({reason for reason, _ in problems.values()} - {FAILED})
        words = "; ".join(message for _, message in problems.values())
        return Verdict("False", said_no[0], words) if said_no else Verdict("Unknown", FAILED, words)
    kinds = " and ".join(DIALECTS[dialect].kind for dialect in served)
    return Verdict("True", "And".join(_WORDS[one] for one in served), f"production and the floor are denied by {kinds}")


def _about(policy: Policy, **more: str) -> dict[str, str]:
    """Returns the `extra` of a log line about a policy."""
    return {"policy": policy.name, "uid": policy.uid, **more}


def _judgement(agent: Object | None) -> object:
    """What of an agent its policies' status turns on."""
    if agent is None:
        return None
    accepted = conditions.find((agent.get("status") or {}).get("conditions") or [], POLICY_ACCEPTED) or {}
    return agent["metadata"]["uid"], accepted.get("status"), accepted.get("message")
