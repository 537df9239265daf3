"""Bad input ends in a clear refusal or condition; the operator goes on, and so does every other agent."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from devcluster.api import RunningCluster
from tests.apiserver.agents import RESTRICTED_POD, Lab
from tests.apiserver.conftest import REPOSITORY
from tests.apiserver.dryrun import agent
from tests.apiserver.rest import AGENTS, APPLY, MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agentdeployments.bulkhead.dev"


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


def test_an_agent_outside_a_sandbox_says_what_is_missing_and_starts_when_it_is_there(lab: Lab, rest: Rest) -> None:
    name = rest.post("/api/v1/namespaces", {"metadata": {"generateName": "plain-"}}).body["metadata"]["name"]
    plain = Lab(rest, name)
    plain.create("scout")
    plain.until_state("scout", "Refused")
    assert "bulkhead.dev/sandbox=true" in plain.condition("scout", "Ready")["message"]
    assert not plain.list("StatefulSet")
    label = {"metadata": {"labels": {"bulkhead.dev/sandbox": "true"}}}
    rest.send("PATCH", f"/api/v1/namespaces/{name}", label, content_type=MERGE)
    plain.until_built(["scout"])
    rest.delete(f"/api/v1/namespaces/{name}")
    eventually(lambda: rest.get(f"/api/v1/namespaces/{name}").status == 404, "the namespace is deleted", within=180)


def test_an_agent_in_a_namespace_that_is_being_deleted_is_not_built_again(lab: Lab, rest: Rest) -> None:
    lab.create("scout")
    lab.until_built(["scout"])
    hold = {"metadata": {"finalizers": ["example.test/hold"]}}
    rest.send("PATCH", lab.path("AgentDeployment", "scout"), hold, content_type=MERGE)
    rest.delete(f"/api/v1/namespaces/{lab.namespace}")
    eventually(lambda: not lab.list("StatefulSet") and not lab.list("Pod"), "the workload is gone", within=60)
    eventually(lambda: lab.state("scout") == "Terminating" or lab.state("scout") == "Refused", "the agent says so")
    rest.send("PATCH", lab.path("AgentDeployment", "scout"), {"metadata": {"finalizers": None}}, content_type=MERGE)
    eventually(lambda: rest.get(f"/api/v1/namespaces/{lab.namespace}").status == 404, "namespace gone", within=180)


@pytest.mark.parametrize(("kilobytes", "accepted"), [(1024, False), (240, True)])
def test_large_annotations_are_refused_by_kubernetes_or_borne_by_the_operator(
    lab: Lab, kilobytes: int, accepted: bool
) -> None:
    body = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "scout", "annotations": {"note": "x" * kilobytes * 1024}},
        "spec": {"owner": "team-a", "image": "example.test/agent:1"},
    }
    assert lab.rest.post(lab.path("AgentDeployment"), body).ok is accepted
    if accepted:
        lab.until_built(["scout"])
        lab.patch("scout", suspend=True)
        lab.until_state("scout", "Suspended")


def test_a_quota_that_refuses_pods_is_told_in_kubernetes_words(lab: Lab) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    made = lab.rest.post(f"/api/v1/namespaces/{lab.namespace}/resourcequotas", quota)
    assert made.ok, made.message
    lab.until_over_quota("Pod", {"apiVersion": "v1", "kind": "Pod", "spec": RESTRICTED_POD})
    lab.create("scout")
    eventually(lambda: lab.condition("scout", "Ready").get("reason") == "FailedCreate", "the quota is told", within=120)
    assert "exceeded quota: none" in lab.condition("scout", "Ready")["message"]
    assert lab.state("scout") == "Failing"


def test_a_workload_that_the_api_server_refuses_is_told_and_tried_again(lab: Lab) -> None:
    hard = {"count/statefulsets.apps": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": hard}}
    path = f"/api/v1/namespaces/{lab.namespace}/resourcequotas"
    made = lab.rest.post(path, quota)
    assert made.ok, made.message
    template = {"metadata": {"labels": {"app": "probe"}}, "spec": RESTRICTED_POD}
    spec = {"replicas": 0, "serviceName": "", "selector": {"matchLabels": {"app": "probe"}}, "template": template}
    lab.until_over_quota("StatefulSet", {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec})
    lab.create("scout")
    eventually(lambda: lab.condition("scout", "Ready").get("reason") == "Refused", "the refusal is told", within=120)
    assert "exceeded quota" in lab.condition("scout", "Ready")["message"]
    lab.rest.delete(f"{path}/none")
    lab.until_built(["scout"], within=120)


SETTLING = 5.0

STORED: dict[str, Any] = {
    "no spec at all": None,
    "no owner": {"image": "example.test/agent:1"},
    "wrong types": {"owner": 7, "image": ["a"], "env": "none", "suspend": "maybe"},
    "an unknown field": {"owner": "a", "image": "example.test/agent:1", "hostNetwork": True},
    "a huge number": {"owner": "a", "image": "example.test/agent:1", "lifetime": {"maxSeconds": 10**18}},
    "a negative grace": {"owner": "a", "image": "example.test/agent:1", "suspendGraceSeconds": -5},
    "nothing in env": {"owner": "a", "image": "example.test/agent:1", "env": [None]},
    "an escape from the workspace": {
        "owner": "a",
        "image": "example.test/agent:1",
        "workspace": {"size": "1Gi", "mountPath": "/workspace/../etc"},
    },
}


@pytest.fixture
def without_rules(rest: Rest) -> Iterator[None]:
    """The CRD as a version without any validation would have been, and as it should be after that."""
    (current,) = [
        one
        for one in yaml.safe_load_all((REPOSITORY / "crds" / "bulkhead.dev_agentdeployments.yaml").read_text())
        if one
    ]
    loose = copy.deepcopy(current)
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    loose["spec"]["versions"][0].pop("selectableFields", None)
    apply(rest, loose)
    eventually(lambda: answer_to_nonsense(rest) == 201, "the definition without rules is served")
    # The API server goes on serving the former definition's watches for a second. Objects that fit only the new one and
    # are stored in that second have left the new one's watch cache unready, and its watches silent, for minutes.
    settled = time.monotonic() + SETTLING
    eventually(lambda: time.monotonic() > settled, "the former definition is no longer served", within=2 * SETTLING)
    yield
    apply(rest, current)
    # Until then the next test's objects would be judged by no rule.
    eventually(lambda: answer_to_nonsense(rest) in (400, 422), "the definition with its rules is served")


def apply(rest: Rest, crd: dict[str, Any]) -> None:
    """Replaces the definition, again where a controller wrote its status in between."""

    def replaced() -> bool:
        live = rest.get(CRD).body
        crd["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        answer = rest.send("PUT", CRD, crd)
        assert answer.ok or answer.status == 409, answer.message
        return answer.ok

    eventually(replaced, "the definition is replaced")


def answer_to_nonsense(rest: Rest) -> int:
    """The status by which the API server judges what breaks a rule. A dry run leaves nothing in its watch cache."""
    return rest.post(AGENTS.format(namespace="default"), agent({"owner": 7}), dryRun="All").status


def test_objects_stored_before_a_rule_existed_get_a_condition_and_can_be_suspended(
    lab: Lab, without_rules: None
) -> None:
    lab.create("sound")
    long = "x" * 60
    for number, (case, spec) in enumerate([*STORED.items(), (long, {"owner": "a", "image": "example.test/agent:1"})]):
        name = long if case == long else f"bad-{number}"
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": name},
            "spec": spec,
        }

        def stored(body: dict[str, Any] = body) -> bool:
            answer = lab.rest.post(lab.path("AgentDeployment"), body)
            assert answer.status in (201, 400, 409, 422), answer.message
            return answer.status in (201, 409)

        eventually(stored, f"{case} is stored")
        eventually(lambda name=name: lab.state(name) == "Invalid", f"{case} is refused", within=180)  # type: ignore[misc]
        assert lab.condition(name, "Ready")["message"].startswith("the spec is not acceptable: ")
        assert lab.get("StatefulSet", name) is None
    lab.until_built(["sound"])
    lab.patch("sound", suspend=True)
    lab.until_state("sound", "Suspended")


def test_unknown_fields_are_refused_where_users_apply(lab: Lab) -> None:
    body = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "scout"},
        "spec": {"owner": "team-a", "image": "example.test/agent:1", "hostNetwork": True},
    }
    answer = lab.rest.send(
        "PATCH",
        lab.path("AgentDeployment", "scout"),
        body,
        content_type=APPLY,
        fieldManager="user",
        fieldValidation="Strict",
    )
    assert not answer.ok
    assert "hostNetwork" in answer.message
