"""Reading the API server's audit log as a stopwatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.audit import AuditLog, parse


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "stage": "ResponseComplete",
        "verb": "delete",
        "user": {"username": "alice"},
        "userAgent": "test",
        "objectRef": {"resource": "pods", "namespace": "lab", "name": "scout-0"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-03-01T12:00:00.000001Z",
        "stageTimestamp": "2026-03-01T12:00:00.250001Z",
        **changes,
    }


def test_a_request_is_timed_to_the_microsecond() -> None:
    found = parse(entry())
    assert found is not None
    assert round(found.answered - found.received, 6) == 0.25
    assert (found.verb, found.resource, found.namespace, found.name) == ("delete", "pods", "lab", "scout-0")
    assert found.done


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("a request for no object", {"objectRef": None}),
        ("a watch that ended", {"verb": "watch"}),
        ("a request that was only received", {"stage": "RequestReceived"}),
    ],
)
def test_what_is_no_answered_request_is_left_out(case: str, changes: dict[str, Any]) -> None:
    assert parse(entry(**changes)) is None


def test_a_watch_counts_from_its_beginning_and_a_subresource_is_named() -> None:
    found = parse(entry(verb="watch", stage="ResponseStarted", objectRef={"resource": "agents", "subresource": "x"}))
    assert found is not None
    assert found.resource == "agents/x"


def test_a_refused_request_is_not_done() -> None:
    found = parse(entry(responseStatus={"code": 404}))
    assert found is not None
    assert not found.done


async def test_a_line_that_is_half_written_is_read_when_it_is_whole_and_older_ones_never(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    line = json.dumps(entry())
    path.write_text(line + "\n")
    log = AuditLog(path)
    with path.open("a") as file:
        file.write(line[:40])
        file.flush()
        assert log.read() == []
        file.write(line[40:] + "\n")
    found = await log.until(lambda one: one.name == "scout-0", "the deletion")
    assert [found] == log.seen == list(log.of("delete", "pods"))
    log.forget()
    with pytest.raises(TimeoutError, match="not within 0 s: another deletion"):
        await log.until(lambda one: True, "another deletion", within=0)
    log.close()
