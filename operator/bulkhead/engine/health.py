"""Readiness and metrics over HTTP. Liveness is kopf's own endpoint; kopf has none for these."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

Unready = Callable[[], list[str]]
"""Says what the operator still waits for; nothing when it is ready."""


class HealthServer:
    """Answers `/readyz`: 200 when nothing is waited for, else 503 with what is; and `/metrics`.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        unready: says what is still waited for.
        metrics: gives the metrics in the text format of Prometheus.
    """

    def __init__(self, *, host: str, port: int, unready: Unready, metrics: Callable[[], bytes]) -> None:
        self._host = host
        self._port = port
        self._unready = unready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens. Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_get("/readyz", self._answer)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        waits = self._unready()
        if waits:
            return web.json_response({"ready": False, "waitingFor": waits}, status=503)
        return web.json_response({"ready": True})

    async def _scrape(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
