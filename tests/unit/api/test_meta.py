from __future__ import annotations

from typing import Any

import pytest

from bulkhead.api.meta import (
    controller_of,
    is_owned_by,
    is_sandbox,
    labels_of,
    owner_reference,
    owner_references,
)

AGENT: dict[str, Any] = {
    "apiVersion": "bulkhead.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "demo", "uid": "uid-1"},
}
MINE = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "name": "demo", "uid": "uid-1"}
OTHER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo", "uid": "uid-2", "controller": True}


def owned(*references: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "child", "ownerReferences": list(references)}}


def test_a_controller_is_marked_and_never_blocks_deletion() -> None:
    assert owner_reference(AGENT) == {**MINE, "controller": True}


def test_a_plain_owner_has_no_controller_field_at_all() -> None:
    assert owner_reference(AGENT, controller=False) == MINE


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
def test_an_owner_without_its_kind_cannot_be_named(field: str) -> None:
    with pytest.raises(KeyError, match=field):
        owner_reference({key: value for key, value in AGENT.items() if key != field})


def test_the_controller_is_found_among_the_owners() -> None:
    assert controller_of(owned(MINE, OTHER)) == OTHER
    assert controller_of(owned(MINE)) is None
    assert controller_of(owned({**OTHER, "controller": False})) is None


def test_ownership_goes_by_uid_and_not_by_name() -> None:
    assert is_owned_by(owned(OTHER, MINE), "uid-1")
    assert not is_owned_by(owned({**MINE, "uid": "uid-0"}), "uid-1")


@pytest.mark.parametrize("obj", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"ownerReferences": None}}])
def test_an_object_without_metadata_has_no_owner_and_no_label(obj: dict[str, Any]) -> None:
    assert owner_references(obj) == []
    assert controller_of(obj) is None
    assert not is_owned_by(obj, "uid-1")
    assert labels_of(obj) == {}


def test_an_empty_uid_owns_nothing() -> None:
    assert not is_owned_by(owned({**MINE, "uid": ""}), "")


def test_what_is_returned_can_be_changed_without_changing_the_object() -> None:
    obj = {"metadata": {"labels": {"a": "b"}, "ownerReferences": [MINE]}}
    labels_of(obj)["c"] = "d"
    owner_references(obj).append(OTHER)
    assert obj == {"metadata": {"labels": {"a": "b"}, "ownerReferences": [MINE]}}


@pytest.mark.parametrize(
    "labels, sandbox",
    [
        ({"bulkhead.dev/sandbox": "true"}, True),
        ({"bulkhead.dev/sandbox": "True"}, False),
        ({"bulkhead.dev/sandbox": ""}, False),
        ({"sandbox": "true"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_only_the_exact_label_makes_a_sandbox(labels: dict[str, str], sandbox: bool) -> None:
    assert is_sandbox({"metadata": {"labels": labels}}) is sandbox
