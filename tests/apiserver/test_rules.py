"""Rules and denies as the API server takes them: it must return them exactly as they were planned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.cluster.drift import differences
from bulkhead.plan import policy as policies
from bulkhead.plan.denies import Dialect, denies, object_names
from bulkhead.plan.policy import Forbidden
from bulkhead.plan.rules import rules, wanted_services
from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.foreign_crds import CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES, installed
from tests.apiserver.rest import Rest
from tests.unit.plan.policies import nodes

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"


def applied(rest: Rest, path: str, wanted: Object) -> Object:
    """Applies an object as the operator does and returns what the API server made of it."""
    answer = rest.patch(
        f"{path}/{wanted['metadata']['name']}", wanted, content_type=APPLY, fieldManager="bulkhead", force="true"
    )
    assert answer.ok, answer.message
    return answer.body


@pytest.fixture
def lab(rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


def service(rest: Rest, namespace: str, name: str, *ports: Object, **spec: Any) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": list(ports), **spec},
    }
    answer = rest.post(f"/api/v1/namespaces/{namespace}/services", body)
    assert answer.ok, answer.message


def test_a_network_policy_comes_back_as_it_was_planned_from_live_services(rest: Rest, lab: Lab) -> None:
    service(rest, lab.namespace, "plain", {"port": 80})
    service(rest, lab.namespace, "named", {"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 443})
    service(rest, lab.namespace, "headless", {"port": 5432, "protocol": "UDP"}, clusterIP="None")
    names = [f"{lab.namespace}/{name}" for name in ("plain", "named", "headless")]
    network = {
        "egress": [
            *({"to": {"service": name}} for name in names),
            {
                "to": {"pods": {"namespace": "default", "labels": {"app.example/x": ""}}},
                "ports": [{"port": 1, "endPort": 65535, "protocol": "SCTP"}],
            },
            {"to": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}, "ports": [{"port": 443}]},
            {"to": {"cidr": "2001:db8:113::/48", "except": ["2001:db8:113::1/128"]}, "ports": [{"port": 443}]},
        ],
        "ingress": [
            {"from": {"cidr": "203.0.113.7/32"}, "ports": [{"port": 8080}]},
            {"from": {"pods": {"labels": {"app": "x"}}}},
        ],
    }
    agent = lab.create("scout", ports=[{"containerPort": 8080}], network=network)
    spec = parse_spec(agent["spec"], name="scout")
    ceiling = {"egressCIDRs": ["203.0.113.0/24", "2001:db8:113::/48"], "namespaces": ["default"]}
    namespace = rest.get(f"/api/v1/namespaces/{lab.namespace}").body
    bounds = policies.bounds(
        [policies.parse(policy("default", network=ceiling))], namespace=namespace, namespaces=(namespace,)
    )
    live = {
        name: rest.get("/api/v1/namespaces/{}/services/{}".format(*name.split("/"))).body
        for name in wanted_services(spec, dns_service="kube-system/kube-dns")
    }
    found = rules(agent, spec, bounds=bounds, reserved=(), services=live, dns_service="kube-system/kube-dns")
    assert found.problems == ()
    assert found.policy is not None
    assert len(found.policy["spec"]["egress"]) == 6

    returned = applied(rest, lab.path("NetworkPolicy"), found.policy)

    assert differences(found.policy, returned) == []
    assert returned["spec"] == found.policy["spec"]
    assert [alias["hostnames"][-1] for alias in found.host_aliases] == ["plain", "named"]


@pytest.fixture(scope="module")
def kinds(apiserver: RunningCluster, rest: Rest) -> Iterator[None]:
    """An API server that serves the kinds of both dialects, as their own projects define them."""
    with installed(apiserver, CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES):
        yield


PATHS: dict[Dialect, str] = {
    "cilium": "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
    "clusternetworkpolicy": "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
}
DENIED: dict[str, tuple[Object, tuple[Forbidden, ...]]] = {
    "the floor alone": ({}, ()),
    "production in every form": (
        {
            "namespaceSelector": {"matchLabels": {"team": "a"}},
            "production": {
                "cidrs": ["10.20.0.0/16", "2001:db8:20::/48"],
                "namespaceSelector": {"matchExpressions": [{"key": "b.example/c", "operator": "DoesNotExist"}]},
                "canaries": [{"name": "db", "address": "2001:db8::1", "port": 5432}],
            },
        },
        nodes("192.0.2.10", "2001:db8::10"),
    ),
    "the most that a policy can name": (
        {
            "production": {
                "cidrs": [f"10.{number * 2}.0.0/16" for number in range(32)]
                + [f"2001:db8:{number * 2 + 1:x}::/48" for number in range(32)],
                "canaries": [
                    {"name": f"c{number}", "address": f"198.51.100.{number * 2 + 1}", "port": 1} for number in range(16)
                ],
            },
            "network": {"openSharedAddressSpace": [f"100.{64 + number}.4.4/32" for number in range(16)]},
        },
        nodes(*(f"172.{16 + (number >> 8)}.{number & 255}.1" for number in range(4000))),
    ),
}


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("case", DENIED)
def test_clusterwide_denies_are_taken_exactly_as_they_are_written(
    case: str, dialect: Dialect, rest: Rest, kinds: None
) -> None:
    spec, hosts = DENIED[case]
    name = "denied"
    made = rest.post(POLICIES, policy(name, **spec))
    assert made.ok, made.message
    try:
        wanted = denies(policies.parse(made.body), dialect=dialect, hosts=hosts)
        for one in wanted:
            returned = applied(rest, PATHS[dialect], one)
            assert differences(one, returned) == []
            assert [returned.get(key) for key in ("spec", "specs")] == [one.get(key) for key in ("spec", "specs")]
            assert returned["metadata"]["ownerReferences"][0]["uid"] == made.body["metadata"]["uid"]
    finally:
        for child in object_names(name, dialect=dialect, hosts=hosts):
            rest.delete(f"{PATHS[dialect]}/{child}")
        rest.delete(f"{POLICIES}/{name}")
