from __future__ import annotations

import pytest

from bulkhead.plan import network

NAMESPACE = {"metadata": {"name": "sandbox", "uid": "ns-uid", "labels": {"bulkhead.dev/sandbox": "true"}}}


def test_everything_is_denied_to_every_pod_in_both_directions() -> None:
    assert network.deny_all(NAMESPACE)["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_policy_is_known_by_the_uid_of_its_namespace() -> None:
    # Items of a list of namespaces carry neither kind nor apiVersion.
    assert network.deny_all(NAMESPACE)["metadata"] == {
        "name": "bulkhead-deny-all",
        "namespace": "sandbox",
        "labels": {"app.kubernetes.io/managed-by": "bulkhead"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "sandbox", "uid": "ns-uid"}],
    }


def test_the_namespace_is_not_changed() -> None:
    before = {"metadata": {"name": "sandbox", "uid": "ns-uid"}}
    network.deny_all(before)
    assert before == {"metadata": {"name": "sandbox", "uid": "ns-uid"}}


@pytest.mark.parametrize(
    ("name", "owner", "ours"),
    [
        ("bulkhead-deny-all", "ns-1", True),
        ("bulkhead-deny-all", "a1b2c3", False),
        ("agent-scout", "a1b2c3", True),
        ("agent-scout", "ns-1", False),
        ("agent-other", "a1b2c3", False),
        ("mine", "a1b2c3", False),
        ("mine", "ns-1", False),
    ],
)
def test_a_policy_is_the_operators_by_its_name_and_its_owner_together(name: str, owner: str, ours: bool) -> None:
    policy = {"kind": "NetworkPolicy", "metadata": {"name": name, "ownerReferences": [{"uid": owner}]}}
    assert network.is_ours(policy, namespace_uid="ns-1", agents={"a1b2c3": "scout"}) is ours


def test_no_other_kind_in_a_sandbox_is_the_operators() -> None:
    service = {"kind": "Service", "metadata": {"name": "agent-scout", "ownerReferences": [{"uid": "a1b2c3"}]}}
    assert not network.is_ours(service, namespace_uid="ns-1", agents={"a1b2c3": "scout"})
