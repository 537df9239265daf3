"""What an agent's NetworkPolicy says, peer by peer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from bulkhead.plan import policy
from bulkhead.plan import rules as network_rules
from bulkhead.plan.policy import Bounds
from bulkhead.plan.rules import Rules, wanted_services
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, namespace, nodes, sandbox, sandbox_policy, spec_of

DNS = "kube-system/kube-dns"
ASKABLE = {"egressCIDRs": ["203.0.113.0/24", "2001:db8:113::/48"], "namespaces": ["tools"], "clusterDNS": True}
PRODUCTION = {"cidrs": ["10.20.0.0/16"], "namespaceSelector": {"matchLabels": {"env": "production"}}}
BOUNDS = bounds_of(
    sandbox_policy(network=ASKABLE, production=PRODUCTION),
    others=(namespace("shop", env="production"), namespace("tools")),
)
IN_PRODUCTION = policy.bounds(
    [sandbox_policy(network=ASKABLE, production=PRODUCTION)],
    namespace=sandbox(env="production"),
    namespaces=(sandbox(env="production"),),
)
NODES = nodes("192.0.2.10", "203.0.113.200")


def service(*ports: dict[str, Any], addresses: tuple[str, ...] = ("10.96.0.7",), **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "search", "namespace": "tools"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0] if addresses else "",
            "clusterIPs": list(addresses),
            "selector": {"app": "search"},
            "ports": list(ports) or [port(80, 8080)],
            **spec,
        },
    }


def port(number: int, target: int | str | None = None, protocol: str = "TCP", **more: Any) -> dict[str, Any]:
    return {"port": number, "protocol": protocol, "targetPort": target or number, **more}


DNS_SERVICE = service(port(53, 5353, "UDP"), port(53, "dns-tcp"), port(9153), selector={"k8s-app": "kube-dns"})


def planned(
    network: Mapping[str, Any],
    services: Mapping[str, dict[str, Any] | None] | None = None,
    *,
    bounds: Bounds = BOUNDS,
    **spec: Any,
) -> Rules:
    parsed = spec_of(network=dict(network), **spec)
    return network_rules.rules(
        samples.agent(),
        parsed,
        bounds=bounds,
        reserved=NODES,
        services={"tools/search": service(), DNS: DNS_SERVICE} if services is None else services,
        dns_service=DNS,
    )


def to_service(name: str = "tools/search", *ports: dict[str, Any]) -> dict[str, Any]:
    return {"egress": [{"to": {"service": name}, **({"ports": list(ports)} if ports else {})}]}


def to(ports: list[dict[str, Any]], **peer: Any) -> dict[str, Any]:
    return {"egress": [{"to": peer, "ports": ports}]}


IN_TOOLS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}}
SEARCH_PODS = {"podSelector": {"matchLabels": {"app": "search"}}}
HTTPS = [{"port": 443}]


def test_the_policy_is_the_agents_own_and_written_as_the_api_server_returns_it() -> None:
    found = planned({**to_service(), "ingress": [{"from": {"cidr": "203.0.113.7/32"}}]}, ports=[{"containerPort": 80}])
    assert found.policy == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "agent-scout",
            "namespace": "lab",
            "labels": {
                "app.kubernetes.io/managed-by": "bulkhead",
                "bulkhead.dev/agent": "scout",
                "bulkhead.dev/agent-uid": samples.UID,
                "bulkhead.dev/workflow": "scout",
            },
            "ownerReferences": [
                {
                    "apiVersion": "bulkhead.dev/v1alpha1",
                    "kind": "AgentDeployment",
                    "name": "scout",
                    "uid": samples.UID,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "podSelector": {"matchLabels": {"bulkhead.dev/agent-uid": samples.UID}},
            "ingress": [
                {"from": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
            ],
            "egress": [{"to": [{**SEARCH_PODS, **IN_TOOLS}], "ports": [{"protocol": "TCP", "port": 8080}]}],
            "policyTypes": ["Ingress", "Egress"],
        },
    }
    assert (found.problems, found.notes) == ((), ())


def test_an_agent_that_asks_for_nothing_gets_no_policy_of_its_own() -> None:
    assert planned({}) == Rules(policy=None)


EGRESS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pods of its own namespace": (
        to(HTTPS, pods={"labels": {"app": "helper"}}),
        {"to": [{"podSelector": {"matchLabels": {"app": "helper"}}}], "ports": [{"protocol": "TCP", "port": 443}]},
    ),
    "its own namespace by name": (
        to(HTTPS, pods={"namespace": "lab", "labels": {"app": "helper"}}),
        {"to": [{"podSelector": {"matchLabels": {"app": "helper"}}}], "ports": [{"protocol": "TCP", "port": 443}]},
    ),
    "pods of another namespace": (
        to([{"port": 1000, "endPort": 2000, "protocol": "UDP"}], pods={"namespace": "tools", "labels": {"a": "b"}}),
        {
            "to": [{"podSelector": {"matchLabels": {"a": "b"}}, **IN_TOOLS}],
            "ports": [{"protocol": "UDP", "port": 1000, "endPort": 2000}],
        },
    ),
    "a network": (
        to([{"port": 443}, {"port": 53, "protocol": "SCTP"}], cidr="2001:db8:113::/64"),
        {
            "to": [{"ipBlock": {"cidr": "2001:db8:113::/64"}}],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "SCTP", "port": 53}],
        },
    ),
    "a network with exceptions": (
        to(HTTPS, **{"cidr": "203.0.113.0/24", "except": ["203.0.113.200/32", "203.0.113.0/28"]}),
        {
            "to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.200/32", "203.0.113.0/28"]}}],
            "ports": [{"protocol": "TCP", "port": 443}],
        },
    ),
}


@pytest.mark.parametrize("case", EGRESS)
def test_each_form_of_egress_gives_its_rule(case: str) -> None:
    network, rule = EGRESS[case]
    found = planned(network)
    assert found.policy is not None
    assert found.policy["spec"]["egress"] == [rule]


INGRESS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pods, on all ports": (
        {"from": {"pods": {"namespace": "tools", "labels": {"app": "caller"}}}},
        {
            "from": [{"podSelector": {"matchLabels": {"app": "caller"}}, **IN_TOOLS}],
            "ports": [{"protocol": "TCP", "port": 8080}, {"protocol": "UDP", "port": 9000}],
        },
    ),
    "a network, on one port": (
        {"from": {"cidr": "203.0.113.0/25"}, "ports": [{"port": 9000, "protocol": "UDP"}]},
        {"from": [{"ipBlock": {"cidr": "203.0.113.0/25"}}], "ports": [{"protocol": "UDP", "port": 9000}]},
    ),
}


@pytest.mark.parametrize("case", INGRESS)
def test_each_form_of_ingress_gives_its_rule(case: str) -> None:
    entry, rule = INGRESS[case]
    found = planned({"ingress": [entry]}, ports=[{"containerPort": 8080}, {"containerPort": 9000, "protocol": "UDP"}])
    assert found.policy is not None
    assert found.policy["spec"]["ingress"] == [rule]
    assert "egress" not in found.policy["spec"]


TARGETS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a number": (service(port(80, 8080)), [], [{"protocol": "TCP", "port": 8080}]),
    "a name": (service(port(80, "http")), [], [{"protocol": "TCP", "port": "http"}]),
    "none, which means the same": (service({"port": 80}), [], [{"protocol": "TCP", "port": 80}]),
    "several, all of them": (
        service(port(80, 8080), port(443, "https"), port(53, 5353, "UDP")),
        [],
        [
            {"protocol": "TCP", "port": 8080},
            {"protocol": "TCP", "port": "https"},
            {"protocol": "UDP", "port": 5353},
        ],
    ),
    "several, one of them": (
        service(port(80, 8080), port(443, 8443)),
        [{"port": 443}],
        [{"protocol": "TCP", "port": 8443}],
    ),
    "one number for two protocols": (
        service(port(53, 5353), port(53, 5354, "UDP")),
        [{"port": 53, "protocol": "UDP"}],
        [{"protocol": "UDP", "port": 5354}],
    ),
    "two ports with one target": (service(port(80, 8080), port(81, 8080)), [], [{"protocol": "TCP", "port": 8080}]),
    "headless": (service(port(5432), addresses=("None",)), [], [{"protocol": "TCP", "port": 5432}]),
    "dual-stack": (service(addresses=("10.96.0.7", "fd00:10:96::7")), [], [{"protocol": "TCP", "port": 8080}]),
    "reachable from outside": (service(type="LoadBalancer"), [], [{"protocol": "TCP", "port": 8080}]),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_service_is_reached_through_the_ports_of_its_pods(case: str) -> None:
    given, ports, targets = TARGETS[case]
    found = planned(to_service("tools/search", *ports), {"tools/search": given})
    assert found.policy is not None
    assert found.policy["spec"]["egress"] == [{"to": [{**SEARCH_PODS, **IN_TOOLS}], "ports": targets}]
    assert found.problems == ()


REFUSED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str, str]] = {
    "ExternalName": (
        service(type="ExternalName", externalName="db.example", addresses=()),
        [],
        "spec.network.egress[0].to.service",
        "type ExternalName",
        "accepted is a Service that selects pods",
    ),
    "no selector": (
        service(selector=None),
        [],
        "spec.network.egress[0].to.service",
        "no selector",
        "accepted is a Service that selects pods",
    ),
    "no ports": (
        {**service(), "spec": {**service()["spec"], "ports": []}},
        [],
        "spec.network.egress[0].to.service",
        "no ports",
        "accepted is one with ports",
    ),
    "another port": (
        service(port(80), port(443)),
        [{"port": 80}, {"port": 8080}],
        "spec.network.egress[0].ports[1]",
        "no port 8080/TCP",
        "accepted are its ports: 80/TCP, 443/TCP",
    ),
    "another protocol": (
        service(port(80)),
        [{"port": 80, "protocol": "UDP"}],
        "spec.network.egress[0].ports[0]",
        "no port 80/UDP",
        "accepted are its ports: 80/TCP",
    ),
    "an address in production": (
        service(addresses=("10.96.0.7", "10.20.0.9")),
        [],
        "spec.network.egress[0].to.service",
        "10.20.0.9, which lies in 10.20.0.0/16 (production), closed by SandboxPolicy default",
        "accepted is a Service with an address outside of it",
    ),
    "an address of a node": (
        service(addresses=("192.0.2.10",)),
        [],
        "spec.network.egress[0].to.service",
        "192.0.2.10",
        "accepted is a Service with an address outside of it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_service_that_cannot_be_planned_for_is_refused_in_words(case: str) -> None:
    given, ports, field, why, accepted = REFUSED[case]
    found = planned(to_service("tools/search", *ports), {"tools/search": given})
    assert (found.policy, found.host_aliases) == (None, ())
    (problem,) = found.problems
    assert problem.field == field
    assert why in problem.message
    assert "tools/search" in problem.message
    assert accepted in problem.message


def test_a_service_that_does_not_exist_yet_is_a_note_and_holds_up_nothing_else() -> None:
    network = {"egress": [*to_service()["egress"], *to(HTTPS, cidr="203.0.113.0/28")["egress"]]}
    for services in ({"tools/search": None}, {}):
        found = planned(network, services)
        assert found.policy is not None
        assert [list(rule["to"][0]) for rule in found.policy["spec"]["egress"]] == [["ipBlock"]]
        assert found.problems == ()
        assert found.notes == ("Service tools/search does not exist yet; its rule and its name are given once it does",)


def test_a_headless_service_and_one_without_an_address_yet_are_told_of() -> None:
    headless = planned(to_service(), {"tools/search": service(port(80, "http"), addresses=("None",))})
    assert headless.notes == (
        "Service tools/search is headless: its pods are reached at their own addresses, on http/TCP",
    )
    pending = planned(to_service(), {"tools/search": service(addresses=())})
    assert pending.notes == ("Service tools/search has no address yet",)
    assert (headless.host_aliases, pending.host_aliases) == ((), ())


def test_a_declared_service_has_its_names_without_dns() -> None:
    found = planned(to_service(), {"tools/search": service(addresses=("10.96.0.7", "fd00:10:96::7"))})
    names = ["search.tools.svc.cluster.local", "search.tools.svc", "search.tools"]
    assert found.host_aliases == (
        {"ip": "10.96.0.7", "hostnames": names},
        {"ip": "fd00:10:96::7", "hostnames": names},
    )


def test_a_service_of_its_own_namespace_has_its_bare_name_too() -> None:
    found = planned(to_service("lab/search"), {"lab/search": service()})
    assert found.host_aliases[0]["hostnames"][-1] == "search"
    assert found.policy is not None
    assert found.policy["spec"]["egress"][0]["to"] == [SEARCH_PODS]


def test_a_service_named_twice_has_one_alias() -> None:
    network = {"egress": [{"to": {"service": "tools/search"}, "ports": [{"port": number}]} for number in (80, 443)]}
    found = planned(network, {"tools/search": service(port(80), port(443))})
    assert len(found.host_aliases) == 1
    assert found.policy is not None
    assert len(found.policy["spec"]["egress"]) == 2


def test_cluster_dns_opens_port_53_of_exactly_the_pods_of_its_service() -> None:
    found = planned({**to_service(), "dns": "Cluster"})
    assert found.policy is not None
    assert found.policy["spec"]["egress"][1:] == [
        {
            "to": [
                {
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                }
            ],
            "ports": [{"protocol": "UDP", "port": 5353}, {"protocol": "TCP", "port": "dns-tcp"}],
        }
    ]
    assert found.host_aliases == ()


DNS_REFUSED: dict[str, tuple[dict[str, Any] | None, str]] = {
    "no port 53": (service(port(5353, 53, "UDP")), "has no port 53"),
    "no selector": (service(port(53, 53, "UDP"), selector={}), "has no selector"),
    "ExternalName": (service(type="ExternalName"), "ExternalName"),
}


@pytest.mark.parametrize("case", DNS_REFUSED)
def test_a_dns_service_that_cannot_be_planned_for_is_refused(case: str) -> None:
    given, why = DNS_REFUSED[case]
    found = planned({"dns": "Cluster"}, {DNS: given})
    assert found.policy is None
    (problem,) = found.problems
    assert problem.field == "spec.network.dns"
    assert why in problem.message
    assert "accepted is" in problem.message


def test_a_dns_service_that_does_not_exist_is_a_note() -> None:
    found = planned({"dns": "Cluster"}, {DNS: None})
    assert (found.policy, found.problems) == (None, ())
    assert "kube-system/kube-dns does not exist" in found.notes[0]


def test_dns_in_a_production_namespace_is_refused_by_the_policy_that_says_so() -> None:
    bounds = bounds_of(
        sandbox_policy(network=ASKABLE, production=PRODUCTION), others=(namespace("kube-system", env="production"),)
    )
    found = planned({"dns": "Cluster"}, bounds=bounds)
    assert found.policy is None
    (problem,) = found.problems
    assert (problem.policy, problem.field) == ("default", "spec.network.dns")
    assert "SandboxPolicy default" in problem.message


NEVER: dict[str, dict[str, Any]] = {
    "a Service of production": to_service("shop/search"),
    "a Service of a namespace that no policy names": to_service("other/search"),
    "pods of production": to(HTTPS, pods={"namespace": "shop", "labels": {"app": "db"}}),
    "pods of a namespace that no policy lets anybody name": to(
        HTTPS, pods={"namespace": "other", "labels": {"a": "b"}}
    ),
    "a network of production": to(HTTPS, cidr="10.20.1.0/24"),
    "a network around production": to(HTTPS, cidr="10.0.0.0/8"),
    "a network that no policy lets anybody ask for": to(HTTPS, cidr="198.51.100.0/24"),
    "a network wider than what may be asked for": to(HTTPS, cidr="203.0.112.0/23"),
    "a network with a node in it": to(HTTPS, cidr="203.0.113.192/27"),
    "the metadata service": to(HTTPS, cidr="169.254.169.254/32"),
    "everything": to(HTTPS, cidr="0.0.0.0/0"),
    "everything in the other family": to(HTTPS, cidr="::/0"),
    "calls from production": {"ingress": [{"from": {"cidr": "10.20.0.0/24"}}]},
    "calls from pods of production": {"ingress": [{"from": {"pods": {"namespace": "shop", "labels": {"a": "b"}}}}]},
    "calls from a namespace that nobody may name": {
        "ingress": [{"from": {"pods": {"namespace": "other", "labels": {"a": "b"}}}}]
    },
}


@pytest.mark.parametrize("case", NEVER)
def test_what_may_not_be_granted_is_never_written_whoever_else_refuses_it(case: str) -> None:
    services = {"shop/search": service(), "other/search": service()}
    assert planned(NEVER[case], services, ports=[{"containerPort": 80}]) == Rules(policy=None)


def test_what_may_not_be_granted_takes_nothing_else_with_it() -> None:
    network = {"egress": [*to(HTTPS, cidr="10.20.1.0/24")["egress"], *to_service()["egress"]]}
    found = planned(network)
    assert found.policy is not None
    assert [rule["to"] for rule in found.policy["spec"]["egress"]] == [[{**SEARCH_PODS, **IN_TOOLS}]]


@pytest.mark.parametrize(
    "bounds",
    [
        bounds_of(),
        bounds_of(sandbox_policy(network=ASKABLE), sandbox_policy("strict")),
        IN_PRODUCTION,
    ],
    ids=["without a policy", "where another policy accepts nothing", "in a namespace that is production itself"],
)
def test_nothing_beyond_its_own_namespace_is_granted(bounds: Bounds) -> None:
    network = {
        "egress": [*to_service()["egress"], *to(HTTPS, cidr="203.0.113.0/28")["egress"]],
        "ingress": [{"from": {"cidr": "203.0.113.0/28"}}],
        "dns": "Cluster",
    }
    assert planned(network, bounds=bounds, ports=[{"containerPort": 80}]).policy is None


def test_a_finished_policy_that_reaches_what_is_closed_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: Any) -> dict[str, Any]:
        return {"ipBlock": {"cidr": "10.0.0.0/8"}}

    monkeypatch.setattr(network_rules, "_peer", careless)
    found = planned(to(HTTPS, cidr="203.0.113.0/28"))
    assert found.policy is None
    (problem,) = found.problems
    assert (problem.policy, problem.field) == ("", "spec.network")
    assert "10.0.0.0/8 reaches 10.20.0.0/16 (production)" in problem.message


STRAYS: dict[str, dict[str, Any]] = {
    "no peers": {"ports": [{"port": 1}]},
    "an empty list of peers": {"to": [], "ports": [{"port": 1}]},
    "no ports": {"to": [SEARCH_PODS]},
    "an empty peer": {"to": [{}], "ports": [{"port": 1}]},
    "every pod of a namespace": {"to": [{"podSelector": {}, **IN_TOOLS}], "ports": [{"port": 1}]},
    "pods by an expression alone": {
        "to": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}],
        "ports": [{"port": 1}],
    },
    "namespaces by label": {
        "to": [{**SEARCH_PODS, "namespaceSelector": {"matchLabels": {"team": "a"}}}],
        "ports": [{"port": 1}],
    },
    "every namespace": {"to": [{**SEARCH_PODS, "namespaceSelector": {}}], "ports": [{"port": 1}]},
    "a namespace of production": {
        "to": [{**SEARCH_PODS, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}],
        "ports": [{"port": 1}],
    },
    "two forms in one": {"to": [{**SEARCH_PODS, "ipBlock": {"cidr": "203.0.113.0/28"}}], "ports": [{"port": 1}]},
    "the floor": {"to": [{"ipBlock": {"cidr": "168.63.129.16/32"}}], "ports": [{"port": 1}]},
}


@pytest.mark.parametrize("case", STRAYS)
def test_the_last_look_finds_what_no_rule_may_say(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: Any) -> network_rules._Part:
        return network_rules._Part(rules=(STRAYS[case],))

    monkeypatch.setattr(network_rules, "_egress", careless)
    found = planned(to(HTTPS, cidr="203.0.113.0/28"))
    assert found.policy is None
    assert "thrown away" in found.problems[0].message


def test_which_services_are_read_is_told_from_the_spec() -> None:
    network = {
        "egress": [
            {"to": {"service": "tools/web"}},
            {"to": {"service": "lab/db"}},
            {"to": {"service": "tools/web"}, "ports": HTTPS},
            {"to": {"cidr": "203.0.113.0/28"}, "ports": HTTPS},
        ]
    }
    assert wanted_services(spec_of(network=network), dns_service=DNS) == ("lab/db", "tools/web")
    with_dns = spec_of(network={**network, "dns": "Cluster"})
    assert wanted_services(with_dns, dns_service=DNS) == (DNS, "lab/db", "tools/web")
    assert wanted_services(spec_of(), dns_service=DNS) == ()


def test_nothing_that_is_read_is_changed() -> None:
    services: dict[str, dict[str, Any] | None] = {"tools/search": service(), DNS: copy.deepcopy(DNS_SERVICE)}
    before = copy.deepcopy(services)
    first = planned({**to_service(), "dns": "Cluster"}, services)
    assert first.policy is not None
    first.policy["spec"]["egress"][0]["to"][0]["podSelector"]["matchLabels"]["app"] = "changed"
    first.policy["spec"]["egress"][0]["ports"][0]["port"] = 1
    assert services == before
