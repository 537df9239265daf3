"""What one query's answers and failures mean for each agent that asks for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan.signals import Limit, Query, trips
from bulkhead.signals.track import Source, Track, Verdict

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = ("research", "a"), ("research", "b")
KEY = ("default", "calls")


def query(*, above: float = 100, duration: int = 0, interval: int = 15, policy: str = "default") -> Query:
    return Query(
        policy=policy,
        name="calls",
        expression="calls",
        interval=timedelta(seconds=interval),
        limit=Limit(above=above),
        duration=timedelta(seconds=duration),
    )


def track(*agents: tuple[str, str], asked: Query | None = None) -> Track:
    asked = asked or query()
    made = Track(Source.of(asked))
    for agent in agents:
        assert made.join(agent, asked) is Verdict.UNKNOWN
    return made


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_before_the_first_answer_nothing_is_said() -> None:
    made = track(A)
    assert made.reading(A, KEY) is None
    assert made.sample(A, KEY) is None


def test_an_answer_is_told_once_and_a_change_again() -> None:
    made = track(A, B)
    assert made.answered({A: 1, B: 200}, {}, at=at(0)) == {A, B}
    assert made.answered({A: 2, B: 300}, {}, at=at(15)) == set()
    assert made.answered({A: 101, B: 300}, {}, at=at(30)) == {A}
    assert made.answered({A: 101}, {}, at=at(45)) == {B}
    sample = made.sample(A, KEY)
    assert sample is not None
    assert (sample.value, sample.at, sample.exceeds_since) == (101, at(45), at(30))
    assert made.sample(B, KEY) is None
    reading = made.reading(B, KEY)
    assert reading is not None and reading.ok and reading.since == NOW and reading.at == at(45)


def test_each_agent_is_judged_by_its_own_limit() -> None:
    made = track(A)
    made.join(B, query(above=10))
    made.answered({A: 50, B: 50}, {}, at=at(0))
    assert [bool(one and one.exceeds_since) for one in (made.sample(A, KEY), made.sample(B, KEY))] == [False, True]


def test_a_limit_that_is_tightened_is_applied_to_what_is_known() -> None:
    made = track(A)
    made.answered({A: 50}, {}, at=at(0))
    assert made.join(A, query(above=10)) is Verdict.TRIPPED
    assert made.answered({A: 50}, {}, at=at(15)) == set()


def test_an_agent_that_asks_later_is_not_said_to_have_no_series() -> None:
    made = track(A)
    made.answered({A: 1, B: 200}, {}, at=at(0))
    assert made.join(B, query()) is Verdict.UNKNOWN
    assert (made.reading(B, KEY), made.sample(B, KEY)) == (None, None)
    assert made.answered({A: 1, B: 200}, {}, at=at(15)) == {B}
    assert made.reading(B, KEY) is not None and made.sample(B, KEY) is not None


def test_a_limit_with_a_duration_trips_at_the_sample_that_completes_it() -> None:
    asked = query(duration=30)
    made = track(A, asked=asked)
    told = [made.answered({A: value}, {}, at=at(seconds)) for seconds, value in ((0, 200), (15, 200), (30, 200))]
    assert told == [{A}, set(), {A}]
    sample = made.sample(A, KEY)
    assert sample is not None and trips(asked, sample)
    made.answered({A: 1}, {}, at=at(45))
    made.answered({A: 200}, {}, at=at(60))
    sample = made.sample(A, KEY)
    assert sample is not None and sample.exceeds_since == at(60)


def test_a_failure_between_two_samples_does_not_start_the_duration_anew() -> None:
    made = track(A, asked=query(duration=30))
    made.answered({A: 200}, {}, at=at(0))
    made.failed("it cannot be reached", at=at(15))
    assert made.answered({A: 200}, {}, at=at(30)) == {A}


def test_one_failure_is_nothing_and_several_that_last_are_blindness() -> None:
    made = track(A, B)
    made.answered({A: 1}, {}, at=at(0))
    assert made.failed("gone", at=at(15)) == set()
    assert made.failed("gone", at=at(17)) == set()
    reading = made.reading(A, KEY)
    assert reading is not None and reading.ok
    assert made.failed("gone", at=at(31)) == {A, B}
    reading = made.reading(A, KEY)
    assert reading is not None
    assert (reading.ok, reading.problem, reading.since) == (False, "gone", at(15))
    assert made.failed("gone", at=at(60)) == set()
    assert made.answered({A: 1}, {}, at=at(75)) == {A, B}
    reading = made.reading(A, KEY)
    assert reading is not None
    assert (reading.ok, reading.problem, reading.since) == (True, "", at(75))


@pytest.mark.parametrize(("interval", "sure"), [(5, 5), (15, 15), (30, 30), (3600, 30)])
def test_it_is_sure_of_its_blindness_after_an_interval_or_half_a_minute(interval: int, sure: int) -> None:
    made = track(A, asked=query(interval=interval))
    made.failed("gone", at=at(0))
    assert made.failed("gone", at=at(sure - 1)) == set()
    assert made.failed("gone", at=at(sure)) == {A}


def test_who_asks_a_query_that_has_no_answer_is_told_so() -> None:
    made = track(A)
    made.failed("gone", at=at(0))
    made.failed("gone", at=at(30))
    assert made.join(B, query()) is Verdict.BLIND
    reading = made.reading(B, KEY)
    assert reading is not None and not reading.ok


def test_who_leaves_is_not_told_any_more_and_who_comes_back_begins_anew() -> None:
    made = track(A, B)
    made.answered({A: 200, B: 1}, {}, at=at(0))
    made.leave(A, KEY)
    assert made.answered({A: 200, B: 1}, {}, at=at(15)) == set()
    assert made.join(A, query()) is Verdict.UNKNOWN
    made.leave(A, KEY)
    made.leave(B, KEY)
    made.leave(B, KEY)
    assert made.empty


def test_a_query_of_two_policies_is_one_with_two_limits() -> None:
    made = track(A)
    other = query(above=10, policy="strict")
    made.join(A, other)
    made.answered({A: 50}, {}, at=at(0))
    loose, strict = made.sample(A, KEY), made.sample(A, other.key)
    assert loose is not None and strict is not None
    assert (loose.exceeds_since, strict.exceeds_since) == (None, NOW)


def test_a_baseline_is_judged_against_what_is_normal_for_the_agent() -> None:
    asked = Query(
        policy="default",
        name="calls",
        expression="calls",
        baseline="normal",
        interval=timedelta(seconds=15),
        limit=Limit(times=10, at_least=20),
    )
    made = track(A, B, asked=asked)
    made.answered({A: 100, B: 100}, {A: 1, B: 50}, at=at(0))
    first, second = made.sample(A, KEY), made.sample(B, KEY)
    assert first is not None and second is not None
    assert (first.normal, trips(asked, first), trips(asked, second)) == (1, True, False)


STEPS = st.lists(
    st.tuples(st.sampled_from(["answer", "fail", "join", "leave"]), st.floats(0, 200), st.floats(-100, 100)),
    max_size=40,
)


@given(STEPS, st.integers(0, 60))
def test_whatever_happens_who_is_told_nothing_has_the_verdict_of_before(
    steps: list[tuple[str, float, float]], duration: int
) -> None:
    asked = query(duration=duration)
    made = track(A, asked=asked)
    now, there = NOW, True

    def verdict() -> tuple[object, ...]:
        reading, sample = made.reading(A, KEY), made.sample(A, KEY)
        if reading is None or not reading.ok:
            return (reading is not None,)
        return (True, sample is not None, sample is not None and trips(asked, sample))

    for what, value, seconds in steps:
        before = verdict()
        now += timedelta(seconds=seconds)
        match what:
            case "answer":
                told = made.answered({A: value} if value < 150 else {}, {}, at=now)
            case "fail":
                told = made.failed("gone", at=now)
            case "join":
                there, before = True, (made.join(A, asked), *before)
                continue
            case _:
                made.leave(A, KEY)
                there = False
                continue
        if there:
            assert (A in told) or verdict() == before
        sample = made.sample(A, KEY)
        assert sample is None or sample.exceeds_since is None or sample.exceeds_since <= sample.at
