"""What an AgentDeployment may ask for, told when it is asked for, with the policy's name and the ceiling."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, agent
from tests.apiserver.rest import Answer
from tests.operator_process import eventually

DIGEST = "sha256:" + "0" * 64
CANARY = {"name": "db", "address": "172.20.9.9", "port": 5432}
PORTS = [{"port": 443}]
CEILINGS: Object = {
    "production": {
        "cidrs": ["10.200.0.0/24"],
        "canaries": [CANARY],
        "namespaceSelector": {"matchLabels": {"env": "prod"}},
    },
    "network": {
        "egressCIDRs": ["10.0.0.0/8", "203.0.113.0/24", "100.64.0.0/10", "172.20.0.0/16"],
        "namespaces": ["tools", "billing"],
        "openSharedAddressSpace": ["100.64.8.0/24"],
    },
    "workload": {
        "registries": ["registry.example/team/", "docker.io/library"],
        "maxReplicas": 3,
        "maxResources": {"cpu": "2", "memory": "2Gi", "ephemeralStorage": "4Gi"},
        "requiredNodeLabels": {"pool": "agents"},
        "tolerations": ["example.com/agents"],
    },
}


def to(**peer: object) -> Object:
    return {"network": {"egress": [{"to": peer, **({} if "service" in peer else {"ports": PORTS})}]}}


def limits(**resources: str) -> Object:
    return {"resources": {"limits": {key.replace("_", "-"): value for key, value in resources.items()}}}


WITHIN = {
    "the least": {},
    "as many as may be": {"replicas": 3},
    "another image of the registry": {"image": "registry.example/team/sub/agent@" + DIGEST},
    "an image of Docker Hub's library": {"image": "python:3.13"},
    "the same written out": {"image": "docker.io/python:3.13"},
    "as much as may be": limits(cpu="2000m", memory="2048Mi", ephemeral_storage="4Gi"),
    "the label that is required": {"placement": {"nodeSelector": {"pool": "agents"}}},
    "another label": {"placement": {"nodeSelector": {"zone": "a"}}},
    "the taint": {"placement": {"tolerations": [{"key": "example.com/agents", "operator": "Exists"}]}},
    "a network": to(cidr="203.0.113.0/25"),
    "a network around production": to(cidr="10.0.0.0/8", **{"except": ["10.200.0.0/24"]}),
    "opened shared address space": to(cidr="100.64.8.128/25"),
    "a Service of an accepted namespace": to(service="tools/search"),
    "pods of an accepted namespace": to(pods={"namespace": "tools", "labels": {"app": "x"}}),
    "pods of its own namespace": to(pods={"labels": {"app": "x"}}),
    "no DNS": {"network": {"dns": "None"}},
}
OVER: dict[str, tuple[Object, str]] = {
    "replicas": ({"replicas": 4}, "(workload.maxReplicas) does not accept 4 replicas; accepted are up to 3"),
    "another registry": ({"image": "other.example/team/agent:1"}, "(workload.registries) does not accept other"),
    "a registry that begins alike": ({"image": "registry.example/teams/agent:1"}, "(workload.registries)"),
    "a user of Docker Hub": (
        {"image": "someone/agent:1"},
        "docker.io/someone/agent; accepted are images from registry",
    ),
    "a registry in the path": ({"image": "evil.example/registry.example/team/agent"}, "(workload.registries)"),
    "CPU": (limits(cpu="2100m"), "(workload.maxResources) does not accept cpu 2100m; accepted is up to cpu 2"),
    "memory": (limits(memory="3Gi"), "does not accept memory 3Gi; accepted is up to memory 2Gi"),
    "disk": (limits(ephemeral_storage="5Gi"), "does not accept ephemeral-storage 5Gi; accepted is up to"),
    "another pool": (
        {"placement": {"nodeSelector": {"pool": "database"}}},
        "(workload.requiredNodeLabels) does not accept in placement.nodeSelector pool: database; accepted is pool: a",
    ),
    "another taint": (
        {"placement": {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}},
        "(workload.tolerations) does not accept node-role.kubernetes.io/control-plane; accepted are example",
    ),
    "a network that is not named": (
        to(cidr="198.51.100.0/24"),
        "(network.egressCIDRs) does not accept 198.51.100.0/24",
    ),
    "a network half outside": (to(cidr="203.0.112.0/23"), "(network.egressCIDRs)"),
    "production": (to(cidr="10.200.0.0/26"), "(production.cidrs): 10.200.0.0/26 reaches 10.200.0.0/24; accepted"),
    "a network around it": (to(cidr="10.0.0.0/8"), "(production.cidrs)"),
    "half of production left out": (to(cidr="10.0.0.0/8", **{"except": ["10.200.0.0/25"]}), "(production.cidrs)"),
    "a canary": (to(cidr="172.20.9.0/24"), "reaches 172.20.9.9/32"),
    "shared address space": (to(cidr="100.64.9.0/24"), "(network.openSharedAddressSpace): 100.64.9.0/24"),
    "a Service of another namespace": (to(service="vault/api"), "(network.namespaces) does not accept namespace vault"),
    "pods of another namespace": (to(pods={"namespace": "vault", "labels": {"a": "b"}}), "accepted are tools, billing"),
    "a Service of production": (to(service="billing/db"), "(production.namespaceSelector): namespace billing"),
    "callers of another namespace": (
        {
            "ports": [{"containerPort": 80}],
            "network": {"ingress": [{"from": {"pods": {"namespace": "vault", "labels": {"a": "b"}}}}]},
        },
        "(network.namespaces)",
    ),
    "callers of production": (
        {"ports": [{"containerPort": 80}], "network": {"ingress": [{"from": {"cidr": "10.200.0.0/24"}}]}},
        "(production.cidrs)",
    ),
    "DNS": ({"network": {"dns": "Cluster"}}, "(network.clusterDNS) does not accept spec.network.dns: Cluster"),
}


@pytest.fixture(scope="module")
def ceilings(guarded: Guarded) -> Iterator[str]:
    """A sandbox namespace under the policy `strict`, and in force."""
    selector = {"matchLabels": {"ceilings": "strict"}}
    policy = sandbox_policy(
        "strict", namespaceSelector=selector, status={"productionNamespaces": ["billing"]}, **CEILINGS
    )
    with guarded.sandbox(ceilings="strict") as namespace, guarded.policies(policy):
        eventually(lambda: not write(guarded, namespace, agent(replicas=9)).ok, "the policy is seen")
        eventually(
            lambda: "billing" in write(guarded, namespace, agent(**to(service="billing/db"))).message, "its status is"
        )
        yield namespace


def write(guarded: Guarded, namespace: str, body: Object) -> Answer:
    return guarded.send(guarded.admin, Request("POST", AGENTS, body), namespace)


@pytest.mark.parametrize("spec", WITHIN.values(), ids=WITHIN)
def test_what_is_within_the_ceilings_is_accepted(guarded: Guarded, ceilings: str, spec: Object) -> None:
    answer = write(guarded, ceilings, agent(**spec))
    assert answer.ok, answer.message


@pytest.mark.parametrize(("spec", "told"), OVER.values(), ids=OVER)
def test_what_is_over_a_ceiling_is_refused_with_its_name_and_what_would_be_accepted(
    guarded: Guarded, ceilings: str, spec: Object, told: str
) -> None:
    answer = write(guarded, ceilings, agent(**spec))
    assert refused_by(answer) in ("agent-network", "agent-workload"), answer.message
    assert "SandboxPolicy strict " in answer.message and told in answer.message, answer.message


@pytest.mark.parametrize("spec", [spec for spec, _ in OVER.values()], ids=OVER)
def test_a_suspended_agent_is_let_through_and_stays_mendable(guarded: Guarded, ceilings: str, spec: Object) -> None:
    assert write(guarded, ceilings, agent(suspend=True, **spec)).ok


@pytest.mark.parametrize("spec", [spec for spec, _ in OVER.values()], ids=OVER)
def test_an_update_that_leaves_what_is_over_a_ceiling_as_it_was_passes(
    guarded: Guarded, ceilings: str, spec: Object
) -> None:
    collection = AGENTS.replace("{ns}", ceilings)
    guarded.make(collection, agent("standing", suspend=True, **spec))
    try:
        for change in ({"suspend": False}, {"owner": "team-b"}, {"env": [{"name": "A", "value": "b"}]}):
            answer = guarded.send(
                guarded.admin, Request("PATCH", f"{AGENTS}/standing", {"spec": change}, "merge"), ceilings
            )
            assert answer.ok, answer.message
        worse = {"spec": {"suspend": False, "image": "other.example/another:1"}}
        answer = guarded.send(guarded.admin, Request("PATCH", f"{AGENTS}/standing", worse, "merge"), ceilings)
        assert refused_by(answer) == "agent-workload", answer.message
    finally:
        guarded.admin.delete(f"{collection}/standing")


def test_only_peers_that_are_new_are_judged(guarded: Guarded, ceilings: str) -> None:
    old = {"to": {"cidr": "198.51.100.0/24"}, "ports": PORTS}
    guarded.make(AGENTS.replace("{ns}", ceilings), agent("peers", suspend=True, network={"egress": [old]}))

    def patch(*egress: Object) -> Answer:
        body = {"spec": {"suspend": False, "network": {"egress": list(egress)}}}
        return guarded.send(guarded.admin, Request("PATCH", f"{AGENTS}/peers", body, "merge"), ceilings)

    assert patch(old, {"to": {"service": "tools/search"}}).ok
    assert patch({"to": {"service": "tools/search"}}).ok
    assert refused_by(patch(old, {"to": {"cidr": "198.51.101.0/24"}, "ports": PORTS})) == "agent-network"
    assert refused_by(patch({**old, "ports": [{"port": 80}]})) == "agent-network"


def test_the_floor_is_refused_under_any_policy_and_without_one(guarded: Guarded, sandbox: str) -> None:
    for cidr in ("169.254.169.254/32", "0.0.0.0/0", "fd00:ec2::254/128", "::/0", "168.63.129.16/32"):
        answer = write(guarded, sandbox, agent(**to(cidr=cidr)))
        assert refused_by(answer) == "agent-floor" and "no policy opens" in answer.message, answer.message
        assert write(guarded, sandbox, agent(suspend=True, **to(cidr=cidr))).ok


def test_without_any_policy_an_agent_may_be_written(guarded: Guarded, sandbox: str) -> None:
    answer = write(guarded, sandbox, agent(replicas=50, **to(cidr="198.51.100.0/24")))
    assert answer.ok, answer.message


def test_a_scale_is_held_to_the_ceiling_but_always_goes_down(guarded: Guarded, ceilings: str) -> None:
    guarded.make(AGENTS.replace("{ns}", ceilings), agent("scaled", suspend=True, replicas=9))

    def scale(replicas: int) -> Answer:
        request = Request("PATCH", f"{AGENTS}/scaled/scale", {"spec": {"replicas": replicas}}, "merge")
        return guarded.send(guarded.admin, request, ceilings)

    assert all(scale(fewer).ok for fewer in (9, 8, 3, 0))
    answer = scale(10)
    assert refused_by(answer) == "agent-scale" and "SandboxPolicy strict" in answer.message, answer.message


def test_a_digest_and_a_runtime_class_can_be_required(guarded: Guarded, sandbox: str) -> None:
    policy = sandbox_policy("hard", workload={"requireDigest": True, "runtimeClasses": ["gvisor", "kata"]})
    with guarded.policies(policy):
        eventually(lambda: not write(guarded, sandbox, agent()).ok, "the policy is seen")
        image = "registry.example/team/agent@" + DIGEST
        assert write(guarded, sandbox, agent(image=image, runtimeClassName="kata")).ok
        answer = write(guarded, sandbox, agent(runtimeClassName="kata"))
        assert "(workload.requireDigest)" in answer.message and "NAME@sha256:DIGEST" in answer.message
        for spec in ({}, {"runtimeClassName": "runc"}):
            answer = write(guarded, sandbox, agent(image=image, **spec))
            assert "(workload.runtimeClasses)" in answer.message and "gvisor, kata" in answer.message


def test_every_policy_that_selects_the_namespace_is_asked(guarded: Guarded, sandbox: str) -> None:
    wide = sandbox_policy("wide", workload={"maxReplicas": 50}, network={"egressCIDRs": ["0.0.0.0/0"]})
    narrow = sandbox_policy("narrow", workload={"maxReplicas": 2}, network={"egressCIDRs": ["203.0.113.0/24"]})
    other = sandbox_policy("other", namespaceSelector={"matchLabels": {"a": "b"}}, workload={"maxReplicas": 0})
    with guarded.policies(wide, narrow, other):
        eventually(lambda: not write(guarded, sandbox, agent(replicas=51)).ok, "the policies are seen")
        eventually(lambda: not write(guarded, sandbox, agent(replicas=3)).ok, "the narrow one is")
        assert write(guarded, sandbox, agent(replicas=2, **to(cidr="203.0.113.0/24"))).ok
        assert "SandboxPolicy narrow" in write(guarded, sandbox, agent(**to(cidr="198.51.100.0/24"))).message


def test_sixty_four_policies_of_sixty_four_networks_stay_within_the_cost_limits(guarded: Guarded, sandbox: str) -> None:
    def policy(i: int) -> Object:
        cidrs = [f"10.{i}.{j}.0/24" for j in range(64)]
        network = {"egressCIDRs": [*(f"172.{16 + j % 16}.{j}.0/24" for j in range(63)), "10.0.0.0/8"]}
        return sandbox_policy(f"many-{i}", production={"cidrs": cidrs}, network=network)

    with guarded.policies(*map(policy, range(64))):
        eventually(lambda: not write(guarded, sandbox, agent(**to(cidr="10.63.63.1/32"))).ok, "the policies are seen")
        eventually(lambda: not write(guarded, sandbox, agent(**to(cidr="10.0.0.1/32"))).ok, "the first is")
        excepts = [f"10.0.{j}.0/24" for j in range(64)]
        rules = [{"to": {"cidr": "10.0.0.0/16", "except": excepts}, "ports": [{"port": 1000 + i}]} for i in range(32)]
        began = time.monotonic()
        answer = write(guarded, sandbox, agent(network={"egress": rules}))
        print(f"an agent of 32 rules with 64 exceptions under 64 policies: {time.monotonic() - began:.2f} s")
        assert answer.ok, answer.message
        answer = write(guarded, sandbox, agent(**to(cidr="10.63.0.0/16")))
        assert refused_by(answer) == "agent-network" and "many-63" in answer.message, answer.message
