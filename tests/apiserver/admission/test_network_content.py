"""What a NetworkPolicy of a sandbox namespace may say, whoever writes it: tried as the operator and as break-glass."""

from __future__ import annotations

import ipaddress
import random
import time

import pytest

from bulkhead.api.floor import FLOOR
from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import NETWORK, block, egress
from tests.apiserver.rest import Answer
from tests.operator_process import eventually

POLICIES = f"{NETWORK}/networkpolicies"
NAME = "kubernetes.io/metadata.name"
CLOSED = [entry.cidr for entry in FLOOR if not entry.openable]


def write(guarded: Guarded, namespace: str, policy: Object) -> Answer:
    """Sends it as the operator, whom no guard refuses a NetworkPolicy, as that of an agent."""
    return guarded.send(guarded.operator, Request("POST", POLICIES, of_agent(policy)), namespace)


def of_agent(policy: Object) -> Object:
    """The policy as that of an agent: its name and its owner are."""
    return objects.owned({**policy, "metadata": {**policy["metadata"], "name": "agent-scout"}})


def pods(namespace: str | None = None, **labels: str) -> Object:
    peer: Object = {"podSelector": {"matchLabels": labels}}
    return peer if namespace is None else {**peer, "namespaceSelector": {"matchLabels": {NAME: namespace}}}


ACCEPTED = {
    "the deny-all": objects.network_policy(),
    "pods of its own namespace": egress(pods(app="search")),
    "pods of one other namespace": egress(pods("tools", app="search")),
    "a network": egress(block("203.0.113.0/24")),
    "a network of the other family": egress(block("2001:db8::/32")),
    "a network with a part left out": egress(block("203.0.113.0/24", "203.0.113.128/25")),
    "every address but the floor": egress(
        block("0.0.0.0/0", *(cidr for cidr in [*CLOSED, "100.64.0.0/10"] if ":" not in cidr)),
        block("::/0", *(cidr for cidr in CLOSED if ":" in cidr)),
    ),
    "callers by label": objects.network_policy(ingress=[{"from": [pods(app="caller")]}]),
}
REFUSED = {
    "everything, by an empty rule": (objects.network_policy(egress=[{}]), "at least one peer"),
    "everything, by an empty list": (objects.network_policy(egress=[{"to": []}]), "at least one peer"),
    "everybody, as callers": (objects.network_policy(ingress=[{}]), "at least one peer"),
    "every pod of its namespace": (egress({"podSelector": {}}), "podSelector with matchLabels"),
    "every namespace": (egress({"namespaceSelector": {}}), "podSelector with matchLabels"),
    "a label in every namespace": (
        egress({"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}),
        "the one label",
    ),
    "namespaces by another label": (
        egress({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"a": "b"}}}),
        "the one label",
    ),
    "namespaces by an expression": (
        egress(
            {
                "namespaceSelector": {"matchExpressions": [{"key": NAME, "operator": "Exists"}]},
                "podSelector": {"matchLabels": {"a": "b"}},
            }
        ),
        "the one label",
    ),
    "pods by an expression alone": (
        egress({"podSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}),
        "podSelector with matchLabels",
    ),
    "one good peer and a bad one": (egress(pods(app="x"), {"namespaceSelector": {}}), "accepted as a peer"),
    "the metadata block": (egress(block("169.254.169.254/32")), "169.254.0.0/16"),
    "a rule that drops the metadata block": (
        egress(block("0.0.0.0/0", *(c for c in [*CLOSED, "100.64.0.0/10"] if ":" not in c and c != "169.254.0.0/16"))),
        "reaches 169.254.0.0/16 (link-local",
    ),
    "a part of the metadata block left in": (
        egress(block("169.0.0.0/8", "169.254.0.0/17")),
        "reaches 169.254.0.0/16",
    ),
    "callers from the metadata block": (
        objects.network_policy(ingress=[{"from": [block("169.254.0.0/16")]}]),
        "reaches 169.254.0.0/16",
    ),
    "Alibaba's metadata inside of an opened range": (egress(block("100.100.0.0/16")), "100.100.100.200/32"),
}


@pytest.mark.parametrize("policy", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_plan_writes_is_accepted(guarded: Guarded, sandbox: str, policy: Object) -> None:
    answer = write(guarded, sandbox, policy)
    assert answer.ok, answer.message


@pytest.mark.parametrize(("policy", "complaint"), REFUSED.values(), ids=REFUSED)
def test_what_could_reach_the_floor_or_anybody_is_refused(
    guarded: Guarded, sandbox: str, policy: Object, complaint: str
) -> None:
    for who in (guarded.operator, guarded.break_glass):
        answer = guarded.send(who, Request("POST", POLICIES, of_agent(policy)), sandbox)
        assert refused_by(answer) == "network-floor" and complaint in answer.message, answer.message


@pytest.mark.parametrize("entry", [one for one in FLOOR if not one.openable], ids=lambda one: str(one.cidr))
def test_each_entry_of_the_floor_is_refused_by_itself_from_above_and_from_inside(
    guarded: Guarded, sandbox: str, entry: object
) -> None:
    network = ipaddress.ip_network(entry.cidr)  # type: ignore[attr-defined]
    inside = ipaddress.ip_network(network.broadcast_address)
    for cidr in {network, network.supernet(), inside}:
        answer = write(guarded, sandbox, egress(block(str(cidr))))
        assert refused_by(answer) == "network-floor", f"{cidr}: {answer.message}"
        assert str(network) in answer.message or str(cidr) != str(network)


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(block("10.0.0.1/8"), id="host bits"),
        pytest.param(block("203.0.0.0/16", "203.0.113.1/24"), id="host bits in an exception"),
        pytest.param(block("::ffff:10.0.0.0/104"), id="IPv4-mapped IPv6"),
        pytest.param(block("10.0.0.0/33"), id="no network"),
    ],
)
def test_a_network_that_is_not_written_in_the_one_way_is_refused(guarded: Guarded, sandbox: str, peer: Object) -> None:
    # Kubernetes 1.36 refuses these itself, earlier ones only warn of some.
    answer = write(guarded, sandbox, egress(peer))
    assert answer.status in (403, 422), answer.message


def test_an_update_is_judged_as_a_creation_is(guarded: Guarded, sandbox: str) -> None:
    # With an owner that does not exist the garbage collector is at times faster than the update.
    owner = guarded.make(objects.AGENTS.replace("{ns}", sandbox), objects.agent(suspend=True))["metadata"]["uid"]
    policy = objects.owned(of_agent(objects.network_policy()), uid=owner)
    guarded.make(POLICIES.replace("{ns}", sandbox), policy, guarded.operator)
    wider = {"spec": {"egress": [{"to": [block("169.254.0.0/16")]}]}}
    answer = guarded.send(guarded.operator, Request("PATCH", f"{POLICIES}/agent-scout", wider, "merge"), sandbox)
    assert refused_by(answer) == "network-floor", answer.message


# --- production, as SandboxPolicies name it ------------------------------------------------------------------

PRODUCTION = {"cidrs": ["10.200.0.0/24", "fd00:10:200::/64"]}


def until_judged(guarded: Guarded, namespace: str, policy: Object) -> None:
    """Waits until admission has seen the SandboxPolicies: it reads them from a cache."""
    eventually(lambda: not write(guarded, namespace, policy).ok, "the SandboxPolicy is seen")


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        pytest.param(block("10.200.0.0/24"), "10.200.0.0/24 reaches 10.200.0.0/24", id="itself"),
        pytest.param(block("10.200.0.7/32"), "10.200.0.7/32 reaches 10.200.0.0/24", id="an address in it"),
        pytest.param(block("10.0.0.0/8"), "10.0.0.0/8 reaches 10.200.0.0/24", id="a network around it"),
        pytest.param(block("10.0.0.0/8", "10.200.0.0/25"), "reaches 10.200.0.0/24", id="half of it left out"),
        pytest.param(block("fd00:10:200::5/128"), "reaches fd00:10:200::/64", id="the other family"),
        pytest.param(block("172.20.9.9/32"), "reaches 172.20.9.9/32", id="a canary"),
        pytest.param(pods("billing", app="db"), "billing is production", id="a production namespace"),
    ],
)
def test_production_is_refused_with_the_policys_name(guarded: Guarded, sandbox: str, peer: Object, told: str) -> None:
    canary = {"name": "db", "address": "172.20.9.9", "port": 5432}
    policy = sandbox_policy(
        "shop",
        status={"productionNamespaces": ["billing"]},
        production={**PRODUCTION, "canaries": [canary], "namespaceSelector": {"matchLabels": {"env": "prod"}}},
    )
    with guarded.policies(policy):
        until_judged(guarded, sandbox, egress(block("10.200.0.0/24")))
        answer = write(guarded, sandbox, egress(peer))
        assert refused_by(answer) == "network-production", answer.message
        assert "SandboxPolicy shop" in answer.message and told in answer.message and "accepted" in answer.message
        for fine in (block("10.0.0.0/8", "10.200.0.0/24"), block("10.201.0.0/24"), pods("tools", app="db")):
            answer = write(guarded, sandbox, egress(fine))
            assert answer.ok, answer.message


def where(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


SELECTORS: dict[str, tuple[Object, bool]] = {
    "an empty selector": ({}, True),
    "a label that it has": ({"matchLabels": {"team": "blue"}}, True),
    "another value": ({"matchLabels": {"team": "red"}}, False),
    "a label that it lacks": ({"matchLabels": {"team": "blue", "tier": "x"}}, False),
    "In": (where("team", "In", "red", "blue"), True),
    "not In": (where("team", "In", "red"), False),
    "NotIn": (where("team", "NotIn", "red"), True),
    "NotIn of a label that it lacks": (where("tier", "NotIn", "x"), True),
    "not NotIn": (where("team", "NotIn", "blue"), False),
    "Exists": (where("team", "Exists"), True),
    "not Exists": (where("tier", "Exists"), False),
    "DoesNotExist": (where("tier", "DoesNotExist"), True),
    "not DoesNotExist": (where("team", "DoesNotExist"), False),
}


@pytest.mark.parametrize(("selector", "selected"), SELECTORS.values(), ids=SELECTORS)
def test_a_policy_applies_to_the_namespaces_that_its_selector_selects(
    guarded: Guarded, selector: Object, selected: bool
) -> None:
    marked = sandbox_policy("marked", production={"cidrs": ["192.0.2.0/24"]})
    tried = sandbox_policy("tried", namespaceSelector=selector, production=PRODUCTION)
    with guarded.sandbox(team="blue") as namespace, guarded.policies(tried, marked):
        until_judged(guarded, namespace, egress(block("192.0.2.0/24")))
        assert write(guarded, namespace, egress(block("10.200.0.0/24"))).ok is not selected


def test_shared_address_space_is_closed_but_where_every_policy_opens_it(guarded: Guarded, sandbox: str) -> None:
    first = sandbox_policy("first", network={"openSharedAddressSpace": ["100.64.0.0/16", "100.70.0.0/16"]})
    second = sandbox_policy("second", network={"openSharedAddressSpace": ["100.64.0.0/12"]})
    with guarded.policies(first, second):
        until_judged(guarded, sandbox, egress(block("100.127.0.0/16")))
        assert write(guarded, sandbox, egress(block("100.64.7.0/24"))).ok
        closed = {
            "100.65.0.0/16": "first",
            "100.96.0.0/16": "",
            "100.64.0.0/10": "",
            "100.0.0.0/8": "",
            "0.0.0.0/1": "",
        }
        for cidr, by in closed.items():
            answer = write(guarded, sandbox, egress(block(cidr)))
            assert not answer.ok and by in answer.message, f"{cidr}: {answer.message}"
        around = egress(block("100.0.0.0/8", "100.64.0.0/10"))
        assert write(guarded, sandbox, around).ok


def test_without_any_policy_the_deny_all_is_written_all_the_same(guarded: Guarded, sandbox: str) -> None:
    assert write(guarded, sandbox, objects.network_policy()).ok


def test_sixty_four_policies_of_sixty_four_networks_stay_within_the_cost_limits(guarded: Guarded, sandbox: str) -> None:
    policies = [
        sandbox_policy(f"many-{i}", production={"cidrs": [f"10.{i}.{j}.0/24" for j in range(64)]}) for i in range(64)
    ]
    with guarded.policies(*policies):
        until_judged(guarded, sandbox, egress(block("10.63.63.1/32")))
        until_judged(guarded, sandbox, egress(block("10.0.0.1/32")))
        # As wide as can be asked for: 32 rules of a network with 64 exceptions, the first policy's production.
        excepts = [f"10.0.{j}.0/24" for j in range(64)]
        rules = [{"to": [block("10.0.0.0/16", *excepts)], "ports": [{"port": 1000 + i}]} for i in range(32)]
        began = time.monotonic()
        answer = write(guarded, sandbox, objects.network_policy(egress=rules))
        print(f"a NetworkPolicy of 32 rules with 64 exceptions under 64 policies: {time.monotonic() - began:.2f} s")
        assert answer.ok, answer.message
        rules = [{"to": [block(f"172.{16 + i % 16}.0.0/16")], "ports": [{"port": 1000 + i}]} for i in range(32)]
        assert write(guarded, sandbox, objects.network_policy(egress=rules, ingress=[])).ok
        answer = write(guarded, sandbox, egress(block("10.63.0.0/16", *(f"10.63.{j}.0/24" for j in range(63)))))
        assert refused_by(answer) == "network-production" and "many-63" in answer.message, answer.message


def test_admission_agrees_with_arithmetic_on_any_networks(guarded: Guarded, sandbox: str) -> None:
    chance = random.Random(4)  # noqa: S311 (cases, not secrets)

    def some_network() -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        if chance.random() < 0.5:
            address = 0x0A000000 + (chance.getrandbits(8) << 16)
            return ipaddress.IPv4Network((address, chance.randint(8, 32)), strict=False)
        address = (0xFD << 120) + (chance.getrandbits(6) << 64)
        return ipaddress.IPv6Network((address, chance.randint(56, 128)), strict=False)

    production = {some_network() for _ in range(24)}
    with guarded.policies(sandbox_policy("any", production={"cidrs": sorted(map(str, production))})):
        until_judged(guarded, sandbox, egress(block(str(next(iter(production))))))
        for _ in range(150):
            asked = some_network()
            reached = {one for one in production if one.version == asked.version and one.overlaps(asked)}
            holes = [one for one in reached if asked.supernet_of(one) and asked != one and chance.random() < 0.8]  # type: ignore[arg-type]
            open_ = {one for one in reached if not any(hole.supernet_of(one) for hole in holes)}  # type: ignore[arg-type]
            answer = write(guarded, sandbox, egress(block(str(asked), *map(str, holes))))
            assert answer.ok is not bool(open_), f"{asked} without {holes}: {answer.message}"
