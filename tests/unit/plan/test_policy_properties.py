"""What must hold for any policies and any spec, decided with nothing but `ipaddress`."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import AgentDeploymentSpec, parse_spec
from bulkhead.api.floor import FLOOR, SHARED_ADDRESS_SPACE
from bulkhead.api.network import EgressTo, IngressFrom
from bulkhead.plan import policy
from bulkhead.plan.addresses import Table
from bulkhead.plan.policy import Policy, Violation
from tests.network_specs import specs_with_networks
from tests.policy_specs import policies as valid_policies
from tests.specs import Spec, minimal
from tests.unit.plan.policies import (
    IpNetwork,
    bounds_of,
    broken_policy,
    namespace,
    nodes,
    raw_policy,
    refused,
    remains,
    touch,
)

# Networks that meet each other, the floor and the nodes often.
_bases = st.sampled_from(
    [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "100.64.0.0/10",
        "100.64.0.0/11",
        "100.100.100.0/24",
        "100.100.0.0/16",
        "169.254.0.0/15",
        "203.0.113.0/24",
        "::/0",
        "2001::/16",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "fd00::/8",
        "fe00::/8",
    ]
)
NODES = ("10.1.2.3", "203.0.113.9", "2001:db8:1::7")


@st.composite
def parts(draw: st.DrawFn, cidr: str, *, deepest: int = 4) -> str:
    """A network in a network, or the network itself."""
    whole = ipaddress.ip_network(cidr)
    longer = min(draw(st.integers(0, deepest)), whole.max_prefixlen - whole.prefixlen)
    room = whole.max_prefixlen - whole.prefixlen - longer
    offset = draw(st.integers(0, 2**longer - 1)) << room
    return str(type(whole)((int(whole.network_address) + offset, whole.prefixlen + longer)))


_cidrs = _bases.flatmap(parts)
_narrow = _bases.filter(lambda cidr: "/0" not in cidr).flatmap(parts)
_shared = st.just(SHARED_ADDRESS_SPACE).flatmap(lambda cidr: parts(cidr, deepest=2))
_NAMES = ["tools", "shop", "prod"]
_namespaces = st.one_of(st.just(_NAMES), st.just(_NAMES), st.lists(st.sampled_from(_NAMES), unique=True))


def seldom(strategy: st.SearchStrategy[Any], *, else_: Any) -> st.SearchStrategy[Any]:
    """One in six: what refuses most of all that is asked for would leave little to accept."""
    return st.integers(0, 5).flatmap(lambda drawn: strategy if drawn == 5 else st.just(else_))


_teams = st.sampled_from([{"matchLabels": {"team": "a"}}, {"matchLabels": {"team": "b"}}])


@st.composite
def raw_policies(draw: st.DrawFn) -> Spec:
    network = st.fixed_dictionaries(
        {
            "egressCIDRs": seldom(st.lists(_cidrs, unique=True, max_size=4), else_=["0.0.0.0/0", "::/0"]),
            "namespaces": _namespaces,
            "clusterDNS": seldom(st.just(False), else_=True),
            "openSharedAddressSpace": st.lists(_shared, unique=True, max_size=3),
        }
    )
    production = st.fixed_dictionaries(
        {},
        optional={
            "cidrs": st.lists(_narrow, unique=True, max_size=3),
            "namespaceSelector": seldom(
                st.just({"matchLabels": {"team": "a"}}), else_={"matchLabels": {"env": "prod"}}
            ),
            "canaries": st.just([{"name": "db", "address": "203.0.113.77", "port": 5432}]),
        },
    )
    workload = st.fixed_dictionaries(
        {},
        optional={
            "registries": st.sampled_from([["r.example/"], ["docker.io"], ["registry.example"]]),
            "requireDigest": st.booleans(),
            "maxReplicas": st.integers(0, 2),
            "runtimeClasses": st.just(["gvisor"]),
            "requiredNodeLabels": st.sampled_from([{"zone": "a"}, {"zone": "b"}, {}]),
        },
    )
    drawn: Spec = draw(
        st.fixed_dictionaries(
            {"network": network},
            optional={
                "production": production,
                "workload": seldom(workload, else_={}),
                "isolation": st.fixed_dictionaries(
                    {},
                    optional={
                        "mode": st.sampled_from(["Continuous", "AtStart"]),
                        "intervalSeconds": st.integers(5, 300),
                    },
                ),
                "namespaceSelector": seldom(_teams, else_={}),
            },
        )
    )
    return drawn


@st.composite
def policies(draw: st.DrawFn, *, least: int = 1) -> list[Policy]:
    raw = draw(st.lists(raw_policies(), min_size=least, max_size=4))
    found = [policy.parse(raw_policy(f"p{index}", **one)) for index, one in enumerate(raw)]
    assert all(one.spec is not None for one in found)
    return found


OTHERS = (namespace("prod", env="prod"), namespace("tools"), namespace("shop", team="a"))


def closed_by(of: list[Policy], *, team: str | None) -> list[IpNetwork]:
    """What must never be reached, from what was written alone: production, the floor without openings, the nodes."""
    applying = [one.spec for one in of if one.spec is not None and _selected(one, team)]
    texts = [cidr for spec in applying for cidr in spec.production.cidrs]
    texts += [canary.address for spec in applying for canary in spec.production.canaries]
    texts += [entry.cidr for entry in FLOOR if not entry.openable]
    texts += NODES
    # A part of the shared address space is closed as soon as one policy does not open it.
    still = [
        part for spec in applying for part in remains(SHARED_ADDRESS_SPACE, spec.network.open_shared_address_space)
    ]
    return [*(ipaddress.ip_network(text) for text in texts), *still]


def _selected(one: Policy, team: str | None) -> bool:
    assert one.spec is not None
    wanted = one.spec.namespace_selector.match_labels
    return not wanted or wanted == {"team": team}


_mostly = st.integers(0, 5).map(bool)


@st.composite
def _peers(draw: st.DrawFn, of: list[Policy], closed: list[IpNetwork]) -> dict[str, Any]:
    """Networks, mostly without what is closed in them, or without all of that but one."""
    opened = sorted({cidr for one in of if one.spec for cidr in one.spec.network.open_shared_address_space})
    cidr = draw(st.one_of(_cidrs, _cidrs, _shared, st.sampled_from(opened)) if opened else _cidrs)
    whole = ipaddress.ip_network(cidr)
    around = [one for one in closed if touch(one, whole) and one.prefixlen <= whole.prefixlen]
    widened: bool = draw(_mostly)
    if around and widened:
        # A network that lies in something closed is always refused; one around it is not.
        closest = min(one.prefixlen for one in around)
        whole = whole.supernet(new_prefix=draw(st.integers(0, max(closest - 1, 0))))
        cidr = str(whole)
    excepts: list[str] = []
    if draw(_mostly):
        excepts = [str(one) for one in closed if touch(one, whole) and one.prefixlen > whole.prefixlen]
    careless: bool = draw(st.booleans())
    if excepts and careless:
        excepts.remove(draw(st.sampled_from(excepts)))
    excepts += [one for one in draw(st.lists(parts(cidr), max_size=2)) if one != cidr]
    return {"cidr": cidr, "except": excepts[:64]}


_named_peers = st.one_of(
    st.sampled_from(["lab", "tools", "shop", "prod"]).map(lambda name: {"service": f"{name}/search"}),
    st.sampled_from([None, "lab", "prod", "tools"]).map(
        lambda name: {"pods": {"labels": {"a": "b"}, **({"namespace": name} if name else {})}}
    ),
)


@st.composite
def specs(draw: st.DrawFn, of: list[Policy], team: str | None) -> AgentDeploymentSpec:
    """Specs that ask for networks and namespaces which the policies are about."""
    closed = closed_by(of, team=team)
    rare_names = st.one_of(_peers(of, closed), _peers(of, closed), _named_peers)
    egress = [
        {"to": peer, "ports": [] if "service" in peer else [{"port": 443}]}
        for peer in draw(st.lists(rare_names, min_size=1, max_size=2))
    ]
    ingress = [{"from": peer} for peer in draw(st.lists(_peers(of, closed), max_size=1))]
    dns = draw(st.sampled_from(["None", "None", "None", "Cluster"]))
    network = {"egress": egress, "ingress": ingress, "dns": dns}
    return parse_spec(
        minimal(replicas=draw(st.integers(0, 2)), ports=[{"containerPort": 80}], network=network), name="scout"
    )


class Case(NamedTuple):
    """Policies, the team of the agent's namespace, and what the agent asks for."""

    policies: list[Policy]
    team: str | None
    spec: AgentDeploymentSpec

    @property
    def labels(self) -> dict[str, str]:
        return {"team": self.team} if self.team else {}


@st.composite
def cases(draw: st.DrawFn, *, least: int = 1) -> Case:
    of, team = draw(policies(least=least)), draw(st.sampled_from([None, "a", "b"]))
    return Case(of, team, draw(specs(of, team)))


@st.composite
def any_cases(draw: st.DrawFn) -> Case:
    """With specs that have nothing to do with the policies."""
    of, team = draw(policies()), draw(st.sampled_from([None, "a", "b"]))
    return Case(of, team, parse_spec(draw(specs_with_networks()), name="scout"))


def judged(spec: AgentDeploymentSpec, *of: Policy, **labelled: str) -> tuple[Violation, ...]:
    return refused(spec, bounds_of(*of, others=OTHERS, labels=labelled), reserved=nodes(*NODES))


def peers_of(spec: AgentDeploymentSpec) -> list[EgressTo | IngressFrom]:
    return [*(rule.to for rule in spec.network.egress), *(entry.from_ for entry in spec.network.ingress)]


def asked(spec: AgentDeploymentSpec) -> list[IpNetwork]:
    return [part for peer in peers_of(spec) if peer.cidr is not None for part in remains(peer.cidr, peer.except_)]


@settings(max_examples=200, deadline=None)
@given(st.one_of(cases(), cases(), any_cases()))
def test_no_accepted_spec_reaches_production_the_floor_or_a_node(case: Case) -> None:
    if judged(case.spec, *case.policies, **case.labels):
        return
    closed = closed_by(case.policies, team=case.team)
    assert not [(str(part), str(one)) for part in asked(case.spec) for one in closed if touch(part, one)]


@settings(max_examples=75, deadline=None)
@given(st.one_of(cases(), any_cases()))
def test_what_reaches_nothing_closed_is_not_refused_for_that(case: Case) -> None:
    closed = closed_by(case.policies, team=case.team)
    applying = [one for one in case.policies if _selected(one, case.team)]
    if applying and not any(touch(part, one) for part in asked(case.spec) for one in closed):
        found = judged(case.spec, *case.policies, **case.labels)
        assert not [one for one in found if " reaches " in one.message]


@settings(max_examples=75, deadline=None)
@given(cases())
def test_no_accepted_spec_names_what_a_policy_does_not_let_it_name(case: Case) -> None:
    if judged(case.spec, *case.policies, **case.labels):
        return
    applying = [one.spec for one in case.policies if one.spec is not None and _selected(one, case.team)]
    assert applying
    wanted = case.spec.network
    for peer in peers_of(case.spec):
        service = peer.service if isinstance(peer, EgressTo) else None
        name = service.split("/")[0] if service else peer.pods.namespace if peer.pods is not None else None
        for ceiling in (one.network for one in applying):
            assert name in (None, "lab", *ceiling.namespaces)
            if peer.cidr is not None:
                whole = ipaddress.ip_network(peer.cidr)
                outer = [ipaddress.ip_network(one) for one in ceiling.egress_cidrs]
                assert any(touch(whole, one) and one.prefixlen <= whole.prefixlen for one in outer)
    assert wanted.dns == "None" or all(one.network.cluster_dns for one in applying)


@st.composite
def asked_of(draw: st.DrawFn) -> tuple[list[Policy], str, list[str]]:
    of = draw(policies())
    cidr = draw(st.one_of(_cidrs, _shared))
    return of, cidr, draw(st.lists(parts(cidr), max_size=3))


@settings(max_examples=300, deadline=None)
@given(asked_of())
def test_closed_is_exactly_what_was_written_to_be(asked: tuple[list[Policy], str, list[str]]) -> None:
    of, cidr, excepts = asked
    bounds = bounds_of(*of)
    if not bounds.policies:
        return
    expected = any(touch(part, one) for part in remains(cidr, excepts) for one in closed_by(of, team=None))

    left_out = [ipaddress.ip_network(one) for one in excepts]
    found = [*bounds.closed.reached(ipaddress.ip_network(cidr), left_out)]
    found += Table((one.network, one) for one in nodes(*NODES)).reached(ipaddress.ip_network(cidr), left_out)
    assert bool(found) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(valid_policies(), min_size=1, max_size=3), specs_with_networks())
def test_every_policy_that_the_api_accepts_can_be_applied(raw: list[Spec], wanted: Spec) -> None:
    of = [policy.parse(raw_policy(f"p{index}", **one)) for index, one in enumerate(raw)]
    assert not [one.problems for one in of if one.problems]

    bounds = bounds_of(*of, others=OTHERS)
    spec = parse_spec(wanted, name="scout")
    if not refused(spec, bounds, reserved=nodes(*NODES)):
        closed = [one.network for one in (*bounds.production, *bounds.floor)]
        assert not any(touch(part, one) for part in asked(spec) for one in closed)


def keys(found: tuple[Violation, ...]) -> set[tuple[str, str]]:
    return {(one.policy, one.field) for one in found}


@settings(max_examples=75, deadline=None)
@given(cases(), policies())
def test_two_sets_of_policies_refuse_together_whatever_either_refuses(case: Case, more: list[Policy]) -> None:
    others = [
        policy.parse(raw_policy(f"q{one.name}", **one.spec.model_dump(by_alias=True))) for one in more if one.spec
    ]
    together = judged(case.spec, *case.policies, *others, **case.labels)
    for of in (case.policies, others):
        # Where none applies, the whole floor is closed, and nothing is accepted: no policy could be stricter.
        if not any(_selected(one, case.team) for one in of):
            continue
        alone = judged(case.spec, *of, **case.labels)
        assert keys(alone) <= keys(together)
        # To the word, but for what the policies close together.
        assert {one for one in alone if one.policy and one.field.startswith("spec.network")} <= set(together)


@settings(max_examples=75, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_policies_does_not_matter(case: Case, random: Any) -> None:
    shuffled = random.sample(case.policies, len(case.policies))

    expected = bounds_of(*case.policies, others=OTHERS, labels=case.labels)
    assert bounds_of(*shuffled, others=OTHERS, labels=case.labels) == expected
    assert judged(case.spec, *shuffled, **case.labels) == judged(case.spec, *case.policies, **case.labels)


@settings(max_examples=75, deadline=None)
@given(cases(least=0))
def test_a_policy_that_cannot_be_understood_is_never_weaker_than_none(case: Case) -> None:
    without = judged(case.spec, *case.policies, **case.labels)
    with_it = judged(case.spec, *case.policies, broken_policy(), **case.labels)

    assert with_it
    assert keys(tuple(one for one in without if one.policy)) <= keys(with_it)
    bounds = bounds_of(*case.policies, broken_policy(), labels=case.labels)
    assert bounds.continuous
    assert "broken" in bounds.cluster_dns
    assert {one.network for one in bounds.floor} >= {one.network for one in bounds_of().floor}


@settings(max_examples=75, deadline=None)
@given(policies(), _cidrs)
def test_with_the_exceptions_that_are_suggested_nothing_closed_is_reached(of: list[Policy], cidr: str) -> None:
    def asking(excepts: list[str]) -> AgentDeploymentSpec:
        peer = {"cidr": cidr, "except": excepts}
        return parse_spec(minimal(network={"egress": [{"to": peer, "ports": [{"port": 443}]}]}), name="scout")

    found = [one.message for one in judged(asking([]), *of) if " reaches " in one.message]
    suggested = [re.search(rf"accepted is {cidr} with (.+) in its except", message) for message in found]
    if not all(suggested) or any(" more" in one[1] for one in suggested if one):
        return
    excepts = [one for words in suggested if words for one in re.split(r", | and ", words[1])]
    assert not [one for one in judged(asking(excepts), *of) if " reaches " in one.message]


KINDS = {
    "accepted beside something closed": (True, True),
    "accepted elsewhere": (True, False),
    "refused beside something closed": (False, True),
    "refused elsewhere": (False, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_strategies_make_cases_of_each_kind(kind: str) -> None:
    accepted, beside = KINDS[kind]

    def is_one(case: Case) -> bool:
        closed = closed_by(case.policies, team=case.team)
        wanted = [ipaddress.ip_network(rule.to.cidr) for rule in case.spec.network.egress if rule.to.cidr is not None]
        around = any(touch(one, other) for one in wanted for other in closed)
        found = judged(case.spec, *case.policies, **case.labels)
        return bool(asked(case.spec)) and around == beside and bool(found) != accepted

    find(cases(), is_one, settings=settings(phases=[Phase.generate], max_examples=500))
