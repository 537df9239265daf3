"""What is made for an agent's identity, put to the API server: accepted, and returned as it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.cluster.drift import differences
from bulkhead.plan import identity, rules, workload
from bulkhead.plan import policy as policies
from devcluster.api import RunningCluster
from tests import restricted
from tests.access_spellings import r
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import policy
from tests.apiserver.foreign_crds import CILIUM_NETWORK_POLICIES, installed
from tests.apiserver.rest import APPLY, Rest
from tests.unit.plan.policies import nodes

Object = dict[str, Any]

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
ASKED: dict[str, Any] = {
    "kubernetesApi": {
        "rules": [
            r("watch get list", "pods/log configmaps", "core toys.example"),
            r("update", "configmaps", "core", "b a"),
        ],
        "tokenSeconds": 900,
    },
    "tokens": [
        {"audience": "vault", "path": "vault"},
        {"audience": "https://gateway.example", "path": "gateway.jwt", "expirationSeconds": 3600},
    ],
}
CREDENTIALS = [
    {"name": "warehouse", "postgres": {"issuer": "db", "role": "reader"}},
    {"name": "c" * 52, "vault": {"issuer": "v", "path": "database/creds/reader"}},
]


@pytest.fixture
def lab(rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def agent(lab: Lab) -> Object:
    return lab.create("scout", identity=ASKED, credentials=CREDENTIALS)


def settled(obj: Object) -> Object:
    """An object without what its controller writes to its status, which it may do at any moment."""
    data = {key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    fields = [one for one in obj["metadata"]["managedFields"] if one.get("subresource") != "status"]
    return {**obj, "metadata": {**data, "managedFields": fields}, "status": None}


def returned(rest: Rest, collection: str, wanted: Object) -> Object:
    """Applies an object twice, as the operator does; returns what the API server made of it."""
    path = f"{collection}/{wanted['metadata']['name']}"
    query = {"content_type": APPLY, "fieldManager": "bulkhead", "force": "true", "fieldValidation": "Strict"}
    first, second = (rest.patch(path, wanted, **query) for _ in range(2))
    assert first.ok, first.message
    assert first.warnings == ()
    assert settled(second.body) == settled(first.body), "applying it again changes it"
    assert differences(wanted, first.body) == []
    return first.body


def test_role_and_binding_come_back_as_they_were_planned(rest: Rest, lab: Lab, agent: Object) -> None:
    spec = parse_spec(agent["spec"], name="scout")
    role, binding = identity.role(agent, spec), identity.role_binding(agent, spec)
    assert role is not None
    assert binding is not None
    base = RBAC.format(namespace=lab.namespace)
    assert returned(rest, f"{base}/roles", role)["rules"] == role["rules"]
    found = returned(rest, f"{base}/rolebindings", binding)
    assert (found["roleRef"], found["subjects"]) == (binding["roleRef"], binding["subjects"])


def test_the_pods_with_every_file_come_back_as_they_were_planned_and_are_restricted(
    rest: Rest, lab: Lab, agent: Object
) -> None:
    spec = parse_spec(agent["spec"], name="scout")
    lab.put("ServiceAccount", identity.service_account(agent, spec))
    built = workload.stateful_set(agent, spec)
    found = returned(rest, f"/apis/apps/v1/namespaces/{lab.namespace}/statefulsets", built)
    assert found["spec"]["template"]["spec"] == built["spec"]["template"]["spec"]
    assert restricted.violations(built["spec"]["template"]["spec"]) == []
    lab.until_built(["scout"])
    volumes = lab.the("Pod", "scout-0")["spec"]["volumes"]
    assert [one for one in volumes if one["name"] != "tmp"] == built["spec"]["template"]["spec"]["volumes"][1:]


@pytest.fixture
def cilium(apiserver: RunningCluster) -> Iterator[None]:
    with installed(apiserver, CILIUM_NETWORK_POLICIES):
        yield


def test_the_way_to_the_api_server_comes_back_as_it_was_planned_in_both_dialects(
    rest: Rest, lab: Lab, agent: Object, cilium: None
) -> None:
    spec = parse_spec(agent["spec"], name="scout")
    namespace = rest.get(f"/api/v1/namespaces/{lab.namespace}").body
    bounds = policies.bounds(
        [policies.parse(policy("default", identity={"kubernetesApi": {"rules": ASKED["kubernetesApi"]["rules"]}}))],
        namespace=namespace,
        namespaces=(namespace,),
    )
    found = rules.rules(
        agent,
        spec,
        bounds=bounds,
        reserved=nodes("192.0.2.10", "10.96.0.1", "2001:db8::10"),
        services={},
        dns_service="kube-system/kube-dns",
        api_endpoints=(("192.0.2.10", 6443), ("2001:db8::10", 6443)),
        api_service=(("10.96.0.1", 443),),
        serves_cilium=True,
    )
    assert found.policy is not None
    assert found.cilium is not None
    path = f"/apis/networking.k8s.io/v1/namespaces/{lab.namespace}/networkpolicies"
    assert returned(rest, path, found.policy)["spec"] == found.policy["spec"]
    path = f"/apis/cilium.io/v2/namespaces/{lab.namespace}/ciliumnetworkpolicies"
    assert returned(rest, path, found.cilium)["spec"] == found.cilium["spec"]
