"""Names that make up the contract, and small helpers on the metadata of plain Kubernetes objects.

Objects are the plain dicts that the API server's JSON decodes to. Nothing here changes its arguments.
"""

from typing import Any, Final

GROUP: Final = "bulkhead.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

AGENT_KIND: Final = "AgentDeployment"
AGENT_PLURAL: Final = "agentdeployments"
POLICY_KIND: Final = "SandboxPolicy"
POLICY_PLURAL: Final = "sandboxpolicies"
KILL_SWITCH_KIND: Final = "KillSwitch"
KILL_SWITCH_PLURAL: Final = "killswitches"

FIELD_MANAGER: Final = "bulkhead"
"""The one field manager of everything the operator applies (server-side apply, KEP-555)."""

SANDBOX_LABEL: Final = f"{GROUP}/sandbox"
SANDBOX_VALUE: Final = "true"
AGENT_LABEL: Final = f"{GROUP}/agent"
AGENT_UID_LABEL: Final = f"{GROUP}/agent-uid"
TENANT_LABEL: Final = f"{GROUP}/tenant"
WORKFLOW_LABEL: Final = f"{GROUP}/workflow"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE: Final = "bulkhead"

KUBERNETES_API_LABEL: Final = f"{GROUP}/kubernetes-api"
"""On the pods of agents with rights in the API server, "true": the layers that deny the route to it leave these out."""
LEASE_LABEL: Final = f"{GROUP}/lease"
"""On the record of a lease, its id. The same key annotates the Secret that a lease was written into."""
ALERT_LABEL: Final = f"{GROUP}/alert"
"""On the record of an alert that was received and is not yet in the agent's status, the fingerprint of the alert."""

AGENT_UID_ANNOTATION: Final = AGENT_UID_LABEL
"""On a workspace claim: the UID of the agent that the claim was made for. Claims outlive agents."""


def owner_reference(owner: dict[str, Any], *, controller: bool = True) -> dict[str, Any]:
    """Returns the ownerReference that makes `owner` the owner of another object.

    `blockOwnerDeletion` is left out: the OwnerReferencesPermissionEnforcement admission plugin lets only those set
    it who may update the owner's finalizers, and the operator has no such right.

    Args:
        owner: an object with `apiVersion`, `kind`, `metadata.name` and `metadata.uid`. Items of a list of built-in
            kinds carry neither `apiVersion` nor `kind`; add them first.
        controller: whether the owner is the one controller. The field is absent, not false, when it is not.

    Raises:
        KeyError: one of the four is missing.
    """
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        reference["controller"] = True
    return reference


def owner_references(obj: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the object's ownerReferences, an empty list when it has none."""
    return list((obj.get("metadata") or {}).get("ownerReferences") or [])


def controller_of(obj: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the ownerReference marked as controller, or None. The API server admits at most one."""
    return next((reference for reference in owner_references(obj) if reference.get("controller")), None)


def is_owned_by(obj: dict[str, Any], uid: str) -> bool:
    """Tells whether any ownerReference of the object has this UID; an empty UID owns nothing."""
    return bool(uid) and any(reference.get("uid") == uid for reference in owner_references(obj))


def labels_of(obj: dict[str, Any]) -> dict[str, str]:
    """Returns a copy of the object's labels, empty when it has none."""
    return dict((obj.get("metadata") or {}).get("labels") or {})


def is_sandbox(namespace: dict[str, Any]) -> bool:
    """Tells whether a Namespace is labelled as a sandbox; only the exact value counts."""
    return labels_of(namespace).get(SANDBOX_LABEL) == SANDBOX_VALUE
