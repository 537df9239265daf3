"""The way to the API server: for agents with rights there, to its addresses and ports, and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import apiroute, isolation
from bulkhead.plan import rules as network_rules
from bulkhead.plan.isolation import Target
from bulkhead.plan.policy import Bounds
from bulkhead.plan.rules import Rules
from tests.access_spellings import r
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, nodes, refused, sandbox_policy, spec_of

ENDPOINTS = (("192.0.2.10", 6443), ("192.0.2.11", 6443))
SERVICE = (("10.96.0.1", 443),)
RESERVED = nodes("192.0.2.10", "192.0.2.11", "192.0.2.12", "10.96.0.1", "2001:db8::10", "2001:db8:96::1")
ASKED = {"kubernetesApi": {"rules": [r("get", "configmaps")]}}
OFFER: dict[str, Any] = {"identity": ASKED}
BOUNDS = bounds_of(sandbox_policy(**OFFER))


def planned(
    bounds: Bounds = BOUNDS,
    *,
    identity: Any = ASKED,
    endpoints: Any = ENDPOINTS,
    service: Any = SERVICE,
    serves_cilium: bool = False,
    **spec: Any,
) -> Rules:
    return network_rules.rules(
        samples.agent(),
        spec_of(identity=identity, **spec),
        bounds=bounds,
        reserved=RESERVED,
        services={},
        dns_service="kube-system/kube-dns",
        api_endpoints=endpoints,
        api_service=service,
        serves_cilium=serves_cilium,
    )


def egress(found: Rules) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (found.policy or {"spec": {}})["spec"].get("egress", [])
    return listed


def block(cidr: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr}}


def tcp(port: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port}]


def test_each_port_is_opened_to_the_addresses_that_have_it() -> None:
    found = planned()
    assert egress(found) == [
        {"to": [block("10.96.0.1/32")], "ports": tcp(443)},
        {"to": [block("192.0.2.10/32"), block("192.0.2.11/32")], "ports": tcp(6443)},
    ]
    assert (found.problems, found.notes, found.cilium) == ((), (), None)
    assert found.policy is not None
    assert found.policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_both_families_are_opened() -> None:
    found = planned(endpoints=(*ENDPOINTS, ("2001:db8::10", 6443)), service=(*SERVICE, ("2001:db8:96::1", 443)))
    assert [rule["to"] for rule in egress(found)] == [
        [block("10.96.0.1/32"), block("2001:db8:96::1/128")],
        [block("192.0.2.10/32"), block("192.0.2.11/32"), block("2001:db8::10/128")],
    ]


@pytest.mark.parametrize(
    "identity", [{}, {"tokens": [{"audience": "vault", "path": "vault"}]}], ids=["nothing", "tokens for others"]
)
def test_without_rules_there_is_no_way_there(identity: Any) -> None:
    found = planned(identity=identity, serves_cilium=True)
    assert (found.policy, found.cilium) == (None, None)


def test_without_a_policy_there_is_no_way_there() -> None:
    found = planned(bounds_of(), serves_cilium=True)
    assert (found.policy, found.cilium) == (None, None)


def test_under_cilium_the_entity_is_opened_on_its_own_port_and_to_the_agent_s_pods_alone() -> None:
    found = planned(serves_cilium=True)
    assert len(egress(found)) == 2
    assert found.policy is not None
    assert found.cilium == {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": found.policy["metadata"],
        "spec": {
            "endpointSelector": {"matchLabels": {"k8s:bulkhead.dev/agent-uid": samples.UID}},
            "egress": [
                {
                    "toEntities": ["kube-apiserver"],
                    "toPorts": [{"ports": [{"port": "6443", "protocol": "TCP"}]}],
                }
            ],
        },
    }


CLOSED = {
    "a node of production": ({"cidrs": ["192.0.2.0/24"]}, "192.0.2.10 (port 6443)", "192.0.2.0/24 (production)"),
    "a Service of production": ({"cidrs": ["10.0.0.0/8"]}, "10.96.0.1 (port 443)", "10.0.0.0/8 (production)"),
    "a canary": (
        {"canaries": [{"name": "api", "address": "192.0.2.11", "port": 6443}]},
        "192.0.2.11 (port 6443)",
        "192.0.2.11/32 (canary api)",
    ),
}


@pytest.mark.parametrize("case", CLOSED)
def test_an_api_server_that_is_production_is_opened_to_nobody(case: str) -> None:
    production, address, network = CLOSED[case]
    found = planned(bounds_of(sandbox_policy("strict", production=production, **OFFER)), serves_cilium=True)
    assert (found.policy, found.cilium) == (None, None)
    problem = found.problems[0]
    assert (problem.policy, problem.field) == ("strict", "spec.identity.kubernetesApi")
    assert f"the API server has the address {address}, which lies in {network}" in problem.message
    assert "accepted is" in problem.message


def test_an_api_server_on_the_floor_is_opened_to_nobody() -> None:
    found = planned(endpoints=(("127.0.0.1", 6443),))
    assert found.policy is None
    assert found.problems[0].policy == ""
    assert "closed by the floor" in found.problems[0].message


def test_while_its_addresses_are_not_known_nothing_is_opened_and_that_is_said() -> None:
    found = planned(endpoints=(), service=(), serves_cilium=True)
    assert (found.policy, found.cilium, found.problems) == (None, None, ())
    assert found.notes == ("the addresses of the API server are not known yet; the way there is opened once they are",)


def test_an_address_that_cannot_be_read_is_left_out() -> None:
    assert egress(planned(endpoints=(("010.0.0.1", 6443), ("192.0.2.10", 6443)), service=())) == [
        {"to": [block("192.0.2.10/32")], "ports": tcp(6443)}
    ]


def test_other_rules_stay_as_they_are_and_the_api_server_cannot_be_asked_for_by_address() -> None:
    bounds = bounds_of(sandbox_policy(network={"egressCIDRs": ["192.0.2.0/24", "203.0.113.0/24"]}, **OFFER))
    asked = [{"to": {"cidr": cidr}, "ports": [{"port": 1}]} for cidr in ("203.0.113.0/28", "192.0.2.10/32")]
    found = planned(bounds, network={"egress": asked})
    first, *api = egress(found)
    assert first["to"] == [block("203.0.113.0/28")]
    assert api == egress(planned())
    spec = spec_of(identity=ASKED, network={"egress": asked})
    (violation,) = refused(spec, bounds, reserved=RESERVED)
    assert violation.field == "spec.network.egress[1].to.cidr"


STRAYS = {
    "another port of the API server": {"to": [block("192.0.2.10/32")], "ports": tcp(10250)},
    "one port too many": {"to": [block("192.0.2.10/32")], "ports": tcp(6443) + tcp(10250)},
    "a range of ports": {
        "to": [block("192.0.2.10/32")],
        "ports": [{"protocol": "TCP", "port": 6443, "endPort": 10250}],
    },
    "the port of the API server over UDP": {
        "to": [block("192.0.2.10/32")],
        "ports": [{"protocol": "UDP", "port": 6443}],
    },
    "the port of the Service at the endpoint": {"to": [block("192.0.2.10/32")], "ports": tcp(443)},
    "the network around the API server": {"to": [block("192.0.2.10/31")], "ports": tcp(6443)},
    "another node": {"to": [block("192.0.2.12/32")], "ports": tcp(6443)},
    "a node beside the API server": {
        "to": [block("192.0.2.10/32"), block("192.0.2.12/32")],
        "ports": tcp(6443),
    },
    "no port": {"to": [block("192.0.2.10/32")]},
}


@pytest.mark.parametrize("case", STRAYS)
def test_the_last_look_lets_nothing_pass_but_the_api_server_s_own_ports(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apiroute, "rules", lambda _: [STRAYS[case]])
    found = planned(serves_cilium=True)
    assert (found.policy, found.cilium) == (None, None)
    assert "thrown away" in found.problems[0].message


def test_the_last_look_lets_nobody_in_from_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stray = {"from": [block("192.0.2.10/32")], "ports": tcp(6443)}
    monkeypatch.setattr(network_rules, "_ingress", lambda *_: stray)
    network = {"ingress": [{"from": {"cidr": "203.0.113.1/32"}}]}
    found = planned(network=network, ports=[{"containerPort": 1}])
    assert found.policy is None


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


some = st.lists(st.tuples(addresses, st.integers(1, 65535)), max_size=4)


@given(some, some)
def test_whatever_the_api_server_s_addresses_are_nothing_else_is_opened(
    endpoints: list[tuple[str, int]], service: list[tuple[str, int]]
) -> None:
    found = planned(endpoints=endpoints, service=service, serves_cilium=True)
    opened = {
        (peer["ipBlock"]["cidr"].partition("/")[0], port["port"])
        for rule in egress(found)
        for peer in rule["to"]
        for port in rule["ports"]
    }
    assert opened == (set() if found.problems else {*endpoints, *service})
    assert all(peer["ipBlock"]["cidr"].endswith(("/32", "/128")) for rule in egress(found) for peer in rule["to"])


def test_the_api_server_is_no_target_of_the_proof_for_an_agent_that_is_let_there_but_its_node_is() -> None:
    gate = samples.GATE
    endpoints = (("192.0.2.10", 6443),)
    confined = isolation.targets(BOUNDS, gate=gate, api_endpoints=endpoints)
    let = isolation.targets(BOUNDS, gate=gate, api_endpoints=endpoints, api_access=True)
    assert set(confined) - set(let) == {Target("api-server", "TCP", "192.0.2.10", 6443)}
    assert Target("kubelet", "TCP", "node", 10250) in let
