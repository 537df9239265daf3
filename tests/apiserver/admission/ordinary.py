"""What the operator really makes of an agent, built by its own plan."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bulkhead.api.agentdeployment import AgentDeploymentSpec, parse_spec
from bulkhead.plan import apiroute, identity, network, workload
from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Guarded, Object, Request
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, NETWORK, RBAC

CILIUM = "/apis/cilium.io/v2/namespaces/{ns}/ciliumnetworkpolicies"
CLUSTERWIDE = "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies"
COLLECTIONS = {
    "ServiceAccount": f"{CORE}/serviceaccounts",
    "Secret": f"{CORE}/secrets",
    "Role": f"{RBAC}/roles",
    "RoleBinding": f"{RBAC}/rolebindings",
    "NetworkPolicy": f"{NETWORK}/networkpolicies",
    "CiliumNetworkPolicy": CILIUM,
    "StatefulSet": f"{APPS}/statefulsets",
}
"""Of the kinds that are made of an agent, in the order in which one may be made after the other."""

READ = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
SPEC: Object = {
    "workspace": {"size": "1Gi"},
    "identity": {
        "kubernetesApi": {"rules": [READ]},
        "tokens": [{"audience": "vault", "path": "vault"}],
    },
    "credentials": [{"name": "db", "postgres": {"issuer": "stock", "role": "reader"}}],
}


def spec_of(agent: Object) -> AgentDeploymentSpec:
    """The agent's spec as the operator reads it."""
    return parse_spec(agent["spec"], name=agent["metadata"]["name"])


def make_agent(guarded: Guarded, namespace: str, name: str = "scout", **spec: Any) -> Object:
    """An agent with an identity and a credential, stored."""
    return guarded.make(AGENTS.replace("{ns}", namespace), objects.agent(name, **{**SPEC, **spec}))


def children(agent: Object) -> dict[str, Object]:
    """Everything that the operator makes of an agent, by kind; a Secret as well, whatever it asks for."""
    spec = spec_of(agent)
    account = identity.service_account(agent, spec, pull_secrets=["registry"])
    secret = objects.lease_secret(agent["metadata"]["name"])
    secret["metadata"] |= {key: account["metadata"][key] for key in ("namespace", "labels", "ownerReferences")}
    secret["metadata"]["annotations"] = {"bulkhead.dev/lease": "abcdefghijkl"}
    policy = objects.network_policy(f"agent-{agent['metadata']['name']}")
    policy["metadata"] |= {key: account["metadata"][key] for key in ("namespace", "labels", "ownerReferences")}
    found = {
        "ServiceAccount": account,
        "Secret": secret,
        "Role": identity.role(agent, spec),
        "RoleBinding": identity.role_binding(agent, spec),
        "NetworkPolicy": policy,
        "CiliumNetworkPolicy": apiroute.cilium_policy(agent, spec, [443, 6443]) if identity.wants_api(spec) else None,
        "StatefulSet": workload.stateful_set(agent, spec, gate_containers=GATE),
    }
    return {kind: child for kind, child in found.items() if child is not None}


GATE = (
    {
        "name": "isolation-gate",
        "image": "bulkhead/operator:test",
        "resources": {"requests": {"cpu": "25m"}, "limits": {"cpu": "25m"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    },
)
"""One container of the gate, as far as admission looks at it."""


def create(obj: Object) -> Request:
    """The request that makes an object."""
    return Request("POST", COLLECTIONS[obj["kind"]], obj)


def apply(obj: Object) -> Request:
    """The request that brings an object to what it should be."""
    return Request("PATCH", path_of(obj), {key: obj[key] for key in obj if key != "status"}, "apply")


def path_of(obj: Object) -> str:
    """Where an object is, `{ns}` for its namespace."""
    return f"{COLLECTIONS[obj['kind']]}/{obj['metadata']['name']}"


def deny_all(guarded: Guarded, namespace: str) -> Object:
    """The deny-all of a namespace."""
    return network.deny_all(guarded.admin.get(f"/api/v1/namespaces/{namespace}").body)


def changed(obj: Object, edit: Callable[[Object], None]) -> Object:
    """A copy of an object with an edit in it."""
    made = copy.deepcopy(obj)
    edit(made)
    return made
