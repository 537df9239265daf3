"""Alerts on record: ConfigMaps in the operator's own namespace, from an alert's delivery until a status tells of it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime, timedelta

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import Object, uid_of
from bulkhead.engine.agents import AgentStore
from bulkhead.plan import alertrecord
from bulkhead.plan.signals import AgentKey, Alert

logger = logging.getLogger(__name__)

SELECTOR = meta.ALERT_LABEL
SWEEP_SECONDS = 60.0
KEPT = timedelta(hours=1)
"""How long an alert's record is kept that no status has taken over: its agent may be gone."""
REMEMBERED = timedelta(minutes=5)
"""How long an alert is not recorded again. Alertmanager repeats what fires for as long as it does, and by then another
policy may be in force, which names it. What a status has taken over, or was reset, is told by the status itself."""
MOST_REMEMBERED = 10_000


class AlertRecords:
    """Keeps alerts. Any replica records one, before its delivery is acknowledged; the leader removes records.

    Attributes:
        informer: mirrors the records; who makes this runs it.

    Args:
        watching: for the informer.
        client: writes and removes records.
        namespace: the operator's own.
        agents: the agents.
        heard: told whom an alert is about, once it is on record here.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        watching: Client,
        client: Client,
        namespace: str,
        agents: AgentStore,
        heard: Callable[[AgentKey], None],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._agents = agents
        self._heard = heard
        self._now = now
        self._recent: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        """When an alert was recorded here, by its record and its agent's UID."""
        self.informer = Informer(
            watching,
            resources.CONFIG_MAPS,
            namespace=namespace,
            label_selector=SELECTOR,
            on_change=self._changed,
            index=_agent_uid,
        )

    def of(self, agent: Object) -> tuple[Alert, ...]:
        """Returns the alerts about an agent that are on record, the oldest first."""
        found = [read[2] for one in self.informer.by_index(agent["metadata"]["uid"]) if (read := alertrecord.read(one))]
        return tuple(sorted(found, key=lambda one: (one.received_at, one.record)))

    async def known(self, agent: AgentKey) -> bool:
        """Says whether there is such an agent; asks the API server, should the watch not have told of it yet.

        Raises:
            ClusterError: whether there is one is unknown.
        """
        return await self._find(agent) is not None

    def recorded(self, agent: AgentKey, alert: Alert) -> bool:
        """Says whether an alert about the present agent of that name is on record, or was a moment ago."""
        found = self._agents.get(*agent)
        if found is None:
            return False
        record = self.informer.get(self._namespace, alert.record)
        if record is not None:
            return _agent_uid(record) == uid_of(found)
        recorded = self._recent.get((alert.record, uid_of(found)))
        return recorded is not None and self._now() - recorded < REMEMBERED

    async def record(self, agent: AgentKey, alert: Alert) -> None:
        """Writes an alert down, and returns when the API server has it.

        Raises:
            ClusterError: whether it was written is unknown, or it was not.
        """
        found = await self._find(agent)
        if found is None:
            return
        uid = uid_of(found)
        written = await self._write(alertrecord.manifest(agent, alert, uid=uid, namespace=self._namespace))
        self._recent[(alert.record, uid)] = self._now()
        self._recent.move_to_end((alert.record, uid))
        if len(self._recent) > MOST_REMEMBERED:
            self._recent.popitem(last=False)
        if written is not None:
            logger.warning("alert %s is on record", alert.name, extra={"namespace": agent[0], "agent": agent[1]})
            self.informer.observe(written)
            self._heard(agent)

    async def settle(self, alerts: Iterable[Alert]) -> None:
        """Removes the records of alerts that a status has taken over.

        Raises:
            ClusterError: whether one was removed is unknown. It is tried again with the next look at the agent.
        """
        for one in alerts:
            record = self.informer.get(self._namespace, one.record)
            if record is not None:
                await self._remove(record)

    async def sweep(self, is_leader: Callable[[], bool]) -> None:
        """Removes what is old or cannot be read, while this replica leads, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for record in list(self.informer) if is_leader() else ():
                read = alertrecord.read(record)
                if read is None or self._now() - read[2].received_at > KEPT:
                    try:
                        await self._remove(record)
                    except ClusterError as error:
                        logger.warning("an old record of an alert could not be removed: %s", error)

    async def _find(self, agent: AgentKey) -> Object | None:
        found = self._agents.get(*agent)
        return found or await self._client.get(resources.AGENTS, namespace=agent[0], name=agent[1])

    async def _write(self, manifest: Object) -> Object | None:
        """Creates a record in the place of one about a predecessor of the agent; None where it is there already."""
        try:
            return await self._client.create(manifest)
        except ApiError as error:
            if not error.already_exists:
                raise
        name = manifest["metadata"]["name"]
        there = await self._client.get(resources.CONFIG_MAPS, namespace=self._namespace, name=name)
        if there is not None and _agent_uid(there) == _agent_uid(manifest):
            return None
        if there is not None:
            if meta.ALERT_LABEL not in meta.labels_of(there):
                raise ClusterError(f"ConfigMap {name} is no record of an alert; it was left as it is")
            await self._remove(there)
        return await self._client.create(manifest)

    async def _remove(self, record: Object) -> None:
        await self._client.delete(
            resources.CONFIG_MAPS, namespace=self._namespace, name=record["metadata"]["name"], uid=uid_of(record)
        )

    def _changed(self, old: Object | None, new: Object | None) -> None:
        read = alertrecord.read(new) if new is not None and (old is None or uid_of(old) != uid_of(new)) else None
        if read is not None:
            self._heard(read[0])


def _agent_uid(record: Object) -> Hashable | None:
    return meta.labels_of(record).get(meta.AGENT_UID_LABEL)
