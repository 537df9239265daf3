"""An HTTP client for servers that the operator was told of, with words for people where there is no response.

A server may be slow, answer without end, or be somebody else: every request has one deadline for all of it, every
body a greatest size, no redirect is followed (it would carry the token to whichever host it names), and neither
cookies nor proxies and passwords of the environment are used.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

CONNECT_SECONDS = 3.0
"""To open a connection, TLS included."""


class TransportError(Exception):
    """There is no response. Its text says why, as what follows the server's name in a sentence.

    It is the same for the same cause and holds no secret.
    """


class CaFileError(Exception):
    """The caFile cannot be used, so nobody was asked. Its text says why, without naming the file, and what would do."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; its body is not printed, because it may hold anything.

    Attributes:
        status: HTTP status.
        retry_after: seconds that the server asks to be left alone.
        body: None where it is larger than what was accepted.
    """

    status: int
    retry_after: float | None
    body: bytearray | None = field(repr=False)


class Session:
    """The connections to one server."""

    def __init__(self, *, ca_file: Path | None, seconds: float) -> None:
        """Prepares; connections are opened when they are needed.

        Args:
            ca_file: PEM bundle that the server's certificate is verified with; None for the system's. Read again when
                it changes, because a mounted ConfigMap or Secret does.
            seconds: for one request in all.
        """
        self._ca_file = ca_file
        self._ca_seen: tuple[int, int] | None = None
        self._tls: ssl.SSLContext | None = None
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str],
        data: Any = None,
        json: Any = None,
        largest: int,
        small: int | None = None,
        before_large: Callable[[], Awaitable[Any]] | None = None,
    ) -> Response:
        """Sends one request.

        Args:
            method: HTTP method.
            url: of this server.
            headers: besides those that aiohttp adds.
            data: bytes, or a mapping that is sent as a form.
            json: sent as JSON, in the place of `data`.
            largest: bytes of a body at most.
            small: bytes from which a body is large; None where none is.
            before_large: awaited before the rest of a large body is read. It counts as the server's time.

        Raises:
            TransportError: there is no response.
            CaFileError: the server's certificate cannot be verified for want of a bundle.
        """
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._opened().request(
                    method, url, headers=headers, data=data, json=json, allow_redirects=False, ssl=self._trusted()
                ) as response,
            ):
                return Response(
                    response.status, _retry_after(response), await _read(response.content, largest, small, before_large)
                )
        except TimeoutError:
            problem = f"did not answer within {self._seconds:g} s"
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            problem = "shows a certificate that caFile does not vouch for; accepted is the bundle of who signed it"
        except aiohttp.ClientConnectorError as error:
            # asyncio puts the address in the place of the reason.
            number = error.os_error.errno
            problem = f"cannot be reached: {os.strerror(number) if number else type(error.os_error).__name__}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"broke the connection off or answered something that is not HTTP ({type(error).__name__})"
        # Not from within the handlers: what aiohttp raised may quote what the server sent.
        raise TransportError(problem)

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # aiohttp's own total timeout can lose a cancellation that comes in the same moment (`cluster.transport`).
            limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=limits, trust_env=False)
        return self._session

    def _trusted(self) -> ssl.SSLContext | bool:
        if self._ca_file is None:
            return True
        try:
            found = self._ca_file.stat()
            if (found.st_mtime_ns, found.st_size) != self._ca_seen or self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_file)
                self._ca_seen = (found.st_mtime_ns, found.st_size)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or type(error).__name__
        else:
            return self._tls
        raise CaFileError(f"{reason}; accepted is a file of PEM certificates")


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isdecimal() and len(given) <= 5 else None


async def _read(
    stream: aiohttp.StreamReader, largest: int, small: int | None, before_large: Callable[[], Awaitable[Any]] | None
) -> bytearray | None:
    received = bytearray()
    async for chunk in stream.iter_any():
        received += chunk
        if len(received) > largest:
            return None
        if before_large is not None and small is not None and len(received) > small:
            await before_large()
            before_large = None
    return received
