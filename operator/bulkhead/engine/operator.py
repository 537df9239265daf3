"""The running operator: informers, workers, leadership, and what keeps all of them honest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.apply import Applier
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.discovery import Discovery, run_while_served
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.leadership import Leadership
from bulkhead.cluster.resources import Resource
from bulkhead.engine.actor import Actor
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.controls import Prober, wanted_controls
from bulkhead.engine.credentials import Credentials
from bulkhead.engine.evidence import Evidence
from bulkhead.engine.fleet import AT_ONCE, Fleet
from bulkhead.engine.garbage import collect_seldom
from bulkhead.engine.gather import Gatherer, UserNamespaces
from bulkhead.engine.livereads import LiveReads
from bulkhead.engine.metrics import Metrics
from bulkhead.engine.namespaces import NamespaceReconciler
from bulkhead.engine.policies import Denies, PolicyReconciler
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.reconcile import AgentReconciler, LaneTools, RefusedError
from bulkhead.engine.records import Records
from bulkhead.engine.resync import Resync
from bulkhead.engine.settings import Identity, Settings
from bulkhead.engine.switches import Switches
from bulkhead.engine.tasks import Tasks
from bulkhead.engine.view import NAMESPACE, POLICY, View, agent_key, namespace_key
from bulkhead.engine.world import World
from bulkhead.issuers.registry import Issuers
from bulkhead.issuers.secret import SecretCopies
from bulkhead.issuers.settings import Configuration
from bulkhead.plan.isolation import ControlKey
from bulkhead.plan.names import DENY_ALL
from bulkhead.signals.settings import SignalsSettings

logger = logging.getLogger(__name__)

LEASE_NAME = "bulkhead-operator"
OPTIONAL_SECONDS = 5.0
"""How long the start waits for kinds that only some clusters serve."""
CONNECTIONS = 16
"""In each pool. Whoever must not wait for others' answers has one of its own: when the status of kill switches shared
the fleet's, it said 12 s late that 5,000 agents were cut off. That of watches, which hold theirs, has no end."""


class Operator:
    """Everything but kopf: it is told of AgentDeployments, and does the rest.

    Args:
        connection: to the API server.
        identity: of this replica.
        settings: what it was told about the gate, its canary, DNS and admission.
        issuers: the issuers of credentials as they are configured.
        signals: what is asked and told of breakers from outside.
        user_namespaces: whether agents get user namespaces, or that the nodes decide.
        workers: how many keys each lane works on at once.
        clock: monotonic seconds.
        now: the time of day.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        identity: Identity,
        settings: Settings,
        issuers: Configuration,
        signals: SignalsSettings,
        user_namespaces: UserNamespaces = "auto",
        workers: dict[Lane, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._workers = workers or {Lane.NORMAL: 16, Lane.URGENT: 16}
        self._queue = WorkQueue(clock=clock, is_patient=lambda key: self._fleet.has_cut(key))
        self._agents = AgentStore(clock=clock, on_change=self._agent_changed)
        self._clients: list[Client] = []

        def client(name: str, *, connections: int = CONNECTIONS) -> Client:
            self._clients.append(Client(connection, pool_size=connections, user_agent=f"bulkhead/{name}"))
            return self._clients[-1]

        self._watching = client("watch", connections=0)
        clients = {lane: client(lane.value) for lane in Lane}
        self._prober = Prober(on_change=self._controls_changed, clock=clock, now=now)
        self._world = World(
            self._watching,
            agents=self._agents,
            settings=settings,
            notify=self._notify,
            retarget=self._retarget,
            controls=self._prober.controls,
            layers=lambda names: self._policies.layers_of(names),
            serves=lambda resource: self._discovery.serves(resource),
            issuers=lambda: self._issuers.types,
        )
        self._discovery = Discovery(self._watching, on_change=self._served_changed)
        self._denies = Denies(self._watching, discovery=self._discovery, notify=self._notify)
        self._view = View(
            self._watching,
            agents=self._agents,
            network_policies=self._world.network_policies,
            cilium_policies=self._world.cilium,
            notify=self._notify,
            suspect=lambda key: self._reconciler.suspect(key),
            alarm=lambda key: self._reconciler.alarm(key),
        )
        self._leadership = Leadership(
            client("lease", connections=2),
            namespace=identity.lease_namespace,
            name=LEASE_NAME,
            identity=identity.replica,
            on_change=self._leadership_changed,
            clock=clock,
        )
        self._recorder = Recorder(clients[Lane.NORMAL], instance=identity.instance)
        applier = Applier(clients[Lane.NORMAL])
        leads = self._leadership.is_leader
        self._fleet = Fleet(client("fleet", connections=AT_ONCE), view=self._view, settled=self._notify, now=now)
        self._switches = Switches(
            self._watching,
            client("switches"),
            agents=self._agents,
            view=self._view,
            fleet=self._fleet,
            notify=self._push,
            recorder=self._recorder,
            is_leader=leads,
            now=now,
            clock=clock,
        )
        self._evidence = Evidence(
            signals,
            watching=self._watching,
            client=clients[Lane.URGENT],
            namespace=identity.lease_namespace,
            host=settings.listen,
            agents=self._agents,
            is_leader=leads,
            alarm=lambda key: self._reconciler.alarm(key),
            notify=self._notify,
            now=now,
        )
        self._copies = SecretCopies(
            self._watching,
            namespaces=issuers.secret_sources,
            is_sandbox=lambda name: self._world.sandbox(name) is not None,
            on_change=lambda namespace, name: self._credentials.source_changed(namespace, name),
            now=now,
        )
        self._follows_sources = bool(issuers.secret_sources)
        self._issuers = Issuers(issuers, secret=self._copies)
        self._records = Records(self._watching, namespace=identity.lease_namespace, on_change=self._notify)
        self._credentials = Credentials(
            records=self._records,
            issuers=self._issuers,
            client=clients[Lane.NORMAL],
            urgent=clients[Lane.URGENT],
            agents=self._agents,
            installation=self._world.installation,
            is_leader=leads,
            is_outdated=self._copies.stale,
            notify=self._notify,
            recorder=self._recorder,
            now=now,
            clock=clock,
        )
        self._reads = {lane: LiveReads(client) for lane, client in clients.items()}
        tools = {
            lane: LaneTools(
                client=client,
                gatherer=Gatherer(
                    self._view,
                    self._world,
                    self._credentials,
                    self._switches,
                    self._evidence,
                    client,
                    reads=self._reads[lane],
                    user_namespaces=user_namespaces,
                    patience=timedelta(seconds=settings.revocation_patience),
                ),
                actor=Actor(client, applier, view=self._view, is_leader=leads, now=now),
            )
            for lane, client in clients.items()
        }
        self._policies = PolicyReconciler(
            clients[Lane.NORMAL],
            applier,
            world=self._world,
            denies=self._denies,
            controls=self._prober.controls,
            queue=self._queue,
            recorder=self._recorder,
            is_leader=leads,
            readings=self._evidence.readings,
            on_layers=self._world.policy_concerns,
            now=now,
        )
        self._reconciler = AgentReconciler(
            agents=self._agents,
            queue=self._queue,
            tools=tools,
            credentials=self._credentials,
            fleet=self._fleet,
            switches=self._switches,
            evidence=self._evidence,
            recorder=self._recorder,
            is_leader=leads,
            now=now,
        )
        self._namespaces = NamespaceReconciler(
            clients[Lane.NORMAL], applier, world=self._world, queue=self._queue, is_leader=leads
        )
        self._resync = Resync(
            self._watching,
            agents=self._agents,
            queue=self._queue,
            lane_of=self._reconciler.lane_of,
            clock=clock,
        )
        self.metrics = Metrics(
            agents=self._agents,
            admission=self._world.admission.problems,
            leases=self._credentials.counts,
            switches=self._switches.informer,
            signals=self._evidence.counts,
            queue=self._queue,
            is_leader=leads,
        )
        self._synced = asyncio.Event()
        self._tasks = Tasks()

    def agent_seen(self, agent: dict[str, Any]) -> None:
        """Takes in an AgentDeployment as the watch showed it; returns at once."""
        self._agents.observe(agent)

    def agent_deleted(self, agent: dict[str, Any]) -> None:
        """Takes in that an AgentDeployment was deleted; returns at once."""
        data = agent["metadata"]
        self._agents.remove(data["namespace"], data["name"], uid=data["uid"])

    def unready(self) -> list[str]:
        """Says what the operator still waits for before it can act on anything; nothing when it is ready."""
        return [f"list of {one.resource}" for one in self._informers() if not one.synced.is_set()]

    def unhealthy(self) -> list[str]:
        """Says which parts of the operator have ended though they never should; then it must be restarted."""
        return list(self._tasks.failed)

    async def start(self) -> None:
        """Starts everything in the background."""
        self._tasks.start("garbage", collect_seldom(is_busy=self._stops_somebody))
        self._tasks.start("leadership", self._leadership.run())
        self._tasks.start("events", self._recorder.run())
        for informer in self._informers():
            self._tasks.start(f"informer of {informer.resource}", informer.run())
        self._tasks.start("discovery", self._discovery.run())
        self._tasks.start("denies", self._denies.run())
        self._tasks.start("Cilium policies", run_while_served(self._world.cilium, self._discovery))
        self._tasks.start("canaries", self._prober.run())
        if self._follows_sources:
            self._tasks.start("sources of Secrets", self._copies.run())
        self._tasks.start("evidence", self._evidence.run())
        self._tasks.start("work", self._queue.run(self._one, workers=self._workers))
        self._tasks.start("work that waits for the caches", self._begin())
        # The queue's workers are to exist when this returns: kopf cancels, when it ends, all tasks that began after it.
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Ends everything, gives the lease up and closes the connections."""
        await self._tasks.stop()
        # Before their connections are closed: kopf takes a request that fails while it ends for a failure of its own.
        for reads in self._reads.values():
            await reads.stop()
        await self._issuers.close()
        for client in reversed(self._clients):
            await client.close()

    def _informers(self) -> tuple[Informer, ...]:
        own = (self._records.informer, self._switches.informer, self._evidence.alerts.informer)
        return (*self._world.informers, *self._view.informers, *own)

    def _stops_somebody(self) -> bool:
        return self._fleet.is_cutting() or self._queue.depth(Lane.URGENT) > 0

    def _notify(self, key: Key) -> None:
        if not self._fleet.holds_key(key):  # 5,000 agents that are cut in bulk are 20,000 events that need no look
            self._push(key)

    def _push(self, key: Key) -> None:
        self._queue.add(key, Lane.NORMAL if key.kind in (NAMESPACE, POLICY) else self._reconciler.lane_of(key))

    def _agent_changed(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        self._policies.agent_changed(old, new)
        self._switches.agent_changed(old, new)
        known = new or old
        if known is None or (old is not None and new is not None and _meaning(old) == _meaning(new)):
            return
        key = agent_key(known["metadata"]["namespace"], known["metadata"]["name"])
        if old is not None and (new is None or old["metadata"]["uid"] != new["metadata"]["uid"]):
            self._evidence.forget(old)
            self._reconciler.gone(key, old)
        # Whoever holds it: its credentials are revoked while it is being cut with many others.
        self._push(key)

    def _retarget(self) -> None:
        self._prober.set_targets(wanted_controls(self._world.parsed_policies(), own=self._world.canary()))

    def _controls_changed(self, keys: frozenset[ControlKey]) -> None:
        self._policies.controls_changed(keys)
        self._world.everyone()

    def _served_changed(self, _served: frozenset[Resource]) -> None:
        self._policies.everything()

    def _leadership_changed(self, leads: bool) -> None:
        logger.info("leading" if leads else "not leading")
        self._evidence.leadership_changed()
        if leads:
            self._everything()

    def _everything(self) -> None:
        for namespace in self._world.sandboxes():
            self._notify(namespace_key(namespace["metadata"]["name"]))
        for policy in self._world.network_policies:
            if policy["metadata"]["name"] == DENY_ALL:
                self._notify(namespace_key(policy["metadata"]["namespace"]))
        self._policies.everything()
        self._world.everyone()

    async def _one(self, key: Key, lane: Lane) -> None:
        # Until the caches are filled, what is missing from them says nothing: a namespace may well be a sandbox.
        await self._synced.wait()
        try:
            if key.kind == NAMESPACE:
                await self._namespaces.reconcile(key)
            elif key.kind == POLICY:
                await self._policies.reconcile(key)
            else:
                await self._reconciler.reconcile(key, lane)
        except ClusterError as error:
            if isinstance(error, ApiError) and error.throttled:
                wait = self._queue.throttled(key, lane, error.retry_after)
            else:
                wait = self._queue.retry(key, lane, at_least=_asked_to_wait(error))
            level = logging.DEBUG if _is_common(error) else logging.WARNING
            extra = {"namespace": key.namespace, "agent": key.name, "retryIn": round(wait, 2)}
            logger.log(level, "%s", error, extra=extra)
        else:
            self._queue.forget(key)

    async def _begin(self) -> None:
        """Lets the work begin once the caches are filled, and does what needs them."""
        await asyncio.gather(*(one.synced.wait() for one in self._informers()), self._denies.synced())
        if self._discovery.serves(resources.CILIUM_NETWORK_POLICIES):
            # Bounded: without the right to list them nothing would ever be suspended.
            with suppress(TimeoutError):
                async with asyncio.timeout(OPTIONAL_SECONDS):
                    await self._world.cilium.synced.wait()
        # A canary that was never tried would make an agent wait that could start.
        self._retarget()
        await self._prober.probe(wanted_controls(self._world.parsed_policies(), own=self._world.canary()))
        logger.info("synced", extra={"agents": len(self._agents), "pods": len(self._view.pods)})
        self._switches.begin()
        self._synced.set()
        async with asyncio.TaskGroup() as group:
            for part in (self._credentials, self._switches, self._fleet, self._resync):
                group.create_task(part.run(), name=type(part).__name__)


def _meaning(agent: dict[str, Any]) -> object:
    """What of an agent a decision turns on: its status is ours, and does not call for another look."""
    data = agent["metadata"]
    return data["uid"], data.get("generation"), data.get("deletionTimestamp"), data.get("labels")


def _asked_to_wait(error: ClusterError) -> float:
    return (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0


def _is_common(error: ClusterError) -> bool:
    """Whether an error is part of the day: a lost race, an API server that asks for patience, or what status tells."""
    if isinstance(error, RefusedError):
        return True
    return isinstance(error, ApiError) and (error.conflict or error.already_exists or error.throttled)
