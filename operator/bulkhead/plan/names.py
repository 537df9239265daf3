"""Names and labels of what is made for an agent."""

from typing import Any, Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.meta import (
    AGENT_LABEL,
    AGENT_UID_LABEL,
    MANAGED_BY_LABEL,
    MANAGED_BY_VALUE,
    TENANT_LABEL,
    WORKFLOW_LABEL,
)

DENY_ALL: Final = "bulkhead-deny-all"
"""The NetworkPolicy of each sandbox namespace that denies everything to every pod."""
CONTAINER: Final = "agent"
WORKSPACE: Final = "workspace"
SCRATCH: Final = "tmp"
KUBERNETES_API: Final = "kubernetes-api"
"""The volume with the agent's token for the API server."""
TOKENS: Final = "tokens"
"""The volume with the agent's tokens for others."""

AGENT_ENV: Final = "BULKHEAD_AGENT"
AGENT_UID_ENV: Final = "BULKHEAD_AGENT_UID"
"""Marks in the environment of an agent's container. A pod's environment is immutable, its labels are not."""


def stateful_set_name(agent_name: str) -> str:
    """Returns the name of the agent's StatefulSet: the agent's own."""
    return agent_name


def service_account_name(agent_name: str) -> str:
    """Returns the name of the agent's ServiceAccount. The prefix keeps an agent called "default" from colliding."""
    return f"agent-{agent_name}"


def network_policy_name(agent_name: str) -> str:
    """Returns the name of the NetworkPolicy with what the agent may reach and who may reach it."""
    return f"agent-{agent_name}"


def cilium_policy_name(agent_name: str) -> str:
    """Returns the name of the CiliumNetworkPolicy that opens the API server to the agent."""
    return network_policy_name(agent_name)


def role_name(agent_name: str) -> str:
    """Returns the name of the agent's Role, and of the RoleBinding of it to the agent's ServiceAccount."""
    return service_account_name(agent_name)


def lease_secret_name(agent_name: str, credential: str) -> str:
    """Returns the name of the Secret with the values of a credential's lease.

    Neither part has a dot, so no two agents and credentials share a name.
    """
    return f"agent-{agent_name}.{credential}"


def credential_volume_name(credential: str) -> str:
    """Returns the name of the volume with a credential's files. A credential's name leaves room for it."""
    return f"credential-{credential}"


def pod_name(agent_name: str, ordinal: int) -> str:
    """Returns the name of a replica's pod."""
    return f"{stateful_set_name(agent_name)}-{ordinal}"


def claim_name(agent_name: str, ordinal: int) -> str:
    """Returns the name that the StatefulSet controller gives to a replica's workspace claim."""
    return f"{WORKSPACE}-{stateful_set_name(agent_name)}-{ordinal}"


def managed_labels() -> dict[str, str]:
    """Returns the labels of everything that the operator makes."""
    return {MANAGED_BY_LABEL: MANAGED_BY_VALUE}


def identity_labels(agent: dict[str, Any]) -> dict[str, str]:
    """Returns the labels that never change during an agent's life. Templates of claims may carry no others."""
    metadata = agent["metadata"]
    return {**managed_labels(), AGENT_LABEL: metadata["name"], AGENT_UID_LABEL: metadata["uid"]}


def child_labels(agent: dict[str, Any], spec: AgentDeploymentSpec) -> dict[str, str]:
    """Returns the labels of an agent's children and pods; `workflow` defaults to the agent's name."""
    labels = {**identity_labels(agent), WORKFLOW_LABEL: spec.workflow or agent["metadata"]["name"]}
    if spec.tenant is not None:
        labels[TENANT_LABEL] = spec.tenant
    return labels


def pod_selector(agent: dict[str, Any]) -> dict[str, str]:
    """Returns the labels that select an agent's pods: its UID alone.

    An agent made again under the same name has another UID, so it never adopts its predecessor's pods.
    """
    return {AGENT_UID_LABEL: agent["metadata"]["uid"]}


def label_selector(labels: dict[str, str]) -> str:
    """Formats labels as a selector for a list or a deletecollection call."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def selector_string(agent: dict[str, Any]) -> str:
    """Returns `pod_selector` as the text of a label selector."""
    return label_selector(pod_selector(agent))
