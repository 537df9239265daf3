"""What the status of an agent says of its credentials, in words. Never a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan import leaseschedule
from bulkhead.plan.books import Asked, Books
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.leaseschedule import Holding
from bulkhead.plan.observed import Object
from bulkhead.plan.refusals import listed
from bulkhead.plan.worldview import Verdict

CREDENTIALS_READY: Final = "CredentialsReady"
"""The condition about credentials."""
SHOWN: Final = 16
"""Entries of `status.credentials` and of `status.suspension.unrevoked` at most; the schema has the same bound."""
MAX_MESSAGE: Final = 512

PENDING: Final = "Pending"
ACTIVE: Final = "Active"
ROTATING: Final = "Rotating"
FAILING: Final = "Failing"
EXPIRED: Final = "Expired"
REVOKING: Final = "Revoking"


def entries(held: Iterable[Holding], books: Books, *, now: datetime) -> tuple[Object, ...]:
    """Returns `status.credentials`: one entry for each credential that is asked for or not revoked yet."""
    return tuple(_entry(one, books, now=now) for one in held)[:SHOWN]


def _entry(held: Holding, books: Books, *, now: datetime) -> Object:
    lease = held.current
    if held.asked is None:
        lease = held.leases[0]
        entry: Object = {"name": held.name, "issuer": lease.issuer, "state": REVOKING, "lease": lease.id}
        return {**entry, "message": conditions.shorten(_why(lease, books), MAX_MESSAGE)}
    entry = {"name": held.name, "issuer": held.asked.issuer, "state": _state(held, held.asked, books, now=now)}
    if lease is not None:
        entry["lease"] = lease.id
        for key, time in (
            ("issuedAt", lease.issued_at),
            ("expiresAt", lease.expires_at),
            ("rotatesAt", leaseschedule.rotates_at(lease, held.asked)),
        ):
            if time is not None:
                entry[key] = conditions.format_micro_time(time)
    attempt = books.failure(held.asked)
    message = attempt.message if attempt is not None else lease.description if lease is not None else ""
    return {**entry, "message": conditions.shorten(message, MAX_MESSAGE)} if message else entry


def _state(held: Holding, asked: Asked, books: Books, *, now: datetime) -> str:
    ends = leaseschedule.lives_until(held)
    if ends is not None and ends <= now:
        return EXPIRED
    if books.failure(asked) is not None:
        return FAILING
    if held.current is None:
        return PENDING
    return ROTATING if now >= leaseschedule.due_at(held, asked, books) else ACTIVE


def verdict(held: Sequence[Holding], books: Books, *, now: datetime) -> Verdict | None:
    """Returns what `CredentialsReady` says of an agent that may run; None where it asks for no credential."""
    states = {one.name: _state(one, one.asked, books, now=now) for one in held if one.asked is not None}
    if not states:
        return None
    missing = {one.name for one in held if one.asked is not None and not one.fits}
    failing = [f"{one.name}: {attempt.message}" for one in held if one.asked and (attempt := books.failure(one.asked))]
    for state, words in (
        (EXPIRED, "ended and could not be replaced"),
        (FAILING, "cannot be issued"),
        (PENDING, "are being issued"),
    ):
        concerned = [name for name, one in states.items() if one == state and (state != FAILING or name in missing)]
        if concerned:
            causes = "".join(f"; {one}" for one in failing)
            return Verdict("False", state, f"{_counted(concerned)} {words}{causes}")
    if missing:
        return Verdict("False", ROTATING, f"{_counted(sorted(missing))} are being issued as the spec asks for them now")
    if failing:
        return Verdict("True", FAILING, f"every credential is there, and not all can be rotated; {'; '.join(failing)}")
    return Verdict("True", ACTIVE, f"{len(states)} of {len(states)} credentials are there")


def _counted(names: Sequence[str]) -> str:
    return f"credentials {listed(names)}"


def stopped(books: Books) -> Verdict:
    """Returns what `CredentialsReady` says of an agent that must not run."""
    left = unrevoked(books)
    if not left:
        return Verdict("False", "Revoked", "the agent must not run and holds no credential")
    return Verdict("False", REVOKING, "; ".join(left))


def unrevoked(books: Books) -> tuple[str, ...]:
    """Returns what may still be valid, in sentences; the last of them counts those that there is no room for."""
    found = [
        conditions.shorten(
            f"credential {one.credential} (lease {one.id} of issuer {one.issuer}): {_why(one, books)}", 512
        )
        for one in books.leases
    ]
    held = {one.credential for one in books.leases}
    for doing, name in sorted(books.busy):
        if doing == "issue" and name not in held:
            found.append(f"credential {name}: the issuer is being asked for it, and it is revoked when it has answered")
    if len(found) > SHOWN:
        return (*found[: SHOWN - 1], f"and {len(found) - SHOWN + 1} more")
    return tuple(found)


def _why(lease: Lease, books: Books) -> str:
    attempt = books.attempts.get(("revoke", lease.id))
    if attempt is not None:
        ends = f"; it ends by itself at {conditions.format_time(lease.expires_at)}" if lease.expires_at else ""
        return f"{attempt.message}{ends}"
    if ("hold", lease.id) in books.busy:
        return "the issuer is being asked for it, and it is revoked when it has answered"
    if lease.state is State.CONFIRMING and lease.revoke_at is not None:
        return (
            f"revoked, and revoked once more at {conditions.format_time(lease.revoke_at)}: "
            f"the issuer's answer to an earlier call was lost"
        )
    if lease.state is State.RETIRING and lease.revoke_at is not None and ("revoke", lease.id) not in books.busy:
        return f"revoked at {conditions.format_time(lease.revoke_at)}"
    return "being revoked"
