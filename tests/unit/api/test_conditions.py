from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.conditions import (
    MAX_MESSAGE,
    find,
    format_micro_time,
    format_time,
    is_true,
    parse_time,
    read_time,
    set_condition,
    shorten,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def ready(conditions: Any = (), *, now: datetime = NOW, **fields: Any) -> list[dict[str, Any]]:
    given_fields = {"status": "True", "reason": "Running", "message": "it runs", "generation": 1, **fields}
    return set_condition(conditions, type="Ready", now=now, **given_fields)


def test_a_new_condition_has_all_fields() -> None:
    assert ready() == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Running",
            "message": "it runs",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ]


def test_the_transition_time_moves_when_the_status_changes() -> None:
    [condition] = ready(ready(), status="False", now=LATER)
    assert condition["lastTransitionTime"] == format_time(LATER)


@pytest.mark.parametrize("change", [{"reason": "Other"}, {"message": "other"}, {"generation": 2}], ids=str)
def test_the_transition_time_stays_when_anything_else_changes(change: dict[str, Any]) -> None:
    [condition] = ready(ready(), now=LATER, **change)
    assert condition["lastTransitionTime"] == format_time(NOW)


def test_a_condition_stored_without_a_transition_time_gets_one() -> None:
    [condition] = ready([{"type": "Ready", "status": "True"}], now=LATER)
    assert condition["lastTransitionTime"] == format_time(LATER)


def test_conditions_are_sorted_and_the_others_are_kept() -> None:
    before = [{"type": "Z", "status": "True"}, {"type": "A", "status": "False"}]
    assert [condition["type"] for condition in ready(before)] == ["A", "Ready", "Z"]
    assert before == [{"type": "Z", "status": "True"}, {"type": "A", "status": "False"}]


def test_a_message_is_cut_to_what_the_api_server_takes() -> None:
    [condition] = ready(message="x" * (MAX_MESSAGE + 1))
    assert len(condition["message"]) == MAX_MESSAGE
    assert condition["message"].endswith("…")


def test_conditions_are_found_by_type() -> None:
    conditions = ready()
    assert find(conditions, "Ready") == conditions[0]
    assert find(conditions, "Suspended") is None


def test_only_the_status_true_is_true() -> None:
    assert is_true(ready(), "Ready")
    assert not is_true(ready(status="Unknown"), "Ready")
    assert not is_true(ready(), "Suspended")


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert format_time(NOW) == "2026-01-02T03:04:05Z"
    assert format_micro_time(NOW) == "2026-01-02T03:04:05.678901Z"
    assert format_micro_time(NOW.replace(microsecond=0)) == "2026-01-02T03:04:05.000000Z"


def test_times_of_other_zones_are_written_in_utc() -> None:
    assert format_time(NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("write", [format_time, format_micro_time])
def test_a_time_without_a_zone_is_refused(write: Any) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        write(NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-01-02T03:04:05", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


NO_TIMES: tuple[Any, ...] = (
    None,
    7,
    {},
    "",
    "soon",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-01:00",
    "0001-01-01T00:00:00+01:00",
    "2000-01-01T00:00:00+01:00",
    "2026-02-31T00:00:00Z",
    "2026-01-01T00:00:00+99:99",
    "2026-01-01T00:00:00",
)


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time_of_this_century_is_read_as_none(value: Any) -> None:
    assert read_time(value) is None


def test_a_time_of_this_century_is_read() -> None:
    assert read_time("2026-01-02T04:04:05.678901+01:00") == NOW


@given(st.text(max_size=40) | st.none() | st.integers() | st.floats() | st.lists(st.integers()))
def test_no_record_whatever_breaks_the_reading_of_a_time(value: Any) -> None:
    read_time(value)


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))
def test_a_time_that_was_written_is_read_back(moment: datetime) -> None:
    assert parse_time(format_micro_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


@given(st.text(max_size=50), st.integers(1, 40))
def test_a_shortened_text_is_never_longer_than_the_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text or short.endswith("…")
