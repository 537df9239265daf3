"""When an informer lists anew, with an API server and a clock of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from bulkhead.cluster.client import Client, WatchEvent
from bulkhead.cluster.errors import Unreachable
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import NAMESPACES, Object
from tests.faults import eventually


def namespace(name: str, *, version: int) -> Object:
    metadata = {"name": name, "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


class ApiServer:
    """Lists nothing at first, then one namespace; each watch brings some bookmarks, and fails after some seconds."""

    def __init__(self, *, lives: float, bookmarks: int = 0) -> None:
        self.now = 0.0
        self.lists = 0
        self.watches = 0
        self._lives = lives
        self._bookmarks = bookmarks

    async def list(self, *_: Any, **__: Any) -> tuple[list[Object], str]:
        self.lists += 1
        # As of a backup: older than what was seen before.
        return ([], "9000") if self.lists == 1 else ([namespace("lab", version=100)], "100")

    async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[WatchEvent, None]:
        self.watches += 1
        if self.watches > 3:
            await asyncio.Event().wait()
        for _number in range(self._bookmarks):
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "9000"}})
        self.now += self._lives
        raise Unreachable("no byte for 75 s")


@asynccontextmanager
async def informing(server: ApiServer) -> AsyncIterator[Informer]:
    informer = Informer(cast(Client, server), NAMESPACES, on_change=lambda old, new: None, clock=lambda: server.now)
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_that_was_silent_until_it_failed_is_no_position_to_go_on_from() -> None:
    server = ApiServer(lives=75.0)
    async with informing(server) as informer:
        await eventually(lambda: server.watches > 1, "a second watch")
        assert server.lists == 2
        assert informer.get(None, "lab") is not None


async def test_a_watch_that_had_bookmarks_goes_on_from_where_it_failed() -> None:
    server = ApiServer(lives=75.0, bookmarks=1)
    async with informing(server):
        await eventually(lambda: server.watches > 3, "more watches")
        assert server.lists == 1


async def test_watches_that_fail_at_once_cause_no_list() -> None:
    server = ApiServer(lives=0.0)
    async with informing(server):
        await eventually(lambda: server.watches > 3, "more watches")
        assert server.lists == 1
