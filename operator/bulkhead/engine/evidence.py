"""What tells a breaker from outside of its pods: the fleet's queries, and alerts; and who is told what breakers did."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import Object, uid_of
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key
from bulkhead.engine.view import agent_key, policy_key
from bulkhead.plan import alertrecord
from bulkhead.plan.breakerchanges import Notice
from bulkhead.plan.signals import AgentKey, Alert, Query, QueryKey, Reading, Signals
from bulkhead.signals.fleet import FleetQueries
from bulkhead.signals.notify import Notification, Notifier
from bulkhead.signals.prometheus import Prometheus
from bulkhead.signals.settings import AlertmanagerSettings, SignalsSettings

if TYPE_CHECKING:
    from bulkhead.signals.alerts import AlertReceiver

logger = logging.getLogger(__name__)

SELECTOR = meta.ALERT_LABEL
SWEEP_SECONDS = 60.0
KEPT = timedelta(hours=1)
"""How long an alert's record is kept that no status has taken over: its agent may be gone."""


class Evidence:
    """The operator's side of everything in `bulkhead.signals`.

    An alert is recorded in the operator's own namespace before its delivery is acknowledged, by whichever replica it
    came to. All replicas mirror the records and cut; the leader takes an alert over into the agent's status, and then
    the record goes. Queries are put by the leader alone.

    Attributes:
        informer: mirrors the records of alerts; who makes this runs it.

    Args:
        settings: of the signals.
        watching: for the informer.
        client: writes and removes records.
        namespace: the operator's own.
        host: address on which alerts are delivered.
        agents: the agents.
        is_leader: whether this replica holds the lease.
        alarm: told the key of an agent that an alert is about, before it is looked at again.
        notify: told the key of an agent that has to be looked at again.
        now: the time of day.
    """

    def __init__(
        self,
        settings: SignalsSettings,
        *,
        watching: Client,
        client: Client,
        namespace: str,
        host: str,
        agents: AgentStore,
        is_leader: Callable[[], bool],
        alarm: Callable[[Key], None],
        notify: Callable[[Key], None],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._client = client
        self._namespace = namespace
        self._host = host
        self._agents = agents
        self._is_leader = is_leader
        self._alarm = alarm
        self._notify = notify
        self._now = now
        self._turned = asyncio.Event()
        self._changes: Counter[str] = Counter()
        self._answered: dict[QueryKey, bool] = {}
        self._receiver: AlertReceiver | None = None
        prometheus = Prometheus(settings.prometheus) if settings.prometheus is not None else None
        self._queries = FleetQueries(prometheus, on_change=self._verdicts_changed, clock=now)
        self._notifier = Notifier(settings.notifications, source=f"/bulkhead/{namespace}", clock=now)
        self.informer = Informer(
            watching,
            resources.CONFIG_MAPS,
            namespace=namespace,
            label_selector=SELECTOR,
            on_change=self._alert_changed,
            index=_by_agent,
        )

    def ask(self, agent: Object, queries: Collection[Query]) -> Signals | None:
        """Says which queries hold for an agent, and returns what they tell about it.

        A replica that does not lead puts none and knows nothing: None. So is what is asked for an agent that is gone,
        of which only what it had is looked at: nobody would end its queries any more.
        """
        key = _key(agent)
        current = self._agents.get(*key)
        if not self._is_leader() or current is None or uid_of(current) != uid_of(agent):
            return None
        self._queries.ask(key, queries)
        return self._queries.signals_of(key)

    def alerts(self, agent: Object) -> tuple[Alert, ...]:
        """Returns the alerts about an agent that are on record, the oldest first."""
        found = [read[2] for one in self.informer.by_index(agent["metadata"]["uid"]) if (read := alertrecord.read(one))]
        return tuple(sorted(found, key=lambda one: (one.received_at, one.record)))

    def forget(self, agent: Object) -> None:
        """Ends all that is asked about an agent: it is gone."""
        self._queries.forget(_key(agent))

    async def settle(self, alerts: Iterable[Alert]) -> None:
        """Removes the records of alerts that a status has taken over.

        Raises:
            ClusterError: whether one was removed is unknown. It is tried again with the next look at the agent.
        """
        for one in alerts:
            record = self.informer.get(self._namespace, one.record)
            if record is not None:
                await self._remove(record)

    def tell(self, notice: Notice) -> None:
        """Counts what a breaker did, and tells whoever is to be told; returns at once."""
        self._changes[notice.type.rpartition(".")[2]] += 1
        self._notifier.send(
            Notification(id=notice.id, type=notice.type, subject=notice.subject, time=notice.time, data=notice.data)
        )

    def leadership_changed(self) -> None:
        """Takes note that this replica leads now, or does not any more."""
        self._turned.set()

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Returns the counters of each part, for metrics: of queries, alerts, notifications, and what circuits did."""
        alerts = self._receiver.counts() if self._receiver is not None else {}
        return {
            "queries": self._queries.counts(),
            "alerts": alerts,
            "notifications": self._notifier.counts(),
            "circuits": dict(self._changes),
        }

    async def known(self, agent: AgentKey) -> bool:
        """Says whether there is such an agent; asks the API server, should the watch not have told of it yet.

        Raises:
            ClusterError: whether there is one is unknown.
        """
        return await self._find(agent) is not None

    async def _find(self, agent: AgentKey) -> Object | None:
        found = self._agents.get(*agent)
        return found or await self._client.get(resources.AGENTS, namespace=agent[0], name=agent[1])

    def recorded(self, name: str) -> bool:
        """Says whether there is a record of an alert under this name."""
        return self.informer.get(self._namespace, name) is not None

    async def record(self, agent: AgentKey, alert: Alert) -> None:
        """Writes an alert down, and returns when the API server has it.

        Raises:
            ClusterError: whether it was written is unknown, or it was not.
        """
        found = await self._find(agent)
        if found is None:
            return
        manifest = alertrecord.manifest(agent, alert, uid=uid_of(found), namespace=self._namespace)
        try:
            written = await self._client.create(manifest)
        except ApiError as error:
            if error.already_exists:
                return
            raise
        logger.warning("alert %s is on record", alert.name, extra={"namespace": agent[0], "agent": agent[1]})
        self.informer.observe(written)
        self._heard(agent)

    async def run(self) -> None:
        """Puts the queries while this replica leads, delivers notifications and removes old records."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notifier.run(), name="notifications")
            group.create_task(self._query(), name="queries")
            group.create_task(self._sweep(), name="records of alerts")
            if self._settings.alertmanager is not None:
                group.create_task(self._listen(self._settings.alertmanager), name="alerts")

    async def _listen(self, settings: AlertmanagerSettings) -> None:
        # A server of HTTP is loaded only where somebody delivers to it.
        from bulkhead.signals.alerts import AlertReceiver

        self._receiver = AlertReceiver(
            settings, host=self._host, known=self.known, recorded=self.recorded, record=self.record, clock=self._now
        )
        await self._receiver.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self._receiver.stop()

    async def _query(self) -> None:
        while True:
            self._turned.clear()
            if not self._is_leader():
                await self._turned.wait()
                continue
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._queries.run(), name="queries of the leader")
                while self._is_leader():
                    await self._turned.wait()
                    self._turned.clear()
                work.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not self._is_leader():
                continue
            for record in list(self.informer):
                read = alertrecord.read(record)
                if read is None or self._now() - read[2].received_at > KEPT:
                    try:
                        await self._remove(record)
                    except ClusterError as error:
                        logger.warning("an old record of an alert could not be removed: %s", error)

    async def _remove(self, record: Object) -> None:
        await self._client.delete(
            resources.CONFIG_MAPS, namespace=self._namespace, name=record["metadata"]["name"], uid=uid_of(record)
        )

    def _alert_changed(self, old: Object | None, new: Object | None) -> None:
        read = alertrecord.read(new) if new is not None and old is None else None
        if read is not None:
            self._heard(read[0])

    def _heard(self, agent: AgentKey) -> None:
        key = agent_key(*agent)
        self._alarm(key)
        self._notify(key)

    def readings(self) -> Mapping[QueryKey, Reading]:
        """Returns how each query fares, by policy and name; nothing on a replica that does not put any."""
        return self._queries.readings()

    def _verdicts_changed(self, agents: Collection[AgentKey]) -> None:
        answered = {key: reading.ok for key, reading in self.readings().items()}
        for policy in {key[0] for key, ok in answered.items() if self._answered.get(key) is not ok}:
            self._notify(policy_key(policy))
        self._answered = answered
        for agent in agents:
            key = agent_key(*agent)
            # That a query cannot be seen is borne for a while: with Prometheus away it is news of the whole fleet.
            if self._queries.tripped(agent):
                self._alarm(key)
            self._notify(key)


def _key(agent: Object) -> AgentKey:
    return agent["metadata"]["namespace"], agent["metadata"]["name"]


def _by_agent(record: Object) -> Hashable | None:
    return meta.labels_of(record).get(meta.AGENT_UID_LABEL)
