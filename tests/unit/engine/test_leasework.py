"""Which Secret goes with a lease that is revoked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bulkhead.cluster.errors import ApiError
from bulkhead.engine.leasework import LeaseWork
from bulkhead.plan.lease import InvalidRecord, Lease, State
from bulkhead.plan.leases import Ending

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REVOKED = Lease(
    id="aaaaaaaaaaaa",
    agent_namespace="lab",
    agent="scout",
    agent_uid="u1",
    credential="db",
    issuer="pg",
    source={"role": "reader"},
    ttl_seconds=900,
    external=True,
    handle={"role": "aaaaaaaaaaaa"},
    state=State.RETIRING,
    prepared_at=NOW,
    issued_at=NOW,
    delivered_at=NOW,
    revoke_at=NOW,
    unsure=False,
    secret_uid="before",
)
NEXT = replace(REVOKED, id="bbbbbbbbbbbb", state=State.ACTIVE, revoke_at=None, secret_uid="now")


@dataclass
class Server:
    """An API server with one Secret, which is another than the one that the lease was written into."""

    annotations: dict[str, str]
    owner: str = "u1"
    deleted: list[str] = field(default_factory=list)

    async def delete(self, resource: Any, *, namespace: str, name: str, uid: str) -> None:
        if uid != "now":
            raise ApiError(409, "Conflict")
        self.deleted.append(name)

    async def peek(self, resource: Any, *, namespace: str, name: str) -> dict[str, Any]:
        owners = [{"uid": self.owner}]
        return {"metadata": {"name": name, "uid": "now", "annotations": self.annotations, "ownerReferences": owners}}


@dataclass
class Records:
    """The books; the mirror does not know yet what another replica wrote."""

    others: list[Lease]
    unreadable: bool = False
    removed: list[str] = field(default_factory=list)

    def of_agent(self, uid: str) -> tuple[Lease, ...]:
        return (REVOKED,)

    async def read(self, client: Any, lease_id: str) -> Lease | None:
        if self.unreadable:
            raise InvalidRecord("ConfigMap has no state")
        return next((one for one in self.others if one.id == lease_id), None)

    async def remove(self, client: Any, lease: Lease) -> None:
        self.removed.append(lease.id)


class Issuer:
    async def revoke(self, handle: Any) -> None: ...


async def revoked(server: Server, records: Records) -> list[str]:
    """Revokes the lease with its Secret; gives the Secrets that are deleted."""
    parts: dict[str, Any] = {"records": records, "client": server, "urgent": server, "issuer": lambda name: Issuer()}
    work = LeaseWork(**parts, installation=lambda: "test1234", now=lambda: NOW)
    await work.revoke(Ending(lease=REVOKED, with_secret=True))
    assert records.removed == [REVOKED.id]
    return server.deleted


def holding(lease: str) -> dict[str, str]:
    return {"bulkhead.dev/lease": lease}


@pytest.mark.parametrize("state", [State.PREPARED, State.ACTIVE])
async def test_a_revocation_that_comes_late_leaves_the_secret_of_the_next_run(state: State) -> None:
    assert await revoked(Server(holding(NEXT.id)), Records([replace(NEXT, state=state)])) == []


GOES: dict[str, tuple[dict[str, str], Records]] = {
    "its own, made anew": (holding(REVOKED.id), Records([NEXT])),
    "of nobody knows what": ({}, Records([NEXT])),
    "of a lease that is off the books": (holding(NEXT.id), Records([])),
    "of a lease that is to be revoked": (holding(NEXT.id), Records([replace(NEXT, state=State.RETIRING)])),
    "of a lease about which nothing is done": (holding(NEXT.id), Records([NEXT], unreadable=True)),
    "of what can be no lease": (holding("../agents"), Records([NEXT])),
}


@pytest.mark.parametrize(("annotations", "records"), GOES.values(), ids=GOES)
async def test_a_secret_under_the_name_that_holds_nothing_to_rely_on_goes(
    annotations: dict[str, str], records: Records
) -> None:
    assert await revoked(Server(annotations), records) == ["agent-scout.db"]


async def test_a_secret_of_somebody_else_stays() -> None:
    assert await revoked(Server(holding(REVOKED.id), owner="u2"), Records([])) == []
