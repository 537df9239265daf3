"""When a sample trips, and the record that an alert is kept in."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import alertrecord
from bulkhead.plan.signals import Alert, Limit, Query, Sample, exceeds, threshold, trips

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGENT = ("research", "researcher")
BASELINE = Limit(times=10, at_least=20)

JUDGED = {
    "a value above": (Limit(above=100), 100.1, None, True),
    "a value that is the limit": (Limit(above=100), 100.0, None, False),
    "a value below": (Limit(below=1), 0.9, None, True),
    "the least that is accepted": (Limit(below=1), 1.0, None, False),
    "zero, where no more is accepted": (Limit(above=0), 0.0, None, False),
    "ten times and more of what is normal": (BASELINE, 51.0, 5.0, True),
    "ten times of what is normal": (BASELINE, 50.0, 5.0, False),
    "many times of next to nothing": (BASELINE, 19.0, 0.1, False),
    "many times of nothing, and enough": (BASELINE, 20.0, 0.0, True),
    "enough, and nothing is known to be normal": (BASELINE, 1e6, None, False),
    "enough, and what is normal is no number": (BASELINE, 1e6, math.nan, False),
}


def query(limit: Limit, *, seconds: int = 0) -> Query:
    return Query(
        policy="default",
        name="calls",
        expression="calls",
        interval=timedelta(seconds=15),
        limit=limit,
        duration=timedelta(seconds=seconds),
    )


@pytest.mark.parametrize(("limit", "value", "normal", "over"), JUDGED.values(), ids=JUDGED)
def test_a_value_exceeds_a_limit_only_beyond_it(limit: Limit, value: float, normal: float | None, over: bool) -> None:
    assert exceeds(limit, value, normal) is over
    sample = Sample(value=value, at=NOW, normal=normal, exceeds_since=NOW if over else None)
    assert trips(query(limit), sample) is over


@pytest.mark.parametrize(
    ("lasted", "tripped"), [(None, False), (0, False), (59, False), (60, True), (600, True)], ids=str
)
def test_a_limit_with_a_duration_trips_when_it_was_exceeded_for_so_long(lasted: int | None, tripped: bool) -> None:
    since = None if lasted is None else NOW - timedelta(seconds=lasted)
    assert trips(query(Limit(above=1), seconds=60), Sample(value=2, at=NOW, exceeds_since=since)) is tripped


def test_a_sample_that_does_not_exceed_the_limit_any_more_does_not_trip_by_its_past() -> None:
    past = NOW - timedelta(hours=1)
    assert not trips(query(Limit(above=1), seconds=60), Sample(value=1, at=NOW, exceeds_since=past))


def test_a_limit_that_was_tightened_a_moment_ago_trips_at_once_where_it_has_no_duration() -> None:
    assert trips(query(Limit(above=1)), Sample(value=2, at=NOW, exceeds_since=None))


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=0, allow_nan=False, allow_infinity=False) | st.none(),
    st.sampled_from([Limit(above=3), Limit(below=3), BASELINE]),
)
def test_people_are_shown_the_number_that_was_compared_with(value: float, normal: float | None, limit: Limit) -> None:
    compared = threshold(query(limit), Sample(value=value, at=NOW, normal=normal))
    if exceeds(limit, value, normal):
        assert value <= compared if limit.below is not None else value >= compared


ALERT = Alert(
    name="ToolErrors",
    fingerprint="0f1e2d3c4b5a6978",
    starts_at=NOW,
    received_at=NOW + timedelta(seconds=1.5),
    message="more than half of its calls fail",
    record=alertrecord.name(AGENT, "0f1e2d3c4b5a6978", NOW),
)
TEXTS = st.text(max_size=40)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(TEXTS, TEXTS, TIMES, TIMES)
def test_a_record_gives_back_what_was_recorded(name: str, message: str, starts: datetime, received: datetime) -> None:
    alert = Alert(
        name=name,
        fingerprint="ab",
        starts_at=starts,
        received_at=received,
        message=message,
        record=alertrecord.name(AGENT, "ab", starts),
    )
    manifest = alertrecord.manifest(AGENT, alert, uid="a1b2", namespace="bulkhead-system")
    assert alertrecord.read(manifest) == (AGENT, "a1b2", alert)


def test_one_alert_that_fires_once_has_one_record_and_others_have_others() -> None:
    later = NOW + timedelta(microseconds=1)
    names = {
        alertrecord.name(agent, fingerprint, starts)
        for agent in (AGENT, ("research", "other"), ("other", "researcher"))
        for fingerprint in ("ab", "cd")
        for starts in (NOW, later)
    }
    assert len(names) == 12
    assert alertrecord.name(AGENT, "ab", NOW) in names
    assert all(len(name) <= 63 for name in names)


def damaged() -> dict[str, Any]:
    whole = alertrecord.manifest(AGENT, ALERT, uid="a1b2", namespace="bulkhead-system")
    labels = {**whole["metadata"], "labels": {}}
    return {
        "nothing": {},
        "no data": {**whole, "data": None},
        "no JSON": {**whole, "data": {"alert.json": "{"}},
        "a list": {**whole, "data": {"alert.json": "[]"}},
        "a number for a name": {
            **whole,
            "data": {"alert.json": whole["data"]["alert.json"].replace('"ToolErrors"', "1")},
        },
        "no time": {**whole, "data": {"alert.json": whole["data"]["alert.json"].replace("2026", "now")}},
        "no label of whose it is": {**whole, "metadata": labels},
    }


@pytest.mark.parametrize("record", damaged().values(), ids=damaged())
def test_a_record_that_was_damaged_is_none(record: dict[str, Any]) -> None:
    assert alertrecord.read(record) is None
