"""What the builders make, put to the API server: accepted, restricted, and returned as it was sent."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import identity, names, network, workload
from tests import restricted, specs
from tests.apiserver.conftest import SANDBOX_LABELS
from tests.apiserver.rest import APPLY, Answer, Rest

TRIES = settings(max_examples=100)
AGENT_UID = "4f0c9a2e-0000-4000-8000-000000000001"


def agent(namespace: str, name: str = "demo") -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name, "namespace": namespace, "uid": AGENT_UID},
    }


@pytest.fixture(scope="module")
def namespace(rest: Rest) -> Iterator[str]:
    """One sandbox namespace for all dry runs; its name."""
    wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dry-runs", "labels": SANDBOX_LABELS}}
    answer = rest.post("/api/v1/namespaces", wanted)
    assert answer.ok, answer.message
    # A pod wants its service account to be there.
    account = identity.service_account(agent("dry-runs"), parse_spec(specs.minimal(), name="demo"))
    answer = rest.post("/api/v1/namespaces/dry-runs/serviceaccounts", {**account, "metadata": {"name": "agent-demo"}})
    assert answer.ok, answer.message
    yield "dry-runs"
    rest.delete("/api/v1/namespaces/dry-runs")


def sets(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/statefulsets"


def apply(rest: Rest, path: str, obj: dict[str, Any], **query: str) -> Answer:
    return rest.patch(
        f"{path}/{obj['metadata']['name']}", obj, content_type=APPLY, fieldManager="bulkhead", force="true", **query
    )


def without(obj: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in fields}


ALL_KINDS = st.tuples(specs.valid_specs(), st.booleans())


@TRIES
@given(ALL_KINDS)
@example((specs.ACCEPTED["the most of each bound"], False))
@example((specs.minimal(env=[{"name": "A", "value": "\U0001f512 \x85\u2028\x7f\ufeff\ufffe"}]), False))
@example((specs.ACCEPTED["probes of each kind"], False))
@example((specs.ACCEPTED["placement of each kind"], True))
@example((specs.ACCEPTED["quantities in other spellings"], False))
@example((specs.minimal(workspace={"size": "1Gi", "storageClassName": "fast"}), False))
def test_any_stateful_set_is_accepted_without_a_warning_and_returned_as_it_was_sent(
    rest: Rest, namespace: str, case: tuple[specs.Spec, bool]
) -> None:
    raw, user_namespaces = case
    sent = workload.stateful_set(agent(namespace), parse_spec(raw, name="demo"), user_namespaces=user_namespaces)
    before = copy.deepcopy(sent)
    for answer in (
        rest.post(sets(namespace), sent, dryRun="All", fieldValidation="Strict", fieldManager="bulkhead"),
        apply(rest, sets(namespace), sent, dryRun="All", fieldValidation="Strict"),
    ):
        assert answer.ok, answer.message
        assert answer.warnings == ()
        assert without(answer.body, "metadata", "status") == without(before, "metadata")
        assert before["metadata"].items() <= answer.body["metadata"].items()


@settings(max_examples=40)
@given(ALL_KINDS)
def test_any_pod_is_admitted_where_restricted_is_enforced(
    rest: Rest, namespace: str, case: tuple[specs.Spec, bool]
) -> None:
    raw, user_namespaces = case
    # The class is looked up when a pod is made, and there is none here.
    raw = without(raw, "runtimeClassName")
    built = workload.stateful_set(agent(namespace), parse_spec(raw, name="demo"), user_namespaces=user_namespaces)
    pod = pod_of(built)
    if "workspace" in raw:
        # As the StatefulSet controller adds it.
        claimed = {"claimName": names.claim_name("demo", 0)}
        pod["spec"]["volumes"].append({"name": "workspace", "persistentVolumeClaim": claimed})
    answer = rest.post(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All", fieldValidation="Strict")
    assert answer.ok, answer.message
    assert answer.warnings == ()


def pod_of(stateful_set: dict[str, Any]) -> dict[str, Any]:
    template = copy.deepcopy(stateful_set["spec"]["template"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo-0"}, "spec": template["spec"]}


def test_the_namespace_does_refuse_a_pod_that_is_not_restricted(rest: Rest, namespace: str) -> None:
    built = workload.stateful_set(agent(namespace), parse_spec(specs.minimal(), name="demo"))
    pod = pod_of(built)
    del pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    assert restricted.violations(pod["spec"])
    answer = rest.post(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
    assert answer.status == 403
    assert "allowPrivilegeEscalation" in answer.message


def test_the_service_account_is_returned_as_it_was_sent(rest: Rest, namespace: str) -> None:
    spec = parse_spec(specs.minimal(tenant="acme"), name="other")
    sent = identity.service_account(agent(namespace, "other"), spec, pull_secrets=["b", "a"])
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    answer = rest.post(path, sent, dryRun="All", fieldValidation="Strict")
    assert answer.ok, answer.message
    assert without(answer.body, "metadata") == without(sent, "metadata")


def test_the_deny_all_policy_is_returned_as_it_was_sent(rest: Rest, namespace: str) -> None:
    sent = network.deny_all(rest.get(f"/api/v1/namespaces/{namespace}").body)
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    answer = rest.post(path, sent, dryRun="All", fieldValidation="Strict")
    assert answer.ok, answer.message
    assert without(answer.body, "metadata") == without(sent, "metadata")
    assert answer.body["metadata"]["ownerReferences"] == sent["metadata"]["ownerReferences"]


class Running:
    """An agent's StatefulSet under the real StatefulSet controller. No kubelet: its pods stay Pending."""

    def __init__(self, rest: Rest, namespace: str) -> None:
        self.rest = rest
        self.namespace = namespace
        path = f"/apis/bulkhead.dev/v1alpha1/namespaces/{namespace}/agentdeployments"
        self.agent = rest.post(path, {**agent(namespace), "metadata": {"name": "demo"}, "spec": specs.minimal()}).body

    def apply(self, **fields: Any) -> dict[str, Any]:
        spec = parse_spec(specs.minimal(**fields), name="demo")
        account = identity.service_account(self.agent, spec)
        assert apply(self.rest, f"/api/v1/namespaces/{self.namespace}/serviceaccounts", account).ok
        answer = apply(self.rest, sets(self.namespace), workload.stateful_set(self.agent, spec))
        assert answer.ok, answer.message
        return answer.body

    def wait(self, path: str, holds: Any) -> dict[str, Any]:
        deadline = time.monotonic() + 90
        while True:
            answer = self.rest.get(f"{path.format(namespace=self.namespace)}")
            if answer.ok and holds(answer.body):
                return answer.body
            assert time.monotonic() < deadline, answer.body
            time.sleep(0.05)


POD = "/api/v1/namespaces/{namespace}/pods/demo-0"
CLAIM = "/api/v1/namespaces/{namespace}/persistentvolumeclaims/workspace-demo-0"
WORKSPACE = {"size": "1Gi", "onDelete": "Delete"}


@pytest.fixture
def running(rest: Rest, sandbox: str) -> Running:
    return Running(rest, sandbox)


def test_the_stateful_set_controller_makes_restricted_pods_with_our_marks(running: Running) -> None:
    running.apply(workspace=WORKSPACE)
    pod = running.wait(POD, lambda _: True)
    marks = {variable["name"]: variable.get("value") for variable in pod["spec"]["containers"][0]["env"]}
    assert marks["BULKHEAD_AGENT_UID"] == running.agent["metadata"]["uid"]
    assert pod["spec"]["dnsConfig"] == {"nameservers": ["127.0.0.1"]}
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["workspace", "tmp"]


def test_the_claim_bears_our_marks_and_no_owner(running: Running) -> None:
    running.apply(workspace=WORKSPACE)
    claim = running.wait(CLAIM, lambda _: True)
    uid = running.agent["metadata"]["uid"]
    assert claim["metadata"]["annotations"]["bulkhead.dev/agent-uid"] == uid
    assert names.identity_labels(running.agent).items() <= claim["metadata"]["labels"].items()
    assert "ownerReferences" not in claim["metadata"]


def test_an_update_replaces_a_pod_that_never_became_ready(running: Running) -> None:
    running.apply(image="registry.example/broken:1")
    before = running.wait(POD, lambda _: True)
    running.apply(image="registry.example/fixed:1")
    after = running.wait(POD, lambda pod: pod["metadata"]["uid"] != before["metadata"]["uid"])
    assert after["spec"]["containers"][0]["image"] == "registry.example/fixed:1"


def test_a_change_of_everything_that_may_change_is_accepted_by_the_stateful_set(running: Running) -> None:
    running.apply(workspace=WORKSPACE)
    running.apply(
        workspace={**WORKSPACE, "onDelete": "Retain", "mountPath": "/data"},
        tenant="acme",
        workflow="nightly",
        replicas=2,
        suspendGraceSeconds=0,
        scratch="1Gi",
        placement={"nodeSelector": {"a": "b"}},
    )
