"""The bare client that the operator is compared with: aiohttp, a session, JSON, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

from devcluster.kubeconfig import read

Object = dict[str, Any]

MERGE = "application/merge-patch+json"


class Wire:
    """Requests to an API server as the user of a kubeconfig. It shares no code with the operator's client.

    Args:
        kubeconfig: with its certificates or its token inside.
        name: the user agent, by which the audit log tells clients apart.
        connections: at once.
    """

    def __init__(self, kubeconfig: Path, *, name: str, connections: int = 16) -> None:
        config = read(kubeconfig)
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": name}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"
        self._server, self._trust, self._connections = config.server, config.trust(), connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Opens the session."""
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=self._connections, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(self._server, connector=connector, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json"
    ) -> Object:
        """Sends one request and gives the answer.

        Raises:
            RuntimeError: the API server refused it; what it said is in the text.
        """
        if self._session is None:
            raise RuntimeError("the session is not open")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._session.request(method, path, data=data, headers=headers) as response:
            answer: Object = json.loads(await response.read())
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer.get('message')}")
        return answer

    async def timed(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json"
    ) -> float:
        """Sends one request; gives the time of day just before, in seconds of the epoch, as audit logs count."""
        before = time.time()
        await self.send(method, path, body, content_type=content_type)
        return before

    async def get(self, path: str) -> Object:
        """Reads."""
        return await self.send("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """Creates."""
        return await self.send("POST", path, body)

    async def delete(self, path: str, *, uid: str, grace_seconds: int | None = None) -> Object:
        """Deletes the object with this UID."""
        body: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        return await self.send("DELETE", path, body)
