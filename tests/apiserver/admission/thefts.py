"""What a thief of the operator's token could try: requests that RBAC would let through, and some that it would not."""

from __future__ import annotations

from typing import Any

from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Object, Request, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, NETWORK, RBAC, owned
from tests.operator_process import NAMESPACE

OWNER = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "name": "scout", "uid": "x"}
"""An owner that a thief makes up: nobody checks that it exists."""
TOKEN = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["api"]}}
FINALIZER = "bulkhead.dev/revoke-credentials"
OWN = f"/api/v1/namespaces/{NAMESPACE}"
CLUSTER_NETWORK = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
CLUSTERWIDE_HEAD: Object = {
    "name": "bulkhead-default",
    "ownerReferences": [{**OWNER, "kind": "SandboxPolicy", "name": "default"}],
}
SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"
A_SWITCH = objects.named(
    "bulkhead.dev/v1alpha1", "KillSwitch", "any", spec={"selector": {"all": True}, "reason": "theft"}
)
VALUE = "c3RvbGVuLWJ5LW5vYm9keQ=="


def admin_role(name: str = "agent-scout") -> Object:
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    return owned({**objects.role(name), "rules": [everything]})


def cilium(kind: str, name: str, **spec: Any) -> Object:
    made = objects.named("cilium.io/v2", kind, name, spec={"endpointSelector": {}, **spec})
    return owned(made)


ELSEWHERE: dict[str, Request] = {
    "a Secret": Request("POST", f"{CORE}/secrets", owned(objects.lease_secret("scout"))),
    "a Secret that gets a token": Request("POST", f"{CORE}/secrets", owned(objects.token_secret())),
    "a Secret read by a patch that changes nothing": Request("PATCH", f"{CORE}/secrets/theirs", {}, "merge"),
    "a Secret read by an apply": Request(
        "PATCH", f"{CORE}/secrets/theirs", objects.named("v1", "Secret", "theirs"), "apply"
    ),
    "a Secret read by a deletion that waits": Request("DELETE", f"{CORE}/secrets/theirs?propagationPolicy=Foreground"),
    "a Secret called as a lease's, read": Request("PATCH", f"{CORE}/secrets/agent-scout.db", {}, "merge"),
    "a Secret made its own": Request(
        "PATCH", f"{CORE}/secrets/theirs", {"metadata": {"ownerReferences": [OWNER]}}, "merge"
    ),
    "a Role": Request("POST", f"{RBAC}/roles", owned(objects.role("agent-scout"))),
    "every right, as a Role": Request("POST", f"{RBAC}/roles", admin_role()),
    "every right, in a Role that is there": Request(
        "PATCH", f"{RBAC}/roles/theirs", {"rules": admin_role()["rules"]}, "merge"
    ),
    "a RoleBinding": Request(
        "POST", f"{RBAC}/rolebindings", owned(objects.role_binding("agent-scout", to="agent-scout", kind="Role"))
    ),
    "itself bound to a Role that is there": Request(
        "PATCH",
        f"{RBAC}/rolebindings/theirs",
        {"subjects": [{"kind": "ServiceAccount", "name": "bulkhead", "namespace": NAMESPACE}]},
        "merge",
    ),
    "a binding deleted": Request("DELETE", f"{RBAC}/rolebindings/theirs"),
    "an account": Request(
        "POST",
        f"{CORE}/serviceaccounts",
        owned(objects.named("v1", "ServiceAccount", "agent-scout", automountServiceAccountToken=False)),
    ),
    "an identity in a cloud, for an account": Request(
        "PATCH", f"{CORE}/serviceaccounts/theirs", {"metadata": {"annotations": {"role": "admin"}}}, "merge"
    ),
    "an account deleted": Request("DELETE", f"{CORE}/serviceaccounts/theirs"),
    "a network policy": Request("POST", f"{NETWORK}/networkpolicies", owned(objects.network_policy("agent-scout"))),
    "a network policy opened": Request(
        "PATCH", f"{NETWORK}/networkpolicies/theirs", {"spec": {"egress": [{}]}}, "merge"
    ),
    "a network policy deleted": Request("DELETE", f"{NETWORK}/networkpolicies/theirs"),
    "a policy of Cilium's": Request(
        "POST", ordinary.CILIUM, cilium("CiliumNetworkPolicy", "agent-scout", egress=[{"toEntities": ["all"]}])
    ),
    "a workload": Request("POST", f"{APPS}/statefulsets", owned(objects.workload("StatefulSet", "scout"))),
    "another image": Request(
        "PATCH",
        f"{APPS}/statefulsets/theirs",
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "evil.example/x"}]}}}},
        "merge",
    ),
    "a workload deleted": Request("DELETE", f"{APPS}/statefulsets/theirs"),
    "a pod deleted": Request("DELETE", f"{CORE}/pods/theirs"),
    "a volume claimed for itself": Request(
        "PATCH", f"{CORE}/persistentvolumeclaims/theirs", {"metadata": {"ownerReferences": [OWNER]}}, "merge"
    ),
}
"""What RBAC lets the operator do in any namespace, in one that is no sandbox."""

COLLECTIONS = {
    "network policies": f"{NETWORK}/networkpolicies",
    "bindings": f"{RBAC}/rolebindings",
    "Roles": f"{RBAC}/roles",
    "accounts": f"{CORE}/serviceaccounts",
    "workloads": f"{APPS}/statefulsets",
    "pods": f"{CORE}/pods",
}
"""What may be deleted many at once, where agents run."""
ELSEWHERE |= {f"all {what} deleted": Request("DELETE", path) for what, path in COLLECTIONS.items()}

CLUSTER: dict[str, Request] = {
    "what admission is compared with": Request(
        "PATCH", f"{OWN}/configmaps/bulkhead-admission", {"data": {"pods.yaml": ""}}, "merge"
    ),
    "another ConfigMap": Request("POST", f"{OWN}/configmaps", objects.named("v1", "ConfigMap", "probe")),
    "a ConfigMap of another's": Request("DELETE", f"{OWN}/configmaps/bulkhead-admission"),
    "everything opened, clusterwide": Request(
        "POST",
        ordinary.CLUSTERWIDE,
        {
            **cilium("CiliumClusterwideNetworkPolicy", "bulkhead-default", egress=[{"toEntities": ["all"]}]),
            "metadata": CLUSTERWIDE_HEAD,
        },
    ),
    "a stranger's name, clusterwide": Request(
        "POST",
        ordinary.CLUSTERWIDE,
        cilium("CiliumClusterwideNetworkPolicy", "theirs", egressDeny=[{"toCIDR": ["::/0"]}]),
    ),
    "everything accepted, clusterwide": Request(
        "POST",
        CLUSTER_NETWORK,
        {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": CLUSTERWIDE_HEAD,
            "spec": {
                "tier": "Admin",
                "priority": 0,
                "subject": {"namespaces": {}},
                "egress": [{"action": "Accept", "to": [{"networks": ["10.0.0.0/8"]}]}],
            },
        },
    ),
}

CUT_OFF: dict[str, Object] = {
    "no selector": {},
    "another operator": {
        "endpointSelector": {"matchExpressions": [{"key": "bulkhead.dev/sandbox", "operator": "Exists"}]}
    },
    "another value": {
        "endpointSelector": {
            "matchExpressions": [{"key": "bulkhead.dev/sandbox", "operator": "NotIn", "values": ["true"]}]
        }
    },
}
CLUSTER |= {
    f"everybody cut off, clusterwide, by {what}": Request(
        "POST",
        ordinary.CLUSTERWIDE,
        {
            **cilium(
                "CiliumClusterwideNetworkPolicy", "bulkhead-default", egressDeny=[{"toCIDR": ["::/0"]}], **selector
            ),
            "metadata": CLUSTERWIDE_HEAD,
        },
    )
    for what, selector in CUT_OFF.items()
}
CLUSTER["everybody cut off, clusterwide, in the other dialect"] = Request(
    "POST",
    CLUSTER_NETWORK,
    {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": CLUSTERWIDE_HEAD,
        "spec": {
            "tier": "Admin",
            "priority": 0,
            "subject": {"pods": {"namespaceSelector": {}, "podSelector": {}}},
            "egress": [{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}],
        },
    },
)

BEYOND_RBAC: dict[str, Request] = {
    "a token of an account": Request("POST", f"{CORE}/serviceaccounts/theirs/token", TOKEN),
    "a Secret, read": Request("GET", f"{CORE}/secrets/theirs"),
    "all Secrets, read": Request("GET", f"{CORE}/secrets"),
    "all Secrets, deleted": Request("DELETE", f"{CORE}/secrets"),
    "a claim, deleted": Request("DELETE", f"{CORE}/persistentvolumeclaims/theirs"),
    "a ClusterRole": Request(
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        {**objects.role(), "kind": "ClusterRole"},
    ),
    "a ClusterRoleBinding": Request(
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {**objects.role_binding(to="cluster-admin"), "kind": "ClusterRoleBinding"},
    ),
    "a binding to a ClusterRole": Request("POST", f"{RBAC}/rolebindings", objects.role_binding("agent-scout")),
    "a pod": Request("POST", f"{CORE}/pods", objects.pod()),
    "a policy of its own": Request("POST", "/apis/bulkhead.dev/v1alpha1/sandboxpolicies", sandbox_policy("mine")),
    "an admission policy deleted": Request(
        "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/bulkhead-operator"
    ),
    "a switch made": Request("POST", SWITCHES, A_SWITCH),
    "a switch removed": Request("DELETE", f"{SWITCHES}/any"),
    "all switches removed": Request("DELETE", SWITCHES),
    "a switch given an owner": Request(
        "PATCH", f"{SWITCHES}/any", {"metadata": {"ownerReferences": [{**OWNER, "uid": "y"}]}}, "merge"
    ),
    "all ConfigMaps deleted": Request("DELETE", f"{CORE}/configmaps"),
    "all records deleted": Request("DELETE", f"{OWN}/configmaps"),
    "all agents deleted": Request("DELETE", AGENTS),
    "all claims deleted": Request("DELETE", f"{CORE}/persistentvolumeclaims"),
    "a namespace": Request("PATCH", "/api/v1/namespaces/{ns}", {"metadata": {"labels": {"a": "b"}}}, "merge"),
    "a ConfigMap": Request("POST", f"{CORE}/configmaps", objects.named("v1", "ConfigMap", "bulkhead-lease-x")),
}
