"""What a CiliumNetworkPolicy of somebody else's opens."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.plan.widening import Opened, opened, touches
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, namespace, nodes, sandbox, sandbox_policy

BOUNDS = bounds_of(
    sandbox_policy(production={"cidrs": ["10.20.0.0/16"], "namespaceSelector": {"matchLabels": {"env": "production"}}}),
    others=(namespace("shop", env="production"),),
)
NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def found(**content: Any) -> tuple[Opened, ...]:
    policy = {"kind": "CiliumNetworkPolicy", "metadata": {"name": "theirs", "namespace": "lab"}, **content}
    return opened([policy], bounds=BOUNDS, reserved=nodes("192.0.2.10"), namespace=sandbox())


def egress(**rule: Any) -> tuple[Opened, ...]:
    return found(spec={"endpointSelector": {}, "egress": [rule]})


PORTS = [{"ports": [{"port": "443", "protocol": "TCP"}]}]
CASES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "every peer, by naming ports alone": ({"toPorts": PORTS}, True, "egress to everything"),
    "every peer, by naming ICMP alone": ({"icmps": [{"fields": [{"type": 8}]}]}, True, "egress to everything"),
    "the world": ({"toEntities": ["world"]}, True, "the entity world"),
    "the API server": ({"toEntities": ["kube-apiserver"], "toPorts": PORTS}, True, "the entity kube-apiserver"),
    "the node": ({"toEntities": ["host"]}, True, "the entity host"),
    "an entity of tomorrow": ({"toEntities": ["moon"]}, True, "the entity moon"),
    "a name": ({"toFQDNs": [{"matchName": "db.example"}]}, True, "whatever DNS gives for db.example"),
    "a pattern of names": ({"toFQDNs": [{"matchPattern": "*"}]}, True, "whatever DNS gives for *"),
    "a whole Service": ({"toServices": [{"k8sService": {"serviceName": "x"}}]}, True, "cannot be told"),
    "a cloud's group": ({"toGroups": [{"aws": {}}]}, True, "cannot be told"),
    "a requirement": ({"toRequires": [{"matchLabels": {"a": "b"}}]}, True, "cannot be told"),
    "an empty list": ({"toEndpoints": []}, True, "cannot be told"),
    "a field of tomorrow": ({"toNodes": [{}]}, True, "cannot be told"),
    "a field of tomorrow beside one of today": (
        {"toCIDR": ["203.0.113.0/28"], "unless": True},
        True,
        "what unless stands for",
    ),
    "a network": ({"toCIDR": ["203.0.113.0/28"], "toPorts": PORTS}, False, "egress to 203.0.113.0/28"),
    "production": ({"toCIDR": ["203.0.113.0/28", "10.20.0.0/24"]}, True, "10.20.0.0/24, which reaches"),
    "a network with exceptions": (
        {"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.20.0.0/16"]}]},
        False,
        "10.0.0.0/8 without",
    ),
    "a network with too few exceptions": ({"toCIDRSet": [{"cidr": "10.0.0.0/8"}]}, True, "reaches 10.20.0.0/16"),
    "a group of networks": ({"toCIDRSet": [{"cidrGroupRef": "x"}]}, True, "cannot be told"),
    "a network that is none": ({"toCIDR": ["x"]}, True, "cannot be read"),
    "pods of this namespace": ({"toEndpoints": [{}]}, False, "pods of this namespace"),
    "pods of this namespace by label": ({"toEndpoints": [{"matchLabels": {"any:app": "x"}}]}, False, "this namespace"),
    "pods of this namespace by its name": ({"toEndpoints": [{"matchLabels": {NAMESPACE: "lab"}}]}, False, "this"),
    "pods of another namespace": ({"toEndpoints": [{"matchLabels": {NAMESPACE: "tools"}}]}, False, "namespace tools"),
    "pods of production": (
        {"toEndpoints": [{"matchLabels": {NAMESPACE: "shop", "app": "db"}}]},
        True,
        "namespace shop, which is production",
    ),
    "pods of any namespace": (
        {"toEndpoints": [{"matchExpressions": [{"key": NAMESPACE, "operator": "Exists"}]}]},
        True,
        "io.kubernetes.pod.namespace",
    ),
    "namespaces by label": (
        {"toEndpoints": [{"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.env": "x"}}]},
        True,
        "io.cilium.k8s.namespace.labels.env",
    ),
    "a reserved label": ({"toEndpoints": [{"matchLabels": {"reserved:host": ""}}]}, True, "reserved:host"),
    "a network as a label": ({"toEndpoints": [{"matchLabels": {"cidr:10.20.0.0/16": ""}}]}, True, "reserved:"),
    "endpoints by a selector of tomorrow": ({"toEndpoints": [{"matchFields": []}]}, True, "cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_allow_is_seen_and_what_is_not_understood_is_critical(case: str) -> None:
    rule, critical, words = CASES[case]
    (one,) = egress(**rule)
    assert (one.kind, one.name, one.critical) == ("CiliumNetworkPolicy", "theirs", critical)
    assert words in one.message


def test_rules_are_looked_for_in_both_directions_and_in_every_part() -> None:
    (one,) = found(specs=[{"endpointSelector": {}}, {"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}]}])
    assert "ingress from the entity all" in one.message


NOTHING: dict[str, dict[str, Any]] = {
    "an empty rule, which selects nobody": {"endpointSelector": {}, "egress": [{}], "ingress": [{}]},
    "denies": {"endpointSelector": {}, "egressDeny": [{"toEntities": ["world"]}], "ingressDeny": [{}]},
    "the entity none": {"endpointSelector": {}, "egress": [{"toEntities": ["none"]}]},
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_opens_nothing_is_not_told(case: str) -> None:
    assert found(spec=NOTHING[case]) == ()


@pytest.mark.parametrize("spec", ["x", {"egress": []}, {"nodeSelector": {}}])
def test_rules_that_cannot_be_read_are_critical(spec: Any) -> None:
    (one,) = found(spec=spec)
    assert one.critical


TOUCHES: dict[str, tuple[dict[str, Any], bool]] = {
    "every pod": ({}, True),
    "its name": ({"matchLabels": {"k8s:bulkhead.dev/agent": "scout"}}, True),
    "another agent": ({"matchLabels": {"any:bulkhead.dev/agent": "other"}}, False),
    "its namespace": ({"matchLabels": {NAMESPACE: "lab"}}, True),
    "an expression": ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
}


@pytest.mark.parametrize("case", TOUCHES)
def test_an_opening_concerns_the_agents_whose_pods_it_could_select(case: str) -> None:
    selector, concerned = TOUCHES[case]
    (one,) = found(spec={"endpointSelector": selector, "egress": [{"toCIDR": ["203.0.113.0/28"]}]})
    assert touches(one, samples.agent()) is concerned
