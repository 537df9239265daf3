"""The operator's real token in the hands of a thief: what RBAC would let it do, admission refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from devcluster.api import token_kubeconfig
from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, NETWORK, RBAC
from tests.apiserver.admission.strange_writes import IN_A_SANDBOX
from tests.apiserver.admission.thefts import BEYOND_RBAC, CLUSTER, COLLECTIONS, ELSEWHERE, FINALIZER, OWNER, VALUE
from tests.apiserver.foreign_crds import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CILIUM_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    installed,
)
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, eventually

OPERATOR = ("operator", "operator-deletions", "operator-elsewhere")
"""The policies about everything that the operator's own user writes."""


@dataclass(frozen=True)
class Theft:
    """The operator's token, a namespace of others and one where agents run."""

    guarded: Guarded
    thief: Rest
    elsewhere: str
    sandbox: str
    children: dict[str, Object]

    def try_(self, request: Request, *, elsewhere: bool = False) -> Any:
        return self.guarded.send(self.thief, request, self.elsewhere if elsewhere else self.sandbox)


@pytest.fixture(scope="module")
def theft(guarded: Guarded) -> Iterator[Theft]:
    kinds = (CILIUM_NETWORK_POLICIES, CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES)
    offers = {"identity": {"kubernetesApi": {"rules": [ordinary.READ]}}}
    elsewhere = "elsewhere"
    guarded.make("/api/v1/namespaces", objects.named("v1", "Namespace", elsewhere))
    with (
        installed(guarded.cluster, *kinds),
        guarded.sandbox() as sandbox,
        guarded.policies(sandbox_policy("offers", **offers)),
        Rest(token_kubeconfig(guarded.cluster, NAMESPACE, "bulkhead")) as thief,
    ):
        furnish(guarded, elsewhere)
        furnish(guarded, sandbox)
        agent = ordinary.make_agent(guarded, sandbox, suspend=True)
        guarded.make(AGENTS.replace("{ns}", elsewhere), objects.agent("standing"))
        found = Theft(guarded, thief, elsewhere, sandbox, ordinary.children(agent))
        role = ordinary.create(found.children["Role"])
        eventually(lambda: found.try_(role).ok, "the policy is seen")
        yield found
    guarded.break_glass.delete(f"/api/v1/namespaces/{elsewhere}")


def furnish(guarded: Guarded, namespace: str) -> None:
    """Objects called `theirs`, of each kind that the operator may write."""
    secret = objects.named("v1", "Secret", "theirs", data={"password": VALUE})
    claim = objects.named("v1", "PersistentVolumeClaim", "theirs")
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    eventually(
        lambda: (
            guarded.break_glass.post(f"{CORE}/pods".replace("{ns}", namespace), objects.pod("theirs")).status
            in (201, 409)
        ),
        "a pod is admitted",
    )
    for path, body in (
        (f"{CORE}/secrets", secret),
        (f"{CORE}/secrets", objects.lease_secret("scout")),
        (f"{CORE}/serviceaccounts", objects.named("v1", "ServiceAccount", "theirs")),
        (f"{CORE}/persistentvolumeclaims", claim),
        (f"{RBAC}/roles", objects.role("theirs")),
        (f"{RBAC}/rolebindings", objects.role_binding("theirs", to="theirs", kind="Role")),
        (f"{NETWORK}/networkpolicies", objects.network_policy("theirs")),
        (f"{APPS}/statefulsets", objects.workload("StatefulSet", "theirs")),
    ):
        guarded.make(path.replace("{ns}", namespace), body)


@pytest.mark.parametrize("request_", ELSEWHERE.values(), ids=ELSEWHERE)
def test_in_a_namespace_that_is_no_sandbox_it_is_refused(theft: Theft, request_: Request) -> None:
    answer = theft.try_(request_, elsewhere=True)
    assert answer.status == 403 and refused_by(answer) in OPERATOR, answer.message
    assert "accepted" in answer.message
    assert VALUE not in json.dumps(answer.body)


@pytest.mark.parametrize("namespace", ["kube-system", NAMESPACE])
def test_the_clusters_own_namespaces_are_no_sandboxes_either(theft: Theft, namespace: str) -> None:
    for what in ("a Secret", "a Role", "a RoleBinding", "an account", "a workload"):
        answer = theft.guarded.send(theft.thief, ELSEWHERE[what], namespace)
        assert refused_by(answer) in OPERATOR, f"{what}: {answer.message}"


@pytest.mark.parametrize("request_", CLUSTER.values(), ids=CLUSTER)
def test_in_its_own_namespace_and_in_the_whole_cluster_it_is_refused(theft: Theft, request_: Request) -> None:
    answer = theft.try_(request_)
    assert answer.status == 403 and refused_by(answer) in OPERATOR, answer.message
    assert "accepted" in answer.message


@pytest.mark.parametrize("request_", BEYOND_RBAC.values(), ids=BEYOND_RBAC)
def test_what_the_operator_has_no_right_to_is_refused_in_any_namespace(theft: Theft, request_: Request) -> None:
    for elsewhere in (True, False):
        answer = theft.try_(request_, elsewhere=elsewhere)
        assert answer.status == 403 and refused_by(answer) is None, answer.message


def test_a_thief_with_more_rights_than_the_operator_is_still_held(theft: Theft) -> None:
    # As if somebody bound the operator's account to a role that is too wide, to be done with an error.
    wide = theft.guarded.user(f"system:serviceaccount:{NAMESPACE}:bulkhead", "system:masters")
    for namespace in (theft.elsewhere, theft.sandbox):
        answer = theft.guarded.send(wide, BEYOND_RBAC["a token of an account"], namespace)
        assert refused_by(answer) in (*OPERATOR, "tokens"), answer.message
    for request in (Request("POST", AGENTS, objects.agent()), BEYOND_RBAC["a switch made"]):
        answer = theft.guarded.send(wide, request, theft.sandbox)
        assert refused_by(answer) in OPERATOR, answer.message


# --- agents, anywhere ----------------------------------------------------------------------------------------

AGENT_EDITS: dict[str, Object] = {
    "suspended": {"spec": {"suspend": True, "suspendReason": "because"}},
    "another image": {"spec": {"image": "evil.example/x:1"}},
    "more rights": {"spec": {"identity": {"kubernetesApi": {"rules": [{**ordinary.READ, "verbs": ["get"]}]}}}},
    "a label": {"metadata": {"labels": {"tenant": "other"}}},
    "an annotation": {"metadata": {"annotations": {"a": "b"}}},
    "an owner, with which it goes": {"metadata": {"ownerReferences": [{**OWNER, "kind": "Namespace", "uid": "y"}]}},
    "another finalizer": {"metadata": {"finalizers": ["example.com/forever"]}},
    "a finalizer and more": {"metadata": {"finalizers": [FINALIZER], "labels": {"a": "b"}}},
}


@pytest.mark.parametrize("edit", AGENT_EDITS.values(), ids=AGENT_EDITS)
def test_of_an_agent_only_the_finalizer_is_written(theft: Theft, edit: Object) -> None:
    for elsewhere in (True, False):
        name = "standing" if elsewhere else "scout"
        answer = theft.try_(Request("PATCH", f"{AGENTS}/{name}", edit, "merge"), elsewhere=elsewhere)
        assert refused_by(answer) in OPERATOR, answer.message


def test_agents_are_not_deleted_unless_their_lifetime_ends_so(theft: Theft) -> None:
    for elsewhere in (True, False):
        name = "standing" if elsewhere else "scout"
        answer = theft.try_(Request("DELETE", f"{AGENTS}/{name}"), elsewhere=elsewhere)
        assert refused_by(answer) in OPERATOR and "onExpiry" in answer.message, answer.message


# --- where agents run ----------------------------------------------------------------------------------------


IN_A_SANDBOX_CASES = [
    pytest.param(kind, edit, by, id=f"{kind}: {what}")
    for kind, edits in IN_A_SANDBOX.items()
    for what, (edit, by) in edits.items()
]


@pytest.mark.parametrize(("kind", "edit", "by"), IN_A_SANDBOX_CASES)
def test_in_a_sandbox_it_writes_nothing_but_what_the_operator_makes(
    theft: Theft, kind: str, edit: Callable[[Object], None], by: str
) -> None:
    whole = theft.children[kind]
    assert theft.try_(ordinary.create(whole)).ok or kind == "Secret", "as it is, it is accepted"
    answer = theft.try_(ordinary.create(ordinary.changed(whole, edit)))
    assert answer.status == 403 and refused_by(answer) in bounds(by), answer.message
    assert "accepted" in answer.message


def bounds(by: str) -> set[str]:
    """The policies of which any may tell the refusal: what is wrong by its name may be so by its content too."""
    if by in ("operator", "operator-roles"):
        return {*OPERATOR, "operator-roles", "operator-role-ceilings", "operator-workloads", "tokens"}
    return {by}


@pytest.mark.parametrize("path", [path for path in COLLECTIONS.values() if "pods" not in path])
def test_in_a_sandbox_a_collection_with_something_of_others_is_not_deleted(theft: Theft, path: str) -> None:
    answer = theft.try_(Request("DELETE", path))
    assert answer.status == 403 and refused_by(answer) in OPERATOR, answer.message


@pytest.mark.parametrize(
    "path",
    [
        f"{CORE}/secrets/theirs",
        f"{CORE}/secrets/agent-scout.db",
        f"{CORE}/serviceaccounts/theirs",
        f"{CORE}/serviceaccounts/default",
        f"{RBAC}/roles/theirs",
        f"{RBAC}/rolebindings/theirs",
        f"{NETWORK}/networkpolicies/theirs",
        f"{APPS}/statefulsets/theirs",
        f"{CORE}/persistentvolumeclaims/theirs",
    ],
)
def test_in_a_sandbox_others_objects_are_neither_read_nor_taken_over_nor_deleted(theft: Theft, path: str) -> None:
    for request in (
        Request("PATCH", path, {}, "merge"),
        Request("PATCH", path, {"metadata": {"ownerReferences": [OWNER]}}, "merge"),
        *([] if "claims" in path else [Request("DELETE", f"{path}?propagationPolicy=Foreground")]),
    ):
        answer = theft.try_(request)
        assert answer.status == 403, answer.message
        assert refused_by(answer) in bounds("operator"), answer.message
        assert VALUE not in json.dumps(answer.body)
