"""Who an agent is to the API server."""

from collections.abc import Iterable
from typing import Any

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.meta import owner_reference
from bulkhead.plan.access import Rule
from bulkhead.plan.names import child_labels, role_name, service_account_name

_RBAC = "rbac.authorization.k8s.io"


def service_account(
    agent: dict[str, Any], spec: AgentDeploymentSpec, *, pull_secrets: Iterable[str] = ()
) -> dict[str, Any]:
    """Builds the agent's ServiceAccount, which grants nothing and has no token in the pod.

    It is deleted at each suspension, and with it every token that was bound to it; the next run has a new UID.

    Args:
        agent: the AgentDeployment.
        spec: its parsed spec.
        pull_secrets: names of the image pull secrets of the namespace's default ServiceAccount. The kubelet uses them
            to pull; the agent cannot read them.
    """
    account: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(agent, spec, name=service_account_name(agent["metadata"]["name"])),
        "automountServiceAccountToken": False,
    }
    secrets = sorted(set(pull_secrets))
    if secrets:
        account["imagePullSecrets"] = [{"name": name} for name in secrets]
    return account


def role(agent: dict[str, Any], spec: AgentDeploymentSpec) -> dict[str, Any] | None:
    """Builds the Role with what the agent may do on the API server; None for an agent without rules.

    The rules are those of the spec, in their order. Whether they may be asked for is `plan.identityceilings`' to say.
    """
    if not wants_api(spec):
        return None
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": _metadata(agent, spec, name=role_name(agent["metadata"]["name"])),
        "rules": [one.plain() for one in rules(spec)],
    }


def role_binding(agent: dict[str, Any], spec: AgentDeploymentSpec) -> dict[str, Any] | None:
    """Builds the RoleBinding of the agent's Role to its ServiceAccount; None for an agent without rules.

    It is the first thing of the agent's identity to be deleted at a suspension: the API server caches that a token is
    good for 10 s, but what its bearer may do is looked up at each request.
    """
    if not wants_api(spec):
        return None
    name = agent["metadata"]["name"]
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(agent, spec, name=role_name(name)),
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": role_name(name)},
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": service_account_name(name),
                "namespace": agent["metadata"]["namespace"],
            }
        ],
    }


def wants_api(spec: AgentDeploymentSpec) -> bool:
    """Says whether an agent is to have a token for the API server and a way there: it has rules."""
    return bool(rules(spec))


def rules(spec: AgentDeploymentSpec) -> tuple[Rule, ...]:
    """Returns what an agent asks to do on the API server; nothing for an agent that has no business there."""
    asked = spec.identity.kubernetes_api
    return tuple(map(Rule.of, asked.rules)) if asked is not None else ()


def _metadata(agent: dict[str, Any], spec: AgentDeploymentSpec, *, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": agent["metadata"]["namespace"],
        "labels": child_labels(agent, spec),
        "ownerReferences": [owner_reference(agent)],
    }


def pull_secret_names(default_account: dict[str, Any] | None) -> list[str]:
    """Returns the image pull secrets that a namespace's default ServiceAccount names, sorted; none if it has none."""
    listed = (default_account or {}).get("imagePullSecrets") or []
    return sorted({secret["name"] for secret in listed if secret.get("name")})
