"""Leases for the keys of a model gateway that has an HTTP interface for its administrators.

PUT    /keys/NAME  {"model": …, "seconds": …}  → {"key": …, "seconds": …}
PATCH  /keys/NAME  {"seconds": …}              → {"seconds": …}
DELETE /keys/NAME                              ends the key and every request that is made with it
GET    /keys?prefix=PREFIX                     → {"names": […]}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from bulkhead.issuers.base import Credential, Handle, NotRenewable, Refused, Request, Unavailable


def make(settings: Mapping[str, Any]) -> Gateway:
    """Makes the issuer of its settings; the entry point.

    Raises:
        ValueError: a setting is wrong. This ends the operator's start, and the text is shown: it holds no value.
    """
    unknown = set(settings) - {"url", "tokenFile"}
    if unknown or not str(settings.get("url", "")).startswith("https://") or "tokenFile" not in settings:
        raise ValueError("accepted are url, which begins with https://, and tokenFile, the path of a file")
    return Gateway(url=settings["url"], token_file=Path(settings["tokenFile"]))


class Gateway:
    """One gateway."""

    external = True
    """Keys outlive the Secret that carries them, so an agent that has one cannot go before they are revoked."""

    def __init__(self, *, url: str, token_file: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Connects to nothing yet."""
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._now = now

    def describe(self) -> str:
        """Says which gateway."""
        return f"the gateway at {self._url}"

    async def prepare(self, request: Request) -> Handle:
        """Chooses the key's name, by which it can be revoked before it exists."""
        if not request.source["parameters"].get("model"):
            raise Refused("the parameter model is missing; accepted is the name of a model of the gateway")
        return {"name": f"bulkhead-{request.installation}-{request.lease}"}

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Makes a key under that name."""
        asked_at = self._now()
        model = request.source["parameters"]["model"]
        wanted = {"model": model, "seconds": request.ttl_seconds}
        async with self._call("PUT", f"/keys/{handle['name']}", json=wanted) as answer:
            if answer.status == 403:
                raise Refused(f"the gateway has no model {model} for the operator")
            made = await _document(answer)
        return Credential(
            values={"key": str(made["key"]).encode(), "url": self._url.encode()},
            expires_at=asked_at + timedelta(seconds=int(made["seconds"])),
            handle=handle,
            description=f"key {handle['name']} of {self.describe()}",
        )

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Asks for a longer life; the gateway may grant less."""
        asked_at = self._now()
        wanted = {"seconds": int((until - asked_at).total_seconds())}
        async with self._call("PATCH", f"/keys/{handle['name']}", json=wanted) as answer:
            if answer.status == 404:
                raise NotRenewable(f"key {handle['name']} is not there any more")
            renewed = await _document(answer)
        return asked_at + timedelta(seconds=int(renewed["seconds"]))

    async def revoke(self, handle: Handle) -> None:
        """Deletes the key; one that is not there is done."""
        async with self._call("DELETE", f"/keys/{handle['name']}") as answer:
            if answer.status != 404:
                await _document(answer)

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Gives the keys whose names say that they are this installation's."""
        async with self._call("GET", "/keys", params={"prefix": f"bulkhead-{installation}-"}) as answer:
            found = await _document(answer)
        return [{"name": str(name)} for name in found["names"]]

    async def close(self) -> None:
        """Does nothing: a connection lives for one call."""

    @asynccontextmanager
    async def _call(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        # Read each time, so that the token may change. No deadline here: the operator has one for every call.
        headers = {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.request(method, self._url + path, **more) as answer,
            ):
                yield answer
        except aiohttp.ClientError as error:
            # Its kind alone: an exception of a library may quote what was sent.
            raise Unavailable(f"{method} {path} failed: {type(error).__name__}") from None


async def _document(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    if answer.status >= 300:
        raise Unavailable(f"the gateway answered with HTTP status {answer.status}")
    document: dict[str, Any] = await answer.json()
    return document
