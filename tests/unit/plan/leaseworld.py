"""A world in which plans for credentials are carried out step by step: an issuer, the books, a Secret, and crashes.

It is a model of the engine and of an issuer, not a stand-in for either: what it shows is that the plan's decisions keep
their promises whatever happens between two steps. Times are seconds since the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bulkhead.plan import leases
from bulkhead.plan.books import Asked, Attempt, Books, Doing
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.leases import Ending, Extension, LeasePlan

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SETTLING = timedelta(seconds=60)
DEADLINE = timedelta(seconds=10)
"""Of one task: the engine gives no call longer."""
PATIENCE = timedelta(seconds=600)
Step = Generator[None, None, None]


@dataclass
class Issuer:
    """What is valid at the issuer, until when, and what it answers."""

    alive: dict[str, datetime] = field(default_factory=dict)
    late: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """Calls whose answer was lost: when each takes effect, and the expiry then."""
    issues: bool = True
    renews: bool = True
    revokes: bool = True
    loses: float | None = None
    """Seconds after which the next call to issue takes effect, though it has failed for who called."""
    calls: int = 0


@dataclass
class World:
    """One agent with one credential, its operator and its issuer."""

    ttl: int = 900
    now: datetime = START
    issuer: Issuer = field(default_factory=Issuer)
    records: dict[str, Lease] = field(default_factory=dict)
    secret: str | None = None
    runs: bool = True
    suspended_at: datetime | None = None
    source: str = "reader"
    asked: bool = True
    last: LeasePlan = leases.NOTHING
    due: datetime | None = None
    """When the plan asked to be made again, after everything was worked off."""
    numbers: int = 0
    attempts: dict[Doing, Attempt] = field(default_factory=dict)
    tasks: dict[Doing, Step] = field(default_factory=dict)
    began: dict[Doing, datetime] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    @property
    def wish(self) -> Asked:
        return Asked(credential="db", issuer="pg", source={"role": self.source}, ttl_seconds=self.ttl)

    def books(self) -> Books:
        ordered = sorted(self.records.values(), key=lambda one: one.prepared_at)
        held: set[Doing] = {("hold", one) for one in self.held}
        return Books(leases=tuple(ordered), attempts=dict(self.attempts), busy=frozenset(held | self.tasks.keys()))

    def plan(self) -> LeasePlan:
        """Plans, and does nothing."""
        agent: dict[str, Any] = {"metadata": {"namespace": "lab", "name": "scout", "uid": "u1"}}
        wanted = (self.wish,) if self.asked else ()
        return leases.plan(wanted, self.books(), agent=agent, runs=self.runs, now=self.now, patience=PATIENCE)

    def reconcile(self) -> LeasePlan:
        """Plans, and begins what the plan says."""
        made = self.last = self.plan()
        if made.expired:
            self.suspend()
            return self.reconcile()
        for one in made.prepare:
            self._begin(("issue", one.credential), lambda one=one: self._issue(one))  # type: ignore[misc]
        for extension in made.extend:
            self._begin(("renew", extension.lease.id), lambda one=extension: self._renew(one))  # type: ignore[misc]
        for lease in made.retire:
            self.records[lease.id] = lease
        for ending in made.revoke:
            self._begin(("revoke", ending.lease.id), lambda one=ending: self._revoke(one))  # type: ignore[misc]
        return made

    def suspend(self) -> None:
        self.runs, self.suspended_at = False, self.suspended_at or self.now

    def resume(self) -> None:
        self.runs, self.suspended_at = True, None

    def crash(self) -> None:
        """Kills the operator: what it was doing is not done, and what it knew is on the books or nowhere."""
        self.tasks.clear()
        self.attempts.clear()
        self.held.clear()

    def advance(self, seconds: float) -> None:
        """Lets time pass, at the issuer too; what was begun comes to its end within its deadline."""
        if seconds > DEADLINE.total_seconds():
            self.finish()
        for doing in [one for one in self.tasks if self.now - self.began[one] > DEADLINE]:
            self.finish(doing)
        self.now += timedelta(seconds=seconds)
        for lease, (at, expires) in list(self.issuer.late.items()):
            if at <= self.now:
                del self.issuer.late[lease]
                self.issuer.alive[lease] = expires
        self.issuer.alive = {lease: ends for lease, ends in self.issuer.alive.items() if ends > self.now}

    def step(self, doing: Doing) -> None:
        """Carries one task to its next step."""
        try:
            next(self.tasks[doing])
        except StopIteration:
            self.tasks.pop(doing, None)

    def look_if_due(self) -> None:
        """Plans and works if the plan asked for it by now."""
        if self.due is not None and self.now >= self.due:
            self.settle()

    def finish(self, doing: Doing | None = None) -> None:
        """Carries one task to its end, or all of them."""
        for one in [doing] if doing is not None else list(self.tasks):
            while one in self.tasks:
                self.step(one)

    def settle(self, most: int = 1000) -> None:
        """Plans and works until nothing is left to do at this moment."""
        for _ in range(most):
            self.reconcile()
            if not self.tasks:
                look = self.last.next_look
                self.due = self.now + look if look is not None else None
                return
            self.finish()
        raise AssertionError(f"the plan never comes to rest: {self.books()}")

    def _begin(self, doing: Doing, make: Callable[[], Step]) -> None:
        if doing not in self.tasks:
            self.tasks[doing], self.began[doing] = make(), self.now

    def _failed(self, doing: Doing, wish: Asked | None = None) -> None:
        before = self.attempts.get(doing)
        failures = before.failures + 1 if before is not None else 1
        wait = timedelta(seconds=min(60.0, 2.0 ** (failures - 1)))
        self.attempts[doing] = Attempt(failures=failures, next_at=self.now + wait, message="it is down", asked=wish)

    def _issue(self, wish: Asked) -> Step:
        self.numbers += 1
        name = f"{self.numbers:012d}"
        lease = Lease(
            id=name,
            agent_namespace="lab",
            agent="scout",
            agent_uid="u1",
            credential=wish.credential,
            issuer=wish.issuer,
            source=wish.source,
            ttl_seconds=wish.ttl_seconds,
            external=True,
            handle={"role": name},
            state=State.PREPARED,
            prepared_at=self.now,
        )
        if not self.runs:
            return
        self.records[name] = lease
        self.held.add(name)
        try:
            yield
            answered = self._call(name, wish)
            yield
            if not answered:
                self.records[name] = replace(lease, state=State.RETIRING, revoke_at=self.now)
                self._failed(("issue", wish.credential), wish)
                return
            issued = replace(lease, unsure=False, issued_at=self.now, expires_at=self.issuer.alive.get(name, self.now))
            if not self.runs:
                self.records[name] = replace(issued, state=State.RETIRING, revoke_at=self.now)
                return
            self.secret = name
            yield
            self.records[name] = replace(issued, state=State.ACTIVE, delivered_at=self.now)
            self.attempts.pop(("issue", wish.credential), None)
        finally:
            self.held.discard(name)

    def _call(self, name: str, wish: Asked) -> bool:
        self.issuer.calls += 1
        ends = timedelta(seconds=wish.ttl_seconds)
        loses, self.issuer.loses = self.issuer.loses, None
        if not self.issuer.issues:
            return False
        if loses is not None:
            at = self.now + timedelta(seconds=loses)
            self.issuer.late[name] = (at, at + ends)
            return False
        self.issuer.alive[name] = self.now + ends
        return True

    def _renew(self, extension: Extension) -> Step:
        name = extension.lease.id
        yield
        if not self.issuer.renews or name not in self.issuer.alive:
            self._failed(("renew", name))
            return
        self.issuer.alive[name] = extension.until
        yield
        if name in self.records:
            self.records[name] = replace(self.records[name], expires_at=extension.until)
            self.attempts.pop(("renew", name), None)

    def _revoke(self, ending: Ending) -> Step:
        name = ending.lease.id
        lease = ending.lease
        if ending.again and lease.state in (State.PREPARED, State.ACTIVE):
            lease = self.records[name] = replace(lease, state=State.RETIRING, revoke_at=self.now)
            yield
        if ending.with_secret:
            self.secret = None
            yield
        if not self.issuer.revokes:
            self._failed(("revoke", name))
            return
        self.issuer.alive.pop(name, None)
        yield
        self.attempts.pop(("revoke", name), None)
        if lease.unsure:
            self.records[name] = replace(lease, state=State.CONFIRMING, unsure=False, revoke_at=self.now + SETTLING)
        else:
            del self.records[name]
