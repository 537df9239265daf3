"""What is denied clusterwide, in both dialects."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.floor import FLOOR
from bulkhead.plan.denies import Dialect, UnwritableError, denies, object_names
from bulkhead.plan.policy import Forbidden
from tests.unit.plan.policies import broken_policy, nodes, remains, sandbox_policy

CIDRS = ["10.20.0.0/16", "2001:db8:20::/48"]
PRODUCTION = {
    "cidrs": CIDRS,
    "namespaceSelector": {"matchLabels": {"env": "production"}},
    "canaries": [{"name": "db", "address": "10.30.0.1", "port": 5432}],
}
NODES = nodes("192.0.2.10", "2001:db8::10")
BOTH: tuple[Dialect, ...] = ("cilium", "clusternetworkpolicy")


def specs(dialect: Dialect, hosts: tuple[Forbidden, ...] = NODES, **spec: Any) -> list[dict[str, Any]]:
    """What is written, spec by spec: about production and the floor first, then about the nodes."""
    objects = denies(sandbox_policy(**spec), dialect=dialect, hosts=hosts)
    return [one for obj in objects for one in (obj["specs"] if "specs" in obj else [obj["spec"]])]


def written(dialect: Dialect, hosts: tuple[Forbidden, ...] = NODES, **spec: Any) -> dict[str, Any]:
    return specs(dialect, hosts, **spec)[0]


def about_nodes(dialect: Dialect, hosts: tuple[Forbidden, ...] = NODES, **spec: Any) -> dict[str, Any]:
    (found,) = specs(dialect, hosts, **spec)[1:]
    return found


def denied(spec: dict[str, Any]) -> list[str]:
    """The networks that egress is denied to, in either dialect."""
    cilium = [cidr for rule in spec.get("egressDeny", ()) for cidr in rule.get("toCIDR", ())]
    rules = [rule for rule in spec.get("egress", ()) if rule["action"] == "Deny"]
    return cilium + [cidr for rule in rules for peer in rule["to"] for cidr in peer.get("networks", ())]


@pytest.mark.parametrize("dialect", BOTH)
def test_the_objects_belong_to_their_sandbox_policy(dialect: Dialect) -> None:
    objects = denies(sandbox_policy("strict"), dialect=dialect, hosts=NODES)
    names = [one["metadata"]["name"] for one in objects]
    assert tuple(names) == object_names("strict", dialect=dialect, hosts=NODES)
    assert (
        names
        == {"cilium": ["bulkhead-strict"], "clusternetworkpolicy": ["bulkhead-strict", "bulkhead-strict.nodes"]}[
            dialect
        ]
    )
    assert len({json.dumps(one["metadata"]["ownerReferences"]) for one in objects}) == 1
    (found,) = denies(sandbox_policy("strict"), dialect=dialect, hosts=())
    assert found["metadata"] == {
        "name": "bulkhead-strict",
        "labels": {"app.kubernetes.io/managed-by": "bulkhead"},
        "ownerReferences": [
            {
                "apiVersion": "bulkhead.dev/v1alpha1",
                "kind": "SandboxPolicy",
                "name": "strict",
                "uid": "uid-strict",
                "controller": True,
            }
        ],
    }


@pytest.mark.parametrize("dialect", BOTH)
def test_production_and_the_whole_floor_are_denied_in_both_families(dialect: Dialect) -> None:
    closed = denied(written(dialect, production=PRODUCTION))
    whole = [*CIDRS, "10.30.0.1/32", *(entry.cidr for entry in FLOOR)]
    for cidr in whole:
        network = ipaddress.ip_network(cidr)
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            continue  # no packet has such an address
        assert remains(cidr, closed) == [], cidr


@pytest.mark.parametrize("dialect", BOTH)
def test_nothing_but_production_and_the_floor_is_denied(dialect: Dialect) -> None:
    for cidr in denied(written(dialect, production=PRODUCTION)):
        whole = [*CIDRS, "10.30.0.1/32", "192.0.2.10/32", "2001:db8::10/128"]
        assert remains(cidr, whole + [entry.cidr for entry in FLOOR]) == [], cidr


@pytest.mark.parametrize("dialect", BOTH)
def test_what_the_policy_opens_of_the_shared_address_space_is_not_denied(dialect: Dialect) -> None:
    opened = ["100.64.8.0/24", "100.100.0.0/16"]
    closed = denied(written(dialect, network={"openSharedAddressSpace": opened}))
    assert remains("100.64.8.0/24", closed) == [ipaddress.ip_network("100.64.8.0/24")]
    assert remains("100.64.9.0/24", closed) == []
    assert remains("100.100.100.200/32", closed) == []


def test_cilium_denies_nodes_and_the_api_server_as_entities_and_leaves_probes_alone() -> None:
    found = written("cilium", production=PRODUCTION)
    assert about_nodes("cilium", production=PRODUCTION)["egressDeny"] == [
        {"toEntities": ["host", "remote-node", "kube-apiserver"]}
    ]
    assert all(len(rule) == 1 for rule in [*found["egressDeny"], *found["ingressDeny"]])
    assert not any("toEntities" in rule for rule in found["egressDeny"])
    assert not any("fromEntities" in rule for rule in found["ingressDeny"])


@pytest.mark.parametrize("team", [{}, {"matchLabels": {"team": "a"}}], ids=["every sandbox", "some sandboxes"])
def test_the_nodes_stay_open_to_no_pod_but_those_with_rights_in_the_api_server(team: dict[str, Any]) -> None:
    without = {"operator": "NotIn", "values": ["true"]}
    everybody = written("cilium", namespaceSelector=team)["endpointSelector"]
    others = about_nodes("cilium", namespaceSelector=team)["endpointSelector"]
    assert others == {
        **everybody,
        "matchExpressions": [
            *everybody["matchExpressions"],
            {"key": "k8s:bulkhead.dev/kubernetes-api", **without},
        ],
    }
    assert about_nodes("clusternetworkpolicy", namespaceSelector=team)["subject"] == {
        "pods": {
            "namespaceSelector": written("clusternetworkpolicy", namespaceSelector=team)["subject"]["namespaces"],
            "podSelector": {"matchExpressions": [{"key": "bulkhead.dev/kubernetes-api", **without}]},
        }
    }


def test_cilium_selects_by_the_labels_of_namespaces() -> None:
    selector = {"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "b.example/c", "operator": "Exists"}]}
    found = written("cilium", namespaceSelector=selector)
    assert found["endpointSelector"] == {
        "matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "a"},
        "matchExpressions": [
            {"key": "k8s:io.cilium.k8s.namespace.labels.b.example/c", "operator": "Exists"},
            {
                "key": "k8s:io.cilium.k8s.namespace.labels.bulkhead.dev/sandbox",
                "operator": "In",
                "values": ["true"],
            },
        ],
    }


def test_cilium_takes_for_production_only_pods_even_where_labels_must_be_missing() -> None:
    selector = {"matchExpressions": [{"key": "sandbox", "operator": "DoesNotExist"}]}
    found = written("cilium", production={"namespaceSelector": selector})
    pods = {
        "matchExpressions": [
            {"key": "k8s:io.cilium.k8s.namespace.labels.sandbox", "operator": "DoesNotExist"},
            {"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"},
        ]
    }
    assert {"toEndpoints": [pods]} in found["egressDeny"]
    assert found["ingressDeny"] == [{"fromEndpoints": [pods]}]


def test_a_cluster_network_policy_is_of_the_first_rank_and_only_denies() -> None:
    found = written("clusternetworkpolicy", production=PRODUCTION)
    assert (found["tier"], found["priority"]) == ("Admin", 0)
    assert {rule["action"] for rule in [*found["egress"], *found["ingress"]]} == {"Deny"}
    assert found["subject"] == {
        "namespaces": {"matchExpressions": [{"key": "bulkhead.dev/sandbox", "operator": "In", "values": ["true"]}]}
    }
    names = [rule["name"] for rule in found["egress"]]
    assert names == ["production-namespaces", "production", "floor"]
    assert found["egress"][0]["to"] == [{"namespaces": {"matchLabels": {"env": "production"}}}]
    assert found["ingress"][0]["from"] == [{"namespaces": {"matchLabels": {"env": "production"}}}]
    cluster = about_nodes("clusternetworkpolicy", production=PRODUCTION)
    assert (cluster["tier"], cluster["priority"]) == ("Admin", 0)
    nodes_rule = {"name": "nodes-and-api-server", "action": "Deny"}
    assert cluster["egress"] == [{**nodes_rule, "to": [{"networks": ["192.0.2.10/32", "2001:db8::10/128"]}]}]
    assert "ingress" not in cluster


@pytest.mark.parametrize("dialect", BOTH)
def test_without_production_only_the_floor_and_the_cluster_are_denied(dialect: Dialect) -> None:
    found = written(dialect)
    assert "ingress" not in found
    assert "ingressDeny" not in found
    assert "169.254.0.0/16" in denied(found)


def test_thousands_of_nodes_fit_into_a_cluster_network_policy() -> None:
    many = nodes(*(f"10.{number >> 8}.{number & 255}.1" for number in range(5000)))
    found = about_nodes("clusternetworkpolicy", many)
    assert len(found["egress"]) <= 25
    for rule in found["egress"]:
        assert len(rule["to"]) <= 25
        assert all(len(peer.get("networks", "x")) <= 25 for peer in rule["to"])
    assert {f"10.{number >> 8}.{number & 255}.1/32" for number in range(5000)} <= set(denied(found))


UNWRITABLE: dict[str, tuple[Dialect, Any, tuple[Forbidden, ...], str]] = {
    "a policy that could not be understood": ("cilium", broken_policy(), (), "cannot be understood"),
    "more nodes than a ClusterNetworkPolicy takes": (
        "clusternetworkpolicy",
        sandbox_policy(),
        nodes(*(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(0, 40000, 2))),
        "takes 15625",
    ),
    "a label that is too long for Cilium": (
        "cilium",
        sandbox_policy(namespaceSelector={"matchLabels": {"l" * 40: "x"}}),
        (),
        "accepted are keys of up to 28 characters",
    ),
    "a prefix that is too long for Cilium": (
        "cilium",
        sandbox_policy(production={"namespaceSelector": {"matchLabels": {f"{'p' * 219}/x": "x"}}}),
        (),
        "with a prefix of up to 218",
    ),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_said_is_told_and_not_left_out(case: str) -> None:
    dialect, policy, hosts, why = UNWRITABLE[case]
    with pytest.raises(UnwritableError, match=why):
        denies(policy, dialect=dialect, hosts=hosts)


def test_the_longest_label_that_cilium_takes_is_written() -> None:
    found = written("cilium", namespaceSelector={"matchLabels": {"l" * 28: "x", f"{'p' * 218}/x": "x"}})
    assert len(found["endpointSelector"]["matchLabels"]) == 2


@given(st.permutations(range(4)), st.permutations(NODES), st.sampled_from(BOTH))
def test_the_order_of_what_is_given_changes_nothing(order: list[int], hosts: list[Forbidden], dialect: Dialect) -> None:
    cidrs = ["10.20.0.0/16", "10.21.0.0/16", "198.51.100.0/24", "2001:db8:20::/48"]
    shuffled = specs(dialect, tuple(hosts), production={"cidrs": [cidrs[index] for index in order]})
    assert json.dumps(shuffled) == json.dumps(specs(dialect, production={"cidrs": cidrs}))
