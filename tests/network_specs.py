"""The network section of AgentDeployments, and what is common to it and to policies: CIDRs and addresses.

Named cases of what is refused and accepted, and strategies that make valid ones. As with tests/specs.py, the same cases
are put to the parser (tests/unit) and to the API server (tests/apiserver): both must agree.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from tests.specs import Refused, Spec, minimal

CIDRS: dict[str, bool] = {
    "0.0.0.0/0": True,
    "10.0.0.0/8": True,
    "203.0.113.7/32": True,
    "::/0": True,
    "2001:db8::/32": True,
    "2001:db8::1/128": True,
    "1:0:3:4:5:6:7:8/128": True,
    "1::4:0:0:7:8/128": True,
    "1:2:3:4:5:6::/96": True,
    "::fffe:0:0/95": True,
    "::ffff:0:0:0/96": True,
    "64:ff9b::102:304/128": True,
    # Bits after the prefix.
    "10.0.0.1/8": False,
    "2001:db8::1/32": False,
    # Other spellings of what is accepted above.
    "2001:DB8::/32": False,
    "2001:db8:0::/32": False,
    "0:0:0:0:0:0:0:0/0": False,
    "1::3:4:5:6:7:8/128": False,
    "1:0:0:4:0:0:7:8/128": False,
    "1:2:3:4:5:6:0:0/96": False,
    "64:ff9b::1.2.3.4/128": False,
    # IPv4 in IPv6's clothes.
    "::ffff:10.0.0.0/104": False,
    "::ffff:a00:0/104": False,
    "::ffff:0:0/96": False,
    # What some parsers take.
    "10.0.0.0": False,
    "10/8": False,
    "10.0.0.0/255.0.0.0": False,
    "010.0.0.0/8": False,
    "10.0.0.0/08": False,
    "fe80::%eth0/64": False,
    "१०.0.0.0/8": False,
    "10.0.0.0/८": False,
    " 10.0.0.0/8": False,
    "10.0.0.0/8\n": False,
    # What none takes.
    "": False,
    "/": False,
    "/8": False,
    "::/": False,
    "10.0.0.0/33": False,
    "10.0.0.0/-1": False,
    "10.0.0.0/8/8": False,
    "2001:db8::/129": False,
    "production": False,
    "1" * 44: False,
}
"""Whether a text is accepted as a network."""

ADDRESSES: dict[str, bool] = {
    "10.0.0.1": True,
    "203.0.113.7": True,
    "2001:db8::1": True,
    "2001:db8::1:0:0:1": True,
    "fd00::1": True,
    "1:0:3:4:5:6:7:8": True,
    # Nobody else's.
    "0.0.0.0": False,  # noqa: S104 (an address to refuse)
    "127.0.0.1": False,
    "::": False,
    "::1": False,
    # No one machine's.
    "255.255.255.255": False,
    "224.0.0.1": False,
    "ff02::1": False,
    "169.254.1.1": False,
    "fe80::1": False,
    "fe80::1%eth0": False,
    # Other spellings.
    "2001:DB8::1": False,
    "2001:db8:0:0:1:0:0:1": False,
    "::ffff:1.2.3.4": False,
    "::ffff:102:304": False,
    "64:ff9b::1.2.3.4": False,
    "01.2.3.4": False,
    "1.2.3": False,
    "10.0.0.1/32": False,
    " 10.0.0.1": False,
    "": False,
    "db.production": False,
}
"""Whether a text is accepted as the address of a canary."""

_CIDR = "accepted is a network such as"
_PORT = [{"port": 443}]
_PODS = {"labels": {"app": "search"}}
_OPEN = [{"containerPort": 8080}]


def egress(to: Any, **fields: Any) -> Spec:
    """A spec with one entry of egress."""
    return minimal(network={"egress": [{"to": to, **fields}]})


def ingress(from_: Any, *, listens: Any = _OPEN, **fields: Any) -> Spec:
    """A spec with one entry of ingress, and with ports."""
    return minimal(ports=listens, network={"ingress": [{"from": from_, **fields}]})


def _to_cidr(cidr: str, *excepted: str) -> Spec:
    return egress({"cidr": cidr, "except": list(excepted)}, ports=_PORT)


def _to_pods(**pods: Any) -> Spec:
    return egress({"pods": {**_PODS, **pods}}, ports=_PORT)


def _with_port(**port: Any) -> Spec:
    return egress({"cidr": "203.0.113.0/24"}, ports=[{"port": 443, **port}])


_TO = "spec.network.egress[0].to"
_FROM = "spec.network.ingress[0].from"

REFUSED: dict[str, Refused] = {
    "an egress to nobody": Refused(egress({}, ports=_PORT), _TO, "exactly one of service, pods and cidr"),
    "an egress without to": Refused(minimal(network={"egress": [{"ports": _PORT}]}), _TO, None),
    "an egress to two": Refused(
        egress({"service": "a/b", "cidr": "203.0.113.0/24"}, ports=_PORT), _TO, "exactly one of service, pods and cidr"
    ),
    "33 entries of egress": Refused(
        minimal(network={"egress": [{"to": {"service": f"a/b{number}"}} for number in range(33)]}),
        "spec.network.egress",
        None,
    ),
    "a Service without its namespace": Refused(egress({"service": "search"}), f"{_TO}.service", "NAMESPACE/NAME"),
    "a Service by its DNS name": Refused(
        egress({"service": "search.tools.svc"}), f"{_TO}.service", "accepted is NAMESPACE/NAME"
    ),
    "a Service in upper case": Refused(egress({"service": "tools/Search"}), f"{_TO}.service", "NAMESPACE/NAME"),
    "a Service of three parts": Refused(egress({"service": "a/b/c"}), f"{_TO}.service", "NAMESPACE/NAME"),
    "a Service with a name of 64 characters": Refused(
        egress({"service": "a/" + "b" * 64}), f"{_TO}.service", "NAMESPACE/NAME"
    ),
    "a range of a Service's ports": Refused(
        egress({"service": "a/b"}, ports=[{"port": 80, "endPort": 90}]),
        "spec.network.egress[0]",
        "single ports of it, without endPort",
    ),
    "pods without ports": Refused(egress({"pods": _PODS}), "spec.network.egress[0]", "at least one port"),
    "a network without ports": Refused(
        egress({"cidr": "203.0.113.0/24"}, ports=[]), "spec.network.egress[0]", "at least one port"
    ),
    "pods without labels": Refused(egress({"pods": {}}, ports=_PORT), f"{_TO}.pods.labels", None),
    "pods with an empty map of labels": Refused(_to_pods(labels={}), f"{_TO}.pods.labels", None),
    "pods with nine labels": Refused(
        _to_pods(labels={f"l{number}": "" for number in range(9)}), f"{_TO}.pods.labels", None
    ),
    "pods with a key that is none": Refused(_to_pods(labels={"a b": "c"}), f"{_TO}.pods", "label keys"),
    "pods with a value that is none": Refused(_to_pods(labels={"a": "b c"}), f"{_TO}.pods", "(labels)"),
    "pods of a namespace that cannot be": Refused(
        _to_pods(namespace="Tools"), f"{_TO}.pods.namespace", "name of a namespace"
    ),
    "pods of any namespace": Refused(_to_pods(namespace=""), f"{_TO}.pods.namespace", None),
    "a network with host bits": Refused(_to_cidr("10.0.0.1/8"), f"{_TO}.cidr", _CIDR),
    "an IPv4-mapped network": Refused(_to_cidr("::ffff:a00:0/104"), f"{_TO}.cidr", _CIDR),
    "an empty network": Refused(_to_cidr(""), f"{_TO}.cidr", None),
    "an exception with host bits": Refused(_to_cidr("10.0.0.0/8", "10.1.0.1/16"), f"{_TO}.except[0]", _CIDR),
    "an exception beside the network": Refused(
        _to_cidr("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/16"), _TO, "networks inside of cidr and smaller"
    ),
    "an exception of the whole network": Refused(
        _to_cidr("10.0.0.0/8", "10.0.0.0/8"), _TO, "networks inside of cidr and smaller"
    ),
    "an exception around the network": Refused(_to_cidr("10.0.0.0/8", "10.0.0.0/7"), _TO, "inside of cidr and smaller"),
    "an exception of the other family": Refused(_to_cidr("0.0.0.0/0", "2001:db8::/32"), _TO, "inside of cidr"),
    "an exception without a network": Refused(
        egress({"service": "a/b", "except": ["10.0.0.0/8"]}), _TO, "except together with cidr only"
    ),
    "65 exceptions": Refused(
        _to_cidr("10.0.0.0/8", *(f"10.{number}.0.0/16" for number in range(65))), f"{_TO}.except", None
    ),
    "egress to port 0": Refused(_with_port(port=0), "spec.network.egress[0].ports[0].port", None),
    "egress to port 65536": Refused(_with_port(endPort=65536), "spec.network.egress[0].ports[0].endPort", None),
    "egress to a port by name": Refused(_with_port(port="https"), "spec.network.egress[0].ports[0].port", None),
    "egress to a range from high to low": Refused(
        _with_port(endPort=442), "spec.network.egress[0].ports[0]", "an endPort that is not below port"
    ),
    "egress by an unknown protocol": Refused(
        _with_port(protocol="ICMP"), "spec.network.egress[0].ports[0].protocol", None
    ),
    "egress to the same port twice": Refused(
        egress({"service": "a/b"}, ports=[{"port": 80}, {"port": 80, "protocol": "TCP"}]),
        "spec.network.egress[0].ports",
        None,
    ),
    "egress to 17 ports": Refused(
        egress({"service": "a/b"}, ports=[{"port": number} for number in range(1, 18)]),
        "spec.network.egress[0].ports",
        None,
    ),
    "an ingress from nobody": Refused(ingress({}), _FROM, "exactly one of pods and cidr"),
    "an ingress from two": Refused(
        ingress({"pods": _PODS, "cidr": "203.0.113.0/24"}), _FROM, "exactly one of pods and cidr"
    ),
    "an ingress from outside of its own exception": Refused(
        ingress({"cidr": "203.0.113.0/24", "except": ["203.0.112.0/24"]}), _FROM, "inside of cidr and smaller"
    ),
    "an ingress to a port that the agent has not": Refused(
        ingress({"pods": _PODS}, ports=[{"port": 9090}]), "spec", "ports of spec.ports, with their protocol"
    ),
    "an ingress to a port of another protocol": Refused(
        ingress({"pods": _PODS}, ports=[{"port": 8080, "protocol": "UDP"}]), "spec", "ports of spec.ports"
    ),
    "an ingress to an agent without ports": Refused(
        ingress({"pods": _PODS}, listens=[]), "spec", "at least one port in spec.ports"
    ),
    "an ingress to a range of ports": Refused(
        ingress({"pods": _PODS}, ports=[{"port": 8080, "endPort": 8080}]),
        "spec.network.ingress[0]",
        "single ports of spec.ports",
    ),
    "33 entries of ingress": Refused(
        minimal(ports=_OPEN, network={"ingress": [{"from": {"pods": _PODS}}] * 33}), "spec.network.ingress", None
    ),
    "an unknown kind of DNS": Refused(minimal(network={"dns": "Default"}), "spec.network.dns", None),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "of a namespace selector": (
        egress({"pods": {**_PODS, "namespaceSelector": {}}}, ports=_PORT),
        "spec.network.egress[0].to.pods.namespaceSelector",
    ),
    "of a DNS name": (egress({"fqdn": "example.com"}), "spec.network.egress[0].to.fqdn"),
    "of a caller by Service": (ingress({"service": "a/b"}), "spec.network.ingress[0].from.service"),
    "of host aliases": (minimal(network={"hostAliases": []}), "spec.network.hostAliases"),
    "of an exception in Python's spelling": (
        egress({"cidr": "10.0.0.0/8", "except_": []}, ports=_PORT),
        "spec.network.egress[0].to.except_",
    ),
}

ACCEPTED: dict[str, Spec] = {
    "an empty network section": minimal(network={}),
    "a Service by name": egress({"service": "tools/search"}),
    "a Service with a number for a name": egress({"service": "1/2"}, ports=[]),
    "ports of a Service": egress({"service": "a/b"}, ports=[{"port": 80}, {"port": 80, "protocol": "UDP"}]),
    "pods of its own namespace": _to_pods(),
    "pods by eight labels": _to_pods(namespace="n" * 63, labels={f"example.com/l{number}": "" for number in range(8)}),
    "a range of ports": _with_port(port=1, endPort=65535, protocol="SCTP"),
    "a range of one port": _with_port(endPort=443),
    "everything but a part": _to_cidr("0.0.0.0/0", "10.0.0.0/8", "203.0.113.7/32"),
    "exceptions that overlap": _to_cidr("::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8::/32"),
    "an empty list of exceptions beside a Service": egress({"service": "a/b", "except": []}),
    "callers by pods and by network": minimal(
        ports=[*_OPEN, {"containerPort": 8080, "protocol": "UDP"}],
        network={
            "ingress": [
                {"from": {"pods": _PODS}},
                {"from": {"cidr": "203.0.113.0/24"}, "ports": [{"port": 8080, "protocol": "UDP"}, {"port": 8080}]},
            ],
            "dns": "Cluster",
        },
    ),
    "the most of each bound of a network": minimal(
        ports=[{"containerPort": number} for number in range(1, 33)],
        network={
            "egress": [
                {
                    "to": {
                        "cidr": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112",
                        "except": [f"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff{n:02x}/128" for n in range(16, 80)],
                    },
                    "ports": [{"port": 65500 + port, "endPort": 65535, "protocol": "SCTP"} for port in range(16)],
                }
            ]
            * 32,
            "ingress": [{"from": {"pods": _PODS}, "ports": [{"port": port} for port in range(1, 17)]}] * 32,
        },
    ),
}


# Strategies.

_dns_labels = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
_keys = st.from_regex(r"\A([a-z]{1,5}\.[a-z]{1,3}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?\Z")
_values = st.one_of(st.just(""), st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?\Z"))
_protocols = st.sampled_from(["TCP", "UDP", "SCTP"])


def label_maps(*, least: int = 0) -> st.SearchStrategy[dict[str, str]]:
    """Maps of labels."""
    return st.dictionaries(_keys, _values, min_size=least, max_size=4)


@st.composite
def cidrs(draw: st.DrawFn, *, shortest: int = 0) -> str:
    """Networks of both families in canonical text."""
    version, bits = draw(st.sampled_from([(4, 32), (6, 128)]))
    prefix = draw(st.integers(shortest, bits))
    address = draw(st.integers(0, 2**bits - 1)) >> (bits - prefix) << (bits - prefix)
    network = ipaddress.ip_network((address, prefix)) if version == 4 else ipaddress.IPv6Network((address, prefix))
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        return "2001:db8::/32"
    return str(network)


@st.composite
def _parts(draw: st.DrawFn, cidr: str) -> list[str]:
    network = ipaddress.ip_network(cidr)
    room = network.max_prefixlen - network.prefixlen
    if not room:
        return []
    base, bits = int(network.network_address), network.max_prefixlen
    found = []
    for longer in draw(st.lists(st.integers(1, room), max_size=3)):
        prefix = network.prefixlen + longer
        offset = draw(st.integers(0, 2**longer - 1)) << (bits - prefix)
        part = type(network)((base + offset, prefix))
        if not (isinstance(part, ipaddress.IPv6Network) and part.network_address.ipv4_mapped is not None):
            found.append(str(part))
    return found


@st.composite
def _cidr_peers(draw: st.DrawFn) -> Spec:
    cidr = draw(cidrs())
    peer: Spec = {"cidr": cidr}
    if draw(st.booleans()):
        peer["except"] = draw(_parts(cidr))
    return peer


_pod_peers = st.fixed_dictionaries(
    {"pods": st.fixed_dictionaries({"labels": label_maps(least=1)}, optional={"namespace": _dns_labels})}
)
_service_peers = st.builds(lambda namespace, name: {"service": f"{namespace}/{name}"}, _dns_labels, _dns_labels)


@st.composite
def _ports(draw: st.DrawFn, *, least: int, ranges: bool) -> list[Spec]:
    chosen = draw(st.lists(st.tuples(st.integers(1, 65535), _protocols), unique=True, min_size=least, max_size=3))
    ports: list[Spec] = []
    for number, protocol in chosen:
        port: Spec = {"port": number, "protocol": protocol}
        if ranges and draw(st.booleans()):
            port["endPort"] = draw(st.integers(number, 65535))
        ports.append(port)
    return ports


@st.composite
def _egress(draw: st.DrawFn) -> Spec:
    if draw(st.booleans()):
        return {"to": draw(_service_peers), "ports": draw(_ports(least=0, ranges=False))}
    return {"to": draw(st.one_of(_pod_peers, _cidr_peers())), "ports": draw(_ports(least=1, ranges=True))}


@st.composite
def networks(draw: st.DrawFn, ports: list[Spec]) -> Spec:
    """Network sections that are accepted beside these `spec.ports`."""
    network: Spec = {"egress": draw(st.lists(_egress(), max_size=3))}
    if ports:
        mine = [{"port": port["containerPort"], "protocol": port.get("protocol", "TCP")} for port in ports]
        chosen = st.lists(st.sampled_from(mine), max_size=2, unique_by=lambda port: (port["port"], port["protocol"]))
        entry = st.fixed_dictionaries({"from": st.one_of(_pod_peers, _cidr_peers())}, optional={"ports": chosen})
        network["ingress"] = draw(st.lists(entry, max_size=3))
    if draw(st.booleans()):
        network["dns"] = draw(st.sampled_from(["None", "Cluster"]))
    return network


@st.composite
def specs_with_networks(draw: st.DrawFn) -> Spec:
    """Specs with a network section and, beside what it needs, the least."""
    numbers = draw(st.lists(st.tuples(st.integers(1, 65535), _protocols), unique=True, max_size=3))
    ports = [{"containerPort": number, "protocol": protocol} for number, protocol in numbers]
    return minimal(ports=ports, network=draw(networks(ports)))
