"""The record of a lease: what is written is what is read, and what cannot be read is told."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan.lease import RECORD_SELECTOR, InvalidRecord, Lease, State, from_record, to_record
from tests.unit.plan.test_leases import lease, prepared

text = st.text(max_size=40)
times = st.datetimes(datetime(2024, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
records = st.builds(
    Lease,
    id=st.from_regex(r"[a-z0-9]{12}", fullmatch=True),
    agent_namespace=text,
    agent=text,
    agent_uid=text,
    credential=text,
    issuer=text,
    source=st.dictionaries(
        text, text | st.lists(text, max_size=3) | st.dictionaries(text, text, max_size=3), max_size=4
    ),
    ttl_seconds=st.integers(60, 86400),
    external=st.booleans(),
    handle=st.dictionaries(text, text, max_size=4),
    state=st.sampled_from(State),
    prepared_at=times,
    issued_at=st.none() | times,
    delivered_at=st.none() | times,
    expires_at=st.none() | times,
    revoke_at=st.none() | times,
    unsure=st.booleans(),
    description=text,
    secret_uid=text,
    secret_version=text,
)


@given(records)
def test_what_is_written_is_what_is_read(one: Lease) -> None:
    record = to_record(one, namespace="bulkhead-system")
    assert all(isinstance(value, str) for value in record["data"].values())
    assert from_record(record) == one


def test_a_record_is_found_by_its_labels_and_has_no_owner() -> None:
    metadata = to_record(lease(), namespace="bulkhead-system")["metadata"]
    assert metadata["name"] == f"bulkhead-lease-{lease().id}"
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "bulkhead",
        "bulkhead.dev/lease": lease().id,
        "bulkhead.dev/agent-uid": "a1b2c3",
    }
    assert RECORD_SELECTOR == "app.kubernetes.io/managed-by=bulkhead,bulkhead.dev/lease"
    assert "ownerReferences" not in metadata


def test_which_version_of_the_record_was_read_is_known_and_makes_no_other_lease() -> None:
    record = to_record(lease(), namespace="bulkhead-system")
    record["metadata"] |= {"uid": "u-1", "resourceVersion": "7"}
    found = from_record(record)
    assert (found.record_uid, found.record_version) == ("u-1", "7")
    assert found == lease()


BROKEN: dict[str, dict[str, Any]] = {
    "state": {"state": "Gone"},
    "preparedAt": {"preparedAt": "yesterday"},
    "expiresAt": {"expiresAt": "2026-03-01T12:00:00"},
    "ttlSeconds": {"ttlSeconds": "many"},
    "handle": {"handle": '{"role": 5}'},
    "source": {"source": "[]"},
    "external": {"external": "yes"},
    "unsure": {"unsure": ""},
}


@pytest.mark.parametrize("key", BROKEN)
def test_what_is_not_what_a_record_says_is_told_by_the_name_of_its_key(key: str) -> None:
    record = to_record(lease(), namespace="bulkhead-system")
    record["data"] |= BROKEN[key]
    with pytest.raises(InvalidRecord, match=f"{key} of ConfigMap bulkhead-lease-"):
        from_record(record)


@pytest.mark.parametrize("key", ["agent", "agentUID", "agentNamespace", "credential", "issuer", "handle", "state"])
def test_what_a_record_lacks_is_told(key: str) -> None:
    record = to_record(prepared(), namespace="bulkhead-system")
    del record["data"][key]
    with pytest.raises(InvalidRecord, match=f"has no {key}"):
        from_record(record)


def test_a_config_map_of_another_name_is_no_record() -> None:
    record = to_record(lease(), namespace="bulkhead-system")
    record["metadata"]["name"] = "something"
    with pytest.raises(InvalidRecord, match="not named bulkhead-lease-"):
        from_record(record)


def test_reading_changes_nothing() -> None:
    record = to_record(replace(lease(), state=State.RETIRING), namespace="bulkhead-system")
    before = copy.deepcopy(record)
    from_record(record)
    assert record == before
