"""Who may reach whom, by the NetworkPolicies that the operator wrote, in the opinion of a program that is not ours.

The table says what the specs ask for, by hand. cyclonus (`analyze --mode=query-traffic`) works out from the policies
that the API server has what of all conceivable traffic passes; the two must agree in every cell. It judges as the
standard says; what a network plugin makes of the policies is the cluster tier's matter.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devcluster.api import RunningCluster
from devcluster.build import Binaries
from devcluster.progress import Progress
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, SANDBOX_LABELS, policy
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

Object = dict[str, Any]

LAB, TOOLS, SHOP, WEB, SYSTEM = "truth-lab", "truth-tools", "truth-shop", "truth-web", "kube-system"
OURS = {"bulkhead.test/truth": "true"}
"""Label of the namespaces of this test; the policy `default` of the other tests leaves them alone meanwhile."""

Port = tuple[str, int]
PORTS: tuple[Port, ...] = (
    *(("TCP", number) for number in (53, 80, 443, 999, 1000, 1500, 2000, 2001, 5353, 5432, 8080, 8443, 9090, 10250)),
    *(("UDP", number) for number in (53, 443, 5353, 8080, 9090)),
    ("SCTP", 8080),
)


@dataclass(frozen=True)
class Peer:
    """Somebody who sends and listens: a pod, or an address outside of the cluster."""

    address: str
    namespace: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    port_names: dict[Port, str] = field(default_factory=dict)


OTHERS: dict[str, Peer] = {
    "search": Peer(
        "10.244.1.1", TOOLS, {"app": "search"}, {("TCP", 8080): "http", ("TCP", 8443): "https", ("UDP", 8080): "quic"}
    ),
    "store": Peer("10.244.1.2", TOOLS, {"app": "store", "tier": "data"}),
    "caller": Peer("10.244.1.3", TOOLS, {"app": "caller"}),
    "shop database": Peer("10.244.2.1", SHOP, {"app": "store", "tier": "data"}),
    "web": Peer("10.244.3.1", WEB, {"app": "search"}),
    "dns": Peer("10.244.4.1", SYSTEM, {"k8s-app": "kube-dns"}, {("TCP", 5353): "dns-tcp"}),
    "stranger in the lab": Peer("10.244.5.1", LAB, {"app": "search"}),
    "outside": Peer("203.0.113.5"),
    "excepted": Peer("203.0.113.200"),
    "outside, IPv6": Peer("2001:db8:113::5"),
    "elsewhere": Peer("198.51.100.1"),
    "production": Peer("10.20.0.9"),
    "production, IPv6": Peer("2001:db8:20::9"),
    "metadata": Peer("169.254.169.254"),
    "metadata, IPv6": Peer("fd00:ec2::254"),
    "a node": Peer("192.0.2.10"),
    "API server": Peer("10.96.0.1"),
}

AGENTS: dict[str, Object] = {
    "quiet": {},
    "searcher": {
        "network": {
            "egress": [
                {"to": {"service": f"{TOOLS}/search"}, "ports": [{"port": 80}, {"port": 443}]},
                {"to": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}, "ports": [{"port": 443}]},
            ]
        }
    },
    "client": {
        "network": {
            "egress": [
                {
                    "to": {"pods": {"labels": {"bulkhead.dev/agent": "server"}}},
                    "ports": [{"port": 8080}, {"port": 9090, "protocol": "UDP"}, {"port": 443}],
                },
                {"to": {"service": f"{TOOLS}/store"}},
            ],
            "dns": "Cluster",
        }
    },
    "server": {
        "ports": [{"containerPort": 8080}, {"containerPort": 9090, "protocol": "UDP"}],
        "network": {
            "ingress": [
                {"from": {"pods": {"labels": {"bulkhead.dev/agent": "client"}}}, "ports": [{"port": 8080}]},
                {"from": {"pods": {"namespace": TOOLS, "labels": {"app": "caller"}}}},
                {"from": {"cidr": "203.0.113.0/28"}, "ports": [{"port": 9090, "protocol": "UDP"}]},
            ]
        },
    },
    "roamer": {
        "network": {
            "egress": [
                {"to": {"cidr": "2001:db8:113::/48"}, "ports": [{"port": 1000, "endPort": 2000}]},
                {
                    "to": {"pods": {"namespace": TOOLS, "labels": {"app": "store", "tier": "data"}}},
                    "ports": [{"port": 53, "protocol": "UDP"}],
                },
                {"to": {"service": f"{TOOLS}/later"}},
            ]
        }
    },
}

Traffic = tuple[str, str, Port]

ASKED: dict[str, tuple[Traffic, ...]] = {
    "quiet": (),
    "searcher": (
        ("searcher", "search", ("TCP", 8080)),
        ("searcher", "search", ("TCP", 8443)),
        ("searcher", "outside", ("TCP", 443)),
    ),
    "client": (
        ("client", "store", ("TCP", 5432)),
        ("client", "dns", ("UDP", 53)),
        ("client", "dns", ("TCP", 5353)),
    ),
    "server": (
        ("caller", "server", ("TCP", 8080)),
        ("caller", "server", ("UDP", 9090)),
        ("outside", "server", ("UDP", 9090)),
    ),
    "roamer": (
        *(("roamer", "outside, IPv6", ("TCP", number)) for number in (1000, 1500, 2000)),
        ("roamer", "store", ("UDP", 53)),
        ("roamer", "search", ("UDP", 8080)),
    ),
}
"""What each agent's spec asks for and one side is enough for."""
AGREED: dict[frozenset[str], tuple[Traffic, ...]] = {
    frozenset({"client", "server"}): (("client", "server", ("TCP", 8080)),)
}
"""What two agents ask for on both sides; the one side alone asks for more."""


def service(name: str, namespace: str, selector: dict[str, str], *ports: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": list(ports), **spec},
    }


def port(name: str, number: int, target: int | str, protocol: str = "TCP") -> Object:
    return {"name": name, "port": number, "targetPort": target, "protocol": protocol}


SERVICES = (
    service(
        "search",
        TOOLS,
        {"app": "search"},
        port("http", 80, "http"),
        port("https", 443, 8443),
        port("admin", 10250, 10250),
    ),
    service("store", TOOLS, {"app": "store"}, port("db", 5432, 5432), clusterIP="None"),
    service("kube-dns", SYSTEM, {"k8s-app": "kube-dns"}, port("dns", 53, 53, "UDP"), port("tcp", 53, "dns-tcp")),
)
LATER = service("later", TOOLS, {"app": "search"}, port("quic", 443, "quic", "UDP"))
"""Made when the agents are there already."""
CEILING = {
    "egressCIDRs": ["203.0.113.0/24", "2001:db8:113::/48"],
    "namespaces": [TOOLS, SHOP],
    "clusterDNS": True,
}
PRODUCTION = {
    "cidrs": ["10.20.0.0/16", "2001:db8:20::/48"],
    "namespaceSelector": {"matchLabels": {"bulkhead.test/production": "true"}},
}


@pytest.fixture(scope="module")
def cyclonus() -> Path:
    """Built once from its Go module, and only for these tests."""
    return Binaries(progress=Progress()).program("cyclonus")


@pytest.fixture(scope="module")
def world(apiserver: RunningCluster, rest: Rest) -> Iterator[None]:
    """Namespaces, Services and a policy of our own."""
    aside = {"namespaceSelector": {"matchExpressions": [{"key": next(iter(OURS)), "operator": "DoesNotExist"}]}}
    namespaces = {LAB: {**SANDBOX_LABELS, **OURS}, TOOLS: {}, SHOP: {"bulkhead.test/production": "true"}, WEB: {}}
    before = rest.get(f"{POLICIES}/default").body["spec"]
    made = [f"{POLICIES}/truth", f"/api/v1/namespaces/{SYSTEM}/services/kube-dns"]
    made += [f"/api/v1/namespaces/{name}" for name in namespaces]
    try:
        ok(rest.patch(f"{POLICIES}/default", {"spec": aside}, content_type=MERGE))
        ok(
            rest.post(
                POLICIES,
                policy("truth", namespaceSelector={"matchLabels": OURS}, network=CEILING, production=PRODUCTION),
            )
        )
        for name, labels in namespaces.items():
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            ok(rest.post("/api/v1/namespaces", body))
        for one in SERVICES:
            ok(rest.post(f"/api/v1/namespaces/{one['metadata']['namespace']}/services", one))
        yield
    finally:
        for path in made:
            rest.delete(path)
        # An empty selector, merged into the one of above, would leave it as it is; one that is taken away is the empty.
        ok(rest.patch(f"{POLICIES}/default", {"spec": {**before, "namespaceSelector": None}}, content_type=MERGE))


@pytest.fixture(scope="module")
def lab(apiserver: RunningCluster, rest: Rest, world: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The agents, planned by a running operator."""
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")):
        found = Lab(rest, LAB)
        for name, spec in AGENTS.items():
            found.create(name, **spec)
        ok(rest.post(f"/api/v1/namespaces/{TOOLS}/services", LATER))
        yield found


def ok(answer: Any) -> None:
    assert answer.ok, answer.message


def until_written(lab: Lab, running: Iterable[str]) -> None:
    """Waits until there are policies of just these agents, and until the last Service is in one of them."""
    wanted = {"bulkhead-deny-all", *(f"agent-{name}" for name in running if AGENTS[name])}
    eventually(lambda: set(lab.names("NetworkPolicy")) == wanted, f"policies {sorted(wanted)}")
    if "roamer" in running:
        eventually(
            lambda: len(lab.the("NetworkPolicy", "agent-roamer")["spec"]["egress"]) == 3,
            "the rule of a Service that came later",
        )


def peers(lab: Lab) -> dict[str, Peer]:
    """Everybody, the agents with the labels that their pods have."""
    found = dict(OTHERS)
    for number, name in enumerate(AGENTS, start=1):
        agent = lab.the("AgentDeployment", name)
        labels = {
            "app.kubernetes.io/managed-by": "bulkhead",
            "bulkhead.dev/agent": name,
            "bulkhead.dev/agent-uid": agent["metadata"]["uid"],
            "bulkhead.dev/workflow": name,
        }
        found[name] = Peer(f"10.244.9.{number}", LAB, labels)
    return found


def conceivable(everybody: dict[str, Peer]) -> list[Traffic]:
    """All traffic with an agent at one of its ends."""
    return [
        (source, destination, one)
        for source in everybody
        for destination in everybody
        for one in PORTS
        if source != destination and (source in AGENTS or destination in AGENTS)
    ]


def asked_by(running: Iterable[str]) -> set[Traffic]:
    there = set(running)
    found = {traffic for name in there for traffic in ASKED[name]}
    return found | {traffic for both, some in AGREED.items() if both <= there for traffic in some}


def as_seen_by(
    program: Path, lab: Lab, traffic: list[Traffic], everybody: dict[str, Peer], folder: Path
) -> set[Traffic]:
    """Returns what cyclonus lets through of the traffic, by the policies that are in the API server."""

    def end(peer: Peer) -> Object:
        if peer.namespace is None:
            return {"IP": peer.address}
        labels = {"kubernetes.io/metadata.name": peer.namespace}
        inside = {"Namespace": peer.namespace, "NamespaceLabels": labels, "PodLabels": peer.labels}
        return {"IP": peer.address, "Internal": inside}

    asked = [
        {
            "Source": end(everybody[source]),
            "Destination": end(everybody[destination]),
            "ResolvedPort": number,
            "ResolvedPortName": everybody[destination].port_names.get((protocol, number), ""),
            "Protocol": protocol,
        }
        for source, destination, (protocol, number) in traffic
    ]
    listed = lab.rest.get("/apis/networking.k8s.io/v1/networkpolicies")
    ok(listed)
    (folder / "policies.json").write_text(json.dumps(listed.body))
    (folder / "traffic.json").write_text(json.dumps(asked))
    command = [str(program), "analyze", "--mode=query-traffic", f"--policy-path={folder / 'policies.json'}"]
    finished = subprocess.run(
        [*command, f"--traffic-path={folder / 'traffic.json'}"], capture_output=True, text=True, check=True
    )
    answers = re.findall(r"IS ALLOWED\?\s*\|\s*(TRUE|FALSE)", finished.stdout, re.IGNORECASE)
    assert len(answers) == len(traffic)
    return {one for one, answer in zip(traffic, answers, strict=True) if answer.upper() == "TRUE"}


STAGES: dict[str, tuple[str, ...]] = {
    "all run": tuple(AGENTS),
    "one end of a pair is suspended": ("quiet", "searcher", "client", "roamer"),
    "the other end is suspended": ("quiet", "searcher", "server", "roamer"),
    "all are suspended": (),
    "all run again": tuple(AGENTS),
}


@pytest.mark.parametrize("stage", STAGES)
def test_cyclonus_sees_pass_exactly_what_the_specs_of_the_running_agents_ask_for(
    stage: str, lab: Lab, cyclonus: Path, tmp_path: Path
) -> None:
    running = STAGES[stage]
    for name in AGENTS:
        lab.patch(name, suspend=name not in running)
    until_written(lab, running)
    everybody = peers(lab)
    traffic = conceivable(everybody)

    passing = as_seen_by(cyclonus, lab, traffic, everybody, tmp_path)

    assert passing == asked_by(running)
    assert len(traffic) > 3000


def test_while_all_are_suspended_the_deny_all_holds_for_pods_of_strangers_too(
    lab: Lab, cyclonus: Path, tmp_path: Path
) -> None:
    for name in AGENTS:
        lab.patch(name, suspend=True)
    until_written(lab, ())
    (only,) = lab.list("NetworkPolicy")
    assert only["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    everybody = peers(lab)
    strangers = [("stranger in the lab", "outside", ("TCP", 443)), ("caller", "stranger in the lab", ("TCP", 80))]
    assert as_seen_by(cyclonus, lab, strangers, everybody, tmp_path) == set()
