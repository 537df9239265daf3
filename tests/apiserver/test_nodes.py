"""Agents and the addresses of nodes and their pods, which come and go with the nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

Object = dict[str, Any]
NODES = "/api/v1/nodes"
OUTSIDE = "198.51.100.0/24"


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    edit(rest, {"egressCIDRs": [OUTSIDE]})
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running
    edit(rest, None)


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def join(rest: Rest) -> Iterator[Callable[..., None]]:
    """Has a node join, with no kubelet behind it; it leaves after the test."""
    made = []

    def make(name: str, *, spec: Object, addresses: tuple[str, ...] = ()) -> None:
        answer = rest.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec})
        assert answer.ok, answer.message
        made.append(name)
        status = {"addresses": [{"type": "InternalIP", "address": one} for one in addresses]}
        answer = rest.send("PATCH", f"{NODES}/{name}/status", {"status": status}, content_type=MERGE)
        assert answer.ok, answer.message

    yield make
    for name in made:
        rest.delete(f"{NODES}/{name}")


def edit(rest: Rest, network: Object | None) -> None:
    answer = rest.send("PATCH", f"{POLICIES}/default", {"spec": {"network": network}}, content_type=MERGE)
    assert answer.ok, answer.message


def why(lab: Lab, name: str) -> str:
    return str(lab.condition(name, "PolicyAccepted").get("message"))


def asking_for(cidr: str, *excepts: str) -> Object:
    to: Object = {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}
    return {"egress": [{"to": to, "ports": [{"port": 443}]}]}


@pytest.mark.parametrize(
    ("joins", "named"),
    [
        pytest.param(
            {"spec": {}, "addresses": ("198.51.100.7",)}, "198.51.100.7/32 (node inside)", id="the node's own"
        ),
        pytest.param(
            {"spec": {"podCIDR": "198.51.100.64/26", "podCIDRs": ["198.51.100.64/26"]}},
            "198.51.100.64/26 (pods of the cluster)",
            id="its pods'",
        ),
    ],
)
def test_a_node_that_joins_inside_of_an_agents_network_stops_it_until_it_leaves_these_addresses_out(
    lab: Lab, join: Callable[..., None], joins: Object, named: str
) -> None:
    lab.create("scout", network=asking_for(OUTSIDE))
    lab.create("other")
    lab.until_built(["scout", "other"])

    join("inside", **joins)

    lab.until_state("scout", "Refused")
    eventually(lambda: named in why(lab, "scout"), lambda: f"{named} is named: {why(lab, 'scout')}")
    eventually(lambda: lab.names("Pod") == ["other-0"], "it has stopped, and nobody else")
    lab.patch("scout", network=asking_for(OUTSIDE, named.partition(" ")[0]))
    lab.until_built(["scout"])


def test_a_node_that_leaves_gives_its_addresses_free(lab: Lab, rest: Rest, join: Callable[..., None]) -> None:
    join("inside", spec={"podCIDR": OUTSIDE, "podCIDRs": [OUTSIDE]}, addresses=("198.51.100.7",))
    lab.create("scout", network=asking_for(OUTSIDE))
    eventually(lambda: "pods of the cluster" in why(lab, "scout"), lambda: f"refused: {why(lab, 'scout')}")

    eventually(lambda: not lab.list("Pod"), "it does not run")

    assert rest.delete(f"{NODES}/inside").ok

    lab.until_built(["scout"])
