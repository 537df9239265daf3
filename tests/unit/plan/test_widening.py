"""What others open in a sandbox namespace, and whom it concerns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import reserved
from bulkhead.plan.widening import Opened, opened, touches
from tests.specs import json_values
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, namespace, nodes, sandbox, sandbox_policy

BOUNDS = bounds_of(
    sandbox_policy(production={"cidrs": ["10.20.0.0/16"], "namespaceSelector": {"matchLabels": {"env": "production"}}}),
    others=(namespace("shop", env="production"),),
)
WITHOUT_PRODUCTION = bounds_of(sandbox_policy())
NODES = (*nodes("192.0.2.10"), *reserved.pods(["172.20.0.0/16"]))


def found(*objects: dict[str, Any], bounds: Any = BOUNDS) -> tuple[Opened, ...]:
    return opened(objects, bounds=bounds, reserved=NODES, namespace=sandbox())


def obj(kind: str, name: str = "theirs", **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "lab"}, **content}


def network_policy(**spec: Any) -> dict[str, Any]:
    return obj("NetworkPolicy", spec={"podSelector": {}, **spec})


def egress(*peers: dict[str, Any], ports: Any = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": list(peers)} if peers else {}
    return network_policy(egress=[{**rule, **({"ports": ports} if ports else {})}], policyTypes=["Egress"])


def block(cidr: Any, *excepts: Any) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}}


def by_name(name: str, **more: Any) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name, **more}}}


NETWORK_POLICIES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "everything, on every port": (egress(), True, "egress to everything"),
    "everything, on one port": (egress(ports=[{"port": 443}]), True, "egress to everything"),
    "an empty list of peers": (network_policy(egress=[{"to": []}]), True, "egress to everything"),
    "calls from everything": (network_policy(ingress=[{}]), True, "ingress from everything"),
    "a network": (egress(block("203.0.113.0/24")), False, "egress to 203.0.113.0/24"),
    "a network with exceptions": (
        egress(block("203.0.113.0/24", "203.0.113.0/28")),
        False,
        "203.0.113.0/24 without 1 parts of it",
    ),
    "production": (egress(block("10.20.3.0/24")), True, "reaches 10.20.0.0/16 (production)"),
    "pods by their addresses": (egress(block("172.20.7.0/24")), True, "reaches 172.20.0.0/16 (pods of the cluster)"),
    "a network around production": (egress(block("10.0.0.0/8")), True, "reaches 10.20.0.0/16 (production)"),
    "a network around production, with production excepted": (
        egress(block("10.0.0.0/8", "10.20.0.0/16")),
        False,
        "10.0.0.0/8 without",
    ),
    "a network around production, with half of it excepted": (
        egress(block("10.0.0.0/8", "10.20.0.0/17")),
        True,
        "reaches 10.20.0.0/16",
    ),
    "calls from production": (
        network_policy(ingress=[{"from": [block("10.20.0.0/16")]}]),
        True,
        "ingress from 10.20.0.0/16",
    ),
    "metadata": (egress(block("169.254.169.254/32")), True, "169.254.0.0/16"),
    "a node": (egress(block("192.0.2.0/24")), True, "192.0.2.10/32"),
    "every address": (egress(block("0.0.0.0/0")), True, "0.0.0.0/0"),
    "every address of the other family": (egress(block("::/0")), True, "::/0"),
    "production with host bits": (egress(block("10.20.3.4/16")), True, "reaches 10.20.0.0/16"),
    "production as IPv4-mapped IPv6": (egress(block("::ffff:10.20.0.0/112")), True, "egress to"),
    "a network that is none": (egress(block("10.0.0.0/33")), True, "cannot be read"),
    "a network that is a number": (egress(block(167772160)), True, "cannot be read"),
    "an exception that is none": (egress(block("203.0.113.0/24", "x")), True, "cannot be read"),
    "pods of this namespace": (egress({"podSelector": {}}), False, "pods of this namespace"),
    "pods of another namespace": (egress(by_name("tools")), False, "pods of namespace tools"),
    "pods of production": (egress({**by_name("shop"), "podSelector": {}}), True, "namespace shop, which is production"),
    "pods of every namespace": (egress({"namespaceSelector": {}}), True, "pods of every namespace"),
    "namespaces by a label": (
        egress({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
        True,
        "which production could have: shop",
    ),
    "namespaces but some": (
        egress(
            {
                "namespaceSelector": {
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
                    ]
                }
            }
        ),
        True,
        "shop",
    ),
    "namespaces but production": (
        egress(
            {
                "namespaceSelector": {
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}
                    ]
                }
            }
        ),
        False,
        "other namespaces",
    ),
    "namespaces by a selector of tomorrow": (
        egress({"namespaceSelector": {"matchFields": []}}),
        True,
        "cannot be read",
    ),
    "a peer of tomorrow": (egress({"nodes": {}}), True, "cannot be read"),
    "a peer of tomorrow beside one of today": (egress({"podSelector": {}, "nodes": {}}), True, "cannot be read"),
    "no rules at all that can be read": (obj("NetworkPolicy", spec="x"), True, "cannot be read"),
}


@pytest.mark.parametrize("case", NETWORK_POLICIES)
def test_each_allow_of_a_network_policy_is_seen_and_judged(case: str) -> None:
    policy, critical, words = NETWORK_POLICIES[case]
    (one,) = found(policy)
    assert (one.kind, one.name, one.critical) == ("NetworkPolicy", "theirs", critical)
    assert words in one.message


NOTHING: dict[str, dict[str, Any]] = {
    "a policy that denies everything": network_policy(policyTypes=["Ingress", "Egress"]),
    "empty lists": network_policy(egress=[], ingress=[], policyTypes=["Ingress", "Egress"]),
    "rules of a direction that the policy is not about": network_policy(egress=[{}], policyTypes=["Ingress"]),
    "a Service with a selector": obj("Service", spec={"type": "ClusterIP", "selector": {"app": "x"}}),
    "a headless Service": obj("Service", spec={"type": "ClusterIP", "clusterIP": "None", "selector": {"app": "x"}}),
    "an EndpointSlice without endpoints": obj("EndpointSlice", addressType="IPv4", endpoints=[]),
    "an EndpointSlice with null for endpoints": obj("EndpointSlice", addressType="IPv4", endpoints=None),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_opens_nothing_is_not_told(case: str) -> None:
    assert found(NOTHING[case]) == ()


def test_namespaces_by_label_are_not_critical_where_there_is_no_production() -> None:
    (one,) = found(egress({"namespaceSelector": {"matchLabels": {"team": "a"}}}), bounds=WITHOUT_PRODUCTION)
    assert not one.critical
    assert "other namespaces by their labels" in one.message


def test_what_is_critical_comes_first_and_a_long_list_is_cut() -> None:
    peers = [block(f"203.0.113.{number}/32") for number in range(8)]
    (one,) = found(egress(*peers, block("10.20.0.0/16")))
    assert one.message.startswith("it opens egress to 10.20.0.0/16")
    assert one.message.endswith("and 6 more")


SERVICES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "ExternalName": ({"type": "ExternalName", "externalName": "db.example"}, False, "db.example"),
    "NodePort": ({"type": "NodePort", "selector": {"a": "b"}}, False, "type NodePort"),
    "LoadBalancer": ({"type": "LoadBalancer", "selector": {"a": "b"}}, False, "type LoadBalancer"),
    "no selector": ({"type": "ClusterIP"}, False, "without a selector"),
    "an external IP": ({"selector": {"a": "b"}, "externalIPs": ["203.0.113.7"]}, False, "203.0.113.7"),
    "an external IP of production": (
        {"selector": {"a": "b"}, "externalIPs": ["203.0.113.7", "10.20.0.1"]},
        True,
        "10.20.0.1, which lies in 10.20.0.0/16 (production)",
    ),
    "an external IP of a node": ({"selector": {"a": "b"}, "externalIPs": ["192.0.2.10"]}, True, "192.0.2.10"),
    "an external IP that is none": ({"selector": {"a": "b"}, "externalIPs": ["x"]}, True, "cannot be read"),
    "a type of tomorrow": ({"type": "Mesh", "selector": {"a": "b"}}, True, "type Mesh"),
}


@pytest.mark.parametrize("case", SERVICES)
def test_each_service_that_is_more_than_an_address_for_pods_is_seen(case: str) -> None:
    spec, critical, words = SERVICES[case]
    (one,) = found(obj("Service", spec=spec))
    assert (one.kind, one.critical) == ("Service", critical)
    assert words in one.message


def test_an_external_ip_that_is_a_pods_diverts() -> None:
    (one,) = found(obj("Service", spec={"selector": {"app": "x"}, "externalIPs": ["172.20.0.9"]}))
    assert (one.critical, "172.20.0.9, which lies in" in one.message) == (True, True)


SLICES: dict[str, tuple[list[Any], bool, str]] = {
    "an address of production": ([{"addresses": ["10.244.0.9"]}, {"addresses": ["10.20.0.1"]}], True, "10.20.0.1"),
    "the metadata service": ([{"addresses": ["169.254.169.254"]}], True, "169.254.169.254"),
    "a node": ([{"addresses": ["192.0.2.10"]}], True, "192.0.2.10"),
    "link-local of IPv6": ([{"addresses": ["fe80::1"]}], True, "fe80::1"),
    "production as IPv4-mapped IPv6": ([{"addresses": ["::ffff:10.20.0.1"]}], True, "::ffff:10.20.0.1"),
    "a pod": ([{"addresses": ["172.20.0.9"]}], False, "172.20.0.9, written by hand"),
    "another address": ([{"addresses": ["203.0.113.9"]}], False, "203.0.113.9, written by hand"),
    "a name": ([{"addresses": ["db.example"]}], True, "cannot be read"),
    "what is no endpoint": (["x"], True, "cannot be read"),
}


@pytest.mark.parametrize("case", SLICES)
def test_each_endpoint_written_by_hand_is_seen(case: str) -> None:
    endpoints, critical, words = SLICES[case]
    (one,) = found(obj("EndpointSlice", endpoints=endpoints))
    assert (one.kind, one.critical, one.touches) == ("EndpointSlice", critical, {})
    assert words in one.message


def test_a_kind_that_is_not_known_counts_as_critical() -> None:
    (one,) = found(obj("GlobalNetworkPolicy", spec={}))
    assert one.critical


def test_objects_are_told_in_the_order_of_kind_and_name() -> None:
    services = [obj("Service", name, spec={"type": "NodePort"}) for name in ("b", "a")]
    assert [(one.kind, one.name) for one in found(*services, network_policy(egress=[{}]))] == [
        ("NetworkPolicy", "theirs"),
        ("Service", "a"),
        ("Service", "b"),
    ]


TOUCHES: dict[str, tuple[dict[str, Any], bool]] = {
    "every pod": ({}, True),
    "its UID": ({"matchLabels": {"bulkhead.dev/agent-uid": samples.UID}}, True),
    "its name": ({"matchLabels": {"bulkhead.dev/agent": "scout"}}, True),
    "its workflow, by default its name": ({"matchLabels": {"bulkhead.dev/workflow": "scout"}}, True),
    "its tenant": ({"matchLabels": {"bulkhead.dev/tenant": "acme"}}, True),
    "another agent": ({"matchLabels": {"bulkhead.dev/agent": "other"}}, False),
    "a label that its pods do not have": ({"matchLabels": {"app": "web"}}, False),
    "pods without a label": ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, True),
    "one of its pods": ({"matchLabels": {"statefulset.kubernetes.io/pod-name": "scout-1"}}, True),
    "a selector that cannot be read": ({"matchFields": []}, True),
}


@pytest.mark.parametrize("case", TOUCHES)
def test_an_opening_concerns_the_agents_whose_pods_it_could_select(case: str) -> None:
    selector, concerned = TOUCHES[case]
    (one,) = found(network_policy(podSelector=selector, egress=[{"to": [block("203.0.113.0/28")]}]))
    assert touches(one, samples.agent(tenant="acme")) is concerned


def test_what_is_critical_concerns_every_agent() -> None:
    (one,) = found(network_policy(podSelector={"matchLabels": {"app": "web"}}, egress=[{}]))
    assert touches(one, samples.agent())


def test_a_service_concerns_the_agents_that_it_selects() -> None:
    spec = {"type": "NodePort", "selector": {"bulkhead.dev/agent": "other"}}
    (one,) = found(obj("Service", spec=spec))
    assert not touches(one, samples.agent())


@pytest.mark.parametrize("spec", [None, "x", {"workflow": 7, "tenant": []}])
def test_an_agent_whose_spec_cannot_be_read_is_still_told(spec: Any) -> None:
    (one,) = found(network_policy(podSelector={"matchLabels": {"bulkhead.dev/agent": "scout"}}, ingress=[{}]))
    assert touches(one, {**samples.agent(), "spec": spec})


@given(st.sampled_from(["NetworkPolicy", "CiliumNetworkPolicy", "Service", "EndpointSlice"]), json_values, json_values)
def test_no_object_whatever_breaks_the_look(kind: str, spec: Any, more: Any) -> None:
    for content in ({"spec": spec}, {"spec": {"egress": [spec], "ingress": more, "externalIPs": spec}}):
        for one in found(obj(kind, **content, endpoints=more)):
            touches(one, samples.agent())
