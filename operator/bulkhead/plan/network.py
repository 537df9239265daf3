"""The rules that keep a sandbox namespace shut."""

from collections.abc import Mapping
from typing import Any

from bulkhead.api.meta import is_owned_by, owner_reference, owner_references
from bulkhead.plan.names import DENY_ALL, managed_labels, network_policy_name

_KINDS = frozenset({"NetworkPolicy", "CiliumNetworkPolicy"})
"""Of these an agent has its own, under the same name."""


def deny_all(namespace: dict[str, Any]) -> dict[str, Any]:
    """Builds the namespace's deny-all NetworkPolicy: every pod, both directions, no rule.

    It selects every pod, so no edit of a label escapes it. It belongs to the namespace and not to an agent: it comes
    before the first agent and stays after the last. The owner is named so that ours can be told from a stranger's
    policy of the same name by UID; the namespace is not marked as controller, for nothing reconciles from it.

    Args:
        namespace: the Namespace, with `metadata.name` and `metadata.uid`.
    """
    owner = {**namespace, "apiVersion": "v1", "kind": "Namespace"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": DENY_ALL,
            "namespace": namespace["metadata"]["name"],
            "labels": managed_labels(),
            "ownerReferences": [owner_reference(owner, controller=False)],
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def is_ours(obj: dict[str, Any], *, namespace_uid: str, agents: Mapping[str, str]) -> bool:
    """Says whether a policy is one that the operator made: by kind, by name and by the UID of its owner, all three."""
    if obj["kind"] not in _KINDS:
        return False
    name = obj["metadata"]["name"]
    if name == DENY_ALL and obj["kind"] == "NetworkPolicy":
        return is_owned_by(obj, namespace_uid)
    return any(
        name == network_policy_name(agents[reference["uid"]])
        for reference in owner_references(obj)
        if reference.get("uid") in agents
    )
