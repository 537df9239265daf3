"""Objects that requests of the admission tests carry."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

CORE = "/api/v1/namespaces/{ns}"
APPS = "/apis/apps/v1/namespaces/{ns}"
BATCH = "/apis/batch/v1/namespaces/{ns}"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}"
NETWORK = "/apis/networking.k8s.io/v1/namespaces/{ns}"
DISCOVERY = "/apis/discovery.k8s.io/v1/namespaces/{ns}"
AGENTS = "/apis/bulkhead.dev/v1alpha1/namespaces/{ns}/agentdeployments"

LABELS = {"app": "probe"}
CONTAINER: Object = {"name": "main", "image": "example.test/probe:1", "resources": {"requests": {"cpu": "1"}}}
POD_SPEC: Object = {"containers": [CONTAINER]}
TEMPLATE: Object = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}


def named(api_version: str, kind: str, name: str, **fields: Any) -> Object:
    """An object of a kind, with what is given beside its metadata."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def pod(name: str = "probe", **spec: Any) -> Object:
    """A pod with the label `app: probe`."""
    made = named("v1", "Pod", name, spec={**POD_SPEC, **spec})
    made["metadata"]["labels"] = dict(LABELS)
    return made


def eviction(grace: int | None = None) -> Object:
    """Of the pod `standing`, with a grace in seconds where one is given."""
    options = {} if grace is None else {"deleteOptions": {"gracePeriodSeconds": grace}}
    return named("policy/v1", "Eviction", "standing", **options)


def workload(kind: str, name: str = "probe") -> Object:
    """A workload of the group apps with one replica, on no condition."""
    spec: Object = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
    if kind == "StatefulSet":
        spec["serviceName"] = ""
    return named("apps/v1", kind, name, spec=spec)


def job(name: str = "probe") -> Object:
    """A Job."""
    template = {"metadata": {"labels": LABELS}, "spec": {**POD_SPEC, "restartPolicy": "Never"}}
    return named("batch/v1", "Job", name, spec={"template": template})


def cron_job(name: str = "probe") -> Object:
    """A CronJob."""
    return named("batch/v1", "CronJob", name, spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job()["spec"]}})


def service(name: str = "probe", **spec: Any) -> Object:
    """A Service of the pods with the label `app: probe`."""
    return named("v1", "Service", name, spec={"selector": LABELS, "ports": [{"port": 80}], **spec})


def endpoint_slice(name: str = "probe", address: str = "10.200.0.10") -> Object:
    """An EndpointSlice written by hand."""
    labels = {"kubernetes.io/service-name": "probe"}
    made = named("discovery.k8s.io/v1", "EndpointSlice", name, addressType="IPv4")
    made["metadata"]["labels"] = labels
    return {**made, "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]}


def endpoints(name: str = "probe", address: str = "10.200.0.10") -> Object:
    """Endpoints written by hand."""
    return named("v1", "Endpoints", name, subsets=[{"addresses": [{"ip": address}], "ports": [{"port": 80}]}])


def role(name: str = "probe") -> Object:
    """A Role that reads Secrets."""
    return named(
        "rbac.authorization.k8s.io/v1",
        "Role",
        name,
        rules=[{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    )


def role_binding(name: str = "probe", to: str = "view", user: str = "mallory", kind: str = "ClusterRole") -> Object:
    """A RoleBinding to a ClusterRole, or to a Role."""
    return named(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        name,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": to},
        subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    )


def token_secret(account: str = "default", name: str = "probe") -> Object:
    """A Secret that the token controller would fill with a token without an end."""
    made = named("v1", "Secret", name, type="kubernetes.io/service-account-token")
    made["metadata"]["annotations"] = {"kubernetes.io/service-account.name": account}
    return made


def lease_secret(agent: str = "probe", credential: str = "db", **fields: Any) -> Object:
    """A Secret with the name of a lease's, owned by nobody."""
    return named("v1", "Secret", f"agent-{agent}.{credential}", type="Opaque", data={"user": "eA=="}, **fields)


def network_policy(name: str = "probe", **spec: Any) -> Object:
    """A NetworkPolicy for every pod; without rules, it denies everything."""
    return named(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **spec},
    )


def owned(obj: Object, by: str = "scout", **owner: str) -> Object:
    """The object, as if an AgentDeployment owned it. Nobody checks that an owner exists."""
    reference = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "name": by, "uid": "x", **owner}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


def egress(*peers: Object) -> Object:
    """A NetworkPolicy with one egress rule."""
    return network_policy(egress=[{"to": list(peers), "ports": [{"port": 443}]}])


def block(cidr: str, *excepts: str) -> Object:
    """A peer by address."""
    return {"ipBlock": {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}}


def agent(name: str = "scout", **spec: Any) -> Object:
    """An AgentDeployment."""
    return named(
        "bulkhead.dev/v1alpha1",
        "AgentDeployment",
        name,
        spec={"owner": "team-a", "image": "registry.example/team/agent:1", **spec},
    )
