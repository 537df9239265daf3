"""Objects of somebody else under the names that an agent needs: left as they are, and named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import SANDBOX_LABELS
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

Object = dict[str, Any]

LABELS = {"app": "stranger"}
POD = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "example.test/x:1"}]}}
NEIGHBOUR = {"egress": [{"to": {"pods": {"labels": {"app": "neighbour"}}}, "ports": [{"port": 80}]}]}
STRANGERS: dict[str, tuple[str, str, Object]] = {
    "ServiceAccount": ("ServiceAccount", "agent-scout", {"apiVersion": "v1"}),
    "StatefulSet": (
        "StatefulSet",
        "scout",
        {"apiVersion": "apps/v1", "spec": {"selector": {"matchLabels": LABELS}, "template": POD, "replicas": 0}},
    ),
    "PersistentVolumeClaim": (
        "PersistentVolumeClaim",
        "workspace-scout-0",
        {"apiVersion": "v1", "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "NetworkPolicy of the agent": (
        "NetworkPolicy",
        "agent-scout",
        {"apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
    ),
    "NetworkPolicy of the namespace": (
        "NetworkPolicy",
        "bulkhead-deny-all",
        {"apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}, "egress": [{}]}},
    ),
}


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest) -> Iterator[Lab]:
    """A namespace that is no sandbox yet, so that a stranger can be there first."""
    made = rest.post("/api/v1/namespaces", {"metadata": {"generateName": "conflict-"}})
    assert made.ok, made.message
    name = made.body["metadata"]["name"]
    yield Lab(rest, name)
    rest.delete(f"/api/v1/namespaces/{name}")


def owned_by_another(lab: Lab) -> list[Object]:
    """Owner references to another agent: same kind, same operator, another UID."""
    other = lab.create("other", suspend=True)
    reference = {key: other[key] for key in ("apiVersion", "kind")}
    return [{**reference, "name": "other", "uid": other["metadata"]["uid"], "controller": True}]


@pytest.mark.parametrize("disguised", [False, True], ids=["plain", "with our labels"])
@pytest.mark.parametrize("owned", [False, True], ids=["owned by nobody", "owned by another"])
@pytest.mark.parametrize("case", STRANGERS)
def test_a_strangers_object_is_left_untouched_and_the_agent_names_it(
    lab: Lab, case: str, owned: bool, disguised: bool
) -> None:
    kind, name, body = STRANGERS[case]
    metadata: Object = {"name": name}
    if owned:
        metadata["ownerReferences"] = owned_by_another(lab)
    if disguised:
        metadata["labels"] = {"app.kubernetes.io/managed-by": "bulkhead", "bulkhead.dev/agent": "scout"}
    before = lab.put(kind, {**body, "kind": kind, "metadata": metadata})
    lab.create("scout", workspace={"size": "1Gi", "onDelete": "Delete"}, network=NEIGHBOUR)
    lab.rest.send(
        "PATCH", f"/api/v1/namespaces/{lab.namespace}", {"metadata": {"labels": SANDBOX_LABELS}}, content_type=MERGE
    )

    lab.until_state("scout", "Conflict")
    message = lab.condition("scout", "Ready")["message"]
    assert f"{kind} {name}" in message
    assert ("AgentDeployment other" if owned else "nobody") in message
    assert lab.condition("scout", "Ready")["reason"] == "Conflict"
    assert not lab.list("Pod")
    lab.delete("AgentDeployment", "scout")
    eventually(lambda: lab.get("AgentDeployment", "scout") is None, "the agent is deleted")
    after = lab.the(kind, name)
    for one in (before, after):
        one.pop("status", None)
        one["metadata"].pop("resourceVersion")
        one["metadata"].pop("managedFields", None)
        one["metadata"].pop("annotations", None) if kind == "PersistentVolumeClaim" else None
    assert after == before


def test_an_agent_starts_when_the_conflict_is_gone(lab: Lab) -> None:
    lab.rest.send(
        "PATCH", f"/api/v1/namespaces/{lab.namespace}", {"metadata": {"labels": SANDBOX_LABELS}}, content_type=MERGE
    )
    lab.put("ServiceAccount", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent-scout"}})
    lab.create("scout")
    lab.until_state("scout", "Conflict")
    lab.delete("ServiceAccount", "agent-scout")
    lab.until_built(["scout"], within=60)


def test_an_agent_whose_identity_was_replaced_by_a_stranger_is_stopped(lab: Lab) -> None:
    lab.rest.send(
        "PATCH", f"/api/v1/namespaces/{lab.namespace}", {"metadata": {"labels": SANDBOX_LABELS}}, content_type=MERGE
    )
    lab.create("scout")
    lab.until_built(["scout"])
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent-scout"}}

    def replaced() -> bool:
        lab.rest.delete(lab.path("ServiceAccount", "agent-scout"))
        return lab.rest.post(lab.path("ServiceAccount"), account).ok

    # The operator makes its own again within milliseconds: it takes a few tries to be quicker.
    eventually(replaced, "a stranger's account has the name")
    lab.until_state("scout", "Conflict")
    eventually(lambda: lab.condition("scout", "Suspended")["status"] == "True", "it is stopped")
    assert not lab.list("Pod")
    assert not lab.list("StatefulSet")
