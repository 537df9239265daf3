"""What an answer that says no is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.errors import MESSAGE_LIMIT, ApiError, api_error, status_error


def status(code: int, reason: str = "", **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": "no", "details": details}).encode()


def test_an_answer_is_read_as_the_status_object_it_is() -> None:
    cause = {"field": "spec.replicas", "message": "must be positive", "reason": "FieldValueInvalid"}
    error = api_error(status=422, body=status(422, "Invalid", causes=[cause]), request="POST /pods")
    said = "the object is invalid: spec.replicas: must be positive"
    assert (error.status, error.reason, error.message) == (422, "Invalid", said)
    assert error.causes == ("spec.replicas: must be positive",)
    assert str(error) == f"POST /pods: 422 Invalid: {said}"


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        (None, {}, None),
        ("7", {}, 7.0),
        ("7", {"retryAfterSeconds": 3}, 7.0),
        (None, {"retryAfterSeconds": 3}, 3.0),
        (None, {"retryAfterSeconds": 0}, None),
        ("-5", {}, 0.0),
        ("soon", {}, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", {}, 0.0),
        ("nan", {}, 0.0),
    ],
)
def test_the_time_to_wait_is_the_headers_or_else_the_details(
    header: str | None, details: dict[str, Any], seconds: float | None
) -> None:
    assert api_error(status=429, body=status(429, **details), retry_after=header).retry_after == seconds


def test_a_patch_with_another_uid_is_a_conflict_although_the_server_calls_it_invalid() -> None:
    cause = {"field": "metadata.uid", "message": "field is immutable"}
    error = api_error(status=422, body=status(422, "Invalid", causes=[cause]))
    assert error.conflict
    assert not error.invalid


def test_a_message_is_bounded() -> None:
    assert len(ApiError(500, message="x" * 10 * MESSAGE_LIMIT).message) == MESSAGE_LIMIT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=200), st.none() | st.text(max_size=30))
def test_any_bytes_make_an_error_with_the_status_they_came_with(body: bytes, header: str | None) -> None:
    assert api_error(status=503, body=body, retry_after=header).status == 503


@given(st.dictionaries(st.sampled_from(["code", "reason", "message", "details", "kind"]), JSON))
def test_any_status_object_makes_an_error(document: dict[str, Any]) -> None:
    assert isinstance(status_error(document), ApiError)


@given(JSON)
def test_any_details_make_an_error(details: Any) -> None:
    document = {"kind": "Status", "details": {"causes": details, "retryAfterSeconds": details}}
    assert isinstance(api_error(status=500, body=json.dumps(document).encode()), ApiError)


@pytest.mark.parametrize(
    ("cause", "kept"),
    [
        ('Invalid value: "hunter2": must be short', "Invalid value: must be short"),
        ('Invalid value: {"env": [{"name": "A", "value": "hunter2: x"}]}: no', "Invalid value: no"),
        ('Unsupported value: "hunter2": supported values: "a", "b"', 'Unsupported value: "a", "b"'),
        ('Invalid value: "hunter2"', "Invalid value"),
        ("Required value", "Required value"),
        ("must be set", "must be set"),
    ],
)
def test_what_was_wrong_is_told_without_the_value_that_was(cause: str, kept: str) -> None:
    document = {
        "kind": "Status",
        "code": 422,
        "reason": "Invalid",
        "message": f'StatefulSet "scout" is invalid: spec.x: {cause}',
        "details": {"kind": "StatefulSet", "name": "scout", "causes": [{"field": "spec.x", "message": cause}]},
    }
    error = status_error(document)
    assert str(error) == f"422 Invalid: StatefulSet scout is invalid: spec.x: {kept}"
    assert "hunter2" not in f"{error}{error.message}{error.causes}"
