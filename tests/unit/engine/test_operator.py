"""That no part of the operator holds up another one's requests, against a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import web

from bulkhead.cluster.connection import Connection
from bulkhead.engine.operator import Operator
from bulkhead.engine.settings import Identity, Settings
from bulkhead.issuers.settings import Configuration
from bulkhead.signals.settings import SignalsSettings
from tests.faults import eventually
from tests.loopback import listening

SOURCES = 64


class ApiServer:
    """Has nothing but watches, and no Lease before all of the sources of Secrets are watched."""

    def __init__(self) -> None:
        self.url = ""
        self.watches = 0
        self.claims = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "/leases" in request.path:
            return self._lease(request)
        if "watch" in request.query:
            self.watches += 1
            stream = web.StreamResponse()
            await stream.prepare(request)
            await asyncio.Event().wait()
            return stream
        if request.method == "GET" and "limit" in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        return web.json_response({"kind": "Status", "reason": "NotFound", "code": 404}, status=404)

    def _lease(self, request: web.Request) -> web.Response:
        if self.watches < SOURCES:
            return web.json_response({"kind": "Status", "code": 503}, status=503)
        if request.method == "GET":
            return web.json_response({"kind": "Status", "reason": "NotFound", "code": 404}, status=404)
        self.claims += 1
        return web.json_response({"metadata": {"name": "lease", "uid": "u", "resourceVersion": "2"}}, status=201)


@asynccontextmanager
async def serving() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    async with listening(server.answer) as server.url:
        yield server


async def connected(folder: Path, server: str) -> Connection:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return await Connection.load(kubeconfig=folder / "kubeconfig")


async def test_the_lease_is_won_while_many_sources_of_secrets_are_watched(tmp_path: Path) -> None:
    async with serving() as server:
        operator = Operator(
            await connected(tmp_path, server.url),
            identity=Identity(replica="r", instance="i", lease_namespace="system"),
            settings=Settings(listen="127.0.0.1"),
            issuers=Configuration(secret_sources=tuple(f"source-{number}" for number in range(SOURCES))),
            signals=SignalsSettings(),
        )
        await operator.start()
        try:
            await eventually(lambda: server.claims > 0, "somebody claims the lease", within=120.0)
            await eventually(lambda: server.watches > SOURCES, "the other watches", within=120.0)
        finally:
            await operator.stop()
