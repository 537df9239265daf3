"""The operator's rights: it uses all that its chart grants, and is never refused for want of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import yaml

from bulkhead.api import conditions
from bulkhead.engine.reconcile import CONFIRM_AFTER
from bulkhead.plan.names import managed_labels
from devcluster import auditlog
from devcluster.api import RunningCluster
from manifests.render import find_helm
from tests.apiserver.agents import RESTRICTED_POD, Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.credentials import Agents, Files
from tests.apiserver.foreign_crds import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CILIUM_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    foreign_crds,
    installed,
    served_path,
)
from tests.apiserver.rest import MERGE, Rest
from tests.faults import Answer, FaultProxy
from tests.operator_process import NAMESPACE, OperatorProcess, eventually, install_rights
from tests.packaging.rendering import render

POLICY = "rights"
SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"
NEIGHBOUR = {"egress": [{"to": {"pods": {"labels": {"app": "neighbour"}}}, "ports": [{"port": 80}]}]}
DENIES: dict[str, dict[str, Any]] = {
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES: {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "spec": {"endpointSelector": {"matchLabels": {"app": "x"}}, "egressDeny": [{"toCIDR": ["192.0.2.0/24"]}]},
    },
    CLUSTER_NETWORK_POLICIES: {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "spec": {"tier": "Admin", "priority": 7, "subject": {"namespaces": {"matchLabels": {"app": "x"}}}},
    },
}
"""Strangers' objects of the kinds in which denies are written."""

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


VALUES = {"secretSources": ["rights-sources"]}
"""Of the chart, so that the operator has every right that it can be given."""
AUTHORIZED = {("rbac.authorization.k8s.io", "roles", verb) for verb in ("escalate", "bind")}
"""Rights that no request is made with: the API server asks for them when a Role or a RoleBinding is written."""
RULE = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
OFFERS = {
    "identity": {"kubernetesApi": {"rules": [{**RULE, "verbs": ["get", "list"]}]}},
    "credentials": {
        "custom": [{"issuer": "files"}],
        "secrets": [{"namespace": VALUES["secretSources"][0], "name": "mail"}],
    },
}
ASKED = {
    "identity": {"kubernetesApi": {"rules": [RULE]}},
    "credentials": [
        {"name": "store", "ttlSeconds": 600, "custom": {"issuer": "files"}},
        {
            "name": "mail",
            "secret": {"namespace": VALUES["secretSources"][0], "name": "mail", "keys": ["password"]},
        },
    ],
}


def granted() -> set[Right]:
    objects = render(find_helm(), VALUES)
    bound = {one["roleRef"]["name"] for one in objects if one["kind"] in ("ClusterRoleBinding", "RoleBinding")}
    rules = [
        rule
        for one in objects
        if one["kind"] in ("ClusterRole", "Role") and one["metadata"]["name"] in bound
        for rule in one["rules"]
    ]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def entries(cluster: RunningCluster, start: int) -> list[dict[str, Any]]:
    """What the operator asked the API server since a place in its audit log."""
    return [
        entry
        for entry in auditlog.entries(cluster.audit_log, start)
        if entry["user"]["username"].startswith(f"system:serviceaccount:{NAMESPACE}:") and "objectRef" in entry
    ]


def right(entry: dict[str, Any]) -> Right:
    reference = entry["objectRef"]
    resource = "/".join(part for part in (reference["resource"], reference.get("subresource")) if part)
    return reference.get("apiGroup", ""), resource, entry["verb"]


@contextmanager
def sources(cluster: RunningCluster) -> Iterator[None]:
    """A namespace whose Secrets the operator may copy, by the chart's Role, with a Secret in it."""
    (name,) = VALUES["secretSources"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    secret: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mail", "namespace": name},
        "stringData": {"password": token_hex(16)},
    }
    rights = [one for one in render(find_helm(), VALUES) if one["metadata"].get("namespace") == name]
    cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all([namespace, secret, *rights]))
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@contextmanager
def published(rest: Rest) -> Iterator[None]:
    """Where the API server is, as it says itself in most clusters; in this tier it does not."""
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.10"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    }
    made = rest.post(path, slice_)
    assert made.ok, made.message
    try:
        yield
    finally:
        assert rest.delete(f"{path}/kubernetes").ok


def exercise_credentials(lab: Agents, files: Files, proxy: FaultProxy) -> None:
    """Makes the operator do everything that it can do for an agent with rights and credentials."""
    strangers: dict[str, tuple[str, dict[str, Any]]] = {
        "role": ("roles", {"kind": "Role", "rules": []}),
        "binding": (
            "rolebindings",
            {
                "kind": "RoleBinding",
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent-binding"},
            },
        ),
    }
    for name, (plural, body) in strangers.items():
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{lab.namespace}/{plural}"
        head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": f"agent-{name}"}}
        made = lab.rest.post(path, {**head, **body})
        assert made.ok, made.message
    spec = {"endpointSelector": {"matchLabels": {"app": "x"}}, "egress": [{}]}
    cilium = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "agent-cilium"}}
    path = f"/apis/cilium.io/v2/namespaces/{lab.namespace}/ciliumnetworkpolicies"
    made = lab.rest.post(path, {**cilium, "spec": spec})
    assert made.ok, made.message
    for name in (*strangers, "cilium"):
        lab.create(name, identity=ASKED["identity"])
        lab.until_state(name, "Conflict")
        lab.delete("AgentDeployment", name)
    # A record that somebody else wrote meanwhile is read again. Until it is, as the conflict may meet the record of a
    # lease that an earlier test left, which is only retired: what comes of that is seen with the next list.
    records = "/configmaps/bulkhead-lease-"
    conflict = proxy.on("PATCH", records, Answer(409, reason="Conflict"), times=None)
    files.behave(life=6)
    lab.create("holder", suspendGraceSeconds=0, **ASKED)
    eventually(lambda: proxy.seen("GET", records), "a lease's record is read again", within=60)
    proxy.remove(conflict)
    first = lab.until_holding(files, "holder")
    lab.patch("holder", tenant="t1", identity={"kubernetesApi": {"rules": [{**RULE, "verbs": ["get", "list"]}]}})
    eventually(lambda: lab.token("holder") != first, "another credential", within=30)
    files.behave()
    lab.patch("holder", suspend=True)
    lab.until_state("holder", "Suspended", within=60)
    eventually(lambda: not lab.finalizers("holder"), "the finalizer is gone", within=60)
    lab.delete("AgentDeployment", "holder")


def exercise_switches(lab: Lab) -> None:
    """Makes the operator stop many agents at once, with all that an agent can be made of."""
    names = ["first", "second"]
    for name in names:
        lab.create(name, identity=ASKED["identity"], network=NEIGHBOUR, suspendGraceSeconds=0)
    lab.until_built(names)
    for name in names:
        # Otherwise they may be collected with their controller before the operator deletes them.
        lab.keep_from_collector("Pod", f"{name}-0")
        # A pod that the operator has not seen yet is in no call for all.
        eventually(lambda name=name: lab.status(name).get("replicas") == 1, f"the pod of {name} is seen")  # type: ignore[misc]
    switch = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "KillSwitch",
        "metadata": {"name": lab.namespace},
        "spec": {"selector": {"namespaces": [lab.namespace]}, "reason": "a test of rights"},
    }
    made = lab.rest.post(SWITCHES, switch)
    assert made.ok, made.message
    path = f"{SWITCHES}/{lab.namespace}"

    def stopped() -> bool:
        status = lab.rest.get(path).body.get("status") or {}
        return bool((conditions.find(status.get("conditions") or [], "Stopped") or {}).get("status") == "True")

    eventually(stopped, "the switch has stopped them", within=60)
    assert lab.rest.delete(path).ok
    for name in names:
        lab.delete("AgentDeployment", name)


def exercise(lab: Lab, cluster: RunningCluster) -> None:
    """Makes the operator do everything that it can do for an agent without either."""
    stranger = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent-held"}}
    lab.put("ServiceAccount", stranger)
    lab.create("held")
    lab.until_state("held", "Conflict")
    lab.create("scout", workspace={"size": "1Gi", "onDelete": "Delete"}, network=NEIGHBOUR)
    lab.create("brief", lifetime={"maxSeconds": 1, "onExpiry": "Delete"})
    lab.until_built(["scout"])
    lab.patch("scout", tenant="t1")
    lab.rest.send(
        "PATCH", lab.path("NetworkPolicy", "bulkhead-deny-all"), {"spec": {"egress": [{}]}}, content_type=MERGE
    )
    eventually(lambda: "egress" not in lab.the("NetworkPolicy", "bulkhead-deny-all")["spec"], "the deny-all is mended")
    for _ in range(2):
        lab.patch("scout", suspend=True)
        lab.until_state("scout", "Suspended")
        lab.patch("scout", suspend=False)
        lab.until_state("scout", "Starting")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    made = lab.rest.post(f"/api/v1/namespaces/{lab.namespace}/resourcequotas", quota)
    assert made.ok, made.message
    lab.until_over_quota("Pod", {"apiVersion": "v1", "kind": "Pod", "spec": RESTRICTED_POD})
    lab.create("refused")
    eventually(
        lambda: lab.condition("refused", "Ready").get("reason") == "FailedCreate", "the quota is told", within=60
    )
    eventually(lambda: lab.get("AgentDeployment", "brief") is None, "the brief agent is deleted")
    eventually(lambda: quiet_for(lab.the("AgentDeployment", "scout"), CONFIRM_AFTER + 2), "the agent is not heard of")
    assert read_again(lab, cluster), "an agent not heard of for a while is read again before it is built anew"
    for name in ("held", "scout", "refused"):
        lab.delete("AgentDeployment", name)
    # The garbage collector stands still while it learns of the kinds that were installed for this test.
    eventually(lambda: not lab.list("PersistentVolumeClaim"), "the workspace is gone", within=300)
    label = {"metadata": {"labels": {"bulkhead.dev/sandbox": None}}}
    lab.rest.send("PATCH", f"/api/v1/namespaces/{lab.namespace}", label, content_type=MERGE)
    eventually(lambda: not lab.list("NetworkPolicy"), "the deny-all is gone")


def exercise_denies(rest: Rest) -> None:
    """Makes the operator do everything that it can do for a SandboxPolicy where clusterwide policies are served."""
    for kind in DENIES:
        made = rest.post(path_of(kind), {**DENIES[kind], "metadata": {"name": f"bulkhead-{POLICY}"}})
        assert made.ok, made.message
    asked = rest.post(POLICIES, policy(POLICY, production={"cidrs": ["198.51.100.0/24"]}, **OFFERS))
    assert asked.ok, asked.message
    owner = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "SandboxPolicy", "name": POLICY}
    owner["uid"] = asked.body["metadata"]["uid"]
    told = partial(denies_said, rest, "Conflict")
    eventually(told, "the policy says that strangers have the names of its denies", within=60)
    for kind in DENIES:
        assert rest.delete(f"{path_of(kind)}/bulkhead-{POLICY}").ok
        stray = {"name": "stray", "labels": managed_labels(), "ownerReferences": [owner]}
        assert rest.post(path_of(kind), {**DENIES[kind], "metadata": stray}).ok
    eventually(partial(denies_said, rest, "CiliumAndClusterNetworkPolicy"), "the denies are in place", within=60)
    for kind in DENIES:
        eventually(partial(is_gone, rest, f"{path_of(kind)}/stray"), "denies under another name are removed", within=60)
    before = {kind: version(rest, kind) for kind in DENIES}
    wider = {"spec": {"production": {"cidrs": ["198.51.100.0/24", "203.0.113.0/24"]}}}
    assert rest.send("PATCH", f"{POLICIES}/{POLICY}", wider, content_type=MERGE).ok
    for kind in DENIES:
        eventually(lambda kind=kind: version(rest, kind) != before[kind], f"the {kind} follows the policy")  # type: ignore[misc]


def denies_said(rest: Rest, reason: str) -> bool:
    status = rest.get(f"{POLICIES}/{POLICY}").body.get("status") or {}
    said = conditions.find(status.get("conditions") or [], "ClusterwideDenies") or {}
    return bool(said.get("reason") == reason)


def is_gone(rest: Rest, path: str) -> bool:
    return rest.get(path).status == 404


def path_of(kind: str) -> str:
    return served_path(foreign_crds()[kind])


def version(rest: Rest, kind: str) -> str:
    return str(rest.get(f"{path_of(kind)}/bulkhead-{POLICY}").body["metadata"]["resourceVersion"])


def quiet_for(agent: dict[str, Any], seconds: float) -> bool:
    """Whether nobody has written the agent for so long."""
    times = [conditions.parse_time(one["time"]) for one in agent["metadata"]["managedFields"]]
    return datetime.now(UTC) - max(times) > timedelta(seconds=seconds)


def read_again(lab: Lab, cluster: RunningCluster) -> bool:
    """Deletes a workload; says whether the operator read its agent before it made another."""
    start = auditlog.end(cluster.audit_log)
    lab.delete("StatefulSet", "scout")
    eventually(lambda: lab.get("StatefulSet", "scout"), "another workload")
    return any(right(one) == ("bulkhead.dev", "agentdeployments", "get") for one in entries(cluster, start))


def test_the_operator_uses_every_right_that_it_has_and_lacks_none(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    token = yaml.safe_load(install_rights(apiserver).read_text())["users"][0]["user"]["token"]
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/bulkhead-operator"
    rest.delete(leases)
    start = auditlog.end(apiserver.audit_log)
    kinds = (*DENIES, CILIUM_NETWORK_POLICIES)
    files = Files(tmp_path / "files")
    files.settings.write_text(yaml.safe_dump({**yaml.safe_load(files.settings.read_text()), **VALUES}))
    assert rest.patch(f"{POLICIES}/default", {"spec": OFFERS}).ok
    with installed(apiserver, *kinds), sources(apiserver), published(rest), FaultProxy(apiserver.kubeconfig) as proxy:
        # What somebody else wrote at the same moment is read again.
        for path in ("networkpolicies/bulkhead-deny-all", "ciliumnetworkpolicies/agent-"):
            proxy.on("PATCH", f"/{path}", Answer(409, reason="Conflict"))
        kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig", token=token)
        try:
            with OperatorProcess(kubeconfig, tmp_path, extra=files.arguments, packages=[files.packages]):
                exercise_denies(rest)
                exercise_credentials(Agents(rest, sandbox), files, proxy)
                exercise_switches(Lab(rest, sandbox))
                exercise(Lab(rest, sandbox), apiserver)
        finally:
            # A policy that stayed would refuse the agents of the tests that come after.
            rest.delete(f"{POLICIES}/{POLICY}")
            restored = rest.patch(f"{POLICIES}/default", {"spec": dict.fromkeys(OFFERS)})
    assert restored.ok
    wanted = granted() - AUTHORIZED
    # A watch is logged when it has ended, which the API server notices a moment after the operator has.
    with suppress(AssertionError):
        eventually(lambda: wanted <= {right(one) for one in entries(apiserver, start)}, "every right is used")
    asked = entries(apiserver, start)
    refused = {
        right(one) for one in asked if one.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    }
    assert not refused
    used = {right(one) for one in asked}
    assert used - granted() == set()
    assert wanted - used == set()
