"""The state machine of a breaker: every state, every event."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bulkhead.plan import breaker
from bulkhead.plan.breaker import Decision, cool_down, forgiven, step
from bulkhead.plan.breakerrules import Closing, Counting, Patience, Rules
from bulkhead.plan.circuit import MAX_TRIPS, Circuit, Counted, Occurrence, State, Trip, TripType
from bulkhead.plan.querytrips import UNQUIET_LOOK, Sight, View
from bulkhead.plan.trips import Evidence
from tests.unit.plan.samples import NOW, UID

COOL_DOWN = timedelta(seconds=30)
TRIAL = timedelta(seconds=300)
MINUTES = timedelta(seconds=600)
RULES = Rules(
    restarts=(Counting(count=3, window=MINUTES, by="SandboxPolicy default"),),
    out_of_memory=(Counting(count=2, window=MINUTES, by="SandboxPolicy default"),),
    start=Patience(limit=MINUTES, by="SandboxPolicy default"),
    blind={"default": timedelta(seconds=300)},
    closing=Closing(cool_down=COOL_DOWN, max_attempts=2, trial=TRIAL),
)
MANUAL = replace(RULES, closing=replace(RULES.closing, manual=True))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def occurrence(seconds: float = 0, kind: TripType = TripType.RESTARTS, count: int = 1) -> Occurrence:
    return Occurrence(at=ago(seconds), type=kind, pod_uid="pod-0", container="agent", count=count)


def trip(kind: TripType = TripType.ISOLATION_LOST, at: datetime = NOW, **known: Any) -> Trip:
    return Trip(type=kind, at=at, message="it reached the metadata service", **known)


CLOSED = Circuit(since=ago(1000))
OPEN = Circuit(
    state=State.OPEN,
    since=ago(20),
    trips=(trip(at=ago(20)),),
    attempts=1,
    retry_at=ago(-10),
    window=(occurrence(30), occurrence(25)),
)
DUE = replace(OPEN, since=ago(40), retry_at=ago(0), trips=(trip(at=ago(40)),))
FOR_GOOD = replace(OPEN, retry_at=None, attempts=3)
HALF_OPEN = Circuit(state=State.HALF_OPEN, since=ago(50), trips=(trip(at=ago(100)),), attempts=1)
ON_TRIAL = replace(HALF_OPEN, trial_ends_at=ago(-200))
TRIED = replace(HALF_OPEN, trial_ends_at=ago(0))
CLOSED_AGAIN = Circuit(since=ago(299), trips=HALF_OPEN.trips, attempts=1)

QUIET = Evidence(ready=True)
UNREADY = Evidence(ready=False)
LOST = Evidence(ready=True, standing=(trip(),))
ONE_RESTART = Evidence(ready=True, occurrences=(occurrence(),))
THREE_RESTARTS = Evidence(ready=True, occurrences=(occurrence(), occurrence(5, count=2)))
OLD_RESTARTS = Evidence(ready=True, occurrences=(occurrence(601, count=9), occurrence()))
TWO_OOMS = Evidence(
    ready=True, occurrences=(occurrence(1, TripType.OUT_OF_MEMORY), occurrence(0, TripType.OUT_OF_MEMORY))
)
UNQUIET = Evidence(unquiet=("its pods are not gone yet",))
BLIND = Evidence(ready=True, sight=Sight(view=View.BLIND, since=ago(10), problems=("query default/rate fails",)))
UNSEEN = Evidence(ready=True, sight=Sight(view=View.UNKNOWN))

RESET = ago(0)
EARLY_RESET = ago(500)
LATER = ago(-60)


def stepped(
    circuit: Circuit,
    evidence: Evidence = QUIET,
    *,
    rules: Rules = RULES,
    reset_at: datetime | None = None,
    runs_possible: bool = True,
    now: datetime = NOW,
) -> tuple[Circuit, Decision]:
    return step(
        circuit, rules=rules, evidence=evidence, reset_at=reset_at, runs_possible=runs_possible, seed=UID, now=now
    )


C, H, O = State.CLOSED, State.HALF_OPEN, State.OPEN  # noqa: E741 (the states, in a table)
EVENTS: dict[str, dict[str, Any]] = {
    "nothing happens": {},
    "it is not ready": {"evidence": UNREADY},
    "isolation is lost, a query trips, or an alert fires": {"evidence": LOST},
    "one restart": {"evidence": ONE_RESTART},
    "as many restarts as are too many": {"evidence": THREE_RESTARTS},
    "one restart after many long ago": {"evidence": OLD_RESTARTS},
    "as many ends for want of memory as are too many": {"evidence": TWO_OOMS},
    "something still speaks against it": {"evidence": UNQUIET},
    "it cannot see": {"evidence": BLIND},
    "nothing was evaluated yet": {"evidence": UNSEEN},
    "something else stops it": {"runs_possible": False},
    "a reset": {"reset_at": RESET},
    "a reset from before the trip": {"reset_at": EARLY_RESET},
    "a reset in the future": {"reset_at": LATER},
    "a reset, and isolation is lost": {"reset_at": RESET, "evidence": LOST},
    "policies say Manual": {"rules": MANUAL},
}
TABLE: dict[str, tuple[Circuit, tuple[State, ...]]] = {
    # In the order of the events.
    "Closed": (CLOSED, (C, C, O, C, O, C, O, C, C, C, C, C, C, C, O, C)),
    "Closed after a trial": (CLOSED_AGAIN, (C, C, O, C, O, C, O, C, C, C, C, C, C, C, O, C)),
    "Open": (OPEN, (O, O, O, O, O, O, O, O, O, O, O, C, O, O, O, O)),
    "Open, and its time has come": (DUE, (H, H, H, H, H, H, H, O, H, H, O, C, H, H, O, O)),
    "Open for good": (FOR_GOOD, (O, O, O, O, O, O, O, O, O, O, O, C, O, O, O, O)),
    "HalfOpen, not ready yet": (HALF_OPEN, (H, H, O, O, O, O, O, H, H, H, H, C, H, H, O, H)),
    "HalfOpen, on trial": (ON_TRIAL, (H, H, O, O, O, O, O, H, H, H, H, C, H, H, O, H)),
    "HalfOpen, and the trial is over": (TRIED, (C, H, O, O, O, O, O, H, H, H, H, C, C, C, O, C)),
}
CASES = [
    pytest.param(circuit, event, after, id=f"{name}: {what}")
    for name, (circuit, states) in TABLE.items()
    for (what, event), after in zip(EVENTS.items(), states, strict=True)
]


@pytest.mark.parametrize(("circuit", "event", "after"), CASES)
def test_each_state_and_each_event_leads_to_one_state(circuit: Circuit, event: dict[str, Any], after: State) -> None:
    found, decision = stepped(circuit, **event)
    assert found.state is after
    assert decision.open is (after is State.OPEN)
    assert bool(decision.message) is decision.open


@pytest.mark.parametrize(("circuit", "event", "after"), CASES)
def test_the_same_again_changes_nothing_more_but_to_run_a_trial(
    circuit: Circuit, event: dict[str, Any], after: State
) -> None:
    first, _ = stepped(circuit, **event)
    told_once = {**event, "evidence": replace(event.get("evidence", QUIET), occurrences=())}
    again, _ = stepped(first, **told_once)
    if again.state is first.state:
        assert replace(again, trial_ends_at=first.trial_ends_at, blind_since=first.blind_since) == first
    else:
        assert first.state is State.HALF_OPEN, "no other state is passed through at once"


def test_a_breaker_that_opens_keeps_the_evidence_and_when_it_is_tried_again() -> None:
    found, decision = stepped(CLOSED, THREE_RESTARTS)
    (tripped,) = found.trips
    assert (tripped.type, tripped.value, tripped.threshold, tripped.at) == (TripType.RESTARTS, "3", "3 in 600 s", NOW)
    assert (found.since, found.attempts) == (NOW, 1)
    assert found.retry_at is not None and COOL_DOWN <= found.retry_at - NOW <= 1.2 * COOL_DOWN
    assert decision.next_look == found.retry_at - NOW
    assert decision.message == decision.verdict.message
    assert (decision.verdict.status, decision.verdict.reason) == ("False", "Open")
    assert "restarted 3 times within 600 s, and SandboxPolicy default opens at 3" in decision.message
    assert "it is tried again at 2026-03-01T12:00:" in decision.message


@pytest.mark.parametrize(("attempts", "tried_again"), [(0, True), (1, True), (2, False), (9, False)])
def test_after_the_last_attempt_only_a_reset_closes_it(attempts: int, *, tried_again: bool) -> None:
    found, decision = stepped(replace(HALF_OPEN, attempts=attempts), LOST)
    assert found.attempts == attempts + 1
    assert (found.retry_at is not None) is tried_again
    assert ("spec.circuitBreaker.resetAt is set to a time after that" in decision.message) is not tried_again


def test_a_policy_that_turns_manual_holds_an_open_breaker_and_one_that_turns_back_lets_it_try() -> None:
    held, _ = stepped(OPEN, rules=MANUAL)
    assert held.retry_at is None
    freed, _ = stepped(held)
    assert freed.retry_at is not None and freed.retry_at - ago(20) >= COOL_DOWN


def test_a_cool_down_that_is_shortened_does_not_shorten_what_is_on_record() -> None:
    short = replace(RULES, closing=replace(RULES.closing, cool_down=timedelta(seconds=10)))
    assert stepped(OPEN, rules=short)[0].retry_at == OPEN.retry_at


@pytest.mark.parametrize("seed", ["a", "b", "c"])
@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 30), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (10**9, 3600)]
)
def test_the_cool_down_doubles_up_to_an_hour_and_is_spread_by_a_fifth(attempts: int, seconds: int, seed: str) -> None:
    found = cool_down(RULES.closing, attempts, seed=seed).total_seconds()
    assert seconds <= found <= 1.2 * seconds
    assert found == cool_down(RULES.closing, attempts, seed=seed).total_seconds(), "every replica draws the same"


def test_agents_that_tripped_together_do_not_come_back_together() -> None:
    assert len({cool_down(RULES.closing, 1, seed=f"uid-{one}") for one in range(50)}) == 50


def test_a_cool_down_that_is_longer_than_an_hour_stays_as_it_is() -> None:
    day = Closing(cool_down=timedelta(days=1))
    assert timedelta(days=1) <= cool_down(day, 5, seed="a") <= timedelta(days=1.2)


def test_a_trial_begins_when_the_agent_is_ready_and_not_before() -> None:
    assert stepped(HALF_OPEN, UNREADY)[0].trial_ends_at is None
    begun, decision = stepped(HALF_OPEN)
    assert begun.trial_ends_at == NOW + TRIAL
    assert decision.next_look == TRIAL
    assert (decision.verdict.status, decision.verdict.reason) == ("False", "HalfOpen")


def test_a_trial_that_somebody_interrupts_begins_anew() -> None:
    stopped, _ = stepped(ON_TRIAL, runs_possible=False)
    assert stopped.state is State.HALF_OPEN
    assert stopped.trial_ends_at is None


def test_attempts_are_forgiven_after_as_long_again_as_the_trial() -> None:
    kept, decision = stepped(CLOSED_AGAIN)
    assert (kept.attempts, decision.next_look) == (1, timedelta(seconds=1))
    assert stepped(replace(CLOSED_AGAIN, since=ago(300)))[0].attempts == 0


def test_a_trip_before_attempts_are_forgiven_lengthens_the_cool_down() -> None:
    found, _ = stepped(CLOSED_AGAIN, LOST)
    assert found.attempts == 2
    assert found.retry_at is not None and found.retry_at - NOW >= 2 * COOL_DOWN


def test_a_try_begins_with_nothing_counted() -> None:
    found, _ = stepped(DUE)
    assert (found.state, found.window, found.since, found.attempts) == (State.HALF_OPEN, (), NOW, 1)
    assert found.trips == DUE.trips, "why it had opened stays on record"


def test_what_still_speaks_against_a_try_is_told_and_looked_at_again() -> None:
    _, decision = stepped(DUE, UNQUIET)
    assert "its pods are not gone yet" in decision.message
    assert decision.next_look == UNQUIET_LOOK


def test_what_somebody_else_holds_is_not_looked_at_again_and_again() -> None:
    assert stepped(DUE, UNQUIET, runs_possible=False)[1].next_look is None
    assert stepped(OPEN, UNQUIET, runs_possible=False)[1].next_look == timedelta(seconds=10), "until its time has come"


def test_an_open_breaker_learns_of_other_alerts_and_of_a_lost_isolation_and_holds_as_long() -> None:
    news = (trip(TripType.ALERT, name="Loop", value="T"), trip(), trip(TripType.CANNOT_START))
    opened = replace(OPEN, trips=(trip(TripType.RESTARTS, at=ago(20)),))
    found, _ = stepped(opened, Evidence(standing=news))
    assert [one.type for one in found.trips] == [TripType.RESTARTS, TripType.ALERT, TripType.ISOLATION_LOST]
    assert (found.since, found.retry_at, found.attempts) == (OPEN.since, OPEN.retry_at, 1)


def test_no_more_trips_are_kept_than_a_status_holds() -> None:
    many = tuple(trip(TripType.ALERT, name=f"Alert{number}", value="T") for number in range(40))
    opened, _ = stepped(CLOSED, Evidence(standing=many))
    assert len(opened.trips) == 16
    assert len(stepped(opened, Evidence(standing=many[::-1]))[0].trips) == 16


def test_a_reset_forgives_once() -> None:
    closed, _ = stepped(OPEN, reset_at=RESET)
    assert (closed.state, closed.attempts, closed.window, closed.reset_at) == (State.CLOSED, 0, (), RESET)
    opened, _ = stepped(closed, LOST, reset_at=RESET)
    assert opened.state is State.OPEN
    assert stepped(opened, reset_at=RESET, now=NOW + timedelta(seconds=5))[0].state is State.OPEN


def test_a_reset_from_before_a_trip_forgives_nothing_after_the_breaker_closed_again() -> None:
    assert stepped(CLOSED_AGAIN, reset_at=EARLY_RESET)[0] == CLOSED_AGAIN


def test_a_reset_empties_the_window_of_a_closed_breaker() -> None:
    counting = replace(CLOSED, window=(occurrence(9), occurrence(8)), attempts=1)
    found, _ = stepped(counting, ONE_RESTART, reset_at=RESET)
    assert (found.state, found.attempts, found.window) == (State.CLOSED, 0, (occurrence(),))
    assert found.since == CLOSED.since


def test_a_reset_in_the_future_says_so_and_is_looked_at_when_it_comes() -> None:
    _, decision = stepped(FOR_GOOD, reset_at=LATER)
    assert "does nothing until 2026-03-01T12:01:00Z" in decision.message
    assert decision.next_look == timedelta(seconds=60)
    assert stepped(FOR_GOOD, reset_at=LATER, now=LATER)[0].state is State.CLOSED


def test_a_reset_far_in_the_future_is_looked_at_in_an_hour() -> None:
    assert stepped(FOR_GOOD, reset_at=NOW + timedelta(days=9999))[1].next_look == timedelta(hours=1)


def test_a_reset_remembers_the_counters_so_that_nothing_is_counted_twice() -> None:
    known = replace(OPEN, counted=(Counted(pod_uid="pod-0", container="agent", restarts=3),))
    assert forgiven(known, RESET, now=NOW).counted == known.counted


@pytest.mark.parametrize("back", [1, 3600, 10**7])
def test_a_clock_that_steps_back_never_shortens_a_hold(back: int) -> None:
    then = NOW - timedelta(seconds=back)
    for circuit in (OPEN, DUE):
        assert stepped(circuit, now=then)[0].state is State.OPEN
    for circuit in (ON_TRIAL, TRIED):
        assert stepped(circuit, now=then)[0].state is State.HALF_OPEN


def test_what_happened_ahead_of_a_clock_that_stepped_back_counts() -> None:
    counting = replace(CLOSED, window=(occurrence(-100), occurrence(-90)))
    assert stepped(counting, ONE_RESTART)[0].state is State.OPEN


def test_what_cannot_be_seen_is_unknown_and_nothing_closes_meanwhile() -> None:
    found, decision = stepped(TRIED, BLIND)
    assert found.state is State.HALF_OPEN
    assert found.blind_since == ago(10)
    assert (decision.verdict.status, decision.verdict.reason) == ("Unknown", "Blind")
    assert "query default/rate fails" in decision.verdict.message


def test_a_closed_breaker_says_the_same_as_long_as_nothing_happens() -> None:
    first, decision = stepped(CLOSED)
    assert first == CLOSED
    assert decision == stepped(CLOSED, now=NOW + timedelta(hours=5))[1]
    assert (decision.verdict.status, decision.verdict.reason) == ("True", "Closed")


def test_a_breaker_of_a_new_agent_is_closed_since_now() -> None:
    assert stepped(Circuit())[0] == Circuit(since=NOW)


def test_old_occurrences_are_dropped_when_new_ones_come_and_not_before() -> None:
    counting = replace(CLOSED, window=(occurrence(5000),))
    assert stepped(counting)[0] == counting, "that time passes is no reason to write a status"
    assert stepped(counting, ONE_RESTART)[0].window == (occurrence(),)


def test_a_breaker_whose_record_made_no_sense_is_closed_by_a_reset_alone() -> None:
    lost = Circuit(state=State.OPEN, since=ago(9999), trips=(trip(TripType.UNREADABLE, ago(9999)),), attempts=1)
    found, _ = stepped(lost)
    assert (found.state, found.retry_at) == (State.OPEN, None)
    assert stepped(lost, reset_at=RESET)[0].state is State.CLOSED


def test_of_many_trips_the_first_are_told_in_words() -> None:
    many = tuple(trip(TripType.ALERT, name=f"Alert{number}", value="T") for number in range(16))
    _, decision = stepped(CLOSED, Evidence(standing=many))
    assert "; and 13 more" in decision.message
    assert breaker.TRIPS_TOLD == 3


def test_an_alert_that_opened_before_is_remembered_when_something_else_opens() -> None:
    alert = trip(TripType.ALERT, at=ago(100), name="Loop", value="v")
    after, decision = stepped(replace(ON_TRIAL, trips=(alert, trip(at=ago(100)))), ONE_RESTART)
    assert [one.type for one in after.trips] == [TripType.RESTARTS, TripType.ALERT]
    assert [one.type for one in after.last_opened_by] == [TripType.RESTARTS]
    assert alert.message not in decision.message

    again, _ = stepped(replace(ON_TRIAL, trips=(alert,)), replace(LOST, standing=(replace(alert, at=NOW),)))
    assert [(one.type, one.at) for one in again.trips] == [(TripType.ALERT, NOW)]


def test_the_alerts_that_are_remembered_are_no_more_than_a_status_lists() -> None:
    alerts = tuple(trip(TripType.ALERT, at=ago(100), name=f"a{one}") for one in range(MAX_TRIPS))
    after, _ = stepped(replace(ON_TRIAL, trips=alerts), ONE_RESTART)
    assert after.trips[0].type is TripType.RESTARTS
    assert len(after.trips) == MAX_TRIPS
