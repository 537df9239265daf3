"""The operator's records and the labels by which it finds its own: nobody else writes either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by
from tests.apiserver.admission.objects import APPS, CORE, NETWORK, RBAC
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, eventually

OWN = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
ALERT = "bulkhead-alert-0123456789abcdef"


def record(name: str, **labels: str) -> Object:
    """A ConfigMap."""
    made = objects.named("v1", "ConfigMap", name, data={"a": "b"})
    made["metadata"]["labels"] = labels
    return made


@pytest.fixture(scope="module")
def admin_of_its_namespace(guarded: Guarded) -> Rest:
    """The admin of the operator's namespace, with the cluster's role and leases besides."""
    collection = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"
    guarded.make(collection, objects.role_binding("olga", "cluster-admin", "olga"))
    olga = guarded.user("olga")
    eventually(lambda: olga.get(OWN).ok, "olga is admin")
    return olga


@pytest.fixture(scope="module", autouse=True)
def kept(guarded: Guarded) -> Iterator[None]:
    """The record of an alert, and who leads."""
    guarded.make(OWN, record(ALERT, **{"bulkhead.dev/alert": "0123456789abcdef"}), guarded.operator)
    lease = objects.named("coordination.k8s.io/v1", "Lease", "bulkhead-operator", spec={"holderIdentity": "one"})
    guarded.operator.delete(f"{LEASES}/bulkhead-operator")
    made = guarded.break_glass.post(LEASES, lease)
    assert made.ok or made.status == 409, made.message
    yield
    guarded.operator.delete(f"{OWN}/{ALERT}")
    guarded.break_glass.delete(f"{LEASES}/bulkhead-operator")


REFUSED: dict[str, Request] = {
    "a forged alert, by its name": Request("POST", OWN, record("bulkhead-alert-forged")),
    "a forged alert, by its label": Request("POST", OWN, record("harmless", **{"bulkhead.dev/alert": "x"})),
    "an alert about another agent": Request("PATCH", f"{OWN}/{ALERT}", {"data": {"a": "c"}}, "merge"),
    "an alert hidden": Request(
        "PATCH", f"{OWN}/{ALERT}", {"metadata": {"labels": {"bulkhead.dev/alert": None}}}, "merge"
    ),
    "an alert that goes with its owner": Request(
        "PATCH",
        f"{OWN}/{ALERT}",
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}},
        "merge",
    ),
    "an alert deleted": Request("DELETE", f"{OWN}/{ALERT}"),
    "all alerts deleted": Request("DELETE", f"{OWN}?labelSelector=bulkhead.dev/alert"),
    "everything deleted": Request("DELETE", OWN),
    "a book of a lease forged": Request("POST", OWN, record("bulkhead-lease-abcdefghijkl")),
    "a leader that does nothing": Request(
        "PATCH", f"{LEASES}/bulkhead-operator", {"spec": {"holderIdentity": "me"}}, "merge"
    ),
    "leadership deleted": Request("DELETE", f"{LEASES}/bulkhead-operator"),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_the_operators_records_are_nobody_elses(
    guarded: Guarded, admin_of_its_namespace: Rest, request_: Request
) -> None:
    for who in (guarded.admin, admin_of_its_namespace):
        answer = guarded.send(who, request_, "")
        assert (answer.status, refused_by(answer)) == (403, "records"), answer.message
        assert "accepted" in answer.message
    assert refused_by(guarded.send(guarded.break_glass, request_, "")) is None


def test_the_garbage_collector_takes_no_record(guarded: Guarded) -> None:
    answer = guarded.send(guarded.controller("generic-garbage-collector"), REFUSED["an alert deleted"], "")
    assert refused_by(answer) == "records", answer.message


def test_other_objects_of_its_namespace_are_none_of_admissions_business(
    guarded: Guarded, admin_of_its_namespace: Rest
) -> None:
    for request in (
        Request("POST", OWN, record("bulkhead-alerting", **{"app": "x"})),
        Request("PATCH", f"{OWN}/bulkhead-admission", {"metadata": {"labels": {"a": "b"}}}, "merge"),
        Request("POST", LEASES, objects.named("coordination.k8s.io/v1", "Lease", "other", spec={})),
        Request("POST", "/api/v1/namespaces/default/configmaps", record("bulkhead-alert-elsewhere")),
    ):
        answer = guarded.send(guarded.admin, request, "")
        assert answer.ok, answer.message


def test_the_operator_keeps_its_records_and_leads(guarded: Guarded) -> None:
    for request in (
        Request("POST", OWN, record("bulkhead-alert-fedcba", **{"bulkhead.dev/alert": "fedcba"})),
        Request("DELETE", f"{OWN}/{ALERT}"),
        Request("PATCH", f"{LEASES}/bulkhead-operator", {"spec": {"holderIdentity": "two"}}, "merge"),
    ):
        answer = guarded.send(guarded.operator, request, "")
        assert answer.ok, answer.message
    namespaces = guarded.controller("namespace-controller")
    assert guarded.send(namespaces, Request("DELETE", f"{OWN}/{ALERT}"), "").ok


# --- labels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A sandbox namespace with an agent's children, and Roles of a platform engineer."""

    namespace: str
    children: dict[str, Object]


@pytest.fixture(scope="module")
def site(guarded: Guarded) -> Iterator[Site]:
    with guarded.sandbox() as namespace:
        agent = ordinary.make_agent(guarded, namespace, suspend=True)
        children = {kind: one for kind, one in ordinary.children(agent).items() if kind != "CiliumNetworkPolicy"}
        for child in children.values():
            guarded.make(ordinary.COLLECTIONS[child["kind"]].replace("{ns}", namespace), child)
        for path, body in (
            (f"{RBAC}/roles", objects.role("theirs")),
            (f"{RBAC}/rolebindings", objects.role_binding("theirs", to="theirs", kind="Role")),
        ):
            guarded.make(path.replace("{ns}", namespace), body, guarded.admin)
        yield Site(namespace, children)


def labelled(path: str, **labels: str | None) -> Request:
    return Request("PATCH", path, {"metadata": {"labels": labels}}, "merge")


UID = {"bulkhead.dev/agent-uid": "00000000-0000-4000-8000-000000000000"}
MARKED: dict[str, Request] = {
    "a stranger's Role given an agent's label": labelled(f"{RBAC}/roles/theirs", **UID),
    "a stranger's RoleBinding given one": labelled(f"{RBAC}/rolebindings/theirs", **UID),
    "a stranger's Role given an agent's name": labelled(f"{RBAC}/roles/theirs", **{"bulkhead.dev/agent": "scout"}),
    "a stranger's Role said to be the operator's": labelled(
        f"{RBAC}/roles/theirs", **{"app.kubernetes.io/managed-by": "bulkhead"}
    ),
    "a Role made with one": Request(
        "POST", f"{RBAC}/roles", {**objects.role(), "metadata": {"name": "probe", "labels": UID}}
    ),
    "an agent's Role hidden": labelled(f"{RBAC}/roles/agent-scout", **{"bulkhead.dev/agent-uid": None}),
    "an agent's RoleBinding hidden": labelled(f"{RBAC}/rolebindings/agent-scout", **{"bulkhead.dev/agent-uid": None}),
    "an agent's RoleBinding given to another": labelled(f"{RBAC}/rolebindings/agent-scout", **UID),
    "an agent's RoleBinding said to be somebody's": labelled(
        f"{RBAC}/rolebindings/agent-scout", **{"app.kubernetes.io/managed-by": "Helm"}
    ),
}


@pytest.mark.parametrize("request_", MARKED.values(), ids=MARKED)
def test_an_agents_labels_are_neither_given_nor_taken_not_even_by_platform_engineers(
    guarded: Guarded, site: Site, request_: Request
) -> None:
    answer = guarded.send(guarded.admin, request_, site.namespace)
    assert (answer.status, refused_by(answer)) == (403, "marks"), answer.message
    assert "accepted" in answer.message
    assert guarded.send(guarded.break_glass, request_, site.namespace).ok


@pytest.mark.parametrize(
    "path",
    [
        f"{NETWORK}/networkpolicies/agent-scout",
        f"{CORE}/serviceaccounts/agent-scout",
        f"{APPS}/statefulsets/scout",
        f"{APPS}/statefulsets/scout/status",
    ],
)
def test_labels_of_what_only_the_operator_writes_are_refused_by_whichever_answers_first(
    guarded: Guarded, site: Site, path: str
) -> None:
    for labels in ({"bulkhead.dev/agent-uid": None}, UID):
        answer = guarded.send(guarded.admin, labelled(path, **labels), site.namespace)
        assert answer.status == 403 and refused_by(answer), answer.message


def test_controllers_that_write_beside_the_operator_cannot_change_them_either(guarded: Guarded, site: Site) -> None:
    manager = guarded.user("system:kube-controller-manager", "system:masters")
    for path in (f"{APPS}/statefulsets/scout/status", f"{CORE}/serviceaccounts/agent-scout"):
        answer = guarded.send(manager, labelled(path, **UID), site.namespace)
        assert refused_by(answer) == "marks", answer.message


def test_other_labels_of_roles_are_open_to_platform_engineers(guarded: Guarded, site: Site) -> None:
    for labels in ({"team": "blue"}, {"app.kubernetes.io/managed-by": "Helm"}):
        answer = guarded.send(guarded.admin, labelled(f"{RBAC}/roles/theirs", **labels), site.namespace)
        assert answer.ok, answer.message


def test_the_operator_labels_what_it_makes(guarded: Guarded, site: Site) -> None:
    for child in site.children.values():
        answer = guarded.send(guarded.operator, ordinary.apply(child), site.namespace)
        assert refused_by(answer) != "marks", answer.message
