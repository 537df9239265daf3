"""Rights that agents ask for: of AgentDeployments and of the operator's Roles, admission says what the plan says."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.plan import access
from bulkhead.plan.access import Rule
from bulkhead.plan.accessfloor import FLOOR, Closed
from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS
from tests.apiserver.rest import Answer
from tests.operator_process import eventually

GROUPS = ["", "apps", "batch", "example.com", "tools.example.com", "*"]
RESOURCES = [
    "configmaps",
    "configmaps/status",
    "pods",
    "pods/log",
    "pods/exec",
    "secrets",
    "widgets",
    "widgets/scale",
    "*/scale",
    "*/exec",
    "*",
]
VERBS = ["get", "list", "watch", "create", "patch", "delete", "*", "escalate"]
NAMES = ["one", "two", "three"]


def asking(*rules: Object, **spec: Any) -> Object:
    """An agent that asks for these rules."""
    return objects.agent(identity={"kubernetesApi": {"rules": list(rules)}}, **spec)


def rule(groups: object = "", resources: object = "configmaps", verbs: object = "get", names: object = ()) -> Object:
    """A rule; a text is a list of one."""
    lists = [[one] if isinstance(one, str) else list(one) for one in (groups, resources, verbs, names)]  # type: ignore[call-overload]
    made = dict(zip(("apiGroups", "resources", "verbs", "resourceNames"), lists, strict=True))
    return made if made["resourceNames"] else {key: made[key] for key in ("apiGroups", "resources", "verbs")}


def plain(given: Object) -> Rule:
    return Rule(
        groups=tuple(given["apiGroups"]),
        resources=tuple(given["resources"]),
        verbs=tuple(given["verbs"]),
        names=tuple(given.get("resourceNames", ())),
    )


def write(guarded: Guarded, namespace: str, body: Object) -> Answer:
    return guarded.send(guarded.admin, Request("POST", AGENTS, body), namespace)


def write_role(guarded: Guarded, namespace: str, *rules: Object) -> Answer:
    role = objects.owned({**objects.role("agent-scout"), "rules": list(rules)})
    return guarded.send(guarded.operator, ordinary.create(role), namespace)


def some(chance: random.Random, offered: list[str], most: int) -> list[str]:
    return chance.sample(offered, chance.randint(1, most))


def some_rule(chance: random.Random, *, tame: bool = False) -> Object:
    """A rule; a tame one is more often than not within the floor."""
    groups, resources = (GROUPS[3:5], RESOURCES[6:9]) if tame else (GROUPS, RESOURCES)
    verbs = VERBS[:6] if tame else VERBS
    names = some(chance, NAMES, 2) if chance.random() < 0.3 else []
    return rule(some(chance, groups, 2), some(chance, resources, 3), some(chance, verbs, 3), names)


# --- the floor -----------------------------------------------------------------------------------------------


def closed_spellings() -> Iterator[tuple[str, Object]]:
    """Each part of the floor, and the wildcards that stand for it."""
    for entry in FLOOR:
        for group in entry.groups:
            yield from spellings(entry, group)


def spellings(entry: Closed, group: str) -> Iterator[tuple[str, Object]]:
    for resource in entry.resources:
        named = "widgets" if resource == "*" else resource
        yield f"{entry.verbs[-1]} {named} of {group}", rule(group, named, entry.verbs[-1])
        if "/" in resource:
            subresource = f"*/{resource.partition('/')[2]}"
            yield f"{subresource} of {group}", rule(["example.com", group], subresource, entry.verbs)
    yield f"all of {group}", rule(group, ["widgets", "*"], ["get", *entry.verbs])


def test_every_part_of_the_floor_is_refused_under_any_policy(guarded: Guarded, sandbox: str) -> None:
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    with guarded.policies(sandbox_policy("all", identity={"kubernetesApi": {"rules": [everything]}})):
        eventually(lambda: write(guarded, sandbox, asking(rule())).ok, "the policy is seen")
        for what, closed in closed_spellings():
            answer = write(guarded, sandbox, asking(rule("example.com", "widgets"), closed))
            assert refused_by(answer) == "agent-rights" and "accepted is" in answer.message, f"{what}: {answer.message}"
            assert refused_by(write_role(guarded, sandbox, closed)) == "operator-roles", what
            assert write(guarded, sandbox, asking(closed, suspend=True)).ok, what


def test_admission_agrees_with_the_plan_on_the_floor_for_any_rules(guarded: Guarded, sandbox: str) -> None:
    chance = random.Random(5)  # noqa: S311 (cases, not secrets)
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    said = {True: 0, False: 0}
    with guarded.policies(sandbox_policy("all", identity={"kubernetesApi": {"rules": [everything]}})):
        eventually(lambda: write(guarded, sandbox, asking(rule())).ok, "the policy is seen")
        for turn in range(120):
            rules = [some_rule(chance, tame=turn % 2 == 0) for _ in range(chance.randint(1, 2))]
            wanted = not access.refused([plain(one) for one in rules])
            answer = write(guarded, sandbox, asking(*rules))
            assert answer.ok is wanted, f"{rules}: {answer.message}"
            assert write_role(guarded, sandbox, *rules).ok is wanted, rules
            said[wanted] += 1
    assert min(said.values()) > 20, "both answers were seen"


@pytest.mark.parametrize(
    "audience",
    [
        "kubernetes",
        "api",
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.cluster.local",
        "HTTPS://Kubernetes.Default.svc:443/",
        "kubernetes.default.svc.cluster.local.",
    ],
)
def test_a_token_for_the_api_server_is_not_asked_for_as_one_for_others(
    guarded: Guarded, sandbox: str, audience: str
) -> None:
    with guarded.policies(sandbox_policy("audiences", identity={"audiences": [audience, "vault"]})):
        fine = objects.agent(identity={"tokens": [{"audience": "vault", "path": "t"}]})
        eventually(lambda: write(guarded, sandbox, fine).ok, "the policy is seen")
        agent = objects.agent(identity={"tokens": [{"audience": audience, "path": "t"}]})
        answer = write(guarded, sandbox, agent)
        assert refused_by(answer) == "agent-rights" and f"{audience} is the API server" in answer.message


# --- ceilings ------------------------------------------------------------------------------------------------

OFFERED = [
    rule("", ["configmaps", "pods", "pods/log"], ["get", "list", "watch"]),
    rule("", "configmaps", ["create", "update", "patch", "delete"], ["state", "cache"]),
    rule("example.com", "*", ["get", "list"]),
    rule("tools.example.com", ["widgets", "*/scale"], ["get", "update", "patch"]),
]
WITHIN = {
    "as offered": OFFERED[0],
    "less of it": rule("", "pods/log", "get"),
    "a name of all": rule("", "pods", "get", "scout-0"),
    "a name that is offered": rule("", "configmaps", ["patch", "delete"], "state"),
    "both names": rule("", "configmaps", "update", ["cache", "state"]),
    "verbs of two rules, by name": rule("", "configmaps", ["get", "patch"], "state"),
    "resources of a wildcard": rule("example.com", ["widgets", "gadgets/status"], ["get", "list"]),
    "the wildcard itself": rule("example.com", "*", "get"),
    "a subresource of a wildcard": rule("tools.example.com", "gadgets/scale", ["get", "patch"]),
    "that wildcard itself": rule("tools.example.com", "*/scale", "patch"),
    "groups of two rules": rule(["example.com", "tools.example.com"], "widgets", "get"),
}
OVER: dict[str, tuple[Object, str]] = {
    "another verb": (rule("", "pods", ["get", "list", "watch"]) | {"verbs": ["get", "list"], "resources": ["services"]},
                     "get, list services"),
    "one verb more": (rule("", "configmaps", ["get", "create"]), "does not accept create configmaps"),
    "another group": (rule("other.example.com", "widgets"), "get widgets"),
    "one group more": (rule(["", "example.com"], "configmaps", ["get", "watch"]), "watch configmaps"),
    "another name": (rule("", "configmaps", "patch", ["state", "other"]), "patch configmaps"),
    "every name of some": (rule("", "configmaps", "patch"), "patch configmaps"),
    "a wildcard for what is offered one by one": (rule("tools.example.com", "*", "get"), "get *"),
    "a subresource of what is offered": (rule("tools.example.com", "widgets/status"), "get widgets/status"),
    "a wildcard of subresources": (rule("", "*/log"), "get */log"),
    "the resource of a subresource": (rule("tools.example.com", "gadgets"), "get gadgets"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ceiling(guarded: Guarded) -> Iterator[str]:
    """A sandbox namespace under a policy that offers rights, one that offers all, and one for others."""
    selector = {"matchLabels": {"rights": "some"}}
    identity = {
        "kubernetesApi": {"rules": OFFERED, "maxTokenSeconds": 900},
        "audiences": ["vault", "https://gateway.example"],
        "maxTokenSeconds": 1200,
    }
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    wide = ["vault", "vault2", "sts.example", "https://gateway.example"]
    policies = (
        sandbox_policy("some", namespaceSelector=selector, identity=identity),
        sandbox_policy(
            "wide",
            namespaceSelector=selector,
            identity={"kubernetesApi": {"rules": [everything]}, "audiences": wide},
        ),
        sandbox_policy("others", namespaceSelector={"matchLabels": {"rights": "other"}}),
    )
    with guarded.sandbox(rights="some") as namespace, guarded.policies(*policies):
        eventually(lambda: write(guarded, namespace, asking(OFFERED[0])).ok, "the policies are seen")
        over = asking(OVER["one verb more"][0])
        eventually(lambda: not write(guarded, namespace, over).ok, "all of them are")
        yield namespace


@pytest.mark.parametrize("given", WITHIN.values(), ids=WITHIN)
def test_rules_within_the_ceiling_are_accepted(guarded: Guarded, ceiling: str, given: Object) -> None:
    assert not access.covered([plain(given)], list(map(plain, OFFERED)))
    for answer in (write(guarded, ceiling, asking(given)), write_role(guarded, ceiling, given)):
        assert answer.ok, answer.message


@pytest.mark.parametrize(("given", "told"), OVER.values(), ids=OVER)
def test_rules_over_the_ceiling_are_refused_by_name(guarded: Guarded, ceiling: str, given: Object, told: str) -> None:
    assert access.covered([plain(given)], list(map(plain, OFFERED)))
    asked, role = write(guarded, ceiling, asking(OFFERED[0], given)), write_role(guarded, ceiling, given)
    assert (refused_by(asked), refused_by(role)) == ("agent-identity", "operator-role-ceilings"), asked.message
    for answer in (asked, role):
        assert "SandboxPolicy some (identity.kubernetesApi.rules)" in answer.message
        assert told in answer.message and "accepted is what lies inside of get/list/watch configmaps" in answer.message
    assert write(guarded, ceiling, asking(given, suspend=True)).ok


TOKENS: dict[str, tuple[Object, str]] = {
    "another audience": (
        {"tokens": [{"audience": "sts.example", "path": "t"}]},
        "(identity.audiences) does not accept sts.example; accepted are vault, https://gateway.example",
    ),
    "almost the audience": ({"tokens": [{"audience": "vault2", "path": "t"}]}, "(identity.audiences) does not accept"),
    "a token for too long": (
        {"tokens": [{"audience": "vault", "path": "t", "expirationSeconds": 1201}]},
        "(identity.maxTokenSeconds) does not accept t 1201 s; accepted are up to 1200 s",
    ),
    "a token of the API server's for too long": (
        {"kubernetesApi": {"rules": [OFFERED[0]], "tokenSeconds": 901}},
        "(identity.kubernetesApi.maxTokenSeconds) does not accept 901 s; accepted are up to 900 s",
    ),
}


@pytest.mark.parametrize(("identity", "told"), TOKENS.values(), ids=TOKENS)
def test_tokens_over_the_ceiling_are_refused_and_stay_as_they_were(
    guarded: Guarded, ceiling: str, identity: Object, told: str
) -> None:
    answer = write(guarded, ceiling, objects.agent(identity=identity))
    assert refused_by(answer) == "agent-identity" and "SandboxPolicy some " + told in answer.message, answer.message
    collection = AGENTS.replace("{ns}", ceiling)
    guarded.make(collection, objects.agent("old", suspend=True, identity=identity))
    try:
        for change in ({"suspend": False}, {"owner": "team-b"}):
            patch = Request("PATCH", f"{AGENTS}/old", {"spec": change}, "merge")
            answer = guarded.send(guarded.admin, patch, ceiling)
            assert answer.ok, answer.message
    finally:
        guarded.admin.delete(f"{collection}/old")


@pytest.mark.parametrize(
    "identity",
    [
        {"kubernetesApi": {"rules": [OFFERED[0]], "tokenSeconds": 900}},
        {
            "tokens": [
                {"audience": "vault", "path": "a", "expirationSeconds": 1200},
                {"audience": "https://gateway.example", "path": "b"},
            ]
        },
        {},
    ],
    ids=["the API server's for as long as may be", "others'", "none"],
)
def test_tokens_within_the_ceiling_are_accepted(guarded: Guarded, ceiling: str, identity: Object) -> None:
    answer = write(guarded, ceiling, objects.agent(identity=identity))
    assert answer.ok, answer.message


def test_rules_that_were_there_before_are_not_judged_again(guarded: Guarded, ceiling: str) -> None:
    collection = AGENTS.replace("{ns}", ceiling)
    over = OVER["another group"][0]
    guarded.make(collection, objects.agent("old", suspend=True, identity={"kubernetesApi": {"rules": [over]}}))

    def patch(*rules: Object) -> Answer:
        body = {"spec": {"suspend": False, "identity": {"kubernetesApi": {"rules": list(rules)}}}}
        return guarded.send(guarded.admin, Request("PATCH", f"{AGENTS}/old", body, "merge"), ceiling)

    try:
        assert patch(over).ok and patch(over, OFFERED[0]).ok and patch(OFFERED[0]).ok
        assert refused_by(patch(over, OVER["one verb more"][0])) == "agent-identity"
        assert refused_by(patch(over | {"verbs": ["get", "list"]})) == "agent-identity"
    finally:
        guarded.admin.delete(f"{collection}/old")


def test_a_policy_that_offers_nothing_accepts_nothing(guarded: Guarded, sandbox: str) -> None:
    with guarded.policies(sandbox_policy("none")):
        eventually(lambda: not write(guarded, sandbox, asking(rule())).ok, "the policy is seen")
        answer = write(guarded, sandbox, asking(rule()))
        assert "accepted are no rules" in answer.message, answer.message
        answer = write(guarded, sandbox, objects.agent(identity={"tokens": [{"audience": "vault", "path": "t"}]}))
        assert "accepted are no tokens" in answer.message, answer.message


def test_admission_agrees_with_the_plan_on_ceilings_for_any_rules(guarded: Guarded) -> None:
    chance = random.Random(7)  # noqa: S311 (cases, not secrets)
    offers = [[some_rule(chance, tame=True) for _ in range(chance.randint(1, 4))] for _ in range(6)]
    said = {True: 0, False: 0}
    for number, offered in enumerate(offers):
        policy = sandbox_policy(f"any-{number}", identity={"kubernetesApi": {"rules": offered}})
        with guarded.sandbox() as namespace, guarded.policies(policy):
            eventually(lambda n=namespace, o=offered: write(guarded, n, asking(o[0])).ok, "the policy is seen")  # type: ignore[misc]
            for _ in range(30):
                given = some_rule(chance, tame=True)
                if chance.random() < 0.6:
                    # Something of what is offered, so that not nearly all of it is refused.
                    part = chance.choice(offered)
                    given = {**part, "verbs": some(chance, part["verbs"], 1), "resources": given["resources"][:1]}
                    given["resources"] = chance.choice([given["resources"], some(chance, part["resources"], 1)])
                wanted = not access.covered([plain(given)], list(map(plain, offered)))
                answer = write(guarded, namespace, asking(given))
                assert answer.ok is wanted, f"{given} of {offered}: {answer.message}"
                assert write_role(guarded, namespace, given).ok is wanted, f"{given} of {offered}"
                said[wanted] += 1
    assert min(said.values()) > 30, "both answers were seen"


def test_many_rules_under_many_policies_stay_within_the_cost_limits(guarded: Guarded, sandbox: str) -> None:
    def spread(number: int) -> list[str]:
        return [f"kind{number}x{other}" for other in range(16)]

    offered = [rule(["example.com", f"g{n}.example.com"], spread(n), ["get", "list", "watch"]) for n in range(32)]
    policies = [sandbox_policy(f"many-{n}", identity={"kubernetesApi": {"rules": offered}}) for n in range(16)]
    with guarded.policies(*policies):
        eventually(lambda: write(guarded, sandbox, asking(offered[31])).ok, "the policies are seen")
        began = time.monotonic()
        # Whole rules, and rules of which each part lies in another rule of the policy.
        scattered = [rule("example.com", [spread(n)[0], spread(n + 16)[0]], ["get", "list"]) for n in range(16)]
        answer = write(guarded, sandbox, asking(*offered[:16], *scattered))
        print(f"an agent of 32 rules under 16 policies of 32 rules: {time.monotonic() - began:.2f} s")
        assert answer.ok, answer.message
        answer = write_role(guarded, sandbox, *offered[:16], *scattered)
        assert answer.ok, answer.message
        answer = write(guarded, sandbox, asking(*offered[:16], *scattered[:15], rule("example.com", "other", "get")))
        assert refused_by(answer) == "agent-identity" and "get other" in answer.message, answer.message
