from __future__ import annotations

import copy
from typing import Any

import pytest

from bulkhead.plan import workspace

AGENT: dict[str, Any] = {
    "apiVersion": "bulkhead.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "demo", "namespace": "sandbox", "uid": "uid-2"},
}
OWNED = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "name": "demo", "uid": "uid-2"}
FOREIGN = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "uid-9"}


def claim(*owners: dict[str, Any], made_for: str | None = "uid-2", **labels: str) -> dict[str, Any]:
    """A claim as the StatefulSet controller makes it for an agent called demo."""
    metadata: dict[str, Any] = {
        "name": "workspace-demo-0",
        "namespace": "sandbox",
        "uid": "claim-uid",
        "resourceVersion": "7",
        "labels": {
            "app.kubernetes.io/managed-by": "bulkhead",
            "bulkhead.dev/agent": "demo",
            "bulkhead.dev/agent-uid": made_for or "",
            **labels,
        },
    }
    if owners:
        metadata["ownerReferences"] = list(owners)
    if made_for is not None:
        metadata["annotations"] = {"bulkhead.dev/agent-uid": made_for}
    return {"metadata": metadata}


CLAIMS: dict[str, tuple[dict[str, Any], bool]] = {
    "made for this agent": (claim(), True),
    "made for this agent and owned by it": (claim(OWNED), True),
    "retained from an earlier agent of the name": (claim(made_for="uid-1"), True),
    "of an earlier agent that owns it still": (claim({**OWNED, "uid": "uid-1"}, made_for="uid-1"), False),
    "retained but taken by another owner": (claim(FOREIGN, made_for="uid-1"), False),
    "without the mark": (claim(made_for=None), False),
    "with an empty mark": (claim(made_for=""), False),
    "made for an agent of another name": (claim(made_for="uid-1", **{"bulkhead.dev/agent": "other"}), False),
    "not made by Bulkhead": (claim(made_for="uid-1", **{"app.kubernetes.io/managed-by": "helm"}), False),
    "a stranger's": ({"metadata": {"name": "workspace-demo-0"}}, False),
}


@pytest.mark.parametrize("found, usable", CLAIMS.values(), ids=CLAIMS.keys())
def test_only_claims_made_for_this_agent_or_left_for_it_are_used(found: dict[str, Any], usable: bool) -> None:
    assert workspace.may_use(found, AGENT) is usable


def test_a_retained_claim_is_not_yet_this_agent_s() -> None:
    assert workspace.is_ours(claim(), AGENT)
    assert not workspace.is_ours(claim(made_for="uid-1"), AGENT)


def owners_after(found: dict[str, Any], on_delete: str) -> list[dict[str, Any]]:
    patch = workspace.metadata_patch(found, AGENT, on_delete=on_delete)
    changed = (patch or {"metadata": {}})["metadata"].get("ownerReferences")
    owners: list[dict[str, Any]] = found["metadata"].get("ownerReferences", []) if changed is None else changed
    return owners


OWNERS: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    "Delete makes the agent an owner": (claim(), "Delete", [OWNED]),
    "Delete keeps other owners": (claim(FOREIGN), "Delete", [FOREIGN, OWNED]),
    "Delete of an owned claim changes nothing": (claim(OWNED), "Delete", [OWNED]),
    "Retain takes the agent away": (claim(OWNED), "Retain", []),
    "Retain keeps other owners": (claim(FOREIGN, OWNED), "Retain", [FOREIGN]),
    "Retain of an unowned claim changes nothing": (claim(), "Retain", []),
}


@pytest.mark.parametrize("found, on_delete, owners", OWNERS.values(), ids=OWNERS.keys())
def test_on_delete_decides_whether_the_agent_owns_its_claims(
    found: dict[str, Any], on_delete: str, owners: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy(found)
    assert owners_after(found, on_delete) == owners
    assert found == before


@pytest.mark.parametrize("found, on_delete, owners", OWNERS.values(), ids=OWNERS.keys())
def test_a_patched_claim_needs_no_further_patch(
    found: dict[str, Any], on_delete: str, owners: list[dict[str, Any]]
) -> None:
    patched = copy.deepcopy(found)
    patched["metadata"]["ownerReferences"] = owners_after(found, on_delete)
    assert workspace.metadata_patch(patched, AGENT, on_delete=on_delete) is None


def test_the_agent_is_never_the_controller_of_a_claim() -> None:
    assert not any(owner.get("controller") for owner in owners_after(claim(), "Delete"))


def test_a_retained_claim_gets_this_agent_s_marks() -> None:
    patch = workspace.metadata_patch(claim(made_for="uid-1"), AGENT, on_delete="Retain")
    assert patch is not None
    assert patch["metadata"]["annotations"] == {"bulkhead.dev/agent-uid": "uid-2"}
    assert patch["metadata"]["labels"]["bulkhead.dev/agent-uid"] == "uid-2"


def test_a_patch_hits_only_the_claim_that_was_seen() -> None:
    patch = workspace.metadata_patch(claim(), AGENT, on_delete="Delete")
    assert patch is not None
    assert (patch["metadata"]["uid"], patch["metadata"]["resourceVersion"]) == ("claim-uid", "7")
