"""A delivery of Alertmanager, genuine or forged: what is taken from it and what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.signals.webhook import Delivered, Dropped, Malformed, read

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = "hunter2-Ab12Cd34Ef56"

# As Alertmanager 0.25 writes it, times included.
ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "ToolErrors", "namespace": "research", "agent": "researcher", "severity": "page"},
    "annotations": {"summary": "more than half of its calls fail"},
    "startsAt": "2026-03-01T11:59:30.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "0f1e2d3c4b5a6978",
}


def delivery(*alerts: Any, **more: Any) -> bytes:
    return json.dumps({"version": "4", "status": "firing", "truncatedAlerts": 0, "alerts": alerts, **more}).encode()


def taken(body: bytes) -> list[Delivered | Dropped]:
    return list(read(body, now=NOW, max_age=HOUR))


def one(**changes: Any) -> Delivered | Dropped:
    (found,) = taken(delivery({**ALERT, **changes}))
    return found


def labelled(**labels: Any) -> dict[str, Any]:
    return {"labels": {**ALERT["labels"], **labels}}


def test_an_alert_that_fires_is_taken_with_all_that_is_needed_of_it() -> None:
    found = one()
    assert isinstance(found, Delivered)
    assert found.agent == ("research", "researcher")
    assert found.alert.name == "ToolErrors"
    assert found.alert.starts_at == datetime(2026, 3, 1, 11, 59, 30, 123456, tzinfo=UTC)
    assert found.alert.received_at == NOW
    assert found.alert.message == "more than half of its calls fail"
    assert found.alert.record.startswith("bulkhead-alert-")


DROPPED = {
    "resolved": ({"status": "resolved"}, Dropped.RESOLVED),
    "a status nobody knows": ({"status": "suppressed"}, Dropped.RESOLVED),
    "no labels": ({"labels": None}, Dropped.UNLABELLED),
    "no agent": (labelled(agent=""), Dropped.UNLABELLED),
    "a number for an agent": (labelled(agent=7), Dropped.UNLABELLED),
    "an agent that is a path": (labelled(agent="../x"), Dropped.UNLABELLED),
    "an agent without end": (labelled(agent="x" * 254), Dropped.UNLABELLED),
    "a namespace in two lines": (labelled(namespace="research\n"), Dropped.UNLABELLED),
    "older than is accepted": ({"startsAt": "2026-03-01T10:59:59Z"}, Dropped.OLD),
    "as old as time": ({"startsAt": "0001-01-01T00:00:00Z"}, Dropped.OLD),
}


@pytest.mark.parametrize(("changes", "why"), DROPPED.values(), ids=DROPPED)
def test_an_alert_that_is_not_to_be_acted_on_is_dropped(changes: dict[str, Any], why: Dropped) -> None:
    assert one(**changes) is why


MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "another version": delivery(ALERT, version="3"),
    "no alerts": json.dumps({"version": "4"}).encode(),
    "alerts that are a map": json.dumps({"version": "4", "alerts": {}}).encode(),
    "more alerts than anybody has": delivery(*[{"status": "resolved"}] * 10_001),
    "a bottomless pit": b"[" * 500_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_alertmanager_does_not_send_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        taken(body)


UNUSABLE = {
    "an alert that is a word": "alert",
    "no alertname": {**ALERT, **labelled(alertname="")},
    "no fingerprint": {**ALERT, "fingerprint": None},
    "a fingerprint that is a name": {**ALERT, "fingerprint": "../../x"},
    "no time": {**ALERT, "startsAt": None},
    "a time without a zone": {**ALERT, "startsAt": "2026-03-01T11:59:30"},
}


@pytest.mark.parametrize("odd", UNUSABLE.values(), ids=UNUSABLE)
def test_an_alert_that_cannot_be_used_takes_no_other_of_its_group_with_it(odd: Any) -> None:
    before, dropped, after = taken(delivery(ALERT, odd, ALERT))
    assert dropped is Dropped.UNUSABLE
    assert isinstance(before, Delivered) and before == after


@pytest.mark.parametrize("starts", ["2099-01-01T00:00:00Z", "2026-03-01T12:00:05Z"])
def test_an_alert_from_the_future_began_now_and_is_the_same_the_next_time(starts: str) -> None:
    body = delivery({**ALERT, "startsAt": starts})
    first, again = (next(iter(read(body, now=now, max_age=HOUR))) for now in (NOW, NOW + HOUR / 2))
    assert isinstance(first, Delivered) and isinstance(again, Delivered)
    assert first.alert.began == NOW
    assert (first.alert.starts_at, first.alert.record) == (again.alert.starts_at, again.alert.record)


def test_a_message_is_short_and_has_no_secret() -> None:
    found = one(annotations={"description": f"password={SECRET} " + "words " * 500})
    assert isinstance(found, Delivered)
    assert SECRET not in found.alert.message
    assert 0 < len(found.alert.message) <= 512


@pytest.mark.parametrize("annotations", [None, [], {}, {"summary": 7}, {"summary": None}])
def test_an_alert_without_words_is_taken_all_the_same(annotations: Any) -> None:
    found = one(annotations=annotations)
    assert isinstance(found, Delivered) and found.alert.message == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(sorted(ALERT)), JSON), st.dictionaries(st.sampled_from(["version", "alerts"]), JSON)
)
def test_whatever_is_sent_is_taken_dropped_or_refused(changes: dict[str, Any], around: dict[str, Any]) -> None:
    try:
        found = taken(delivery({**ALERT, **changes}, **around))
    except Malformed:
        return
    for each in found:
        if isinstance(each, Delivered):
            assert each.alert.began <= NOW
            assert NOW - each.alert.began <= HOUR
