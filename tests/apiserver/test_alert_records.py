"""Records of alerts on the real API server: what is recorded again, and in whose place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bulkhead.api import meta
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import ClusterError
from bulkhead.cluster.resources import CONFIG_MAPS
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.alertrecords import REMEMBERED, AlertRecords
from bulkhead.plan import alertrecord
from bulkhead.plan.signals import AgentKey, Alert
from devcluster.api import RunningCluster
from tests.faults import eventually

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOUT: AgentKey = ("research", "scout")
ALERT = Alert(
    name="ToolErrors",
    fingerprint="0123456789abcdef",
    starts_at=BEGAN,
    received_at=BEGAN,
    message="too many",
    record=alertrecord.name(SCOUT, "0123456789abcdef", BEGAN),
)


@dataclass
class Desk:
    """Records that are kept in a namespace of their own, of an agent that may be made anew."""

    client: Client
    namespace: str
    now: datetime = BEGAN
    heard: list[AgentKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.agents = AgentStore(clock=lambda: 0.0, on_change=lambda old, new: None)
        self.records = AlertRecords(
            watching=self.client,
            client=self.client,
            namespace=self.namespace,
            agents=self.agents,
            heard=self.heard.append,
            now=lambda: self.now,
        )

    def make(self, uid: str, version: int) -> dict[str, Any]:
        """Has an agent of that name and UID, and none of another."""
        metadata = {"namespace": SCOUT[0], "name": SCOUT[1], "uid": uid, "resourceVersion": str(version)}
        self.agents.observe({"metadata": metadata, "spec": {}})
        return {"metadata": metadata}

    async def settled(self) -> None:
        """Waits until the records that were removed are out of the mirror, too."""
        await self.records.settle([ALERT])
        await eventually(lambda: not len(self.records.informer), "the mirror is empty")


@pytest.fixture
async def client(apiserver: RunningCluster) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=apiserver.kubeconfig)
    async with Client(connection, deadline=60.0, connect_timeout=60.0) as client:
        yield client


@asynccontextmanager
async def mirrored(desk: Desk) -> AsyncIterator[None]:
    following = asyncio.create_task(desk.records.informer.run())
    try:
        async with asyncio.timeout(60):
            await desk.records.informer.synced.wait()
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_what_is_repeated_while_it_fires_is_recorded_again_for_a_policy_may_name_it_by_now(
    client: Client, sandbox: str
) -> None:
    desk = Desk(client, sandbox)
    agent = desk.make("u1", 1)
    async with mirrored(desk):
        assert not desk.records.recorded(SCOUT, ALERT)
        await desk.records.record(SCOUT, ALERT)
        assert desk.records.recorded(SCOUT, ALERT) and desk.records.of(agent) == (ALERT,)
        # Twice where the watch was faster than the answer.
        assert set(desk.heard) == {SCOUT}
        desk.heard.clear()
        await desk.settled()
        desk.now += REMEMBERED - timedelta(seconds=1)
        assert desk.records.recorded(SCOUT, ALERT), "the status has only just taken it over"
        desk.now += timedelta(seconds=1)
        assert not desk.records.recorded(SCOUT, ALERT)
        await desk.records.record(SCOUT, ALERT)
        assert desk.records.of(agent) == (ALERT,)
        assert set(desk.heard) == {SCOUT}


@pytest.mark.parametrize("record", ["still there", "settled a moment ago"])
async def test_who_is_made_anew_is_told_of_what_fired_already_for_its_predecessor(
    client: Client, sandbox: str, record: str
) -> None:
    desk = Desk(client, sandbox)
    first = desk.make("u1", 1)
    async with mirrored(desk):
        await desk.records.record(SCOUT, ALERT)
        if record != "still there":
            await desk.settled()
        second = desk.make("u2", 2)
        assert not desk.records.recorded(SCOUT, ALERT)
        await desk.records.record(SCOUT, ALERT)
        assert desk.records.recorded(SCOUT, ALERT)
        assert (desk.records.of(first), desk.records.of(second)) == ((), (ALERT,))
    found, _ = await client.list(CONFIG_MAPS, namespace=sandbox, label_selector=meta.ALERT_LABEL)
    assert [alertrecord.read(one) for one in found] == [(SCOUT, "u2", ALERT)]


async def test_a_strangers_object_under_a_records_name_is_left_and_the_alert_not_acknowledged(
    client: Client, sandbox: str
) -> None:
    desk = Desk(client, sandbox)
    desk.make("u1", 1)
    metadata = {"name": ALERT.record, "namespace": sandbox}
    made = await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}})
    async with mirrored(desk):
        with pytest.raises(ClusterError, match="no record of an alert"):
            await desk.records.record(SCOUT, ALERT)
    there = await client.get(CONFIG_MAPS, namespace=sandbox, name=ALERT.record)
    assert there is not None and there["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
