"""What is taken for unknown at an issuer, and revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bulkhead.engine.leasesweep import Sweep
from bulkhead.issuers.base import Handle
from bulkhead.plan.lease import Lease, State

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def prepared(name: str, issuer: str, handle: Handle) -> Lease:
    return Lease(
        id=name,
        agent_namespace="lab",
        agent="scout",
        agent_uid="u1",
        credential="db",
        issuer=issuer,
        source={"role": "reader"},
        ttl_seconds=900,
        external=True,
        handle=handle,
        state=State.PREPARED,
        prepared_at=NOW,
    )


@dataclass
class Server:
    """A system that two issuers give credentials of: each is told of all that there are."""

    accounts: list[Handle]
    revoked: list[Handle] = field(default_factory=list)

    async def outstanding(self, installation: str) -> Collection[Handle]:
        return list(self.accounts)

    async def revoke(self, handle: Handle) -> None:
        self.revoked.append(handle)


@dataclass
class Issuers:
    servers: dict[str, Server]

    @property
    def types(self) -> dict[str, str]:
        return dict.fromkeys(self.servers, "postgres")

    def get(self, name: str) -> Server:
        return self.servers[name]


@dataclass
class Records:
    """The books, of which the mirror may lack some."""

    leases: list[Lease]
    mirrored: list[Lease]
    informer: tuple[()] = ()

    def __iter__(self) -> Iterator[Lease]:
        return iter(self.mirrored)

    async def live(self, client: Any) -> tuple[Lease, ...]:
        return tuple(self.leases)

    def get(self, lease_id: str) -> Lease | None:
        return next((one for one in self.leases if one.id == lease_id), None)


class Work:
    """Does nothing."""

    def forget(self, known: set[str]) -> None: ...


async def swept(issuers: Issuers, records: Records) -> None:
    """Sweeps once."""
    agents = [{"metadata": {"namespace": "lab", "name": "scout", "uid": "u1"}}]
    parts: dict[str, Any] = {"records": records, "issuers": issuers, "client": None, "agents": agents}
    sweep = Sweep(
        **parts,
        credentials=Work(),  # type: ignore[arg-type]
        installation=lambda: "test1234",
        is_leader=lambda: True,
        now=lambda: NOW,
        clock=lambda: 0.0,
    )
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await sweep.run()


async def test_what_one_issuer_has_given_is_not_unknown_to_another_of_the_same_system() -> None:
    mine, yours, nobodys = {"role": "aaaa"}, {"role": "bbbb"}, {"role": "cccc"}
    server = Server([mine, yours, nobodys])
    books = [prepared("aaaaaaaaaaaa", "orders", mine), prepared("bbbbbbbbbbbb", "stock", {**yours, "oid": "7"})]
    await swept(Issuers({"orders": server, "stock": server}), Records(books, books))
    assert server.revoked == [nobodys, nobodys]


async def test_what_the_mirror_does_not_know_yet_is_looked_for_on_the_books_of_every_issuer() -> None:
    mine = {"role": "aaaa"}
    server = Server([mine])
    books = [prepared("aaaaaaaaaaaa", "orders", mine)]
    await swept(Issuers({"orders": server, "stock": server}), Records(books, []))
    assert server.revoked == []


async def test_a_record_without_a_handle_does_not_make_everything_known() -> None:
    nobodys = {"role": "cccc"}
    server = Server([nobodys])
    books = [prepared("aaaaaaaaaaaa", "elsewhere", {})]
    await swept(Issuers({"orders": server}), Records(books, books))
    assert server.revoked == [nobodys]
