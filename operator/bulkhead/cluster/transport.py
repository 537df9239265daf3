"""The way to the API server and back: deadlines, credentials that are renewed, and errors in one shape."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import Unreachable, api_error
from bulkhead.cluster.listing import read_list
from bulkhead.cluster.resources import Object

BOOKMARK_SILENCE = 75.0
"""The API server sends a bookmark about once a minute on an idle watch; longer silence means that it is dead."""
LINE_LIMIT = 32 * 1024 * 1024
"""Bytes of one watch event. etcd stores 1.5 MB, which JSON's escapes can multiply by six."""

JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
"""Asks for an object's metadata and nothing else of it; every verb's answer can be had so."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
"""The same, where the answer is a list."""
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Transport:
    """Requests over a connection pool of its own. `Client` says what its arguments mean."""

    def __init__(
        self,
        connection: Connection,
        *,
        pool_size: int,
        deadline: float,
        connect_timeout: float,
        silence: float,
        user_agent: str,
    ) -> None:
        """Prepares a transport; connections are opened when they are needed."""
        self._connection = connection
        self._pool_size = pool_size
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._silence = silence
        # identity: compressing costs the API server more than the bytes cost a cluster's network.
        self._headers = {"Accept-Encoding": "identity", "User-Agent": user_agent}
        self._session: aiohttp.ClientSession | None = None
        self._generation = -1

    async def close(self) -> None:
        """Closes the connections; running calls fail as `Unreachable`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        deadline: float | None = None,
        take: Callable[[Object], None] | None = None,
    ) -> Object:
        """Sends a request and gives the object that is its answer.

        Args:
            method: HTTP method.
            path: Path of the resource.
            query: Parameters; those that are None are left out.
            body: What to send: something that JSON can say, or bytes as they are.
            content_type: The body's type.
            accept: The type that the answer shall have.
            deadline: Seconds in all; the transport's own by default.
            take: Given the items of a list one by one, which are not in what is returned then.

        Raises:
            ApiError: The API server said no.
            Unreachable: No complete answer came in time.
        """
        # aiohttp's own total timeout loses a cancellation that comes in the same moment: its timer is entered twice,
        # and each exit takes one cancellation back. A lost cancellation is a task that outlives its shutdown.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout)
        try:
            async with (
                asyncio.timeout(self._deadline if deadline is None else deadline),
                self._answer(
                    method, path, query=query, body=body, content_type=content_type, accept=accept, limits=limits
                ) as response,
            ):
                return _parse(await response.read(), f"{method} {path}", take)
        except TimeoutError as error:
            raise Unreachable(f"{method} {path}: no answer within the deadline") from error

    async def lines(self, path: str, *, query: Mapping[str, str | None]) -> AsyncGenerator[Object, None]:
        """Sends a GET and gives the objects of its answer, one a line, until the server ends it.

        Raises:
            ApiError: The API server said no.
            Unreachable: The connection broke, fell silent, or ended in the midst of a line.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout, sock_read=self._silence)
        async with self._answer("GET", path, query=query, limits=limits) as response:
            async for line in _lines(response.content):
                yield _parse(line, f"watch {path}")

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request and gives its answer if that is a good one; renews a refused token once."""
        request = f"{method} {path}"
        suffix = "?" + urlencode({key: value for key, value in query.items() if value is not None}) if query else ""
        headers = {**self._headers, "Accept": accept}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = content_type
        renewed = False
        try:
            while True:
                authorization = await self._connection.authorization()
                session = await self._opened()
                async with session.request(
                    method,
                    URL(self._connection.server + path + suffix, encoded=True),
                    headers=headers if authorization is None else {**headers, "Authorization": authorization},
                    data=data,
                    timeout=limits,
                    server_hostname=self._connection.tls_server_name,
                ) as response:
                    if response.status < 400:
                        yield response
                        return
                    payload = await response.read()
                if response.status == 401 and not renewed and await self._connection.renew(authorization):
                    renewed = True
                    continue
                raise api_error(
                    status=response.status,
                    body=payload,
                    retry_after=response.headers.get("Retry-After"),
                    request=request,
                )
        except TimeoutError as error:
            raise Unreachable(f"{request}: no answer within the deadline") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{request}: {type(error).__name__}: {error}") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task. aiohttp cancels whoever waits for a connection of a session that is closed, as
            # one is when credentials have changed; passed on, it would end the work, or a whole part of the operator,
            # without a word.
            raise Unreachable(f"{request}: its connections were closed while it waited for one") from error

    async def _opened(self) -> aiohttp.ClientSession:
        """Gives the session, opened anew when address, trust or client certificate have changed."""
        if self._session is None or self._generation != self._connection.generation:
            old, self._session = self._session, self._connection.session(pool_size=self._pool_size)
            self._generation = self._connection.generation
            if old is not None:
                await old.close()
        return self._session


_ESCAPE = re.compile(r"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|.)")


def as_yaml(obj: Object) -> bytes:
    """Writes an object as JSON that is YAML too, which an apply patch is read as.

    JSON's pairs of surrogates are the difference: YAML knows no such escapes, so what lies beyond U+FFFF is written as
    itself. All else stays escaped, because YAML takes some characters for line breaks and refuses others.
    """

    def plain(escape: re.Match[str]) -> str:
        return str(json.loads(f'"{escape[0]}"')) if escape[1] else escape[0]

    return _ESCAPE.sub(plain, json.dumps(obj)).encode()


def _parse(text: bytes, request: str, take: Callable[[Object], None] | None = None) -> Object:
    try:
        document = json.loads(text) if take is None else read_list(text.decode(), take)
    except ValueError as error:
        raise Unreachable(f"{request}: the answer is not JSON ({len(text)} bytes)") from error
    if not isinstance(document, dict):
        raise Unreachable(f"{request}: the answer is not a JSON object")
    return document


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Splits a watch into its lines, however large: the stream's own readline gives up at its buffer's size."""
    pending: list[bytes] = []
    size = 0
    async for chunk in stream.iter_any():
        first, *rest = chunk.split(b"\n")
        pending.append(first)
        size += len(first)
        if rest:
            yield b"".join(pending)
            for line in rest[:-1]:
                yield line
            pending, size = [rest[-1]], len(rest[-1])
        if size > LINE_LIMIT:
            raise Unreachable(f"a watch event is larger than {LINE_LIMIT} bytes")
    if size:
        raise Unreachable("the watch ended in the midst of an event")
