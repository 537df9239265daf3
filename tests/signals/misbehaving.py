"""An HTTP server on loopback that answers as a test tells it to: late, without end, with lies, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Misbehaving:
    """It.

    Attributes:
        url: of it.
        answer: what it does with the next request.
        seen: the requests that came: their headers and bodies.
    """

    url: str
    answer: Answer
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def misbehaving(answer: Answer) -> AsyncIterator[Misbehaving]:
    """Start it, and end it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        made.seen.append((dict(request.headers), await request.read()))
        return await made.answer(request)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made = Misbehaving(f"http://127.0.0.1:{port}", answer)
    try:
        yield made
    finally:
        await runner.cleanup()


def gives(text: str | bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with this."""
    body = text.encode() if isinstance(text, str) else text

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})

    return answer
