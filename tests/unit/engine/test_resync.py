"""Looking at every agent again: what a list says that no watch told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from bulkhead.cluster.client import Client
from bulkhead.engine import resync
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Lane, WorkQueue
from bulkhead.engine.resync import RestoredError, Resync
from bulkhead.engine.tasks import Tasks
from tests.faults import eventually

Object = dict[str, Any]


def agent(name: str, *, version: int) -> Object:
    return {"metadata": {"name": name, "namespace": "lab", "uid": name, "resourceVersion": str(version)}}


class ApiServer:
    """Lists the heads of what it is given once, after something happened; gives each whole, after something else."""

    def __init__(
        self,
        *listed: Object,
        version: int,
        meanwhile: Callable[[], None] = lambda: None,
        before_it_is_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.lists = 0
        self.read: list[str] = []
        self._listed, self._version = listed, str(version)
        self._meanwhile = meanwhile
        self._before_it_is_read = before_it_is_read

    async def list(self, *_: Any, metadata_only: bool, shape: Callable[[Object], Object]) -> tuple[list[Object], str]:
        assert metadata_only
        self.lists += 1
        if self.lists > 1:
            await asyncio.Event().wait()
        self._meanwhile()
        return [shape({"metadata": {**one["metadata"], "annotations": {}}}) for one in self._listed], self._version

    async def get(self, *_: Any, namespace: str, name: str) -> Object | None:
        self.read.append(name)
        self._before_it_is_read()
        return next((one for one in self._listed if one["metadata"]["name"] == name), None)


class World:
    """Agents that are known, and a resync that begins at once."""

    def __init__(self, *known: Object) -> None:
        self.now = 0.0
        self.agents = AgentStore(clock=lambda: self.now, on_change=lambda old, new: None)
        for one in known:
            self.agents.observe(one)
        self.now = 60.0
        self.tasks = Tasks()

    async def compare(self, server: ApiServer) -> None:
        """Runs a resync until it has ended, or has compared once."""
        queue = WorkQueue(clock=lambda: self.now, is_patient=lambda key: False)
        work = Resync(
            cast(Client, server),
            agents=self.agents,
            queue=queue,
            lane_of=lambda key: Lane.NORMAL,
            clock=lambda: self.now,
        )
        self.tasks.start("resync", work.run())
        await eventually(lambda: server.lists > 1 or bool(self.tasks.failed), "a look, or the end")
        await self.tasks.stop()

    def names(self) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.agents)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "RESYNC_SECONDS", 0.0)


async def test_a_list_takes_in_what_no_watch_told_and_drops_what_is_gone() -> None:
    world = World(agent("stays", version=8), agent("gone", version=9))
    await world.compare(ApiServer(agent("stays", version=8), agent("new", version=11), version=12))
    assert world.names() == ["new", "stays"]
    assert world.tasks.failed == []


async def test_only_what_is_not_known_as_it_is_is_read_and_all_that_is_listed_counts_as_seen() -> None:
    world = World(agent("stays", version=8), agent("changed", version=9))
    server = ApiServer(agent("stays", version=8), agent("changed", version=12), agent("new", version=11), version=13)
    await world.compare(server)
    assert server.read == ["changed", "new"]
    assert [world.agents.age("lab", name) for name in ("stays", "changed", "new")] == [0.0, 0.0, 0.0]
    changed = world.agents.get("lab", "changed")
    assert changed is not None
    assert changed["metadata"]["resourceVersion"] == "12"


async def test_an_agent_whose_deletion_was_told_while_it_was_read_stays_gone() -> None:
    world = World(agent("changed", version=9))
    server = ApiServer(
        agent("changed", version=12),
        version=13,
        before_it_is_read=lambda: world.agents.remove("lab", "changed", uid="changed"),
    )
    await world.compare(server)
    assert world.names() == []


async def test_a_list_that_is_older_than_what_is_known_ends_the_part_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(agent("stays", version=8), agent("later", version=900))
    await world.compare(ApiServer(agent("stays", version=8), version=100))
    assert world.tasks.failed == ["resync"]
    assert RestoredError.__name__ in caplog.text
    assert "restored from a backup" in caplog.text
    assert world.names() == ["later", "stays"]


async def test_an_agent_whose_deletion_was_told_while_the_list_was_on_its_way_stays_gone() -> None:
    world = World(agent("stays", version=8), agent("deleted", version=9))

    def meanwhile() -> None:
        world.agents.remove("lab", "deleted", uid="deleted")

    listed = agent("stays", version=8), agent("deleted", version=9), agent("new", version=10)
    await world.compare(ApiServer(*listed, version=10, meanwhile=meanwhile))

    assert world.names() == ["new", "stays"]
