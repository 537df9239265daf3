"""The operator's own ordinary work, as its plan builds it: none of the policies that bound its user is in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from bulkhead.plan import denies
from bulkhead.plan.policy import parse
from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, CORE, NETWORK
from tests.apiserver.foreign_crds import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CILIUM_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    installed,
)
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, eventually

FINALIZER = "bulkhead.dev/revoke-credentials"
DENIES = {
    "cilium": ordinary.CLUSTERWIDE,
    "clusternetworkpolicy": "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
}


@dataclass(frozen=True)
class Workplace:
    """A sandbox namespace with an agent and all that was made of it, by the operator."""

    guarded: Guarded
    namespace: str
    agent: Object
    children: dict[str, Object]

    def send(self, request: Request, *, who: Rest | None = None) -> None:
        answer = self.guarded.send(who or self.guarded.operator, request, self.namespace)
        assert answer.ok, answer.message


@pytest.fixture(scope="module")
def workplace(guarded: Guarded) -> Iterator[Workplace]:
    offers: Object = {
        "identity": {"kubernetesApi": {"rules": [ordinary.READ]}, "audiences": ["vault"]},
        "credentials": {"postgres": [{"issuer": "stock", "roles": ["reader"]}]},
    }
    kinds = (CILIUM_NETWORK_POLICIES, CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES)
    with (
        installed(guarded.cluster, *kinds),
        guarded.sandbox() as namespace,
        guarded.policies(sandbox_policy("offers", **offers)),
    ):
        agent = ordinary.make_agent(guarded, namespace)
        children = ordinary.children(agent)
        for child in children.values():
            create = ordinary.create(child)
            eventually(
                lambda create=create: guarded.send(guarded.operator, create, namespace).ok,  # type: ignore[misc]
                f"the operator may make a {child['kind']}: {guarded.send(guarded.operator, create, namespace).message}",
            )
            answer = guarded.send(guarded.operator, create, namespace, dry=False)
            assert answer.ok, answer.message
        yield Workplace(guarded, namespace, agent, children)
        guarded.break_glass.delete(f"{AGENTS}/scout".replace("{ns}", namespace))


@pytest.mark.parametrize("kind", ordinary.COLLECTIONS)
def test_what_an_agent_is_made_of_is_applied_and_deleted(workplace: Workplace, kind: str) -> None:
    child = workplace.children[kind]
    workplace.send(ordinary.apply(child))
    workplace.send(Request("DELETE", ordinary.path_of(child)))


@pytest.mark.parametrize("kind", [kind for kind in ordinary.COLLECTIONS if kind != "Secret"])
def test_what_many_agents_are_made_of_is_deleted_by_label(workplace: Workplace, kind: str) -> None:
    uid = workplace.agent["metadata"]["uid"]
    for selector in (f"bulkhead.dev/agent-uid in ({uid},another)", "app.kubernetes.io/managed-by=bulkhead"):
        workplace.send(Request("DELETE", f"{ordinary.COLLECTIONS[kind]}?{urlencode({'labelSelector': selector})}"))


def test_pods_of_many_agents_are_deleted_by_label(workplace: Workplace) -> None:
    guarded, pods = workplace.guarded, f"{CORE}/pods?labelSelector=bulkhead.dev%2Fagent-uid"
    found = Request("GET", pods)
    eventually(
        lambda: guarded.send(guarded.admin, found, workplace.namespace).body["items"], "the StatefulSet has a pod"
    )
    workplace.send(Request("DELETE", pods))


@pytest.mark.parametrize("kind", ordinary.COLLECTIONS)
def test_the_garbage_collector_and_the_namespace_controller_take_it_too(workplace: Workplace, kind: str) -> None:
    child = workplace.children[kind]
    path = ordinary.path_of(child)
    collector = workplace.guarded.controller("generic-garbage-collector")
    workplace.send(Request("DELETE", path), who=collector)
    workplace.send(Request("PATCH", path, {"metadata": {"finalizers": []}}, "merge"), who=collector)
    namespaces = workplace.guarded.controller("namespace-controller")
    workplace.send(Request("DELETE", ordinary.COLLECTIONS[kind]), who=namespaces)


def test_the_deny_all_of_a_namespace_is_made_and_goes_with_the_label(guarded: Guarded, workplace: Workplace) -> None:
    wanted = ordinary.deny_all(guarded, workplace.namespace)
    workplace.send(ordinary.create(wanted))
    with guarded.sandbox() as namespace:
        made = ordinary.deny_all(guarded, namespace)
        agent = ordinary.make_agent(guarded, namespace, suspend=True)
        path = f"{NETWORK}/networkpolicies".replace("{ns}", namespace)
        guarded.make(path, made, guarded.operator)
        children = ordinary.children(agent)
        for child in children.values():
            guarded.make(ordinary.COLLECTIONS[child["kind"]].replace("{ns}", namespace), child, guarded.break_glass)
        label = {"metadata": {"labels": {"bulkhead.dev/sandbox": None}}}
        assert guarded.admin.patch(f"/api/v1/namespaces/{namespace}", label).ok
        deletion = Request("DELETE", f"{path}/bulkhead-deny-all")
        assert guarded.send(guarded.operator, deletion, namespace).ok
        for child in children.values():
            answer = guarded.send(guarded.operator, Request("DELETE", ordinary.path_of(child)), namespace)
            assert answer.ok, answer.message
            answer = guarded.send(guarded.operator, ordinary.apply(child), namespace)
            assert refused_by(answer) == "operator", answer.message
        guarded.break_glass.delete(f"{AGENTS}/scout".replace("{ns}", namespace))


def test_pods_are_ended_and_workspaces_marked(workplace: Workplace) -> None:
    guarded, namespace = workplace.guarded, workplace.namespace
    pod = f"{CORE}/pods/scout-0"
    claim = f"{CORE}/persistentvolumeclaims/workspace-scout-0"
    eventually(lambda: guarded.admin.get(pod.replace("{ns}", namespace)).ok, "the StatefulSet controller makes a pod")
    workplace.send(Request("DELETE", pod))
    live = guarded.admin.get(claim.replace("{ns}", namespace)).body
    owner = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "name": "scout",
        "uid": workplace.agent["metadata"]["uid"],
    }
    patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "ownerReferences": [owner]}}
    workplace.send(Request("PATCH", claim, patch, "merge"))


def test_an_agents_finalizer_comes_and_goes_and_an_expired_one_is_deleted(workplace: Workplace) -> None:
    path = f"{AGENTS}/scout"
    workplace.send(Request("PATCH", path, {"metadata": {"finalizers": [FINALIZER]}}, "merge"))
    collection = AGENTS.replace("{ns}", workplace.namespace)
    brief = objects.agent("brief", lifetime={"maxSeconds": 60, "onExpiry": "Delete"})
    brief["metadata"]["finalizers"] = ["example.com/another", FINALIZER]
    workplace.guarded.make(collection, brief)
    kept = {"metadata": {"finalizers": ["example.com/another"]}}
    workplace.send(Request("PATCH", f"{AGENTS}/brief", kept, "merge"))
    workplace.send(Request("DELETE", f"{AGENTS}/brief"))
    none: Object = {"metadata": {"finalizers": []}}
    assert workplace.guarded.admin.patch(f"{collection}/brief", none).ok
    assert workplace.guarded.admin.delete(f"{collection}/brief").ok


@pytest.mark.parametrize("name", ["bulkhead-lease-abcdefghijkl", "bulkhead-alert-0123456789ab"])
def test_records_of_leases_and_alerts_are_kept_in_its_own_namespace(guarded: Guarded, name: str) -> None:
    record = objects.named("v1", "ConfigMap", name, data={"a": "b"})
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    guarded.make(path, record, guarded.operator)
    try:
        answer = guarded.send(guarded.operator, Request("PATCH", f"{path}/{name}", {"data": {"a": "c"}}, "merge"), "")
        assert answer.ok, answer.message
    finally:
        assert guarded.operator.delete(f"{path}/{name}").ok


def test_the_status_of_a_switch_is_written(guarded: Guarded) -> None:
    path = "/apis/bulkhead.dev/v1alpha1/killswitches"
    spec = {"selector": {"tenants": ["nobody"]}, "reason": "a test"}
    guarded.make(path, objects.named("bulkhead.dev/v1alpha1", "KillSwitch", "halted", spec=spec))
    try:
        answer = guarded.send(
            guarded.operator, Request("PATCH", f"{path}/halted/status", {"status": {"matched": 0}}, "merge"), ""
        )
        assert answer.ok, answer.message
    finally:
        assert guarded.admin.delete(f"{path}/halted").ok


@pytest.mark.parametrize("dialect", DENIES)
def test_denies_of_a_policy_are_written_for_the_whole_cluster(workplace: Workplace, dialect: str) -> None:
    found = workplace.guarded.admin.get("/apis/bulkhead.dev/v1alpha1/sandboxpolicies/offers").body
    written = denies.denies(parse(found), dialect=dialect, hosts=())  # type: ignore[arg-type]
    for one in written:
        workplace.send(Request("POST", DENIES[dialect], one))


def test_the_kubelet_asks_for_tokens_of_an_agents_pods(guarded: Guarded, workplace: Workplace) -> None:
    # RBAC and NodeRestriction hold it to its own pods; that these let it through is shown with a node of its own.
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["vault"]}}
    kubelet = guarded.user("system:node:n7", "system:nodes", "system:masters")
    answer = guarded.send(
        kubelet, Request("POST", f"{CORE}/serviceaccounts/agent-scout/token", request), workplace.namespace
    )
    assert refused_by(answer) is None, answer.message
