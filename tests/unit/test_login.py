"""How kopf is let in, and that it goes on when the API server refuses it once: on loopback, and with clocks of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kopf
import yaml
from aiohttp import web

from bulkhead.api import meta
from bulkhead.cluster.connection import Connection
from bulkhead.engine.operator import Operator
from bulkhead.engine.settings import Identity, Settings
from bulkhead.issuers.settings import Configuration
from bulkhead.main import LOGIN_LIFE, Login, agents_served, registry, settings
from bulkhead.signals.settings import SignalsSettings
from tests.faults import eventually
from tests.loopback import listening

GROUP = f"{meta.GROUP}/{meta.VERSION}"
AGENTS = {"name": meta.AGENT_PLURAL, "singularName": "", "kind": meta.AGENT_KIND, "namespaced": True}
NAMESPACES = {"name": "namespaces", "singularName": "", "kind": "Namespace", "namespaced": False}
VERBS = ["get", "list", "watch", "patch"]


class ApiServer:
    """Serves agents, of which there are none, and namespaces, without which kopf does not begin.

    It refuses as many watches as it is told to.
    """

    def __init__(self, *, refuse: int) -> None:
        self.url = ""
        self.watches: list[str] = []
        self._refuse = refuse

    async def answer(self, request: web.Request) -> web.StreamResponse:
        version = {"groupVersion": GROUP, "version": meta.VERSION}
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/api/v1":
            return web.json_response({"groupVersion": "v1", "resources": [{**NAMESPACES, "verbs": VERBS}]})
        if request.path == "/apis":
            return web.json_response(
                {"groups": [{"name": meta.GROUP, "versions": [version], "preferredVersion": version}]}
            )
        if request.path == f"/apis/{GROUP}":
            return web.json_response({"groupVersion": GROUP, "resources": [{**AGENTS, "verbs": VERBS}]})
        if request.path != f"/apis/{GROUP}/{meta.AGENT_PLURAL}":
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        self.watches.append(request.headers["Authorization"])
        if len(self.watches) <= self._refuse:
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.Event().wait()
        return stream


@asynccontextmanager
async def serving(*, refuse: int) -> AsyncIterator[ApiServer]:
    server = ApiServer(refuse=refuse)
    async with listening(server.answer) as server.url:
        yield server


async def connected(folder: Path, server: str = "http://127.0.0.1:1") -> Connection:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"tokenFile": str(folder / "token")}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "token").write_text("first")
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return await Connection.load(kubeconfig=folder / "kubeconfig")


async def at_once() -> None:
    """Waits for nothing."""


@dataclass
class Time:
    """Seconds and a time of day that go on only while somebody waits."""

    passed: float = 0.0

    def clock(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed)

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)

    def login(self, connection: Connection) -> Login:
        return Login(connection, ready=at_once, clock=self.clock, now=self.now, sleep=self.sleep)


@asynccontextmanager
async def running(connection: Connection, login: Login) -> AsyncIterator[asyncio.Task[None]]:
    """kopf with our handlers and settings, until the end of the block."""
    operator = Operator(
        connection,
        identity=Identity(replica="r", instance="i", lease_namespace="system"),
        settings=Settings(),
        issuers=Configuration(),
        signals=SignalsSettings(),
    )
    stop = asyncio.Event()
    handlers: Any = registry(operator, login)
    task = asyncio.create_task(
        kopf.operator(registry=handlers, settings=settings(), clusterwide=True, stop_flag=stop, identity="r")  # type: ignore[arg-type]
    )
    try:
        yield task
    finally:
        stop.set()
        await task


async def test_a_token_that_was_refused_once_though_it_is_good_does_not_end_the_operator(tmp_path: Path) -> None:
    async with serving(refuse=3) as server:
        connection, time = await connected(tmp_path, server.url), Time()
        # kopf looks at the real time of day to see what has expired.
        async with running(
            connection, Login(connection, ready=lambda: agents_served(connection), sleep=time.sleep)
        ) as operator:
            await eventually(lambda: len(server.watches) == 4 or operator.done(), "a watch is tried again", within=20.0)
            assert not operator.done()
        assert server.watches == ["Bearer first"] * 4


async def test_no_two_logins_are_equal_and_each_has_its_time_ahead(tmp_path: Path) -> None:
    time = Time()
    login = time.login(await connected(tmp_path))

    first, second = await login(), await login()

    assert first != second
    assert first.expiration == datetime(2026, 1, 1, tzinfo=UTC) + LOGIN_LIFE
    assert second.expiration == time.now() + LOGIN_LIFE


async def test_what_was_refused_is_read_anew_and_not_asked_for_without_a_rest(tmp_path: Path) -> None:
    time = Time()
    login = time.login(await connected(tmp_path))
    assert (await login()).token == "first"
    assert time.passed == 0.0
    (tmp_path / "token").write_text("second")

    assert (await login()).token == "second"

    assert time.passed == 1.0
    time.passed = 600.0
    await login()
    assert time.passed == 600.0, "a login that expired need not wait"


async def test_kopf_is_not_let_in_before_everything_it_looks_for_is_there(tmp_path: Path) -> None:
    there = asyncio.Event()

    async def ready() -> None:
        await there.wait()

    login = Login(await connected(tmp_path), ready=ready)
    first = asyncio.create_task(login())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not first.done()

    there.set()

    assert (await first).token == "first"
