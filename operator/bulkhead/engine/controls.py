"""The positive control: the operator tries the canaries itself, so that an agent's silence means something.

A canary that an agent cannot reach proves isolation only while it can be reached at all. Every replica tries all of
them, for every replica stops agents.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bulkhead.gate.probe import DATAGRAM
from bulkhead.plan.isolation import Control, ControlKey, key_of

if TYPE_CHECKING:
    from bulkhead.plan.isolation import Target
    from bulkhead.plan.policy import Policy

logger = logging.getLogger(__name__)

OnChange = Callable[[frozenset[ControlKey]], None]
Attempt = Callable[[ControlKey], Awaitable[None]]
"""Tries one canary; returns when it answered, and raises when it did not."""

INTERVAL = 5.0
"""Seconds from the start of a round to that of the next."""
TIMEOUT = 1.0
"""Seconds in which a canary has to answer."""
AT_ONCE = 128
"""Canaries that are tried side by side: each takes a file descriptor. 640 dead ones still fit between two rounds."""
RESEND = 0.4
"""Seconds after which an unanswered datagram is sent again: one may get lost."""
BACKLOG = 128
"""Connections that the kernel keeps for us until they are accepted, and that are accepted in one turn."""


class CanaryListener:
    """The operator's own canary: a TCP port that accepts connections and closes them at once.

    Nothing is read and nothing kept of a connection, so that whoever reaches it cannot hold anything: what is open at
    any time is what was accepted in one turn of the event loop, `BACKLOG` connections at most.

    Args:
        host: the address to listen on; None for all, of both families.
        port: the port; 0 takes a free one.
    """

    def __init__(self, *, host: str | None = None, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        sockets = self._server.sockets if self._server is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else self._port

    async def start(self) -> None:
        """Listens. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(_Closer, self._host, self._port, backlog=BACKLOG)

    async def stop(self) -> None:
        """Stops listening."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()


class _Closer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `close`, which waits until everything is sent: nothing is, and a peer must not decide how long that takes.
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (a server's transports are)
        transport.abort()


def wanted_controls(policies: Iterable[Policy], *, own: Target | None) -> frozenset[ControlKey]:
    """Returns what has to be tried: every canary that any policy names, and the operator's own.

    Args:
        policies: all of them; what could not be understood names none.
        own: the operator's own canary, if it has one.
    """
    found = {key_of(canary) for policy in policies for canary in policy.canaries}
    if own is not None:
        found.add(key_of(own))
    return frozenset(found)


class Prober:
    """Tries canaries again and again and keeps what came of it.

    Args:
        on_change: told which canaries began or ceased to answer, after each round; the first result of one counts.
        attempt: tries one canary.
        interval: seconds from the start of a round to that of the next.
        timeout: seconds in which a canary has to answer.
        clock: monotonic seconds.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        on_change: OnChange,
        attempt: Attempt | None = None,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._on_change = on_change
        self._attempt = attempt or reach
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._now = now
        self._targets: frozenset[ControlKey] = frozenset()
        self._controls: dict[ControlKey, Control] = {}
        self._news = asyncio.Event()

    def set_targets(self, targets: Iterable[ControlKey]) -> None:
        """Says which canaries there are. New ones are tried at once; what is not among them is forgotten."""
        wanted = frozenset(targets)
        if wanted - self._targets:
            self._news.set()
        self._targets = wanted
        for gone in self._controls.keys() - wanted:
            del self._controls[gone]

    def controls(self) -> Mapping[ControlKey, Control]:
        """Returns what is known of each canary; nothing of one that has not been tried yet."""
        return dict(self._controls)

    async def run(self) -> None:
        """Tries the canaries until cancelled; no error ends it."""
        due = self._clock()
        while True:
            self._news.clear()
            keys = self._targets - self._controls.keys()
            if self._clock() >= due:
                due = self._clock() + self._interval
                keys = self._targets
            try:
                await self.probe(keys)
            except Exception:
                logger.exception("a round of probes failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._clock())):
                    await self._news.wait()

    async def probe(self, keys: Iterable[ControlKey]) -> None:
        """Tries canaries, side by side, and tells which of them began or ceased to answer."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(key: ControlKey) -> bool:
            async with limit:
                return await self._one(key)

        tried = sorted(keys)
        results = await asyncio.gather(*(one(key) for key in tried))
        flipped = frozenset(key for key, changed in zip(tried, results, strict=True) if changed)
        if flipped:
            self._on_change(flipped)

    async def _one(self, key: ControlKey) -> bool:
        """Tries one canary and notes the result; says whether it is another than before."""
        began = self._now()
        message = ""
        try:
            async with asyncio.timeout(self._timeout):
                await self._attempt(key)
        except Exception as error:
            # Whatever it is, nothing answered; and it must not hide what the others of the round did.
            message = self._words(error)
        if key not in self._targets:
            return False
        before = self._controls.get(key)
        after = _control(before, reached=not message, message=message, began=began, now=self._now())
        self._controls[key] = after
        changed = before is None or (before.failing_since is None) != (after.failing_since is None)
        if changed:
            _log(key, after)
        return changed

    def _words(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) and not error.errno:
            return f"no answer within {self._timeout:g} s"
        if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
            return "refused: nothing listens there"
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno)
        return f"cannot be tried: {error}"


def _control(before: Control | None, *, reached: bool, message: str, began: datetime, now: datetime) -> Control:
    if reached:
        return Control(reached_at=now, failing_since=None, message="")
    since = before.failing_since if before is not None else None
    return Control(
        reached_at=before.reached_at if before else None,
        # The clock may have been set back: patience that was counted from a time to come would last until then.
        failing_since=began if since is None else min(since, began),
        message=message,
    )


def _log(key: ControlKey, control: Control) -> None:
    extra = dict(zip(("protocol", "address", "port"), key, strict=True))
    if control.failing_since is None:
        logger.info("a canary answers", extra=extra)
    else:
        logger.warning("a canary does not answer: %s", control.message, extra=extra)


async def reach(key: ControlKey) -> None:
    """Tries one canary: a TCP connection that is accepted, or a datagram that is answered.

    A refused connection is no success here, though it would be an arrival if an agent's were refused: a firewall in
    between may have answered for the canary.

    Raises:
        OSError: it did not answer, or could not be tried.
        ValueError: the address or the protocol is none.
    """
    protocol, address, port = key
    ip = ipaddress.ip_address(address)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
    if protocol not in kinds:
        raise ValueError(f"{protocol} is no protocol of a canary; accepted are TCP and UDP")
    with socket.socket(family, kinds[protocol] | socket.SOCK_NONBLOCK) as sock:
        await asyncio.get_running_loop().sock_connect(sock, (str(ip), port))
        if protocol == "UDP":
            await _answer(sock)


async def _answer(sock: socket.socket) -> None:
    """Sends what the gate sends on a connected socket until something comes back; the caller's deadline ends it."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(sock, DATAGRAM)
        with suppress(TimeoutError):
            async with asyncio.timeout(RESEND):
                await loop.sock_recv(sock, 1)
                return
