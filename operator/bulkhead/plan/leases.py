"""What has to happen to the credentials of one agent: what to issue, renew and revoke, and when to look again.

An agent holds one lease of each credential that it asks for. At two thirds of its life another is issued and written
into the same Secret; the one before is kept for a while, because the kubelet takes its time to deliver, and then it is
revoked. Where nothing can be issued the present one is renewed, to twice its time to live in all; where that fails too
it expires, and the agent is suspended rather than left with a dead credential.

Nothing is taken off the books here. A record goes when the credential is dead, and only the engine, which saw it die,
takes it away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan import leaseschedule, leasestatus, pods
from bulkhead.plan.books import EMPTY, Asked, Attempt, Books, Doing, asked
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.leaseschedule import OVERLAP, Holding
from bulkhead.plan.leasestatus import CREDENTIALS_READY
from bulkhead.plan.observed import Object
from bulkhead.plan.worldview import Verdict

__all__ = [
    "CREDENTIALS_READY",
    "EMPTY",
    "FINALIZER",
    "NOTHING",
    "OVERLAP",
    "Asked",
    "Attempt",
    "Books",
    "Doing",
    "Ending",
    "Extension",
    "LeasePlan",
    "asked",
    "has_finalizer",
    "plan",
]

FINALIZER: Final = "bulkhead.dev/revoke-credentials"
"""On agents with leases outside of the cluster: their deletion waits, for a while, until these are revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One lease to renew."""

    lease: Lease
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One lease to revoke.

    Attributes:
        lease: the lease.
        with_secret: whether the Secret goes with it.
        again: whether the agent may come back: then the record has to say first that this lease is none to rely on.
    """

    lease: Lease
    with_secret: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePlan:
    """What to do about the credentials of one agent.

    Attributes:
        prepare: what to issue.
        extend: what to renew.
        retire: leases to note as retiring, with `revoke_at`.
        revoke: what to revoke.
        runs: whether the agent may run: what is issued meanwhile is delivered.
        ready: whether every credential that is asked for is there. True where none is asked for.
        expired: names of credentials that have ended while the agent runs: a reason to suspend it.
        entries: `status.credentials`.
        verdict: of the condition `CredentialsReady`; None where the agent has and asks for no credential.
        unrevoked: what is not revoked yet though the agent must not run, in sentences, for
            `status.suspension.unrevoked`. Empty means that the step is done.
        next_look: when time alone changes the plan.
        release: whether the finalizer has to go: nothing outside of the cluster is left.
        give_up: whether the finalizer has to go though something is left: the deletion has waited long enough.
    """

    prepare: tuple[Asked, ...] = ()
    extend: tuple[Extension, ...] = ()
    retire: tuple[Lease, ...] = ()
    revoke: tuple[Ending, ...] = ()
    runs: bool = True
    ready: bool = True
    expired: tuple[str, ...] = ()
    entries: tuple[Object, ...] = ()
    verdict: Verdict | None = None
    unrevoked: tuple[str, ...] = ()
    next_look: timedelta | None = None
    release: bool = False
    give_up: bool = False


NOTHING: Final = LeasePlan()
"""The plan of an agent that may run and has and asks for no credential."""
STOPPED: Final = LeasePlan(runs=False)
"""The same of one that must not run."""


RELEASE: Final[Doing] = ("release", "")
"""Taking the finalizer off. It fails like anything else, and is tried again no sooner."""


def has_finalizer(agent: Object) -> bool:
    """Says whether the agent's deletion waits for its leases."""
    return FINALIZER in (agent["metadata"].get("finalizers") or ())


def plan(
    wanted: tuple[Asked, ...], books: Books, *, agent: Object, runs: bool, now: datetime, patience: timedelta
) -> LeasePlan:
    """Decides what has to happen to an agent's credentials.

    Args:
        wanted: what its spec asks for; nothing where the spec cannot be read.
        books: what is known of its leases.
        agent: the AgentDeployment.
        runs: whether it may run. If not, everything is revoked.
        now: the time.
        patience: how long the deletion of the agent waits for leases that cannot be revoked.
    """
    if not wanted and not books and not has_finalizer(agent):
        return NOTHING if runs else STOPPED
    return (
        _running(wanted, books, agent, now=now) if runs else _ending(wanted, books, agent, now=now, patience=patience)
    )


def revocation(books: Books, *, agent: Object, now: datetime) -> LeasePlan:
    """Decides what is revoked now of an agent that must not run, and leaves all else about its stop to `plan`."""
    agenda = _Agenda(books, now)
    _revoke_all(agenda, books, again=not pods.is_being_deleted(agent), now=now)
    return LeasePlan(runs=False, revoke=tuple(agenda.revoke), unrevoked=leasestatus.unrevoked(books))


class _Agenda:
    """What is to be done now, and the times at which something is to be done later."""

    def __init__(self, books: Books, now: datetime) -> None:
        self.prepare: list[Asked] = []
        self.extend: list[Extension] = []
        self.retire: list[Lease] = []
        self.revoke: list[Ending] = []
        self._books = books
        self._now = now
        self._later: list[datetime] = []

    def when(self, doing: Doing, at: datetime) -> bool:
        """Says whether something that is to be done from a time on can be begun now."""
        attempt = self._books.attempts.get(doing)
        if attempt is not None:
            at = max(at, attempt.next_at)
        if at > self._now:
            self._later.append(at)
            return False
        return doing not in self._books.busy

    def may_issue(self, wish: Asked, at: datetime) -> bool:
        """Says whether what is asked for from a time on can be issued now.

        What failed with another wish says nothing of this one.
        """
        failure = self._books.failure(wish)
        at = max(at, failure.next_at) if failure is not None else at
        if at > self._now:
            self._later.append(at)
            return False
        return ("issue", wish.credential) not in self._books.busy

    def look(self, at: datetime) -> None:
        """Notes a time at which the plan is another one."""
        if at > self._now:
            self._later.append(at)

    @property
    def next_look(self) -> timedelta | None:
        return min(self._later) - self._now if self._later else None


def _running(wanted: tuple[Asked, ...], books: Books, agent: Object, *, now: datetime) -> LeasePlan:
    agenda = _Agenda(books, now)
    by_name = {one.credential: one for one in wanted}
    held = [leaseschedule.holding(name, by_name.get(name), books) for name in leaseschedule.names(wanted, books)]
    for one in held:
        if one.asked is None:
            _let_go(one, agenda, books, now=now)
        else:
            _keep(one, one.asked, agenda, books, now=now)
    ends = {one.name: leaseschedule.lives_until(one) for one in held if one.asked is not None}
    outside = any(one.external for one in wanted) or any(one.external for one in books.leases)
    release = has_finalizer(agent) and not outside and not books.busy and agenda.when(RELEASE, now)
    return LeasePlan(
        prepare=tuple(agenda.prepare),
        extend=tuple(agenda.extend),
        retire=tuple(agenda.retire),
        revoke=tuple(agenda.revoke),
        ready=all(_is_good(one, books, now=now) for one in held if one.asked is not None),
        expired=tuple(name for name, end in ends.items() if end is not None and end <= now),
        entries=leasestatus.entries(held, books, now=now),
        verdict=leasestatus.verdict(held, books, now=now),
        next_look=agenda.next_look,
        release=release,
    )


def _is_good(held: Holding, books: Books, *, now: datetime) -> bool:
    ends = leaseschedule.lives_until(held)
    return (
        held.current is not None
        and held.fits
        and held.current.id not in books.stale
        and ends is not None
        and now < ends
    )


def _keep(held: Holding, wish: Asked, agenda: _Agenda, books: Books, *, now: datetime) -> None:
    """Decides about a credential that is asked for."""
    current = held.current
    if agenda.may_issue(wish, leaseschedule.due_at(held, wish, books)):
        # A Secret that is being taken away must be gone before the next one is written under its name.
        going = any(("revoke", one.id) in books.busy for one in held.leases)
        if not going and leaseschedule.leftovers(held, now=now) < leaseschedule.MOST_LEFTOVERS:
            agenda.prepare.append(wish)
    ends = leaseschedule.lives_until(held)
    if ends is not None:
        agenda.look(ends)
    for lease in held.leases:
        renewal = leaseschedule.renewal(lease, held, books, now=now)
        if renewal is not None and not _is_final(books, lease) and agenda.when(("renew", lease.id), renewal[0]):
            agenda.extend.append(Extension(lease=lease, until=renewal[1]))
        if lease is current or ("hold", lease.id) in books.busy:
            continue
        at = leaseschedule.revoked_at(lease, held)
        if at is not None and agenda.when(("revoke", lease.id), at):
            agenda.revoke.append(Ending(lease=lease))


def _is_final(books: Books, lease: Lease) -> bool:
    """Whether the issuer has said that it does not renew this lease."""
    attempt = books.attempts.get(("renew", lease.id))
    return attempt is not None and attempt.refused


def _let_go(held: Holding, agenda: _Agenda, books: Books, *, now: datetime) -> None:
    """Decides about a credential that nobody asks for any more.

    It is kept for a while: the pods that have it mounted are being replaced.
    """
    due: list[Lease] = []
    for lease in held.leases:
        if ("hold", lease.id) in books.busy:
            continue
        if lease.state is State.ACTIVE:
            if not agenda.when(("retire", lease.id), now):
                continue
            agenda.retire.append(replace(lease, state=State.RETIRING, revoke_at=now + leaseschedule.OVERLAP))
        elif agenda.when(("revoke", lease.id), lease.revoke_at or lease.prepared_at):
            due.append(lease)
    # The Secret goes with the last of them; one that is being revoked already may have been told to leave it.
    last = all(one in due or ("revoke", one.id) in books.busy for one in held.leases)
    agenda.revoke.extend(Ending(lease=lease, with_secret=last) for lease in due)


def _revoke_all(agenda: _Agenda, books: Books, *, again: bool, now: datetime) -> None:
    for lease in books.leases:
        if ("hold", lease.id) in books.busy:
            # What is being issued is revoked when the issuer has answered: until then nobody knows what there is.
            continue
        at = lease.revoke_at if lease.state is State.CONFIRMING and lease.revoke_at else now
        if agenda.when(("revoke", lease.id), at):
            agenda.revoke.append(Ending(lease=lease, with_secret=True, again=again))


def _ending(wanted: tuple[Asked, ...], books: Books, agent: Object, *, now: datetime, patience: timedelta) -> LeasePlan:
    agenda = _Agenda(books, now)
    leaving = pods.is_being_deleted(agent)
    _revoke_all(agenda, books, again=not leaving, now=now)
    outside = any(lease.external for lease in books.leases)
    finalizer = has_finalizer(agent)
    overdue = False
    if leaving and finalizer and outside:
        until = conditions.parse_time(agent["metadata"]["deletionTimestamp"]) + patience
        overdue = now >= until and agenda.when(RELEASE, until)
        agenda.look(until)
    held = [leaseschedule.holding(name, None, books) for name in leaseschedule.names((), books)]
    release = finalizer and not outside and not books.busy and agenda.when(RELEASE, now)
    return LeasePlan(
        revoke=tuple(agenda.revoke),
        runs=False,
        ready=not wanted,
        entries=leasestatus.entries(held, books, now=now),
        verdict=leasestatus.stopped(books) if wanted or books else None,
        unrevoked=leasestatus.unrevoked(books),
        next_look=agenda.next_look,
        release=release,
        give_up=overdue,
    )
