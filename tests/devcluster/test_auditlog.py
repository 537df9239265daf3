"""Places in an audit log that is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster import auditlog

HALF = b'{"half'
LONG = b'{"long": "' + b"x" * 3 * auditlog.CHUNK


@pytest.mark.parametrize(
    ("before", "rest"),
    [
        pytest.param(b"", b"", id="nothing is written yet"),
        pytest.param(b'{"a": 1}\n', b"", id="whole entries"),
        pytest.param(b'{"a": 1}\n', HALF, id="the last is half written"),
        pytest.param(b'{"a": 1}\n', LONG, id="the last is half written and longer than what is read at once"),
        pytest.param(b"", LONG, id="the first is half written"),
        pytest.param(b'{"a": "' + b"x" * auditlog.CHUNK + b'"}\n', HALF, id="a long entry before"),
    ],
)
def test_reading_begins_after_the_last_whole_entry_and_ends_there(tmp_path: Path, before: bytes, rest: bytes) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(before + rest)

    place = auditlog.end(log)

    assert place == len(before)
    assert auditlog.entries(log, place) == []
    log.write_bytes(before + b'{"b": 2}\n{"c": 3}\n' + HALF)
    assert auditlog.entries(log, place) == [{"b": 2}, {"c": 3}]
