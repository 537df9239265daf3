"""Issuers that do what a test tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any

from bulkhead.issuers.base import Credential, Handle, Request

VALUE = "a-value-4f6b"
"""What must never be seen."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = Request(
    lease="abcdefabcdef",
    agent_namespace="team-a",
    agent="crawler",
    agent_uid="c0ffee00-0000-4000-8000-000000000000",
    credential="warehouse",
    source={},
    ttl_seconds=900,
    installation="test1234",
)

Do = Callable[[], Awaitable[Any]]


def credential(**changes: Any) -> Credential:
    """A credential as it should be, but for what is changed."""
    good: dict[str, Any] = {
        "values": {"token": VALUE.encode()},
        "expires_at": NOW,
        "handle": {"id": "1"},
        "description": "somebody",
    }
    return Credential(**good | changes)


class Told:
    """An issuer whose every call does one thing."""

    external = True

    def __init__(self, do: Do) -> None:
        self._do = do
        self.closed = False

    async def prepare(self, request: Request) -> Handle:
        result: Handle = await self._do()
        return result

    async def issue(self, request: Request, handle: Handle) -> Credential:
        result: Credential = await self._do()
        return result

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        result: datetime = await self._do()
        return result

    async def revoke(self, handle: Handle) -> None:
        await self._do()

    async def outstanding(self, installation: str) -> Collection[Handle]:
        result: Collection[Handle] = await self._do()
        return result

    def describe(self) -> str:
        return "an issuer of tests"

    async def close(self) -> None:
        self.closed = True


def gives(value: Any) -> Told:
    """An issuer that answers everything with one value."""

    async def do() -> Any:
        return value

    return Told(do)


def fails(error: BaseException) -> Told:
    """An issuer that fails."""

    async def do() -> Any:
        raise error

    return Told(do)
