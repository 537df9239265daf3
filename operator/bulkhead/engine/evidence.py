"""What tells a breaker from outside of its pods: the fleet's queries, and alerts; and who is told what breakers did."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from bulkhead.cluster.client import Client
from bulkhead.cluster.resources import Object, uid_of
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.alertrecords import AlertRecords
from bulkhead.engine.queue import Key
from bulkhead.engine.view import agent_key, policy_key
from bulkhead.plan.breakerchanges import Notice
from bulkhead.plan.signals import AgentKey, Query, QueryKey, Reading, Signals
from bulkhead.signals.fleet import FleetQueries
from bulkhead.signals.notify import Notification, Notifier
from bulkhead.signals.prometheus import Prometheus
from bulkhead.signals.settings import AlertmanagerSettings, SignalsSettings

if TYPE_CHECKING:
    from bulkhead.signals.alerts import AlertReceiver

logger = logging.getLogger(__name__)


class Evidence:
    """The operator's side of everything in `bulkhead.signals`.

    An alert is recorded in the operator's own namespace before its delivery is acknowledged, by whichever replica it
    came to. All replicas mirror the records and cut; the leader takes an alert over into the agent's status, and then
    the record goes. Queries are put by the leader alone.

    Attributes:
        alerts: those on record; who makes this runs their informer.

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
        self.alerts = AlertRecords(
            watching=watching, client=client, namespace=namespace, agents=agents, heard=self._heard, now=now
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

    def forget(self, agent: Object) -> None:
        """Ends all that is asked about an agent: it is gone."""
        self._queries.forget(_key(agent))

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

    async def run(self) -> None:
        """Puts the queries while this replica leads, delivers notifications and removes old records."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notifier.run(), name="notifications")
            group.create_task(self._query(), name="queries")
            group.create_task(self.alerts.sweep(self._is_leader), name="records of alerts")
            if self._settings.alertmanager is not None:
                group.create_task(self._listen(self._settings.alertmanager), name="alerts")

    async def _listen(self, settings: AlertmanagerSettings) -> None:
        # A server of HTTP is loaded only where somebody delivers to it.
        from bulkhead.signals.alerts import AlertReceiver

        self._receiver = AlertReceiver(
            settings,
            host=self._host,
            known=self.alerts.known,
            recorded=self.alerts.recorded,
            record=self.alerts.record,
            clock=self._now,
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
