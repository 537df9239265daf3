"""The admin of a sandbox namespace, with the cluster's role `admin` there and nothing else, tries to get out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bulkhead.api.meta import SANDBOX_LABEL
from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, NETWORK, RBAC, block
from tests.apiserver.admission.refused import REFUSED
from tests.apiserver.admission.test_guards import furnish
from tests.apiserver.rest import Rest
from tests.operator_process import eventually

NAMESPACE = "/api/v1/namespaces/{ns}"
ESCAPES: dict[str, Request] = {
    **{f"{guard}: {what}": request for guard, requests in REFUSED.items() for what, request in requests.items()},
    "a Role": Request("POST", f"{RBAC}/roles", objects.role()),
    "rights for an agent": Request(
        "POST",
        f"{RBAC}/rolebindings",
        {
            **objects.role_binding(to="admin"),
            "subjects": [{"kind": "ServiceAccount", "name": "standing", "namespace": "default"}],
        },
    ),
    "the sandbox label taken": Request("PATCH", NAMESPACE, {"metadata": {"labels": {SANDBOX_LABEL: None}}}, "merge"),
    "the label taken through status": Request(
        "PATCH", f"{NAMESPACE}/status", {"metadata": {"labels": {SANDBOX_LABEL: None}}}, "merge"
    ),
    "pod security lowered": Request(
        "PATCH", NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}, "merge"
    ),
    "a label of an agent's pod, by a status": Request(
        "PATCH", f"{CORE}/pods/standing/status", {"metadata": {"labels": {"bulkhead.dev/agent-uid": "x"}}}, "merge"
    ),
    "the deny-all replaced": Request(
        "PUT", f"{NETWORK}/networkpolicies/standing", objects.network_policy("standing", egress=[{}])
    ),
    "the deny-all applied over": Request(
        "PATCH",
        f"{NETWORK}/networkpolicies/standing",
        objects.network_policy("standing", egress=[{"to": [block("0.0.0.0/0")]}]),
        "apply",
    ),
    "a policy with the operator's labels": Request(
        "POST",
        f"{NETWORK}/networkpolicies",
        {
            **objects.network_policy(egress=[{}]),
            "metadata": {"name": "agent-scout", "labels": {"app.kubernetes.io/managed-by": "bulkhead"}},
        },
    ),
    "the owner of a policy taken": Request(
        "PATCH", f"{NETWORK}/networkpolicies/standing", {"metadata": {"ownerReferences": []}}, "merge"
    ),
    "a SandboxPolicy": Request("POST", "/apis/bulkhead.dev/v1alpha1/sandboxpolicies", sandbox_policy("mine")),
    "the policy weakened": Request(
        "PATCH", "/apis/bulkhead.dev/v1alpha1/sandboxpolicies/firm", {"spec": {"production": {"cidrs": []}}}, "merge"
    ),
    "the policy's status": Request(
        "PATCH", "/apis/bulkhead.dev/v1alpha1/sandboxpolicies/firm/status", {"status": {"violating": 0}}, "merge"
    ),
    "an admission policy deleted": Request(
        "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/bulkhead-pods"
    ),
    "a binding deleted": Request(
        "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/bulkhead-pods"
    ),
    "an agent towards production": Request(
        "POST",
        AGENTS,
        objects.agent(network={"egress": [{"to": {"cidr": "10.200.0.0/24"}, "ports": [{"port": 5432}]}]}),
    ),
    "an agent that drops the metadata block": Request(
        "POST",
        AGENTS,
        objects.agent(
            network={"egress": [{"to": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}, "ports": [{"port": 80}]}]}
        ),
    ),
    "replicas without a bound": Request("PATCH", f"{AGENTS}/standing/scale", {"spec": {"replicas": 90}}, "merge"),
    "a Deployment scaled": Request("PATCH", f"{APPS}/deployments/standing/scale", {"spec": {"replicas": 9}}, "merge"),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A furnished sandbox namespace and its admin."""

    namespace: str
    admin: Rest


@pytest.fixture(scope="module")
def cell(guarded: Guarded) -> Iterator[Cell]:
    policy = sandbox_policy(
        "firm", production={"cidrs": ["10.200.0.0/24"]}, workload={"maxReplicas": 3}, network={"egressCIDRs": ["::/0"]}
    )
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    with guarded.policies(policy), guarded.sandbox(**labels) as namespace:
        furnish(guarded, namespace)
        collection = f"{RBAC}/rolebindings".replace("{ns}", namespace)
        guarded.make(collection, objects.role_binding("admins", "admin", "ada"), guarded.admin)
        ada = guarded.user("ada")
        eventually(lambda: guarded.send(ada, Request("GET", AGENTS), namespace).ok, "ada is admin")
        scale = ESCAPES["replicas without a bound"]
        eventually(lambda: refused_by(guarded.send(guarded.admin, scale, namespace)), "the policy is seen")
        yield Cell(namespace, ada)


def snapshot(guarded: Guarded, namespace: str) -> dict[str, Object]:
    """What matters of the namespace: versions of all that rules, identities and workloads are made of."""
    found: dict[str, Object] = {"namespace": guarded.admin.get(NAMESPACE.replace("{ns}", namespace)).body["metadata"]}
    for collection in (
        f"{CORE}/pods",
        f"{CORE}/serviceaccounts",
        f"{CORE}/services",
        f"{CORE}/secrets",
        f"{NETWORK}/networkpolicies",
        f"{APPS}/deployments",
        f"{RBAC}/roles",
        f"{RBAC}/rolebindings",
        AGENTS,
    ):
        for item in guarded.admin.get(collection.replace("{ns}", namespace)).body["items"]:
            metadata = item["metadata"]
            found[f"{collection} {metadata['name']}"] = {
                "uid": metadata["uid"],
                "spec": item.get("spec"),
                "labels": metadata.get("labels"),
            }
    return found


@pytest.mark.parametrize("request_", ESCAPES.values(), ids=ESCAPES)
def test_no_way_out_with_the_credentials_of_the_namespaces_admin(
    guarded: Guarded, cell: Cell, request_: Request
) -> None:
    before = snapshot(guarded, cell.namespace)
    answer = guarded.send(cell.admin, request_, cell.namespace, dry=False)
    assert answer.status in (403, 404), f"{answer.status}: {answer.message}"
    assert answer.status == 403 or "deployments" in request_.path, answer.message
    assert snapshot(guarded, cell.namespace) == before


def test_what_the_admin_of_a_sandbox_is_there_for_still_works(guarded: Guarded, cell: Cell) -> None:
    for request in (
        Request("POST", AGENTS, objects.agent()),
        Request("PATCH", f"{AGENTS}/standing", {"spec": {"suspend": True}}, "merge"),
        Request("DELETE", f"{AGENTS}/standing"),
        Request("POST", f"{CORE}/services", objects.service()),
        Request("POST", f"{CORE}/configmaps", objects.named("v1", "ConfigMap", "notes")),
        Request("POST", f"{CORE}/secrets", objects.named("v1", "Secret", "notes")),
        Request("PATCH", f"{CORE}/serviceaccounts/default", {"imagePullSecrets": [{"name": "registry"}]}, "merge"),
        Request("GET", f"{CORE}/pods"),
    ):
        answer = guarded.send(cell.admin, request, cell.namespace)
        assert answer.ok, f"{request.path}: {answer.message}"


def test_break_glass_by_impersonation_is_a_right_that_somebody_must_have(guarded: Guarded, cell: Cell) -> None:
    command = ("delete", "pod", "standing", f"--namespace={cell.namespace}", "--dry-run=server")
    group = ("--as=ada", "--as-group=bulkhead:break-glass")
    kubectl = guarded.cluster.kubectl
    assert "is forbidden" in kubectl(*command, "--as=root", "--as-group=system:masters", check=False)
    assert "(server dry run)" in kubectl(*command, *group, "--as-group=system:masters", check=False)
