"""What an agent may ask for: each ceiling, who refuses, and what the refusal says."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from bulkhead.plan import ceilings, refusals, reserved
from tests.unit.plan.policies import bounds_of, namespace, nodes, refused, sandbox_policy, spec_of

DIGEST = "sha256:" + "a" * 64
EVERYTHING = ["0.0.0.0/0", "::/0"]


class Case(NamedTuple):
    """What an agent asks for, and what is refused of it: fields and the words about each, none if it is accepted."""

    spec: dict[str, Any]
    policy: dict[str, Any]
    refused: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 (never changed)


def workload(**ceiling: Any) -> dict[str, Any]:
    return {"workload": ceiling}


def limits(**amounts: str) -> dict[str, Any]:
    return {"resources": {"limits": {key.replace("_", "-"): value for key, value in amounts.items()}}}


def tolerating(*keys: str) -> dict[str, Any]:
    return {"placement": {"tolerations": [{"key": key, "operator": "Exists"} for key in keys]}}


def selecting(**labels: str) -> dict[str, Any]:
    return {"placement": {"nodeSelector": labels}}


WORKLOAD: dict[str, Case] = {
    "replicas at the ceiling": Case({"replicas": 3}, workload(maxReplicas=3)),
    "replicas over the ceiling": Case(
        {"replicas": 4},
        workload(maxReplicas=3),
        {"spec.replicas": ("accepts replicas up to 3 (its spec.workload.maxReplicas), and 4 were asked for",)},
    ),
    "one replica where none is accepted": Case({}, workload(maxReplicas=0), {"spec.replicas": ("up to 0",)}),
    "an image of an accepted registry": Case({"image": "r.example/a:1"}, workload(registries=["r.example"])),
    "an image of another registry": Case(
        {"image": "evil.example/a:1"},
        workload(registries=["r.example/team/", "s.example"]),
        {
            "spec.image": (
                "does not accept images named evil.example/a",
                "begins with r.example/team/ or s.example (its spec.workload.registries)",
            )
        },
    ),
    "an image whose host begins like an accepted one": Case(
        {"image": "r.example.evil/a"}, workload(registries=["r.example"]), {"spec.image": ("r.example.evil/a",)}
    ),
    "an image whose path begins like an accepted one": Case(
        {"image": "r.example/team-evil/a"}, workload(registries=["r.example/team"]), {"spec.image": ("team-evil",)}
    ),
    "an image on another port": Case(
        {"image": "r.example:5000/a"}, workload(registries=["r.example"]), {"spec.image": ("r.example:5000/a",)}
    ),
    "an image on the accepted port": Case({"image": "r.example:5000/a"}, workload(registries=["r.example:5000/"])),
    "an image that is exactly the prefix": Case(
        {"image": f"r.example/team/a:1@{DIGEST}"}, workload(registries=["r.example/team/a"])
    ),
    "an image above a prefix with a slash": Case(
        {"image": "r.example/team"}, workload(registries=["r.example/team/"]), {"spec.image": ("r.example/team",)}
    ),
    "an image without a host is of Docker Hub": Case({"image": "agent"}, workload(registries=["docker.io/library"])),
    "an image without a host is of no other registry": Case(
        {"image": "team/agent"}, workload(registries=["team.example"]), {"spec.image": ("docker.io/team/agent",)}
    ),
    "an image without a host where Docker Hub has its old name": Case(
        {"image": "team/agent"}, workload(registries=["index.docker.io/team/"])
    ),
    "an image with a tag where a digest is required": Case(
        {"image": "r.example/a:1"},
        workload(requireDigest=True),
        {"spec.image": ("by digest only (its spec.workload.requireDigest)", "accepted is the image with @sha256:")},
    ),
    "an image with a digest": Case({"image": f"r.example/a@{DIGEST}"}, workload(requireDigest=True)),
    "resources at the ceiling in another spelling": Case(
        limits(cpu="1", memory="1Gi", ephemeral_storage="1Gi"),
        workload(maxResources={"cpu": "1000m", "memory": "1024Mi", "ephemeralStorage": "1Gi"}),
    ),
    "resources over the ceiling": Case(
        limits(cpu="1001m", memory="1025Mi", ephemeral_storage="2Gi"),
        workload(maxResources={"cpu": "1", "memory": "1Gi", "ephemeralStorage": "1Gi"}),
        {
            "spec.resources.limits.cpu": ("at most 1 (its spec.workload.maxResources.cpu), and 1001m was asked for",),
            "spec.resources.limits.memory": ("at most 1Gi", "1025Mi"),
            "spec.resources.limits.ephemeral-storage": ("maxResources.ephemeralStorage",),
        },
    ),
    "default resources over the ceiling": Case(
        {}, workload(maxResources={"memory": "256Mi"}), {"spec.resources.limits.memory": ("512Mi was asked for",)}
    ),
    "resources without a ceiling": Case(limits(memory="1Ti"), workload(maxResources={"cpu": "1"})),
    "an accepted RuntimeClass": Case({"runtimeClassName": "gvisor"}, workload(runtimeClasses=["kata", "gvisor"])),
    "another RuntimeClass": Case(
        {"runtimeClassName": "runc"},
        workload(runtimeClasses=["kata", "gvisor"]),
        {"spec.runtimeClassName": ("does not accept runc; accepted is kata or gvisor",)},
    ),
    "no RuntimeClass where one is required": Case(
        {},
        workload(runtimeClasses=["gvisor"]),
        {"spec.runtimeClassName": ("an agent without a RuntimeClass; accepted is gvisor",)},
    ),
    "the required node label": Case(selecting(zone="a"), workload(requiredNodeLabels={"zone": "a"})),
    "other node labels": Case(selecting(disk="ssd"), workload(requiredNodeLabels={"zone": "a"})),
    "another value of a required node label": Case(
        selecting(zone="b"),
        workload(requiredNodeLabels={"zone": "a"}),
        {"spec.placement.nodeSelector": ("zone=a", "zone=b was asked for; accepted is zone=a, or no zone at all")},
    ),
    "an accepted toleration": Case(tolerating("agents"), workload(tolerations=["agents"])),
    "another toleration": Case(
        tolerating("agents", "control-plane"),
        workload(tolerations=["agents", "spot"]),
        {"spec.placement.tolerations[1].key": ("the taint control-plane; accepted is agents or spot",)},
    ),
    "a toleration where none is accepted": Case(
        tolerating("agents"),
        workload(tolerations=[]),
        {"spec.placement.tolerations[0].key": ("no toleration at all (its spec.workload.tolerations)",)},
    ),
    "tolerations without a ceiling": Case(tolerating("agents", "spot"), {}),
}


def to(peer: dict[str, Any]) -> dict[str, Any]:
    ports = [] if "service" in peer else [{"port": 443}]
    return {"network": {"egress": [{"to": peer, "ports": ports}]}}


def from_(peer: dict[str, Any]) -> dict[str, Any]:
    return {"ports": [{"containerPort": 80}], "network": {"ingress": [{"from": peer}]}}


def pods(namespace: str | None = None) -> dict[str, Any]:
    return {"pods": {"labels": {"app": "search"}, **({"namespace": namespace} if namespace else {})}}


def askable(*cidrs: str, **more: Any) -> dict[str, Any]:
    return {"network": {"egressCIDRs": list(cidrs)}, **more}


def named(*namespaces: str, **more: Any) -> dict[str, Any]:
    return {"network": {"namespaces": list(namespaces)}, **more}


TO = "spec.network.egress[0].to"
FROM = "spec.network.ingress[0].from"
PROD = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}

NETWORK: dict[str, Case] = {
    "a Service of its own namespace": Case(to({"service": "lab/search"}), {}),
    "pods of its own namespace": Case(to(pods()), {}),
    "pods of its own namespace by name": Case(to(pods("lab")), {}),
    "a Service of a namespace that may be named": Case(to({"service": "tools/search"}), named("tools")),
    "a Service of another namespace": Case(
        to({"service": "shop/db"}),
        named("tools"),
        {f"{TO}.service": ("does not let agents name namespace shop; accepted is lab or tools",)},
    ),
    "pods of another namespace": Case(
        to(pods("shop")),
        {},
        {f"{TO}.pods.namespace": ("accepted is lab (their own, and its spec.network.namespaces)",)},
    ),
    "callers of another namespace": Case(from_(pods("shop")), {}, {f"{FROM}.pods.namespace": ("namespace shop",)}),
    "a Service of a production namespace": Case(
        to({"service": "prod/db"}),
        named("prod", production=PROD),
        {f"{TO}.service": ("namespace prod is production by the spec.production.namespaceSelector of SandboxPolicy",)},
    ),
    "pods of a production namespace": Case(
        to(pods("prod")), named("prod", production=PROD), {f"{TO}.pods.namespace": ("is production",)}
    ),
    "callers of a production namespace": Case(
        from_(pods("prod")), named("prod", production=PROD), {f"{FROM}.pods.namespace": ("is production",)}
    ),
    "a network that may be asked for": Case(to({"cidr": "203.0.113.0/25"}), askable("203.0.113.0/24")),
    "a network of IPv6 that may be asked for": Case(to({"cidr": "2001:db8::/48"}), askable("2001:db8::/32")),
    "a network wider than what may be asked for": Case(
        to({"cidr": "203.0.112.0/23"}),
        askable("203.0.113.0/24", "198.51.100.0/24"),
        {
            f"{TO}.cidr": (
                "does not let agents ask for 203.0.112.0/23",
                "networks inside of 203.0.113.0/24 or 198.51.100.0/24 (its spec.network.egressCIDRs)",
            )
        },
    ),
    "a network where none may be asked for": Case(
        to({"cidr": "203.0.113.0/24"}), {}, {f"{TO}.cidr": ("accepted is none at all",)}
    ),
    "a network of the other family": Case(
        to({"cidr": "2001:db8::/32"}), askable("0.0.0.0/0"), {f"{TO}.cidr": ("inside of 0.0.0.0/0",)}
    ),
    "two halves of what may be asked for as one": Case(
        to({"cidr": "203.0.113.0/24"}), askable("203.0.113.0/25", "203.0.113.128/25"), {f"{TO}.cidr": ("inside of",)}
    ),
    "callers of a network that may not be asked for": Case(
        from_({"cidr": "203.0.113.0/24"}), {}, {f"{FROM}.cidr": ("accepted is none at all",)}
    ),
    "a network around production": Case(
        to({"cidr": "10.0.0.0/8"}),
        askable(*EVERYTHING, production={"cidrs": ["10.1.0.0/16", "10.9.0.0/16"]}),
        {
            f"{TO}.cidr": (
                "10.0.0.0/8 reaches 10.1.0.0/16 (production) and 10.9.0.0/16 (production), closed by SandboxPolicy "
                "default (its spec.production)",
                "accepted is 10.0.0.0/8 with 10.1.0.0/16 and 10.9.0.0/16 in its except",
            )
        },
    ),
    "a network inside of production": Case(
        to({"cidr": "10.1.2.0/24"}),
        askable(*EVERYTHING, production={"cidrs": ["10.1.0.0/16"]}),
        {f"{TO}.cidr": ("accepted is a network outside of 10.1.0.0/16",)},
    ),
    "a network without production": Case(
        to({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}),
        askable(*EVERYTHING, production={"cidrs": ["10.1.0.0/16"]}),
    ),
    "a network without half of production": Case(
        to({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/17"]}),
        askable(*EVERYTHING, production={"cidrs": ["10.1.0.0/16"]}),
        {
            f"{TO}.cidr": (
                "10.0.0.0/8, even without its except, reaches 10.1.0.0/16",
                "10.1.0.0/16 added to its except",
            )
        },
    ),
    "a network with a canary in it": Case(
        to({"cidr": "203.0.113.0/24"}),
        askable(*EVERYTHING, production={"canaries": [{"name": "db", "address": "203.0.113.9", "port": 5432}]}),
        {f"{TO}.cidr": ("203.0.113.9/32 (canary db)", "with 203.0.113.9/32 in its except")},
    ),
    "callers out of production": Case(
        from_({"cidr": "10.1.0.0/24"}),
        askable(*EVERYTHING, production={"cidrs": ["10.1.0.0/16"]}),
        {f"{FROM}.cidr": ("10.1.0.0/16 (production)",)},
    ),
    "the metadata address": Case(
        to({"cidr": "169.254.169.254/32"}),
        askable(*EVERYTHING),
        {f"{TO}.cidr": ("closed whatever a policy says; accepted is a network outside of 169.254.0.0/16",)},
    ),
    "the shared address space": Case(
        to({"cidr": "100.64.8.0/24"}),
        askable(*EVERYTHING),
        {f"{TO}.cidr": ("what every policy opens (spec.network.openSharedAddressSpace)",)},
    ),
    "an opened part of the shared address space": Case(
        to({"cidr": "100.64.8.0/24"}),
        {"network": {"egressCIDRs": EVERYTHING, "openSharedAddressSpace": ["100.64.0.0/16"]}},
    ),
    "every address of IPv6": Case(
        to({"cidr": "::/0"}),
        askable(*EVERYTHING),
        {f"{TO}.cidr": ("::/8", "2002::/16", "fe80::/9 and ff00::/8 in its except")},
    ),
    "cluster DNS": Case({"network": {"dns": "Cluster"}}, {"network": {"clusterDNS": True}}),
    "cluster DNS where it may not be asked for": Case(
        {"network": {"dns": "Cluster"}},
        {},
        {"spec.network.dns": ("(its spec.network.clusterDNS is not true); accepted is None",)},
    ),
}

OTHERS = (namespace("prod", env="prod"), namespace("tools"), namespace("shop"))


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in (WORKLOAD | NETWORK).items()])
def test_what_is_over_a_ceiling_is_refused_with_what_would_be_accepted(case: Case) -> None:
    found = refused(spec_of(**case.spec), bounds_of(sandbox_policy(**case.policy), others=OTHERS))

    assert [one.field for one in found] == list(case.refused)
    for one in found:
        for words in case.refused[one.field]:
            assert words in one.message
        if one.policy:
            assert f"SandboxPolicy {one.policy}" in one.message


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in (WORKLOAD | NETWORK).items()])
def test_a_further_policy_that_accepts_everything_takes_no_refusal_back(case: Case) -> None:
    mine = sandbox_policy("mine", **case.policy)
    generous = sandbox_policy(
        "generous",
        network={
            "egressCIDRs": EVERYTHING,
            "namespaces": ["prod", "tools", "shop"],
            "clusterDNS": True,
            "openSharedAddressSpace": ["100.64.0.0/10"],
        },
    )
    alone, together = (
        refused(spec_of(**case.spec), bounds_of(*policies, others=OTHERS)) for policies in ((mine,), (generous, mine))
    )
    assert together == alone


def test_each_policy_that_refuses_says_so() -> None:
    bounds = bounds_of(
        sandbox_policy("a", workload={"maxReplicas": 2}),
        sandbox_policy("b", workload={"maxReplicas": 1}),
        sandbox_policy("c", workload={"maxReplicas": 3}),
    )
    assert [one.policy for one in refused(spec_of(replicas=3), bounds)] == ["a", "b"]


WIDE = bounds_of(sandbox_policy(network={"egressCIDRs": EVERYTHING}))


def test_a_node_is_closed_as_part_of_the_cluster() -> None:
    [found] = refused(spec_of(**to({"cidr": "192.0.2.0/24"})), WIDE, reserved=nodes("192.0.2.7", "198.51.100.1"))

    assert found.policy == ""
    assert "192.0.2.7/32 (node at 192.0.2.7), closed as part of the cluster itself" in found.message
    assert "accepted is 192.0.2.0/24 with 192.0.2.7/32 in its except" in found.message


PODS = reserved.pods(["10.244.0.0/24", "10.244.1.0/24"])


def test_pods_are_asked_for_by_label_and_not_by_address() -> None:
    [found] = refused(spec_of(**to({"cidr": "10.0.0.0/8"})), WIDE, reserved=PODS)

    assert "reaches 10.244.0.0/23 (pods of the cluster), closed as part of the cluster itself" in found.message
    assert "accepted is 10.0.0.0/8 with 10.244.0.0/23 in its except" in found.message


def test_other_nodes_are_closed_when_the_nodes_are_others() -> None:
    spec = spec_of(**to({"cidr": "192.0.2.0/24"}))
    first, second = nodes("192.0.2.7"), nodes("198.51.100.7")

    assert [bool(refused(spec, WIDE, reserved=one)) for one in (first, second, first, ())] == [True, False, True, False]


def test_more_exceptions_than_a_rule_can_have_are_not_suggested() -> None:
    many = nodes(*(f"10.0.0.{number}" for number in range(0, 256, 2)))

    [found] = refused(spec_of(**to({"cidr": "10.0.0.0/16"})), WIDE, reserved=many)
    assert "and 120 more" in found.message
    assert "accepted is a smaller network: except may have 64 entries" in found.message


def test_exceptions_that_are_there_count() -> None:
    spec = spec_of(**to({"cidr": "10.0.0.0/16", "except": [f"10.0.1.{number}/32" for number in range(64)]}))

    [found] = refused(spec, WIDE, reserved=nodes("10.0.0.1"))
    assert "accepted is a smaller network" in found.message


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("agent", "docker.io/library/agent"),
        ("agent:1.2", "docker.io/library/agent"),
        (f"agent@{DIGEST}", "docker.io/library/agent"),
        ("team/agent", "docker.io/team/agent"),
        ("docker.io/agent", "docker.io/library/agent"),
        ("docker.io/team/agent", "docker.io/team/agent"),
        ("index.docker.io/agent", "docker.io/library/agent"),
        ("localhost/agent", "localhost/agent"),
        ("localhost:5000/agent:1", "localhost:5000/agent"),
        ("registry:5000/a/b", "registry:5000/a/b"),
        ("r.example/a:1", "r.example/a"),
        (f"r.example:5000/a/b:1@{DIGEST}", "r.example:5000/a/b"),
        ("[2001:db8::1]:5000/a:1", "[2001:db8::1]:5000/a"),
        ("Team/agent", "Team/agent"),
    ],
)
def test_the_name_of_an_image_is_completed_as_runtimes_do_it(reference: str, expected: str) -> None:
    assert ceilings.image_name(reference) == expected


def test_what_is_said_about_one_policy_is_found_in_a_condition() -> None:
    bounds = bounds_of(
        sandbox_policy("a", workload={"maxReplicas": 2}),
        sandbox_policy("a-b", network={"egressCIDRs": EVERYTHING}, production={"cidrs": ["203.0.113.0/24"]}),
    )
    spec = spec_of(replicas=3, **to({"cidr": "203.0.113.0/24"}))
    found = refused(spec, bounds)
    text = refusals.text(found)

    assert refusals.about(text, "a") == refusals.text(one for one in found if one.policy == "a")
    assert refusals.about(text, "a-b") == refusals.text(one for one in found if one.policy == "a-b")
    assert {one.policy for one in found} == {"a", "a-b"}
    assert refusals.about(text, "b") == ""
    assert refusals.about("", "a") == ""


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (range(8), "0, 1, 2, 3, 4, 5, 6 and 7"),
        (range(10), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"),
    ],
)
def test_lists_in_sentences_are_shortened(items: Any, expected: str) -> None:
    assert refusals.listed(items) == expected
