"""The addresses of the cluster itself."""

from __future__ import annotations

from bulkhead.plan.reserved import hosts, pods


def test_nodes_and_the_api_server_are_reserved_in_both_families_each_once() -> None:
    found = hosts(nodes={"n1": ["10.0.0.5", "fd00::5"], "n0": ["10.0.0.4"]}, api_server=["10.96.0.1", "10.96.0.1"])

    assert [(str(one.network), one.what) for one in found] == [
        ("10.0.0.4/32", "node n0"),
        ("10.0.0.5/32", "node n1"),
        ("10.96.0.1/32", "the API server"),
        ("fd00::5/128", "node n1"),
    ]
    assert {one.by for one in found} == {"the cluster"}


def test_what_is_no_address_is_left_out_and_hides_no_other() -> None:
    found = hosts(nodes={"odd": ["node.example", "010.0.0.1", "10.0.0.7"]}, api_server=["None", ""])

    assert [str(one.network) for one in found] == ["10.0.0.7/32"]


def test_networks_of_pods_that_lie_side_by_side_are_one_in_each_family() -> None:
    found = pods(["10.244.1.0/24", "fd00:1::/64", "10.244.0.0/24", "fd00:1:0:1::/64", "10.250.0.0/24", "10.244.1.0/24"])

    assert [str(one) for one in found] == [
        "10.244.0.0/23 (pods of the cluster)",
        "10.250.0.0/24 (pods of the cluster)",
        "fd00:1::/63 (pods of the cluster)",
    ]
    assert {one.by for one in found} == {"the cluster"}


def test_a_network_of_pods_that_is_none_hides_no_other() -> None:
    assert [str(one.network) for one in pods(["", "10.244.0.1/24", "10.245.0.0/24"])] == ["10.245.0.0/24"]
