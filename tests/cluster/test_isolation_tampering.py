"""The admin of a sandbox namespace, and whoever took over the admin's credentials, opens nothing.

Each attempt is made with those credentials, and then a packet is tried: it does not matter what is written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.stage import Stage
from devcluster import api, images, network
from devcluster.errors import DevclusterError
from tests.apiserver.agents import Object
from tests.cluster.agents import PRODUCTION, ROOM, WORKER, Sandbox
from tests.cluster.attack import SERVE, Attempt, Places, places
from tests.cluster.pods import Manifest, Namespace, restricted_pod, wait_for

ADMIN = "mallory"

REFUSED = r"ValidatingAdmissionPolicy"
NO_RIGHT = r"is forbidden: User \"mallory\" cannot"


@dataclass(frozen=True)
class Trick:
    """Something that an admin tries.

    Attributes:
        arguments: of kubectl. NAMESPACE and ACCOUNT stand for what only the run knows.
        refusal: how it is refused; None where it is not, because it opens nothing.
        content: what is given to kubectl's standard input.
    """

    arguments: str
    refusal: str | None = REFUSED
    content: Manifest | None = None


def policy(kind: str = "NetworkPolicy", version: str = "networking.k8s.io/v1", **spec: object) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "mine"}, "spec": spec}


def service(**spec: object) -> Manifest:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": spec}


def agent(network: Object) -> Manifest:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "mine"},
        "spec": {"owner": ADMIN, "image": images.TOOLBOX, "network": network},
    }


def egress(**to: object) -> Object:
    return {"egress": [{"to": to, "ports": [{"port": 5432}]}]}


EVERYTHING: Object = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}], "ingress": [{}]}
CREATE = "create --filename=-"
SLICE: Manifest = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "front"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": [network.PRODUCTION_ADDRESS]}],
    "ports": [{"port": 5432}],
}
JOB: Manifest = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "mine"},
    "spec": {"template": {"spec": restricted_pod("mine")["spec"]}},
}
PORTS = [{"port": 80}]

TRICKS = {
    "take the sandbox label off the namespace": Trick("label namespace NAMESPACE bulkhead.dev/sandbox-", NO_RIGHT),
    "give the namespace another label": Trick(
        "label namespace NAMESPACE --overwrite kubernetes.io/metadata.name=x", NO_RIGHT
    ),
    "delete the deny-all": Trick("delete networkpolicy bulkhead-deny-all"),
    "delete all network policies": Trick("delete networkpolicies --all"),
    "select nothing with the deny-all": Trick(
        'patch networkpolicy bulkhead-deny-all --type=merge --patch={"spec":{"podSelector":{"matchLabels":{"x":"y"}}}}'
    ),
    "allow egress in the deny-all": Trick(
        'patch networkpolicy bulkhead-deny-all --type=merge --patch={"spec":{"egress":[{}]}}'
    ),
    "widen the agent's own policy": Trick(
        'patch networkpolicy agent-agent --type=merge --patch={"spec":{"egress":[{}],"policyTypes":["Egress"]}}'
    ),
    "add a policy that allows everything": Trick(CREATE, content=policy(**EVERYTHING)),
    "add a policy of Cilium's": Trick(
        CREATE,
        rf"{NO_RIGHT}|{REFUSED}",
        policy("CiliumNetworkPolicy", "cilium.io/v2", endpointSelector={}, egress=[{"toEntities": ["all"]}]),
    ),
    "take the labels off the agent's pod": Trick("label pod agent-0 bulkhead.dev/agent-"),
    "give the agent's pod another label": Trick("label pod agent-0 app=production"),
    "label the agent": Trick("label agentdeployment agent app=production bulkhead.dev/agent=other", None),
    "make a pod": Trick(CREATE, content=restricted_pod("mine")),
    "make a pod with the agent's labels": Trick(
        CREATE, content=restricted_pod("mine", labels={"bulkhead.dev/agent": "agent"})
    ),
    "make a job": Trick(CREATE, content=JOB),
    "change what the workload runs": Trick("set image statefulset/agent agent=localhost/bulkhead/base:dev"),
    "enter the agent's pod": Trick("exec agent-0 -- true"),
    "forward a port of the agent's pod": Trick("port-forward agent-0 18080:8080"),
    "add a container to the agent's pod": Trick(
        "debug agent-0 --image=localhost/bulkhead/toolbox:dev --profile=restricted", rf"{NO_RIGHT}|{REFUSED}"
    ),
    "delete the agent's pod": Trick("delete pod agent-0 --wait=false"),
    "take a token": Trick("create token agent-agent"),
    "bind a role": Trick("create rolebinding mine --clusterrole=admin --serviceaccount=NAMESPACE:agent-agent"),
    "a Service without a selector": Trick(CREATE, content=service(ports=PORTS)),
    "a Service with another name outside": Trick(
        CREATE, content=service(type="ExternalName", externalName="db.production.example")
    ),
    "a Service with externalIPs": Trick(
        CREATE, content=service(selector={"a": "b"}, ports=PORTS, externalIPs=["198.51.100.9"])
    ),
    "a Service on the node": Trick(CREATE, content=service(selector={"a": "b"}, ports=PORTS, type="NodePort")),
    "an EndpointSlice that leads to production": Trick(CREATE, rf"{NO_RIGHT}|{REFUSED}", SLICE),
    "an agent that asks for production": Trick(CREATE, content=agent(egress(cidr=network.PRODUCTION_CIDR))),
    "an agent that asks for everything": Trick(CREATE, content=agent(egress(cidr="0.0.0.0/0"))),
    "an agent that asks for everything but production": Trick(
        CREATE, content=agent(egress(cidr="0.0.0.0/0", **{"except": [network.PRODUCTION_CIDR]}))
    ),
    "an agent that asks for another namespace": Trick(CREATE, content=agent(egress(service="kube-system/kube-dns"))),
    "an agent that asks for DNS": Trick(CREATE, content=agent({"dns": "Cluster"})),
    "tell a lie in the status": Trick(
        'patch agentdeployment agent --subresource=status --type=merge --patch={"status":{"state":"Running"}}', NO_RIGHT
    ),
    "edit the policy": Trick(
        'patch sandboxpolicy NAMESPACE --type=merge --patch={"spec":{"production":null}}', NO_RIGHT
    ),
    "delete the policy": Trick("delete sandboxpolicy NAMESPACE", NO_RIGHT),
    "delete the admission policies": Trick("delete validatingadmissionpolicies --all", NO_RIGHT),
}

ATTEMPTS = (
    Attempt.parse("TCP/5432", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/5432", network.PRODUCTION_ADDRESS_6, "production"),
    Attempt.parse("UDP/5432", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("ICMP", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/80", network.METADATA_ADDRESS, "metadata"),
    Attempt.parse("TCP/6443", network.NODE_ADDRESS, "node"),
)


@dataclass(frozen=True)
class Scene:
    """An agent, the namespace as its admin may use it, and an ordinary pod elsewhere."""

    sandbox: Sandbox
    admin: Namespace
    plain: Namespace
    places: Places

    def got_through(self, namespace: Namespace, pod: str) -> set[str]:
        """Which packets from a pod arrived."""
        found = self.places.attack(namespace, pod, ATTEMPTS, seconds=0.6)
        return {str(attempt) for attempt, result in found.items() if result.got_through}


@pytest.fixture(scope="module")
def scene(operator: Stage) -> Iterator[Scene]:
    cluster = operator.cluster
    with Sandbox.opened(cluster, {"production": PRODUCTION}) as sandbox, Namespace.created(cluster) as plain:
        sandbox.kubectl("create", "rolebinding", "admins", "--clusterrole=admin", f"--user={ADMIN}")
        sandbox.create(service(selector={"app": "front"}, ports=PORTS) | {"metadata": {"name": "front"}})
        serve = ["python3", "-c", SERVE, "8080"]
        granted = {"egress": [{"to": {"service": f"{sandbox.name}/front"}}]}
        sandbox.agent("agent", command=serve, resources=ROOM, ports=[{"containerPort": 8080}], network=granted)
        plain.run(restricted_pod("visitor"))
        sandbox.running("agent")
        admin = Namespace(cluster, sandbox.name, kubeconfig=api.user_kubeconfig(cluster, ADMIN))
        named = {"production": network.PRODUCTION, "metadata": network.METADATA, "node": network.NODE}
        with places(**{name: Path("/run/netns", namespace) for name, namespace in named.items()}) as heard:
            yield Scene(sandbox, admin, plain, heard)


def test_what_is_tried_arrives_from_an_ordinary_pod(scene: Scene) -> None:
    everything = {str(attempt) for attempt in ATTEMPTS}
    # Each attempt lasts for half a second, which may be too short once; who is kept out is so however often it tries.
    wait_for(lambda: scene.got_through(scene.plain, "visitor") == everything, seconds=60, what="all of it is reached")
    assert scene.got_through(scene.sandbox, "agent-0") == set()


def test_the_admin_is_one(scene: Scene) -> None:
    """Who could do nothing would prove nothing."""
    scene.admin.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}})
    scene.admin.create({**agent({}), "metadata": {"name": "theirs"}})
    scene.admin.kubectl("patch", "agentdeployment", "theirs", "--type=merge", '--patch={"spec":{"suspend":true}}')
    scene.admin.kubectl("delete", "agentdeployment", "theirs")


@pytest.mark.parametrize("name", TRICKS)
def test_an_admin_opens_nothing(scene: Scene, name: str) -> None:
    trick = TRICKS[name]
    pod = scene.sandbox.pod("agent")["metadata"]["uid"]
    arguments = trick.arguments.replace("NAMESPACE", scene.sandbox.name).split()
    if trick.refusal is None:
        scene.admin.kubectl(*arguments, content=trick.content)
    else:
        with pytest.raises(DevclusterError) as refused:
            scene.admin.kubectl(*arguments, content=trick.content)
        assert re.search(trick.refusal, str(refused.value)), str(refused.value)
    assert scene.got_through(scene.sandbox, "agent-0") == set()
    assert scene.sandbox.pod("agent")["metadata"]["uid"] == pod, "the agent was there all the time"
    assert scene.sandbox.lab.state("agent") == "Running"


def test_a_refusal_says_which_policy_refuses_and_what_would_be_accepted(scene: Scene) -> None:
    with pytest.raises(DevclusterError) as refused:
        scene.admin.create(agent(egress(cidr="10.200.0.0/16")))
    assert scene.sandbox.name in str(refused.value), "the SandboxPolicy's name"
    assert network.PRODUCTION_CIDR in str(refused.value)


def test_an_admin_may_delete_an_agent_and_it_ends(scene: Scene) -> None:
    scene.sandbox.start("short", WORKER, suspendGraceSeconds=2)
    scene.admin.kubectl("delete", "agentdeployment", "short", "--wait=false")
    scene.admin.kubectl("wait", "pod/short-0", "--for=delete", "--timeout=60s")
    wait_for(lambda: scene.sandbox.lab.names("StatefulSet") == ["agent"], seconds=60, what="its workload goes")
