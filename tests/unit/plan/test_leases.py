"""What is issued, renewed and revoked when, as tables of named cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import leases, leaseschedule
from bulkhead.plan.books import EMPTY, Asked, Attempt, Books
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.leases import FINALIZER, RELEASE, LeasePlan
from tests.unit.plan.samples import NOW, agent

PATIENCE = timedelta(seconds=600)
WISH = Asked(credential="db", issuer="pg", source={"role": "reader"}, ttl_seconds=900)
FIRST = "aaaaaaaaaaaa"
SECOND = "bbbbbbbbbbbb"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lease(name: str = FIRST, *, issued: float = 0, life: float = 900, **changes: Any) -> Lease:
    made = Lease(
        id=name,
        agent_namespace="lab",
        agent="scout",
        agent_uid="a1b2c3",
        credential="db",
        issuer="pg",
        source={"role": "reader"},
        ttl_seconds=900,
        external=True,
        handle={"role": name},
        state=State.ACTIVE,
        prepared_at=at(issued),
        issued_at=at(issued),
        delivered_at=at(issued),
        expires_at=at(issued + life),
        unsure=False,
        description=f"role {name}",
    )
    return replace(made, **changes)


def prepared(name: str = SECOND, *, when: float = 0) -> Lease:
    return lease(
        name, issued=when, state=State.PREPARED, issued_at=None, delivered_at=None, expires_at=None, unsure=True
    )


def books(*known: Lease, **rest: Any) -> Books:
    return Books(leases=known, **rest)


def plan(
    known: Books = EMPTY, *, now: float = 0, runs: bool = True, wanted: tuple[Asked, ...] = (WISH,), **metadata: Any
) -> LeasePlan:
    return leases.plan(wanted, known, agent=agent(metadata=metadata), runs=runs, now=at(now), patience=PATIENCE)


def failed(*, now: float = 0, failures: int = 1, asked: Asked | None = WISH, refused: bool = False) -> Attempt:
    return Attempt(failures=failures, next_at=at(now), message="nobody answers", asked=asked, refused=refused)


def done(made: LeasePlan) -> dict[str, Any]:
    """What a plan does, in short."""
    return {
        "prepare": [one.credential for one in made.prepare],
        "extend": [(one.lease.id, (one.until - NOW).total_seconds()) for one in made.extend],
        "retire": [one.id for one in made.retire],
        "revoke": [one.lease.id for one in made.revoke],
    }


NOTHING_DONE: dict[str, Any] = {"prepare": [], "extend": [], "retire": [], "revoke": []}
ISSUE: Any = {("issue", "db"): failed(now=1000)}
OTHER_SOURCE = replace(WISH, source={"role": "writer"})

RUNNING: dict[str, tuple[Books, float, dict[str, Any]]] = {
    "nothing is there yet": (EMPTY, 0, {"prepare": ["db"]}),
    "it is being issued": (Books(busy=frozenset({("issue", "db")})), 0, {}),
    "it failed a moment ago": (Books(attempts={("issue", "db"): failed(now=5)}), 0, {}),
    "it failed, and the wait is over": (Books(attempts={("issue", "db"): failed(now=5)}), 5, {"prepare": ["db"]}),
    "something else failed a moment ago": (
        Books(attempts={("issue", "db"): failed(now=5, asked=OTHER_SOURCE)}),
        0,
        {"prepare": ["db"]},
    ),
    "it is young": (books(lease()), 300, {}),
    "it is past two thirds of its life": (books(lease()), 600, {"prepare": ["db"]}),
    "its source changed a moment ago": (books(lease(), stale=frozenset({FIRST})), 5, {}),
    "its source changed": (books(lease(), stale=frozenset({FIRST})), 10, {"prepare": ["db"]}),
    "it is of what an earlier spec asked for": (books(lease(source={"role": "writer"})), 1, {"prepare": ["db"]}),
    "another was delivered a minute ago": (books(lease(), lease(SECOND, issued=600)), 660, {}),
    "another was delivered two minutes ago": (books(lease(), lease(SECOND, issued=600)), 720, {"revoke": [FIRST]}),
    "it is being revoked already": (
        books(lease(), lease(SECOND, issued=600), busy=frozenset({("revoke", FIRST)})),
        720,
        {},
    ),
    "it could not be revoked a moment ago": (
        books(lease(), lease(SECOND, issued=600), attempts={("revoke", FIRST): failed(now=725, asked=None)}),
        720,
        {},
    ),
    "two were issued in the same moment": (books(lease(), lease(SECOND)), 130, {"revoke": [FIRST]}),
    "an orphan, and nothing was ever delivered": (books(prepared()), 1, {"prepare": ["db"], "revoke": [SECOND]}),
    "an orphan that may be in the Secret": (books(lease(), prepared(when=600)), 601, {"prepare": ["db"]}),
    "an orphan that was replaced a minute ago": (
        books(lease(), prepared(when=600), lease("cccccccccccc", issued=605)),
        665,
        {},
    ),
    "an orphan that was replaced two minutes ago": (
        books(lease(), prepared(when=600), lease("cccccccccccc", issued=605)),
        725,
        {"revoke": [FIRST, SECOND]},
    ),
    "one is being issued": (
        books(lease(), prepared(when=600), busy=frozenset({("hold", SECOND), ("issue", "db")})),
        601,
        {},
    ),
    "one came to nothing": (
        books(lease(), replace(prepared(when=600), state=State.RETIRING, revoke_at=at(601)), attempts=ISSUE),
        601,
        {"revoke": [SECOND]},
    ),
    "one was revoked once and waits for the second time": (
        books(lease(), replace(prepared(when=400), state=State.CONFIRMING, revoke_at=at(480))),
        479,
        {},
    ),
    "one is revoked for the second time": (
        books(lease(), replace(prepared(when=400), state=State.CONFIRMING, revoke_at=at(480))),
        480,
        {"revoke": [SECOND]},
    ),
    "it cannot be replaced and has little left": (books(lease(), attempts=ISSUE), 700, {"extend": [(FIRST, 1600)]}),
    "it cannot be replaced and has enough left": (books(lease(), attempts=ISSUE), 670, {}),
    "it cannot be replaced and was renewed to the last": (
        books(lease(life=1800), attempts={("issue", "db"): failed(now=2000)}),
        1790,
        {},
    ),
    "it cannot be replaced and its issuer does not renew": (
        books(lease(), attempts={**ISSUE, ("renew", FIRST): failed(refused=True)}),
        700,
        {},
    ),
    "it ends before the new one is surely read": (
        books(lease(life=200, ttl_seconds=200), lease(SECOND, issued=133)),
        150,
        {"extend": [(FIRST, 253)]},
    ),
    "it lives until the new one is surely read": (books(lease(life=300), lease(SECOND, issued=133)), 150, {}),
    "it was renewed to the last when it was replaced, and lives until the new one is surely read": (
        books(lease(life=1800), lease(SECOND, issued=1790)),
        1791,
        {"extend": [(FIRST, 1910)]},
    ),
    "what an earlier spec asked for is not renewed": (
        books(lease(source={"role": "writer"}), attempts=ISSUE),
        700,
        {},
    ),
}


@pytest.mark.parametrize("case", RUNNING)
def test_of_an_agent_that_may_run(case: str) -> None:
    known, now, expected = RUNNING[case]
    assert done(plan(known, now=now)) == {**NOTHING_DONE, **expected}


READY: dict[str, tuple[Books, float, bool, tuple[str, ...]]] = {
    "nothing is there yet": (EMPTY, 0, False, ()),
    "it is there": (books(lease()), 1, True, ()),
    "it is there and cannot be rotated": (books(lease(), attempts=ISSUE), 700, True, ()),
    "it has ended": (books(lease()), 900, False, ("db",)),
    "it is of another source": (books(lease(source={"role": "writer"})), 1, False, ()),
    "it is not as it was delivered": (books(lease(), stale=frozenset({FIRST})), 1, False, ()),
    "it is only prepared": (books(prepared()), 1, False, ()),
    "it is retiring": (books(lease(state=State.RETIRING, revoke_at=at(5))), 1, False, ()),
    "it lives, and an orphan that may be what is read has surely ended": (
        books(lease(life=1800), prepared(when=10)),
        911,
        False,
        ("db",),
    ),
}


@pytest.mark.parametrize("case", READY)
def test_what_is_ready_and_what_has_expired(case: str) -> None:
    known, now, ready, expired = READY[case]
    made = plan(known, now=now)
    assert (made.ready, made.expired) == (ready, expired)


def test_an_agent_that_asks_for_nothing_and_has_nothing_costs_one_shared_plan() -> None:
    assert plan(wanted=()) is leases.NOTHING
    assert plan(wanted=(), runs=False) is leases.STOPPED


def test_of_an_agent_that_must_not_run_everything_is_revoked_at_once_and_its_secret_goes_with_it() -> None:
    known = books(lease(), lease(SECOND, issued=600), prepared("cccccccccccc", when=600))
    made = plan(known, now=601, runs=False)
    assert done(made) == {**NOTHING_DONE, "revoke": [FIRST, SECOND, "cccccccccccc"]}
    assert all(one.with_secret and one.again for one in made.revoke)
    assert len(made.unrevoked) == 3
    assert made.verdict is not None
    assert made.verdict.reason == "Revoking"


def test_what_is_being_issued_for_an_agent_that_must_not_run_is_waited_for() -> None:
    known = books(prepared(), busy=frozenset({("hold", SECOND), ("issue", "db")}))
    made = plan(known, runs=False)
    assert not made.revoke
    assert "when it has answered" in made.unrevoked[0]


def test_the_second_revocation_of_what_was_never_answered_is_waited_for_and_told() -> None:
    known = books(replace(prepared(), state=State.CONFIRMING, revoke_at=at(60)))
    made = plan(known, runs=False, now=1)
    assert not made.revoke
    assert made.next_look == timedelta(seconds=59)
    assert "revoked once more at" in made.unrevoked[0]
    assert plan(known, runs=False, now=60).revoke


def test_of_an_agent_that_never_comes_back_nothing_is_written_down_before_it_is_revoked() -> None:
    made = plan(books(lease()), runs=False, deletionTimestamp="2026-03-01T12:00:00Z", finalizers=[FINALIZER])
    assert [one.again for one in made.revoke] == [False]


def test_what_nobody_asks_for_any_more_retires_and_its_secret_goes_with_the_last_of_it() -> None:
    made = plan(books(lease(), prepared()), wanted=(), now=10)
    assert [(one.id, one.revoke_at) for one in made.retire] == [(FIRST, at(130))]
    assert [(one.lease.id, one.with_secret) for one in made.revoke] == [(SECOND, False)]
    retired = books(replace(lease(), state=State.RETIRING, revoke_at=at(130)))
    assert not plan(retired, wanted=(), now=129).revoke
    assert [one.with_secret for one in plan(retired, wanted=(), now=130).revoke] == [True]


def test_the_secret_goes_with_what_is_revoked_last_also_while_another_is_being_revoked() -> None:
    left = [lease(name, state=State.RETIRING, revoke_at=at(5)) for name in (FIRST, SECOND)]
    made = plan(books(*left, busy=frozenset({("revoke", FIRST)})), wanted=(), now=5)
    assert [(one.lease.id, one.with_secret) for one in made.revoke] == [(SECOND, True)]


def test_what_is_asked_for_again_is_issued_only_when_its_secret_is_surely_gone() -> None:
    going = books(replace(lease(), state=State.RETIRING, revoke_at=at(5)), busy=frozenset({("revoke", FIRST)}))
    assert not plan(going, now=6).prepare
    assert plan(books(replace(lease(), state=State.RETIRING, revoke_at=at(5))), now=4).prepare


def test_an_issuer_that_is_down_does_not_fill_the_books() -> None:
    left = [replace(prepared(f"{number:012d}"), state=State.RETIRING, revoke_at=at(0)) for number in range(3)]
    waiting = {("revoke", one.id): failed(now=50, asked=None) for one in left}
    assert plan(books(*left[:2], attempts=waiting), now=1).prepare
    assert not plan(books(*left, attempts=waiting), now=1).prepare


def test_crashes_while_a_lease_was_issued_keep_nobody_from_issuing_the_next() -> None:
    orphans = [prepared(f"{number:012d}", when=601 + number) for number in range(3)]
    assert plan(books(lease(), *orphans), now=700).prepare
    # By then they are to be revoked: what fails is the issuer, and with one for each try it would fill the books.
    assert not plan(books(lease(life=1800), *orphans), now=601 + 2 + 900).prepare


FINALIZERS: dict[str, tuple[Books, bool, dict[str, Any], tuple[bool, bool]]] = {
    "something outside is left": (books(lease()), False, {}, (False, False)),
    "something is being done": (Books(busy=frozenset({("issue", "db")})), False, {}, (False, False)),
    "only a copy is left": (books(lease(external=False)), False, {}, (True, False)),
    "nothing is left": (EMPTY, False, {}, (True, False)),
    "nothing is there yet, and it is asked for": (EMPTY, True, {}, (False, False)),
    "it is being deleted": (books(lease()), False, {"deletionTimestamp": "2026-03-01T11:59:00Z"}, (False, False)),
    "its deletion has waited long enough": (
        books(lease()),
        False,
        {"deletionTimestamp": "2026-03-01T11:50:00Z"},
        (False, True),
    ),
}


@pytest.mark.parametrize("case", FINALIZERS)
def test_the_finalizer_goes_when_nothing_outside_is_left_or_the_patience_ends(case: str) -> None:
    known, runs, metadata, expected = FINALIZERS[case]
    made = plan(known, runs=runs, finalizers=[FINALIZER, "example.test/other"], **metadata)
    assert (made.release, made.give_up) == expected
    without = plan(known, runs=runs, finalizers=["example.test/other"], **metadata)
    assert (without.release, without.give_up) == (False, False)


UNWRITTEN: Any = {RELEASE: failed(now=60, asked=None)}
TRIED_AGAIN: dict[str, tuple[Books, bool, str]] = {
    "of an agent that runs": (Books(attempts=UNWRITTEN), True, "2026-03-01T11:59:00Z"),
    "of one that is deleted": (Books(attempts=UNWRITTEN), False, "2026-03-01T11:59:00Z"),
    "of one whose deletion has waited long enough": (
        books(lease(), attempts={**UNWRITTEN, ("revoke", FIRST): failed(now=3600, asked=None)}),
        False,
        "2026-03-01T11:50:00Z",
    ),
}


@pytest.mark.parametrize("case", TRIED_AGAIN)
def test_a_finalizer_that_could_not_be_taken_off_is_tried_again_after_its_wait(case: str) -> None:
    known, runs, deleted = TRIED_AGAIN[case]
    metadata: Any = {"finalizers": [FINALIZER], "deletionTimestamp": deleted}
    waiting = plan(known, runs=runs, wanted=(), **metadata)
    assert (waiting.release, waiting.give_up, waiting.next_look) == (False, False, timedelta(seconds=60))
    due = plan(known, runs=runs, wanted=(), now=60, **metadata)
    assert due.release or due.give_up


def test_a_record_that_could_not_be_retired_is_tried_again_after_its_wait() -> None:
    known = books(lease(), attempts={("retire", FIRST): failed(now=5, asked=None)})
    waiting = plan(known, wanted=())
    assert (waiting.retire, waiting.next_look) == ((), timedelta(seconds=5))
    assert plan(known, wanted=(), now=5).retire


def test_the_end_of_the_patience_is_looked_for() -> None:
    attempts = {("revoke", FIRST): failed(now=3600, asked=None)}
    metadata: Any = {"deletionTimestamp": "2026-03-01T11:59:00Z", "finalizers": [FINALIZER]}
    assert plan(books(lease(), attempts=attempts), runs=False, **metadata).next_look == timedelta(seconds=540)


STATES: dict[str, tuple[Books, float, str, str, str]] = {
    "nothing is there yet": (EMPTY, 0, "Pending", "False", "are being issued"),
    "it failed": (Books(attempts=ISSUE), 0, "Failing", "False", "nobody answers"),
    "it is there": (books(lease()), 1, "Active", "True", "1 of 1"),
    "it is rotated": (books(lease(), busy=frozenset({("issue", "db")})), 610, "Rotating", "True", "1 of 1"),
    "it cannot be rotated": (books(lease(), attempts=ISSUE), 650, "Failing", "True", "nobody answers"),
    "it has ended": (books(lease(), attempts=ISSUE), 900, "Expired", "False", "ended and could not be replaced"),
    "it is of another source": (books(lease(source={"role": "writer"})), 1, "Rotating", "False", "as the spec asks"),
}


@pytest.mark.parametrize("case", STATES)
def test_what_the_status_says(case: str) -> None:
    known, now, state, ready, words = STATES[case]
    made = plan(known, now=now)
    assert [(one["name"], one["issuer"], one["state"]) for one in made.entries] == [("db", "pg", state)]
    assert made.verdict is not None
    assert made.verdict.status == ready
    assert words in made.verdict.message


def test_an_entry_of_the_status_says_when_it_was_issued_rotates_and_ends() -> None:
    (entry,) = plan(books(lease()), now=1).entries
    assert entry["lease"] == FIRST
    assert entry["issuedAt"] == "2026-03-01T12:00:00.000000Z"
    assert entry["expiresAt"] == "2026-03-01T12:15:00.000000Z"
    assert "2026-03-01T12:09:00" < entry["rotatesAt"] <= "2026-03-01T12:10:00.000000Z"
    assert entry["message"] == f"role {FIRST}"


def test_no_more_is_told_than_the_schema_takes() -> None:
    many = [lease(f"{number:012d}", credential=f"db-{number}", description="x" * 900) for number in range(40)]
    attempts = {("revoke", one.id): Attempt(failures=1, next_at=at(5), message="y" * 900) for one in many}
    made = plan(books(*many, attempts=attempts), runs=False)
    assert len(made.entries) == len(made.unrevoked) == 16
    assert made.unrevoked[-1] == "and 25 more"
    assert all(len(one) <= 512 for one in made.unrevoked)
    assert all(len(one["message"]) <= 512 for one in made.entries)


def test_leases_issued_together_are_not_rotated_together() -> None:
    times = [leaseschedule.rotates_at(lease(f"{number:012d}"), WISH) for number in range(1000)]
    assert min(times) >= at(900 * (2 / 3 - 1 / 20))
    assert max(times) <= at(600)
    seconds = {int((one - NOW).total_seconds()) for one in times}
    assert len(seconds) > 40


def test_a_shorter_time_to_live_in_the_spec_counts_at_once() -> None:
    assert not plan(books(lease()), now=100).prepare
    assert plan(books(lease()), now=100, wanted=(replace(WISH, ttl_seconds=60),)).prepare


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        (books(lease(state=State.RETIRING, revoke_at=at(50)), attempts={("issue", "db"): failed(now=60)}), 10, 40),
        (Books(attempts={("issue", "db"): failed(now=60)}), 10, 50),
        (books(lease(), lease(SECOND, issued=600)), 610, 110),
    ],
)
def test_the_next_look_is_at_the_first_thing_that_time_alone_brings(known: Books, now: float, expected: float) -> None:
    assert plan(known, now=now).next_look == timedelta(seconds=expected)


def test_what_a_spec_asks_for_as_plain_data() -> None:
    spec = parse_spec(
        {
            "owner": "team-a",
            "image": "example.test/scout:1",
            "credentials": [
                {"name": "db", "postgres": {"issuer": "pg", "role": "reader"}},
                {"name": "copy", "ttlSeconds": 60, "secret": {"namespace": "shared", "name": "m", "keys": ["k"]}},
            ],
        },
        name="scout",
    )
    first, second = leases.asked(spec.credentials)
    assert first == WISH
    assert first.external
    assert (second.issuer, second.ttl_seconds, second.external) == ("secret", 60, False)
    assert second.source == {"namespace": "shared", "name": "m", "keys": ["k"]}
