"""Specs of SandboxPolicies: named cases of what is refused and accepted, and strategies that make valid ones.

The same cases are put to `parse_policy` (tests/unit) and to the API server (tests/apiserver): both must agree.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests import breaker_policy_specs, ceiling_specs
from tests.network_specs import cidrs, label_maps
from tests.specs import Refused, Spec, paths, replaced

_CIDR = "accepted is a network such as"


def _production(**fields: Any) -> Spec:
    return {"production": fields}


def _network(**fields: Any) -> Spec:
    return {"network": fields}


def _workload(**fields: Any) -> Spec:
    return {"workload": fields}


def _canary(**fields: Any) -> Spec:
    return _production(canaries=[{"name": "db", "address": "10.0.0.1", "port": 5432, **fields}])


def _selector(**fields: Any) -> Spec:
    return {"namespaceSelector": fields}


def _requirement(**fields: Any) -> Spec:
    return _selector(matchExpressions=[{"key": "team", **fields}])


def numbered_cidrs(count: int, *, second: int = 0) -> list[str]:
    """That many networks of which no two overlap, of both families."""
    return [f"2001:db8:{second:x}:{n:x}::/64" if n % 2 else f"10.{second}.{n}.0/24" for n in range(count)]


REFUSED: dict[str, Refused] = {
    "a network of production with host bits": Refused(
        _production(cidrs=["10.0.0.1/8"]), "spec.production.cidrs[0]", _CIDR
    ),
    "an IPv4-mapped network of production": Refused(
        _production(cidrs=["10.0.0.0/8", "::ffff:a00:0/104"]), "spec.production.cidrs[1]", _CIDR
    ),
    "an empty network of production": Refused(_production(cidrs=[""]), "spec.production.cidrs[0]", None),
    "an address without its prefix": Refused(_production(cidrs=["10.0.0.1"]), "spec.production.cidrs[0]", _CIDR),
    "the same network of production twice": Refused(
        _production(cidrs=["10.0.0.0/8", "10.0.0.0/8"]), "spec.production.cidrs", None
    ),
    "65 networks of production": Refused(_production(cidrs=numbered_cidrs(65)), "spec.production.cidrs", None),
    "every namespace as production": Refused(
        _production(namespaceSelector={}), "spec.production", "a selector with at least one requirement"
    ),
    "every namespace as production, by empty requirements": Refused(
        _production(namespaceSelector={"matchLabels": {}, "matchExpressions": []}),
        "spec.production",
        "a selector with at least one requirement",
    ),
    "a canary without a name": Refused(
        _production(canaries=[{"address": "10.0.0.1", "port": 1}]), "spec.production.canaries[0].name", None
    ),
    "a canary with a name of two words": Refused(
        _canary(name="the db"), "spec.production.canaries[0].name", "accepted are lower case letters, digits"
    ),
    "a canary by its DNS name": Refused(
        _canary(address="db.production"), "spec.production.canaries[0].address", "accepted is one address"
    ),
    "a canary on loopback": Refused(
        _canary(address="::1"), "spec.production.canaries[0].address", "no loopback, link-local"
    ),
    "a canary that is a network": Refused(
        _canary(address="10.0.0.1/32"), "spec.production.canaries[0].address", "accepted is one address"
    ),
    "a canary without an address": Refused(
        _production(canaries=[{"name": "db", "port": 1}]), "spec.production.canaries[0].address", None
    ),
    "a canary on port 0": Refused(_canary(port=0), "spec.production.canaries[0].port", None),
    "a canary on port 65536": Refused(_canary(port=65536), "spec.production.canaries[0].port", None),
    "a canary by SCTP": Refused(_canary(protocol="SCTP"), "spec.production.canaries[0].protocol", None),
    "two canaries of one name": Refused(
        _production(
            canaries=[
                {"name": "db", "address": "10.0.0.1", "port": 1},
                {"name": "db", "address": "10.0.0.2", "port": 1},
            ]
        ),
        "spec.production.canaries",
        None,
    ),
    "17 canaries": Refused(
        _production(canaries=[{"name": f"c{n}", "address": "10.0.0.1", "port": n} for n in range(1, 18)]),
        "spec.production.canaries",
        None,
    ),
    "a ceiling with host bits": Refused(_network(egressCIDRs=["203.0.113.1/24"]), "spec.network.egressCIDRs[0]", _CIDR),
    "65 ceilings": Refused(_network(egressCIDRs=numbered_cidrs(65)), "spec.network.egressCIDRs", None),
    "a namespace that cannot be": Refused(
        _network(namespaces=["Tools"]), "spec.network.namespaces[0]", "name of a namespace"
    ),
    "every namespace by a star": Refused(
        _network(namespaces=["*"]), "spec.network.namespaces[0]", "name of a namespace"
    ),
    "the same namespace twice": Refused(_network(namespaces=["a", "a"]), "spec.network.namespaces", None),
    "65 namespaces": Refused(_network(namespaces=[f"n{n}" for n in range(65)]), "spec.network.namespaces", None),
    "cluster DNS as a string": Refused(_network(clusterDNS="true"), "spec.network.clusterDNS", None),
    "an opening that is not shared address space": Refused(
        _network(openSharedAddressSpace=["169.254.169.254/32"]),
        "spec.network.openSharedAddressSpace[0]",
        "a network inside of 100.64.0.0/10",
    ),
    "an opening around shared address space": Refused(
        _network(openSharedAddressSpace=["100.0.0.0/8"]),
        "spec.network.openSharedAddressSpace[0]",
        "a network inside of 100.64.0.0/10",
    ),
    "an opening of every address": Refused(
        _network(openSharedAddressSpace=["::/0"]),
        "spec.network.openSharedAddressSpace[0]",
        "a network inside of 100.64.0.0/10",
    ),
    "an opening with host bits": Refused(
        _network(openSharedAddressSpace=["100.64.1.1/24"]),
        "spec.network.openSharedAddressSpace[0]",
        "a network inside of 100.64.0.0/10",
    ),
    "17 openings": Refused(
        _network(openSharedAddressSpace=[f"100.64.{n}.0/24" for n in range(17)]),
        "spec.network.openSharedAddressSpace",
        None,
    ),
    "no registry at all": Refused(_workload(registries=[]), "spec.workload.registries", None),
    "a registry without a host": Refused(
        _workload(registries=["team/"]), "spec.workload.registries[0]", "with the registry's host"
    ),
    "a registry by its URL": Refused(
        _workload(registries=["https://registry.example/"]), "spec.workload.registries[0]", "with the registry's host"
    ),
    "a registry with a tag": Refused(
        _workload(registries=["registry.example/agent:1"]), "spec.workload.registries[0]", "with the registry's host"
    ),
    "a registry in upper case": Refused(
        _workload(registries=["Registry.example/"]), "spec.workload.registries[0]", "with the registry's host"
    ),
    "a registry with a star": Refused(
        _workload(registries=["*.example/"]), "spec.workload.registries[0]", "with the registry's host"
    ),
    "65 registries": Refused(
        _workload(registries=[f"r{n}.example" for n in range(65)]), "spec.workload.registries", None
    ),
    "a bound of -1 replicas": Refused(_workload(maxReplicas=-1), "spec.workload.maxReplicas", None),
    "a bound of 101 replicas": Refused(_workload(maxReplicas=101), "spec.workload.maxReplicas", None),
    "a bound on CPU that is none": Refused(
        _workload(maxResources={"cpu": "lots"}), "spec.workload.maxResources.cpu", "accepted is 1m to 1024"
    ),
    "a bound on memory in thousandths of bytes": Refused(
        _workload(maxResources={"memory": "512m"}), "spec.workload.maxResources.memory", "accepted is 8Mi to 16Ti"
    ),
    "a bound on ephemeral storage of 1 byte": Refused(
        _workload(maxResources={"ephemeralStorage": "1"}),
        "spec.workload.maxResources.ephemeralStorage",
        "accepted is 1Mi to 64Ti",
    ),
    "no runtime class at all": Refused(_workload(runtimeClasses=[]), "spec.workload.runtimeClasses", None),
    "a runtime class that cannot be": Refused(
        _workload(runtimeClasses=["g_visor"]), "spec.workload.runtimeClasses[0]", "lower case"
    ),
    "a required node label with a key that is none": Refused(
        _workload(requiredNodeLabels={"a b": "c"}), "spec.workload", "requiredNodeLabels are label keys"
    ),
    "a required node label with a value that is none": Refused(
        _workload(requiredNodeLabels={"a": "b c"}), "spec.workload", "(requiredNodeLabels)"
    ),
    "17 required node labels": Refused(
        _workload(requiredNodeLabels={f"l{n}": "" for n in range(17)}), "spec.workload.requiredNodeLabels", None
    ),
    "a toleration of a key that is none": Refused(
        _workload(tolerations=["a b"]), "spec.workload.tolerations[0]", "label key"
    ),
    "17 tolerations": Refused(_workload(tolerations=[f"t{n}" for n in range(17)]), "spec.workload.tolerations", None),
    "a selector with a key that is none": Refused(
        _selector(matchLabels={"a b": "c"}), "spec.namespaceSelector", "matchLabels are label keys"
    ),
    "a selector with a value that is none": Refused(
        _selector(matchLabels={"a": "b c"}), "spec.namespaceSelector", "(matchLabels)"
    ),
    "a requirement without an operator": Refused(
        _requirement(), "spec.namespaceSelector.matchExpressions[0].operator", None
    ),
    "a requirement with an unknown operator": Refused(
        _requirement(operator="Gt", values=["1"]), "spec.namespaceSelector.matchExpressions[0].operator", None
    ),
    "In without values": Refused(
        _requirement(operator="In"), "spec.namespaceSelector.matchExpressions[0]", "at least one value"
    ),
    "NotIn with an empty list of values": Refused(
        _requirement(operator="NotIn", values=[]), "spec.namespaceSelector.matchExpressions[0]", "at least one value"
    ),
    "Exists with values": Refused(
        _requirement(operator="Exists", values=["a"]), "spec.namespaceSelector.matchExpressions[0]", "none"
    ),
    "a requirement with a value that is none": Refused(
        _requirement(operator="In", values=["a b"]), "spec.namespaceSelector.matchExpressions[0]", "(values)"
    ),
    "a requirement with a key that is none": Refused(
        _selector(matchExpressions=[{"key": "a b", "operator": "Exists"}]),
        "spec.namespaceSelector.matchExpressions[0].key",
        "label key",
    ),
    "17 requirements": Refused(
        _selector(matchExpressions=[{"key": f"k{n}", "operator": "Exists"} for n in range(17)]),
        "spec.namespaceSelector.matchExpressions",
        None,
    ),
    "an unknown mode": Refused({"isolation": {"mode": "Never"}}, "spec.isolation.mode", None),
    "a proof every 4 seconds": Refused({"isolation": {"intervalSeconds": 4}}, "spec.isolation.intervalSeconds", None),
    "a proof every 301 seconds": Refused(
        {"isolation": {"intervalSeconds": 301}}, "spec.isolation.intervalSeconds", None
    ),
    **ceiling_specs.REFUSED,
    **breaker_policy_specs.REFUSED,
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "in the spec": ({"breaker": {}}, "spec.breaker"),
    "that would open the floor": (_network(openFloor=["169.254.0.0/16"]), "spec.network.openFloor"),
    "in camel case where Kubernetes has capitals": (_network(egressCidrs=[]), "spec.network.egressCidrs"),
    "in a selector": (_selector(matchNames=["a"]), "spec.namespaceSelector.matchNames"),
    "in a canary": (_canary(host="db"), "spec.production.canaries[0].host"),
    "in production": (_production(fqdns=["example.com"]), "spec.production.fqdns"),
    **ceiling_specs.UNKNOWN_FIELDS,
    **breaker_policy_specs.UNKNOWN_FIELDS,
}

ACCEPTED: dict[str, Spec] = {
    "the least": {},
    "the least of each part": {
        "namespaceSelector": {},
        "production": {},
        "network": {},
        "workload": {"maxResources": {}},
        "isolation": {},
    },
    "networks that overlap": _production(cidrs=["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0"]),
    "a selector that selects nothing": _selector(
        matchExpressions=[{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}]
    ),
    "a selector of each kind": _selector(
        matchLabels={"example.com/team": "research", "empty": ""},
        matchExpressions=[
            {"key": "tier", "operator": "In", "values": ["one", ""]},
            {"key": "tier", "operator": "NotIn", "values": ["two"]},
            {"key": "kubernetes.io/metadata.name", "operator": "Exists", "values": []},
            {"key": "exempt", "operator": "DoesNotExist"},
        ],
    ),
    "namespaces of production by the absence of a label": _production(
        namespaceSelector={"matchExpressions": [{"key": "bulkhead.dev/sandbox", "operator": "DoesNotExist"}]}
    ),
    "canaries of each kind": _production(
        canaries=[
            {"name": "db", "address": "10.0.0.1", "port": 5432},
            {"name": "dns", "address": "2001:db8::1", "port": 53, "protocol": "UDP"},
        ]
    ),
    "all of shared address space": _network(openSharedAddressSpace=["100.64.0.0/10", "100.100.100.200/32"]),
    "no toleration at all": _workload(tolerations=[]),
    "no replica at all": _workload(maxReplicas=0),
    "registries in every form": _workload(
        registries=[
            "registry.example",
            "registry.example/",
            "registry.example/team",
            "registry.example:5000/team/a_b-c/",
            "localhost/",
            "localhost:5000",
            "registry:5000/",
            "[2001:db8::1]:5000/",
            "docker.io/library/python",
        ]
    ),
    "a bound on one resource": _workload(maxResources={"memory": "1.5Gi"}),
    "the most of each bound": {
        "namespaceSelector": {
            "matchLabels": {f"{'p' * 253}/{'n' * 61}{n:x}": "v" * 63 for n in range(16)},
            "matchExpressions": [
                {"key": f"{'p' * 253}/{'n' * 61}{n:x}", "operator": "In", "values": ["v" * 63] * 16} for n in range(16)
            ],
        },
        "production": {
            "cidrs": [f"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff{n:02x}/128" for n in range(16, 80)],
            "namespaceSelector": {"matchLabels": {f"l{n}": "v" for n in range(16)}},
            "canaries": [{"name": f"{'c' * 61}{n}", "address": f"fd00::{n}", "port": 65535} for n in range(10, 26)],
        },
        "network": {
            "egressCIDRs": [f"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff{n:02x}/128" for n in range(16, 80)],
            "namespaces": [f"{'n' * 61}{n}" for n in range(10, 74)],
            "clusterDNS": True,
            "openSharedAddressSpace": [f"100.127.255.{n}/32" for n in range(100, 116)],
        },
        "workload": {
            "registries": [f"r{n}.example/{'p' * 240}" for n in range(10, 74)],
            "requireDigest": True,
            "maxReplicas": 100,
            "maxResources": {"cpu": "1024", "memory": "16Ti", "ephemeralStorage": "64Ti"},
            "runtimeClasses": [f"{'r' * 251}{n}" for n in range(10, 26)],
            "requiredNodeLabels": {f"l{n}": "v" * 63 for n in range(16)},
            "tolerations": [f"{'p' * 253}/{'n' * 61}{n}" for n in range(10, 26)],
        },
        "isolation": {"mode": "AtStart", "intervalSeconds": 300},
    },
    **ceiling_specs.ACCEPTED,
    **breaker_policy_specs.ACCEPTED,
}

REFUSED_NAMES: dict[str, str] = {
    "64 characters": "n" * 64,
    "253 characters": "n" * 253,
    "a dot": "a.b",
    "upper case": "Policy",
    "a dash at its end": "policy-",
    "nothing": "",
}


# Strategies.

_words = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
_keys = st.from_regex(r"\A([a-z]{1,5}\.[a-z]{1,3}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?\Z")
_values = st.lists(st.one_of(st.just(""), _words), min_size=1, max_size=3)
_requirements = st.one_of(
    st.fixed_dictionaries({"key": _keys, "operator": st.sampled_from(["In", "NotIn"]), "values": _values}),
    st.fixed_dictionaries({"key": _keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)


def selectors() -> st.SearchStrategy[Spec]:
    """Label selectors, that of everything among them."""
    return st.fixed_dictionaries(
        {}, optional={"matchLabels": label_maps(), "matchExpressions": st.lists(_requirements, max_size=3)}
    )


_networks = st.lists(cidrs(), max_size=4, unique=True)
_shared = st.integers(10, 32).flatmap(
    lambda prefix: st.integers(0, 2 ** (prefix - 10) - 1).map(
        lambda part: _dotted((100 << 24) + (64 << 16) + (part << (32 - prefix))) + f"/{prefix}"
    )
)


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


_canaries = st.lists(
    st.fixed_dictionaries(
        {
            "name": _words,
            "address": st.sampled_from(["10.0.0.1", "203.0.113.7", "2001:db8::7", "fd00::1"]),
            "port": st.integers(1, 65535),
        },
        optional={"protocol": st.sampled_from(["TCP", "UDP"])},
    ),
    max_size=3,
    unique_by=lambda canary: str(canary["name"]),
)
_registries = st.builds(
    "{}{}{}".format,
    st.sampled_from(["registry.example", "r.example:5000", "localhost", "registry:80", "[::1]:5000"]),
    st.sampled_from(["", "/team", "/team/a_b", "/a--b.c"]),
    st.sampled_from(["", "/"]),
)


def policies() -> st.SearchStrategy[Spec]:
    """Specs of policies that are accepted."""
    resources = st.fixed_dictionaries(
        {},
        optional={
            "cpu": st.sampled_from(["1m", "0.5", "2", "1024"]),
            "memory": st.sampled_from(["8Mi", "1.5Gi", "1G"]),
            "ephemeralStorage": st.sampled_from(["1Mi", "64Ti"]),
        },
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "namespaceSelector": selectors(),
            "production": st.fixed_dictionaries(
                {},
                optional={
                    "cidrs": _networks,
                    "namespaceSelector": selectors().filter(lambda selector: any(selector.values())),
                    "canaries": _canaries,
                },
            ),
            "network": st.fixed_dictionaries(
                {},
                optional={
                    "egressCIDRs": _networks,
                    "namespaces": st.lists(_words, max_size=3, unique=True),
                    "clusterDNS": st.booleans(),
                    "openSharedAddressSpace": st.lists(_shared, max_size=3, unique=True),
                },
            ),
            "workload": st.fixed_dictionaries(
                {},
                optional={
                    "registries": st.lists(_registries, min_size=1, max_size=3, unique=True),
                    "requireDigest": st.booleans(),
                    "maxReplicas": st.integers(0, 100),
                    "maxResources": resources,
                    "runtimeClasses": st.lists(_words, min_size=1, max_size=3, unique=True),
                    "requiredNodeLabels": label_maps(),
                    "tolerations": st.lists(_keys, max_size=3, unique=True),
                },
            ),
            "isolation": st.fixed_dictionaries(
                {},
                optional={
                    "mode": st.sampled_from(["Continuous", "AtStart"]),
                    "intervalSeconds": st.integers(5, 300),
                },
            ),
            "identity": ceiling_specs.identities(),
            "credentials": ceiling_specs.credential_ceilings(),
            "circuitBreaker": breaker_policy_specs.policy_breakers(),
        },
    )


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[Spec], near: st.SearchStrategy[Any]) -> Spec:
    """Specs of one strategy with a near miss in one place: some stay valid, most do not."""
    spec = draw(valid)
    path = draw(st.sampled_from(paths(spec)))
    changed: Any = replaced(spec, path, draw(near)) if path else spec
    assert isinstance(changed, dict)
    return changed


NEAR_MISSES = st.sampled_from(
    [
        "",
        "a b",
        "A",
        "-a",
        "a/b",
        "1",
        "10.0.0.1",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "100.64.0.0/16",
        "2001:DB8::/32",
        "2001:db8::/32",
        "::ffff:a00:0/104",
        "::1",
        "x" * 64,
        "x" * 318,
        "\n",
        -1,
        0,
        1,
        4,
        65536,
        True,
        1.5,
        [],
        {},
        ["a", "a"],
        ["10.0.0.0/8", "10.0.0.0/8"],
        {"a b": "c"},
        {"a": "b c"},
        {"a": 1},
    ]
)
"""Values of the kinds that the fields have, many of them wrong."""
