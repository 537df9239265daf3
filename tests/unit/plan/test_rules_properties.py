"""What holds for the rules of any spec under any set of policies.

Whether a rule reaches what is closed is worked out here with `ipaddress` alone, from the policies as they were written
and from the table of the floor: independently of the code that planned the rule.
"""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from bulkhead.api.floor import FLOOR
from bulkhead.plan import policy
from bulkhead.plan.refusals import Forbidden
from bulkhead.plan.rules import rules
from tests.unit.plan import samples
from tests.unit.plan.policies import IpNetwork, namespace, nodes, raw_policy, remains, sandbox, spec_of, touch

Spec = dict[str, Any]
World = tuple[list[Spec], Spec, dict[str, Any]]

NAMESPACES = {"lab": {}, "tools": {}, "shop": {"env": "production"}, "kube-system": {"env": "system"}, "web": {}}
"""Namespaces and their labels; the agent's own is lab."""
DNS = "kube-system/kube-dns"
NODES = ("192.0.2.10", "203.0.113.200", "2001:db8::10")

_BASES = ["10.20.0.0", "100.64.8.0", "198.51.100.0", "203.0.113.0", "2001:db8::", "2001:db8:1::", "fd00:10::"]
_CLOSED = ["0.0.0.0", "100.64.0.0", "100.100.100.200", "169.254.169.254", "::", "64:ff9b::", "2002::", "fd00:ec2::254"]  # noqa: S104 (an address, nobody binds to it)
_PREFIXES = {4: [8, 16, 24, 28, 32], 6: [16, 32, 48, 64, 128]}


@st.composite
def networks(draw: st.DrawFn, inside: str | None = None) -> str:
    """Networks of both families, close to each other and to the floor so that many overlap."""
    if inside is not None:
        outer = ipaddress.ip_network(inside)
        longest = outer.max_prefixlen
        prefix = draw(st.integers(min(outer.prefixlen + 1, longest), longest))
        base = int(outer.network_address) + draw(st.integers(0, outer.num_addresses - 1))
        version = outer.version
    else:
        address = ipaddress.ip_address(draw(st.one_of(st.sampled_from(_BASES), st.sampled_from(_BASES + _CLOSED))))
        version, longest = address.version, address.max_prefixlen
        usual = st.sampled_from(_PREFIXES[version])
        prefix = draw(st.one_of(usual, usual, st.integers(0, longest)))
        base = int(address) + draw(st.sampled_from([0, 1, 200, 256, 65536]))
    if version == 4:
        return str(ipaddress.IPv4Network((min(base, 2**32 - 1), prefix), strict=False))
    return str(ipaddress.IPv6Network((base, prefix), strict=False))


def lists_of(items: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, unique=True, max_size=most)


names = st.sampled_from(["shop", *sorted(NAMESPACES)])
_policies = st.lists(
    st.fixed_dictionaries(
        {
            "production": st.fixed_dictionaries(
                {
                    "cidrs": lists_of(networks(), most=2),
                    "namespaceSelector": st.sampled_from(
                        [{"matchLabels": {"env": env}} for env in ("production", "production", "system")]
                    ),
                }
            ),
            "network": st.fixed_dictionaries(
                {
                    "egressCIDRs": st.one_of(
                        st.just(["0.0.0.0/0", "::/0"]),
                        lists_of(networks()).map(lambda some: [*some, "::/0", "0.0.0.0/0"][:4]),
                        lists_of(networks()),
                    ).map(lambda some: list(dict.fromkeys(some))),
                    "namespaces": st.one_of(st.just(sorted(NAMESPACES)), lists_of(names, most=len(NAMESPACES))),
                    "clusterDNS": st.booleans(),
                    "openSharedAddressSpace": lists_of(
                        st.sampled_from(["100.64.0.0/10", "100.64.0.0/16", "100.64.8.0/22", "100.64.8.0/24"]), most=2
                    ),
                }
            ),
        }
    ),
    min_size=1,
    max_size=2,
)
policies = st.one_of(*[_policies] * 9, st.just([]))
ports = st.lists(st.integers(1, 65535), min_size=1, max_size=3, unique=True).map(
    lambda numbers: [{"port": number} for number in numbers]
)
pods = st.fixed_dictionaries({"labels": st.just({"app": "x"})}, optional={"namespace": names})


@st.composite
def blocks(draw: st.DrawFn, closed: list[str]) -> Spec:
    """A network, often with just the exceptions that would make it acceptable."""
    cidr = draw(networks())
    whole = ipaddress.ip_network(cidr)
    if draw(st.booleans()):
        parts = [
            one for one in map(ipaddress.ip_network, closed) if touch(one, whole) and one.prefixlen > whole.prefixlen
        ]
        excepts = [str(one) for one in parts][:64]
    elif whole.prefixlen < whole.max_prefixlen:
        excepts = draw(lists_of(networks(inside=cidr)))
    else:
        excepts = []
    return {"cidr": cidr, **({"except": list(dict.fromkeys(excepts))} if excepts else {})}


@st.composite
def requests(draw: st.DrawFn, closed: list[str], *, cluster: bool) -> Spec:
    """The network of a spec, about Services and pods or about networks."""
    peers = st.builds(lambda peer: {"pods": peer}, pods) if cluster else blocks(closed)
    entries = st.builds(lambda peer, listed: {"to": peer, "ports": listed}, peers, ports)
    if cluster:
        entries |= st.builds(lambda name: {"to": {"service": f"{name}/search"}}, names)
    egress = [draw(entries) for _ in range(draw(st.sampled_from([1, 2, 3, 0])))]
    ingress = [{"from": draw(peers)} for _ in range(draw(st.integers(0, 2)))]
    return {"egress": egress, "ingress": ingress, "dns": draw(st.sampled_from(["None", "Cluster"]))}


services = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "spec": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"]),
                    "selector": st.sampled_from([{"app": "search"}, {"app": "search"}, {}, None]),
                    "clusterIP": st.sampled_from(["10.96.0.7", "10.20.0.7", "None", "", "fd00:10::7"]),
                    "ports": st.lists(
                        st.fixed_dictionaries(
                            {
                                "port": st.sampled_from([53, 80]),
                                "protocol": st.sampled_from(["TCP", "UDP"]),
                                "targetPort": st.sampled_from([53, 8080, "http"]),
                            }
                        ),
                        max_size=2,
                    ),
                }
            )
        }
    ),
)


@st.composite
def worlds(draw: st.DrawFn, *, cluster: bool | None = None) -> World:
    """Policies as written, the network that an agent asks for, and the Services that there are.

    Args:
        cluster: whether it is about Services and pods, or about networks; either if not given.
    """
    about_cluster = draw(st.booleans()) if cluster is None else cluster
    written = draw(policies)
    closed = [cidr for one in written for cidr in one["production"]["cidrs"]] + [entry.cidr for entry in FLOOR]
    closed += [f"{address}/{128 if ':' in address else 32}" for address in NODES]
    network = draw(requests(closed, cluster=about_cluster))
    named = {entry["to"]["service"] for entry in network["egress"] if "service" in entry["to"]}
    return written, network, {name: draw(services) for name in sorted({*named, DNS})}


def planned(world: World) -> tuple[Any, tuple[policy.Violation, ...]]:
    written, network, there = world
    reserved: tuple[Forbidden, ...] = nodes(*NODES)
    others = tuple(namespace(name, **labels) for name, labels in NAMESPACES.items() if name != "lab")
    mine = sandbox("lab")
    given_policies = [policy.parse(raw_policy(f"p{index}", **one)) for index, one in enumerate(written)]
    assert all(one.spec is not None for one in given_policies), [one.problems for one in given_policies]
    bounds = policy.bounds(given_policies, namespace=mine, namespaces=(mine, *others))
    spec = spec_of(network=network, ports=[{"containerPort": 8080}])
    found = rules(samples.agent(), spec, bounds=bounds, reserved=reserved, services=there, dns_service=DNS)
    return found, policy.violations(spec, bounds, namespace="lab", reserved=reserved)


def peers_of(found: Any) -> list[tuple[str, Spec]]:
    spec = found.policy["spec"] if found.policy else {}
    return [
        (direction, peer)
        for direction, side in (("egress", "to"), ("ingress", "from"))
        for rule in spec.get(direction, ())
        for peer in rule[side]
    ]


def shared(a: IpNetwork, b: IpNetwork) -> IpNetwork:
    """What two networks that touch have in common: the smaller one."""
    return a if a.prefixlen >= b.prefixlen else b


@settings(max_examples=300)
@given(worlds(cluster=False))
def test_no_rule_reaches_production_the_floor_or_the_cluster_itself_by_address(
    world: World,
) -> None:
    written, _, _ = world
    found, _ = planned(world)
    production = [ipaddress.ip_network(cidr) for one in written for cidr in one["production"]["cidrs"]]
    hosts = [ipaddress.ip_network(address) for address in NODES]
    for _, peer in peers_of(found):
        block = peer.get("ipBlock")
        if block is None:
            continue
        event("a network was granted")
        for part in remains(block["cidr"], block.get("except", [])):
            assert not any(touch(part, one) for one in [*production, *hosts])
            for entry in FLOOR:
                floor = ipaddress.ip_network(entry.cidr)
                if not touch(part, floor):
                    continue
                assert entry.openable
                for one in written:
                    assert remains(str(shared(part, floor)), one["network"]["openSharedAddressSpace"]) == []
            for one in written:
                assert any(_within(part, ipaddress.ip_network(cidr)) for cidr in one["network"]["egressCIDRs"])


_SHARED = ["100.64.0.0/10", "100.64.0.0/16", "100.64.8.0/22", "100.64.8.0/24", "100.64.8.8/32"]


@given(st.lists(lists_of(st.sampled_from(_SHARED), most=2), min_size=1, max_size=3), st.sampled_from(_SHARED))
def test_of_the_shared_address_space_only_what_every_policy_opens_is_granted(
    opened: list[list[str]], cidr: str
) -> None:
    ceiling = {"egressCIDRs": ["100.64.0.0/10"]}
    written = [{"network": {**ceiling, "openSharedAddressSpace": some}, "production": {}} for some in opened]
    found, violations = planned((written, {"egress": [{"to": {"cidr": cidr}, "ports": [{"port": 443}]}]}, {}))
    whole = ipaddress.ip_network(cidr)
    # The metadata service in it stays closed whoever opens the rest.
    every = cidr != "100.64.0.0/10" and all(
        any(_within(whole, ipaddress.ip_network(one)) for one in some) for some in opened
    )
    assert (found.policy is not None) is every
    assert bool(violations) is not every


def _within(inner: IpNetwork, outer: IpNetwork) -> bool:
    return touch(inner, outer) and inner.prefixlen >= outer.prefixlen


@settings(max_examples=300)
@given(worlds(cluster=True))
def test_no_rule_reaches_production_by_namespace_nor_a_namespace_that_some_policy_does_not_name(
    world: World,
) -> None:
    written, network, _ = world
    found, _ = planned(world)
    assert written or found.policy is None
    for _, peer in peers_of(found):
        if "ipBlock" in peer:
            continue
        selected = peer.get("namespaceSelector", {}).get("matchLabels", {})
        name = selected.get("kubernetes.io/metadata.name", "lab")
        event("pods were granted")
        assert peer["podSelector"]["matchLabels"]
        for one in written:
            assert not one["production"]["namespaceSelector"]["matchLabels"].items() <= NAMESPACES[name].items()
            by_dns = name == "kube-system" and network["dns"] == "Cluster" and one["network"]["clusterDNS"]
            assert name == "lab" or name in one["network"]["namespaces"] or by_dns


@given(worlds())
def test_every_rule_names_its_ports(world: World) -> None:
    found, _ = planned(world)
    for direction in ("egress", "ingress"):
        for rule in (found.policy["spec"] if found.policy else {}).get(direction, ()):
            assert rule["ports"]
            assert all(port["protocol"] and port["port"] for port in rule["ports"])


@given(worlds())
def test_what_is_accepted_is_granted(world: World) -> None:
    _, network, there = world
    found, violations = planned(world)
    if violations or found.problems:
        return
    event("accepted")
    wanted = sum(
        "service" not in entry["to"] or there[entry["to"]["service"]] is not None for entry in network["egress"]
    )
    wanted += network["dns"] == "Cluster" and there[DNS] is not None
    spec = found.policy["spec"] if found.policy else {}
    assert len(spec.get("egress", ())) == wanted
    assert len(spec.get("ingress", ())) == len(network["ingress"])


@given(worlds())
def test_the_plan_is_deterministic_and_changes_nothing_that_it_reads(
    world: World,
) -> None:
    before = copy.deepcopy(world)
    assert planned(world) == planned(world)
    assert world == before
