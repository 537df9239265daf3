"""The addresses of the cluster itself."""

from __future__ import annotations

from bulkhead.plan.reserved import reserved


def test_nodes_and_the_api_server_are_reserved_in_both_families_each_once() -> None:
    found = reserved(nodes={"n1": ["10.0.0.5", "fd00::5"], "n0": ["10.0.0.4"]}, api_server=["10.96.0.1", "10.96.0.1"])

    assert [(str(one.network), one.what) for one in found] == [
        ("10.0.0.4/32", "node n0"),
        ("10.0.0.5/32", "node n1"),
        ("10.96.0.1/32", "the API server"),
        ("fd00::5/128", "node n1"),
    ]
    assert {one.by for one in found} == {"the cluster"}


def test_what_is_no_address_is_left_out_and_hides_no_other() -> None:
    found = reserved(nodes={"odd": ["node.example", "010.0.0.1", "10.0.0.7"]}, api_server=["None", ""])

    assert [str(one.network) for one in found] == ["10.0.0.7/32"]
