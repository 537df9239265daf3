"""Where Alertmanager's webhook delivers to. An alert is acknowledged only when it is on record."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import cast

from aiohttp import web

from bulkhead.plan.signals import AgentKey, Alert
from bulkhead.signals import webhook
from bulkhead.signals.http import TokenError, read_token
from bulkhead.signals.settings import AlertmanagerSettings
from bulkhead.signals.webhook import Delivered, Dropped, Malformed

logger = logging.getLogger(__name__)

PATH = "/alerts"
LARGEST_BODY = 1 << 20
"""Bytes of one delivery."""
IDLE_SECONDS = 30.0
"""For which a connection without a request is held; by default it were an hour."""
SLICE_SECONDS = 0.002
"""How long a delivery is taken apart at a stretch."""
READ_SECONDS = 10.0
"""For a delivery's body to arrive."""
RECORD_SECONDS = 10.0
"""For all alerts of a delivery to be on record; Alertmanager delivers again what took longer."""
CONNECTIONS = 512
"""At the same time, silent ones too: each takes some 30 KiB of a process whose memory is limited. More are closed."""
DELIVERIES = 16
"""At the same time; more are asked to come again."""
AT_ONCE = 8
"""Agents whose alerts are recorded at the same time, for each delivery."""


class AlertReceiver:
    """Listens for `POST /alerts`, on every replica."""

    def __init__(
        self,
        settings: AlertmanagerSettings,
        *,
        host: str,
        known: Callable[[AgentKey], Awaitable[bool]],
        recorded: Callable[[AgentKey, Alert], bool],
        record: Callable[[AgentKey, Alert], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        """Prepares it; `start` listens.

        Args:
            settings: port, token and greatest age.
            host: the address to listen on.
            known: says whether there is such an agent; whatever it raises makes Alertmanager deliver again.
            recorded: says whether an alert about an agent is on record already, or was a moment ago.
            record: writes the record and returns when the API server has it; whatever it raises makes Alertmanager
                deliver again. It may be called twice for one alert.
            clock: gives the time.
        """
        self._settings = settings
        self._host = host
        self._known = known
        self._recorded = recorded
        self._record = record
        self._clock = clock
        self._max_age = timedelta(seconds=settings.max_age_seconds)
        self._counts: Counter[str] = Counter()
        self._deliveries = 0
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_post(PATH, self._answer)
        # A client that is gone must not break a record off half way through.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, keepalive_timeout=IDLE_SECONDS)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connection, self._host, self._settings.port)

    async def stop(self) -> None:
        """Stops listening; what is being recorded is awaited."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def counts(self) -> Mapping[str, int]:
        """Returns counters for metrics.

        Of deliveries: `unauthorized`, `malformed`, `failed` (nothing acknowledged) and `accepted`. Of the alerts in
        these: `recorded`, `repeated`, `unknown` (no such agent), `resolved`, `unlabelled`, `old` and `unusable`.
        """
        return dict(self._counts)

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner is not None else None
        return server() if server is not None and len(server.connections) < CONNECTIONS else _Refusing()

    async def _answer(self, request: web.Request) -> web.Response:
        refused = self._authorized(request)
        if refused is not None:
            return refused
        if self._deliveries >= DELIVERIES:
            return self._failure("too many deliveries at once")
        self._deliveries += 1
        try:
            return await self._received(request)
        finally:
            self._deliveries -= 1

    def _authorized(self, request: web.Request) -> web.Response | None:
        try:
            token = read_token(self._settings.token_file)
        except TokenError as error:
            # Nobody can be told from anybody: nothing is taken.
            logger.error("deliveries of Alertmanager cannot be checked: %s", error)
            return self._failure("the token that deliveries are compared with cannot be read")
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, f"Bearer {token}".encode()):
            return None
        self._counts["unauthorized"] += 1
        return web.json_response(
            {"error": "accepted is the bearer token that the operator was given"},
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def _received(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = await request.read()
        except TimeoutError:
            self._counts["malformed"] += 1
            return web.json_response({"error": f"the body took longer than {READ_SECONDS:g} s"}, status=408)
        except web.HTTPRequestEntityTooLarge:
            self._counts["malformed"] += 1
            return web.json_response({"error": f"accepted are {LARGEST_BODY} bytes: see max_alerts"}, status=413)
        try:
            found = await self._read(body)
        except Malformed as error:
            self._counts["malformed"] += 1
            logger.warning("a delivery of Alertmanager was refused: %s", error)
            return web.json_response({"error": str(error)}, status=400)
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                written = await self._written(self._fresh(found))
        except Exception as error:
            logger.warning("alerts could not be recorded; Alertmanager delivers them again: %s", type(error).__name__)
            return self._failure("the alerts could not be recorded")
        self._counts["accepted"] += 1
        return web.json_response({"recorded": written})

    async def _read(self, body: bytes) -> list[Delivered | Dropped]:
        """Takes a delivery apart, while all else has its turn: what it says may have secrets in it to be looked for."""
        found = []
        turn = time.perf_counter() + SLICE_SECONDS
        for one in webhook.read(body, now=self._clock(), max_age=self._max_age):
            found.append(one)
            if time.perf_counter() > turn:
                await asyncio.sleep(0)
                turn = time.perf_counter() + SLICE_SECONDS
        return found

    def _fresh(self, found: list[Delivered | Dropped]) -> dict[AgentKey, list[Alert]]:
        """Counts what came; gives what nobody has recorded yet, each once, by agent."""
        fresh: dict[str, Delivered] = {}
        for one in found:
            if isinstance(one, Dropped):
                self._counts[one.value] += 1
            elif one.alert.record in fresh or self._recorded(one.agent, one.alert):
                self._counts["repeated"] += 1
            else:
                fresh[one.alert.record] = one
        by_agent: dict[AgentKey, list[Alert]] = {}
        for one in fresh.values():
            by_agent.setdefault(one.agent, []).append(one.alert)
        return by_agent

    async def _written(self, fresh: dict[AgentKey, list[Alert]]) -> int:
        """Records the alerts of agents that there are; gives how many. Raises what the first that failed raised."""
        places = asyncio.Semaphore(AT_ONCE)

        async def write(agent: AgentKey, alerts: list[Alert]) -> int:
            # Several agents at once: each may have to be asked for, and a delivery may be about thousands of strangers.
            async with places:
                if not await self._known(agent):
                    self._counts["unknown"] += len(alerts)
                    return 0
                for alert in alerts:
                    await self._record(agent, alert)
                    self._counts["recorded"] += 1
                return len(alerts)

        # To the end of all of them: what one agent's record fails by must not keep another agent running.
        written = await asyncio.gather(*(write(*one) for one in fresh.items()), return_exceptions=True)
        for result in written:
            if isinstance(result, BaseException):
                raise result
        return sum(result for result in written if isinstance(result, int))

    def _failure(self, words: str) -> web.Response:
        self._counts["failed"] += 1
        return web.json_response({"error": words}, status=503, headers={"Retry-After": "1"})


class _Refusing(asyncio.Protocol):
    """Closes the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()
