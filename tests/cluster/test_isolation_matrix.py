"""A hostile agent looks for a way out: every way that is known, by TCP, UDP and ICMP, in both families.

What arrives is counted at the receiving end. The same attempts are made by an ordinary pod, where they arrive: without
that, silence would say nothing. And they are made by an agent that was granted something in every form there is: it
gets what it was granted, and nothing else opens with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from demo import installation
from demo.stage import Stage
from devcluster import api, dns, network
from devcluster.errors import DevclusterError
from devcluster.progress import Progress
from tests.apiserver.agents import Object
from tests.cluster.agents import PRODUCTION, ROOM, Sandbox
from tests.cluster.attack import SERVE, Attempt, Places, Result, gateway, links, places, serving
from tests.cluster.pods import PRODUCTION_NAME, Manifest, Namespace, restricted_pod, wait_for

CLAIMED = "203.0.113.99"
EXTERNAL_IPS = ("198.51.100.99", "2001:db8:51::99")  # nobody has these addresses but a Service
NODE_PORT = 30080
NODE_LISTENER = 9999


@dataclass(frozen=True)
class Way:
    """A way to somewhere.

    Attributes:
        what: in words.
        target: what `Scene.targets` has addresses of; each is tried.
        place: where it would arrive.
        attempts: protocols and ports, as `Attempt.parse` reads them.
        granted: those of them that the agent `worker` was granted.
        closed: those of them that no pod gets through, because the target has walls of its own.
    """

    what: str
    target: str
    place: str
    attempts: str
    granted: str = ""
    closed: str = ""


ALL = "TCP/8080 UDP/8080 ICMP"
BY_LINK = f"TCP/{NODE_LISTENER} UDP/{NODE_LISTENER} ICMP"
TO_ALL = f"UDP/{NODE_LISTENER} ICMP"
OPERATORS_OWN = "TCP/8080 TCP/8081 TCP/8083 UDP/8080 ICMP"
CANARY = "{.items[?(@.spec.ports[0].name=='canary')].metadata.name}"
"""The name of the canary's Service, of those in the operator's namespace; alerts are delivered to another."""

TABLE = (
    Way("production by address", "production", "production", "TCP/5432 UDP/5432 TCP/53 UDP/53 ICMP"),
    Way("production by a hand-written EndpointSlice", "slice", "production", "TCP/80>5432 UDP/80>5432"),
    Way("production by a Service's externalIPs", "external", "production", "TCP/80>>5432"),
    Way("production by an ExternalName", "alias", "production", "TCP/5432"),
    Way("the metadata service", "metadata", "metadata", "TCP/80 UDP/80 TCP/53 UDP/53 ICMP"),
    Way("a NodePort", "node", "other", f"TCP/{NODE_PORT}>>8080"),
    Way("a listener of the node", "node", "node", f"TCP/{NODE_LISTENER} UDP/{NODE_LISTENER} TCP/53 UDP/53 ICMP"),
    Way(
        "the same by the network plugin's own address",
        "router",
        "node",
        f"TCP/{NODE_LISTENER} UDP/{NODE_LISTENER} ICMP",
    ),
    # Cilium lets no pod reach the node by link-local addresses, also one without policies.
    Way("the same by link-local address", "link-local", "node", BY_LINK, closed=BY_LINK),
    Way("everybody on the link", "all-nodes", "node", TO_ALL, closed=TO_ALL),
    Way("the kubelet", "node", "node", "TCP/10250"),
    Way("the kubelet by link-local address", "link-local", "node", "TCP/10250", closed="TCP/10250"),
    Way("the API server by its Service", "kubernetes", "node", "TCP/443>6443"),
    Way("the API server on its node", "node", "node", "TCP/6443"),
    Way("the cluster's DNS by its Service", "dns-service", "dns", "TCP/53 UDP/53", granted="TCP/53 UDP/53"),
    Way("the cluster's DNS by its pod", "dns", "dns", "TCP/53 UDP/53 TCP/8181 ICMP", granted="TCP/53 UDP/53"),
    Way("a pod that answers on port 53", "other", "other", "TCP/53 UDP/53"),
    Way("a pod of another namespace", "other", "other", ALL),
    Way("an agent of its namespace", "neighbour", "neighbour", ALL, closed="UDP/8080 ICMP"),
    Way("an agent of another namespace", "foreign", "foreign", ALL, closed="UDP/8080 ICMP"),
    Way(
        "the operator",
        "operator",
        "operator",
        f"TCP/8082 {OPERATORS_OWN}",
        closed=OPERATORS_OWN,
    ),
    Way("the operator's canary by its Service", "canary", "operator", "TCP/8082"),
    Way("a Service", "search-service", "search", "TCP/80>8080", granted="TCP/80>8080"),
    Way("its pods", "search", "search", "TCP/8080 UDP/8080 TCP/22 ICMP", granted="TCP/8080"),
    Way("the pods of a headless Service", "index", "index", "TCP/7070 UDP/7070 TCP/22 ICMP", granted="TCP/7070"),
    Way("pods by label", "search", "search", "TCP/9090 UDP/9090", granted="TCP/9090"),
    Way("a network", "outside", "outside", "TCP/443 UDP/443 TCP/80 UDP/53 ICMP", granted="TCP/443 UDP/443"),
    Way("what is excepted of it", "excepted", "outside", "TCP/443 UDP/443 ICMP"),
)


@dataclass(frozen=True)
class Attacker:
    """Who tries, and what the node is called on the link to it."""

    words: str
    namespace: Namespace
    pod: str

    def targets(self) -> dict[str, list[str]]:
        return {"link-local": gateway(self.namespace, self.pod), "all-nodes": ["ff02::1%eth0"]}


@dataclass(frozen=True)
class Scene:
    """Attackers, targets and ears."""

    sandbox: Sandbox
    plain: Namespace
    targets: dict[str, list[str]]
    places: Places
    visitor: Attacker
    hostile: Attacker
    worker: Attacker

    def rows(self, attacker: Attacker, place: str = "") -> list[tuple[Way, str, Attempt]]:
        """The table, or that of it which leads to one place, as one attacker would go through it.

        Way, text of the attempt, attempt.
        """
        targets = self.targets | attacker.targets()
        return [
            (way, text, Attempt.parse(text, address, way.place))
            for way in TABLE
            if place in ("", way.place)
            for address in targets[way.target]
            for text in way.attempts.split()
        ]

    def attack(self, attacker: Attacker, place: str = "") -> list[Result]:
        """What became of each row."""
        rows = self.rows(attacker, place)
        results = self.places.attack(attacker.namespace, attacker.pod, [attempt for _, _, attempt in rows])
        return [results[attempt] for _, _, attempt in rows]

    def attack_when_open(self, attacker: Attacker) -> list[Result]:
        """What became of each row once all that should be open to an attacker is.

        Services lead to their pods, and names are known, some time after the pods are ready; and each attempt has two
        seconds. What should not be open is not waited for: the first attack in which anything of it got through counts.
        """
        expected = [self.expects(attacker, way, text) for way, text, _ in self.rows(attacker)]
        found: list[Result] = []

        def decided() -> bool:
            found[:] = self.attack(attacker)
            pairs = list(zip(expected, found, strict=True))
            leaks = any(one.got_through and not wanted for wanted, one in pairs)
            return leaks or all(one.got_through for wanted, one in pairs if wanted)

        # What stays shut is told by the table, with all else.
        with suppress(AssertionError):
            wait_for(decided, seconds=60, what=f"{attacker.words}: all is open that should be", interval=1)
        return found

    def expects(self, attacker: Attacker, way: Way, text: str) -> bool:
        """Whether an attempt of an attacker is to get through."""
        if attacker is self.visitor:
            return text not in way.closed.split()
        return attacker is self.worker and text in way.granted.split()


def network_of_worker(plain: str) -> Object:
    """Something in every form of egress."""
    https = [{"port": 443}, {"port": 443, "protocol": "UDP"}]
    return {
        "dns": "Cluster",
        "egress": [
            {"to": {"service": f"{plain}/search"}},
            {"to": {"service": f"{plain}/index"}},
            {"to": {"pods": {"namespace": plain, "labels": {"app": "search"}}}, "ports": [{"port": 9090}]},
            {"to": {"cidr": network.OUTSIDE_CIDR, "except": ["203.0.113.128/25"]}, "ports": https},
            {"to": {"cidr": network.OUTSIDE_CIDR_6}, "ports": https},
        ],
    }


def open_to(plain: str) -> Object:
    """What an agent is that a visitor may call on port 8080."""
    visitor = {"pods": {"namespace": plain, "labels": {"app": "visitor"}}}
    return {"ports": [{"containerPort": 8080}], "network": {"ingress": [{"from": visitor, "ports": [{"port": 8080}]}]}}


def policy(plain: str) -> Object:
    """As wide as it gets, so that what stays closed is not closed for want of a ceiling."""
    ceiling = {
        "egressCIDRs": [network.OUTSIDE_CIDR, network.OUTSIDE_CIDR_6],
        "namespaces": [plain],
        "clusterDNS": True,
    }
    return {"production": PRODUCTION, "network": ceiling}


def server(name: str, *ports: int) -> Manifest:
    pod = restricted_pod(name, labels={"app": name})
    pod["spec"]["containers"][0]["command"] = ["python3", "-c", SERVE, *map(str, ports)]
    return pod


def service(name: str, **spec: object) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ipFamilyPolicy": "PreferDualStack", **spec},
    }


def endpoints(of: str, family: str, address: str, port: int) -> Manifest:
    """An EndpointSlice that somebody wrote by hand."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{of}-{family.lower()}", "labels": {"kubernetes.io/service-name": of}},
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": name.upper()} for name in ("tcp", "udp")],
    }


def services() -> Iterator[Manifest]:
    """Good and bad Services in a namespace that nobody guards."""
    web = [{"port": 80, "targetPort": 8080}]
    yield service("search", selector={"app": "search"}, ports=web)
    yield service("index", selector={"app": "index"}, clusterIP="None", ports=[{"port": 7070}])
    yield service("door", type="NodePort", selector={"app": "other"}, ports=[{**web[0], "nodePort": NODE_PORT}])
    both = [{"name": name, "port": 80, "protocol": name.upper()} for name in ("tcp", "udp")]
    for name, extra in (("slice", {}), ("external", {"externalIPs": list(EXTERNAL_IPS)})):
        yield service(name, ports=both, **extra)
        yield endpoints(name, "IPv4", network.PRODUCTION_ADDRESS, 5432)
        yield endpoints(name, "IPv6", network.PRODUCTION_ADDRESS_6, 5432)
    alias = service("alias", type="ExternalName", externalName=PRODUCTION_NAME)
    del alias["spec"]["ipFamilyPolicy"]
    yield alias


def cluster_ips(namespace: Namespace, name: str) -> list[str]:
    return list(namespace.get("service", name)["spec"]["clusterIPs"])


def the_pod(namespace: Namespace, selector: str) -> str:
    """The name of the pod that a selector selects."""
    return namespace.kubectl("get", "pods", f"--selector={selector}", "--output=jsonpath={.items[0].metadata.name}")


@pytest.fixture(scope="module")
def scene(operator: Stage) -> Iterator[Scene]:
    cluster = operator.cluster
    dns.install(cluster, hosts={PRODUCTION_NAME: network.PRODUCTION_ADDRESS}, progress=Progress())
    with ExitStack() as stack:
        plain = stack.enter_context(Namespace.created(cluster))
        sandbox, other = (stack.enter_context(Sandbox.opened(cluster, policy(plain.name))) for _ in range(2))
        serve = ["python3", "-c", SERVE, "8080"]
        sandbox.agent("hostile", command=serve, resources=ROOM)
        sandbox.agent("worker", command=serve, resources=ROOM, network=network_of_worker(plain.name))
        for namespace, name in ((sandbox, "neighbour"), (other, "foreign")):
            namespace.agent(name, command=serve, **open_to(plain.name))
        plain.create(*services(), server("search", 8080, 9090), server("index", 7070), server("other", 53, 8080))
        plain.create(restricted_pod("visitor", labels={"app": "visitor"}, dns="ClusterFirst"))
        for pod in ("search", "index", "other", "visitor"):
            plain.wait_ready(pod)
        sandbox.running("hostile", "worker", "neighbour")
        other.running("foreign")
        yield _scene(stack, sandbox, other, plain)


def _scene(stack: ExitStack, sandbox: Sandbox, other: Sandbox, plain: Namespace) -> Scene:
    system = Namespace(plain.cluster, dns.NAMESPACE)
    operators = Namespace(plain.cluster, installation.NAMESPACE)
    resolver = the_pod(system, "k8s-app=kube-dns")
    operator = the_pod(operators, "app.kubernetes.io/name=bulkhead")
    canary = operators.kubectl("get", "services", f"--output=jsonpath={CANARY}")
    pods = {
        "search": (plain, "search"),
        "index": (plain, "index"),
        "other": (plain, "other"),
        "neighbour": (sandbox, "neighbour-0"),
        "foreign": (other, "foreign-0"),
        "dns": (system, resolver),
        "operator": (operators, operator),
    }
    outside = Path("/run/netns", network.OUTSIDE)
    stack.enter_context(serving(Path("/run/netns", network.NODE), NODE_LISTENER))
    stack.enter_context(serving(outside, 443))
    heard = stack.enter_context(
        places(
            production=Path("/run/netns", network.PRODUCTION),
            metadata=Path("/run/netns", network.METADATA),
            node=Path("/run/netns", network.NODE),
            outside=outside,
            **{name: namespace.network_of(pod) for name, (namespace, pod) in pods.items()},
        )
    )
    (router,) = [link for link in links(Path("/run/netns", network.NODE)) if link["ifname"] == "cilium_host"]
    targets = {
        "production": [network.PRODUCTION_ADDRESS, network.PRODUCTION_ADDRESS_6],
        "slice": cluster_ips(plain, "slice"),
        "external": list(EXTERNAL_IPS),
        "alias": [f"alias.{plain.name}.svc.cluster.local"],
        "metadata": [network.METADATA_ADDRESS, network.METADATA_ADDRESS_6],
        "node": [network.NODE_ADDRESS, network.NODE_ADDRESS_6],
        "router": [one["local"] for one in router["addr_info"] if one["scope"] == "global"],
        "kubernetes": ["10.96.0.1"],
        "dns-service": cluster_ips(system, dns.SERVICE),
        "search-service": cluster_ips(plain, "search"),
        "canary": cluster_ips(operators, canary),
        "outside": [network.OUTSIDE_ADDRESSES[0], network.OUTSIDE_ADDRESS_6],
        "excepted": [network.OUTSIDE_ADDRESSES[1]],
        **{name: namespace.addresses(pod) for name, (namespace, pod) in pods.items()},
    }
    visitor = Attacker("an ordinary pod", plain, "visitor")
    hostile = Attacker("an agent, nothing granted", sandbox, "hostile-0")
    worker = Attacker("an agent, much granted", sandbox, "worker-0")
    return Scene(sandbox, plain, targets, heard, visitor, hostile, worker)


def test_nothing_arrives_but_what_was_granted(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    attackers = (scene.visitor, scene.hostile, scene.worker)
    results = {attacker.words: scene.attack_when_open(attacker) for attacker in attackers}
    rows = scene.rows(scene.visitor)
    table = Table("WAY", "ATTEMPT", *(words.upper() for words in results), box=None, title="what arrived")
    for number, (way, _, attempt) in enumerate(rows):
        table.add_row(way.what, str(attempt), *(str(found[number]) for found in results.values()))
    with capsys.disabled():
        print()
        Console(width=180).print(table)
    wrong = []
    for number, (way, text, attempt) in enumerate(rows):
        for attacker in attackers:
            result = results[attacker.words][number]
            if result.got_through != scene.expects(attacker, way, text):
                wrong.append(f"{attacker.words}: {way.what}, {attempt}: {result}")
    assert wrong == []

    def gone() -> set[str]:
        again = zip(rows, scene.attack(scene.visitor), strict=True)
        return {
            str(attempt) for (way, text, attempt), found in again if found.got_through == (text in way.closed.split())
        }

    # Each attempt has two seconds.
    assert gone() & gone() == set(), "all was there all the time"


def test_production_saw_no_connection_of_an_agent(scene: Scene) -> None:
    path = scene.sandbox.cluster.logs / "production-postgres.log"
    # Pods that are gone had the addresses before: one of them may have been the operator's, which may connect.
    earlier = len(path.read_text())
    for attacker in (scene.visitor, scene.hostile, scene.worker):
        scene.attack(attacker, "production")
    log = path.read_text()[earlier:]
    assert f"host={scene.plain.address('visitor')} " in log, "it writes down who connects"
    for agent in (scene.hostile, scene.worker):
        for address in agent.namespace.addresses(agent.pod):
            assert f"host={address} " not in log


def test_an_agent_that_opened_nothing_is_reached_by_nobody(scene: Scene) -> None:
    plain, sandbox = scene.plain, scene.sandbox
    assert plain.reaches("visitor", plain.address("other"), 8080)
    for address in sandbox.addresses("hostile-0"):
        assert not plain.reaches("visitor", address, 8080)
        assert not sandbox.reaches("neighbour-0", address, 8080), "not by its neighbour either"
    assert sandbox.reaches("hostile-0", "127.0.0.1", 8080), "though it serves"


def test_no_name_is_resolved_in_an_agent_that_was_not_granted_the_clusters_dns(scene: Scene) -> None:
    asked = scene.sandbox.inside("hostile-0", "sh", "-c", "getent hosts kubernetes.default.svc || echo unknown")
    assert asked.strip() == "unknown"


def test_a_granted_service_is_found_by_name_and_no_query_leaves(scene: Scene) -> None:
    granted = [{"to": {"service": f"{scene.plain.name}/search"}}]
    scene.sandbox.start("named", network={"egress": granted})
    wait_for(
        lambda: scene.sandbox.reaches("named-0", f"search.{scene.plain.name}", 80),
        seconds=60,
        what="what was granted is reached",
    )
    secret = f"worth-knowing.{scene.sandbox.name}.example"
    for resolver in ("", f"@{network.DNS_ADDRESS}"):
        scene.sandbox.inside("named-0", "sh", "-c", f"dig +time=1 +tries=1 {resolver} {secret} || true")
    scene.plain.inside("visitor", "sh", "-c", f"dig +time=2 @{network.DNS_ADDRESS} visitor.{secret} || true")
    wait_for(
        lambda: f"visitor.{secret}" in dns.queries(scene.plain.cluster), seconds=60, what="DNS writes down queries"
    )
    asked = [line for line in dns.queries(scene.plain.cluster).splitlines() if secret in line]
    assert all(f"visitor.{secret}" in line for line in asked), "what one that may not ask has asked"


def test_an_address_inside_a_granted_network_that_a_service_takes_to_production_leads_nowhere(scene: Scene) -> None:
    """What a Service claims as its own is redirected after policies have judged it by the address that was granted."""
    plain, sandbox = scene.plain, scene.sandbox
    plain.kubectl("create", "rolebinding", "accomplices", "--clusterrole=edit", "--user=accomplice")
    accomplice = Namespace(plain.cluster, plain.name, kubeconfig=api.user_kubeconfig(plain.cluster, "accomplice"))
    claimed = service("claimed", ports=[{"name": "tcp", "port": 443}], externalIPs=[CLAIMED])
    with pytest.raises(DevclusterError, match=r"ValidatingAdmissionPolicy.*externalIPs"):
        accomplice.create(claimed)

    # Nobody may be asked for what a load balancer says; here the cluster's administrator is one.
    granted = {"egress": [{"to": {"cidr": network.OUTSIDE_CIDR}, "ports": [{"port": 443}]}]}
    sandbox.start("far", resources=ROOM, network=granted, suspendGraceSeconds=2)
    balanced = service("claimed", type="LoadBalancer", ports=[{"name": "tcp", "port": 443}])
    plain.create(balanced, endpoints("claimed", "IPv4", network.PRODUCTION_ADDRESS, 5432))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": CLAIMED}]}}}
    plain.kubectl(
        "patch", "service", "claimed", "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}"
    )
    sandbox.suspended("far")
    assert "claimed" in sandbox.lab.condition("far", "Suspended")["message"]
    attempt = Attempt.parse("TCP/443>>5432", CLAIMED, "production")
    wait_for(
        lambda: scene.places.attack(plain, "visitor", [attempt])[attempt].got_through,
        seconds=60,
        what="it does lead there",
    )

    plain.kubectl("delete", "service", "claimed")
    sandbox.running("far")
