"""When a lease is rotated, renewed and revoked.

Times only; what is done at them is decided in `plan.leases`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bulkhead.plan.books import Asked, Books
from bulkhead.plan.lease import Lease, State

OVERLAP: Final = timedelta(seconds=120)
"""How long the lease before is kept after the new one was written: a kubelet's periodic sync is 60 s and jitter."""
ROTATED_AT: Final = 2 / 3
"""The part of a lease's life after which the next one is due."""
SPREAD: Final = 1 / 20
"""The part of a lease's life by which its rotation may come earlier. What was issued together, when the operator or an
issuer came back, is not rotated together for ever."""
RENEWED_AT: Final = 1 / 4
"""The part of a lease's time to live that is left when it is renewed."""
LIVES_AT_MOST: Final = 2
"""Times its time to live, renewals included. What cannot be replaced for so long is not kept alive any longer."""
SOONEST: Final = timedelta(seconds=10)
"""Between two leases of which the second follows a change of the source: each is kept for `OVERLAP`, and a source that
changes all the time would fill the books."""
MOST_LEFTOVERS: Final = 3
"""Leases of one credential that came to nothing and could not be revoked. With one for each try, an issuer that is down
for long would fill the books."""
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
LEAST_GAIN: Final = timedelta(seconds=2)
"""A renewal for less is not worth a call."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What an agent has of one credential.

    Attributes:
        name: of the credential.
        asked: what the spec says of it; None where it does not ask for it any more.
        leases: every lease of it that is on the books.
        current: the newest that was delivered; None if there is none.
        orphans: those of which nobody knows whether they were issued, because whoever was about to is gone.
    """

    name: str
    asked: Asked | None
    leases: tuple[Lease, ...]
    current: Lease | None
    orphans: tuple[Lease, ...]

    @property
    def fits(self) -> bool:
        """Whether the current lease is what is asked for now, and not what an earlier spec asked for."""
        return self.current is not None and self.asked is not None and self.asked.is_met_by(self.current)


def holding(name: str, asked: Asked | None, books: Books) -> Holding:
    """Returns what the books say of one credential."""
    leases = tuple(one for one in books.leases if one.credential == name)
    delivered = [one for one in leases if one.state is State.ACTIVE]
    return Holding(
        name=name,
        asked=asked,
        leases=leases,
        current=max(delivered, key=_age, default=None),
        orphans=tuple(one for one in leases if one.state is State.PREPARED and ("hold", one.id) not in books.busy),
    )


def _issued(lease: Lease) -> datetime:
    return lease.issued_at or lease.prepared_at


def _age(lease: Lease) -> tuple[datetime, str]:
    """Orders leases by when they were issued, without ties: of two there is always one that has to go."""
    return _issued(lease), lease.id


def _is_newer(one: Lease, than: Lease) -> bool:
    return one.state is State.ACTIVE and _age(one) > _age(than)


def rotates_at(lease: Lease, asked: Asked) -> datetime:
    """Returns when the lease that is to take the place of this one is due."""
    issued = _issued(lease)
    ends = lease.expires_at or issued
    life = min(ends - issued, timedelta(seconds=min(asked.ttl_seconds, lease.ttl_seconds)))
    early = SPREAD * zlib.crc32(lease.id.encode()) / 2**32
    return issued + life * (ROTATED_AT - early)


def lives_until(held: Holding) -> datetime | None:
    """Returns when what the agent has of a credential ends, if nothing is done; None where it has nothing.

    An orphan that is newer than the current lease may be what the Secret holds. Nobody knows when it ends, but nothing
    lives longer than it was asked for, so that the time is at most that.
    """
    current = held.current
    if current is None:
        return None
    ends = current.expires_at or _issued(current)
    newer = (one for one in held.orphans if one.prepared_at >= _issued(current))
    return min([ends, *(one.prepared_at + timedelta(seconds=one.ttl_seconds) for one in newer)])


def due_at(held: Holding, asked: Asked, books: Books) -> datetime:
    """Returns from when on a new lease of a credential is needed; long ago where it is needed in any case."""
    current = held.current
    if current is None or not held.fits or books.failure(asked) is not None:
        return LONG_AGO
    if any(one.prepared_at >= _issued(current) for one in held.orphans):
        return LONG_AGO
    rotates = rotates_at(current, asked)
    if current.id in books.stale:
        return min(rotates, (current.delivered_at or _issued(current)) + SOONEST)
    return rotates


def revoked_at(lease: Lease, held: Holding) -> datetime | None:
    """Returns when a lease of a credential that is asked for is to be revoked; None for the current one.

    One that the agent may still be reading is kept for `OVERLAP` after a newer one was delivered. An orphan that may be
    in the Secret is one of these, until it has surely ended by itself.
    """
    if lease.state in (State.RETIRING, State.CONFIRMING):
        return lease.revoke_at or lease.prepared_at
    newer = [one.delivered_at or _issued(one) for one in held.leases if _is_newer(one, lease)]
    if newer:
        return min(newer) + OVERLAP
    if lease.state is State.ACTIVE:
        return None
    if held.current is None:
        # Nothing was ever delivered, so nothing runs with it.
        return lease.prepared_at
    return lease.prepared_at + timedelta(seconds=lease.ttl_seconds)


def renewal(lease: Lease, held: Holding, books: Books, *, now: datetime) -> tuple[datetime, datetime] | None:
    """Returns when a lease is to be renewed and until when, as far as that is known now; None if it is not to be.

    The current lease is renewed where no other could be issued, one that was replaced where it would end before the
    agent must have read the new one. No renewal goes further than one time to live from now: however a suspension comes
    to pass, what it finds is dead that much later, even if nobody can revoke it.
    """
    asked, ends = held.asked, lease.expires_at
    if asked is None or ends is None or now >= ends or lease.state is not State.ACTIVE or not asked.is_met_by(lease):
        return None
    ttl = timedelta(seconds=lease.ttl_seconds)
    most = _issued(lease) + LIVES_AT_MOST * ttl
    if lease is held.current:
        if books.failure(asked) is None:
            return None
        needed = most
    else:
        # Also beyond what it may live at most: after an outage it is at its end when the next one is delivered at last.
        needed = revoked_at(lease, held) or most
    starts = ends - ttl * RENEWED_AT
    until = min(needed, max(now, starts) + ttl)
    return (starts, until) if needed > ends and until - ends >= LEAST_GAIN else None


def leftovers(held: Holding, *, now: datetime) -> int:
    """Counts the leases that came to nothing and are not revoked even once, though they should be.

    An orphan that is kept, because it may be in the Secret, is in nobody's way: counted, three crashes would leave an
    agent without a new lease for as long as these may live.
    """
    retiring = sum(one.issued_at is None and one.state is State.RETIRING for one in held.leases)
    due = (revoked_at(one, held) for one in held.orphans)
    return retiring + sum(at is not None and at <= now for at in due)


def names(asked: Iterable[Asked], books: Books) -> tuple[str, ...]:
    """Returns the names of all credentials there is anything to say of: those asked for first, in their order."""
    wanted = [one.credential for one in asked]
    return (*wanted, *sorted({one.credential for one in books.leases} - set(wanted)))
