"""Which rules an agent may ask for: the floor, and what a policy offers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec
from bulkhead.api.identity import PolicyRule
from bulkhead.plan import access, accessfloor
from bulkhead.plan.access import Atom, Rule
from tests import access_spellings as spellings
from tests.access_spellings import CLOSED, INSIDE, MEANINGLESS, OVER, r
from tests.unit.plan.policies import spec_of


def read(*rules: dict[str, Any]) -> list[Rule]:
    return [Rule.of(PolicyRule.model_validate(rule)) for rule in rules]


def test_there_are_two_hundred_spellings() -> None:
    assert len(INSIDE) + len(OVER) + len(CLOSED) >= 200


@pytest.mark.parametrize("case", INSIDE)
def test_what_is_inside_of_an_offer_is_accepted(case: str) -> None:
    one = INSIDE[case]
    assert access.refused(read(*one.asked)) == ()
    assert access.covered(read(*one.asked), read(*one.offered)) == ()


@pytest.mark.parametrize("case", OVER)
def test_what_goes_beyond_an_offer_is_missing(case: str) -> None:
    one = OVER[case]
    assert access.covered(read(*one.asked), read(*one.offered))


@pytest.mark.parametrize("case", CLOSED)
def test_the_floor_is_refused_whatever_is_offered(case: str) -> None:
    asked = read(*CLOSED[case].asked)
    found = access.refused(asked)
    assert found
    assert all("accepted" in one.why for one in found)
    assert access.covered(asked, asked) == ()


@pytest.mark.parametrize("case", MEANINGLESS)
def test_what_only_seems_to_mean_something_is_refused_with_advice(case: str) -> None:
    rule, _ = MEANINGLESS[case]
    try:
        spec = spec_of(identity={"kubernetesApi": {"rules": [rule]}})
    except InvalidSpec as error:
        assert "accepted" in " ".join(error.problems)
    else:
        asked = spec.identity.kubernetes_api
        assert asked is not None
        assert access.refused([Rule.of(one) for one in asked.rules])


REFUSALS = {
    "a resource by name": (
        r("get list", "configmaps secrets"),
        "[0].resources",
        "get and list of secrets in the core group may never be asked for: Secrets hold what others are trusted with, "
        "and the tokens of service accounts; accepted is a credential in spec.credentials",
    ),
    "every resource": (
        r("get", "*", "events.k8s.io rbac.authorization.k8s.io"),
        "[0].resources",
        "get of '*' in rbac.authorization.k8s.io may never be asked for: Roles and bindings decide what everybody may "
        "do; accepted is a rule for what is needed itself",
    ),
    "a subresource of every resource": (
        r("create", "*/token"),
        "[0].resources",
        "create of '*/token' (serviceaccounts/token) in the core group may never be asked for: a token is the account "
        "that it was made for; accepted is a token in spec.identity.tokens",
    ),
    "a verb": (
        r("get escalate", "widgets", "toys.example"),
        "[0].verbs",
        "'escalate' may never be asked for: a verb beyond reading and writing is a right of its own kind; accepted are "
        "get, list, watch, create, update, patch, delete and deletecollection",
    ),
    "every verb": (
        r("*", "widgets", "toys.example"),
        "[0].verbs",
        "'*' may never be asked for: it stands for escalate, bind and impersonate too; accepted are "
        "get, list, watch, create, update, patch, delete and deletecollection",
    ),
    "every group": (
        r("get", "widgets", "*"),
        "[0].apiGroups",
        "'*' may never be asked for: it stands for rbac.authorization.k8s.io and bulkhead.dev too; accepted are groups "
        "by name, '' for the core group",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_why_and_what_would_be_accepted(case: str) -> None:
    rule, field, why = REFUSALS[case]
    (found,) = access.refused(read(rule))
    assert (found.field, found.why) == (field, why)


def test_a_refusal_names_the_rule_that_it_is_about() -> None:
    asked = read(r("get", "configmaps"), r("get", "secrets"), r("get", "services"), r("create", "pods"))
    assert [one.field for one in access.refused(asked)] == ["[1].resources", "[3].resources"]


def test_every_core_resource_is_refused_for_each_part_of_the_floor_that_it_stands_for() -> None:
    words = " ".join(one.why for one in access.refused(read(r("create", "*"))))
    for resource in ("secrets", "pods/exec", "pods, ", "serviceaccounts/token", "services", "events", "namespaces"):
        assert resource in words


def test_what_is_missing_is_told_atom_by_atom() -> None:
    asked = read(r("get delete", "configmaps pods/log", spellings.CORE, "a b"))
    offered = read(r("get", "*"), r("delete", "configmaps", spellings.CORE, "a"))
    assert access.covered(asked, offered) == (
        Atom("", "configmaps", "delete", "b"),
        Atom("", "pods/log", "delete", "a"),
        Atom("", "pods/log", "delete", "b"),
    )
    assert str(Atom("", "configmaps", "delete", "b")) == "delete configmaps of the core group, named b"
    assert str(Atom("batch", "jobs", "get")) == "get jobs of batch"
    assert str(Atom("*", "*", "get")) == "get * of every group"


def test_of_very_much_that_is_missing_only_a_part_is_told() -> None:
    asked = read(*(r(spellings.EVERY, "configmaps services"),) * 3)
    assert len(access.covered(asked, [])) == access.MISSING_SHOWN


def test_the_largest_rules_that_there_can_be_are_measured_in_a_moment() -> None:
    many = [f"resource{number}" for number in range(32)]
    groups, names = [f"g{number}.example" for number in range(16)], [f"n{number}" for number in range(32)]
    verbs = [f"verb{chr(97 + number)}" for number in range(16)]
    whole = Rule(groups=tuple(groups), resources=tuple(many), verbs=tuple(verbs), names=tuple(names))
    # Each rule of the offer has one name, so that no rule has all of them, and each atom is in exactly one.
    offered = [Rule(groups=whole.groups, resources=whole.resources, verbs=whole.verbs, names=(name,)) for name in names]
    began = time.thread_time()
    assert access.covered([whole], offered) == ()
    # A quarter of a million atoms; it takes a tenth of a second by itself.
    assert time.thread_time() - began < 2.0


words = st.sampled_from(["a", "b", "c", "*"])
paths = st.sampled_from(["a", "b", "a/x", "b/x", "a/y", "*/x", "*/y", "*"])
some_rules = st.lists(
    st.builds(
        Rule,
        groups=st.lists(words, min_size=1, max_size=3).map(tuple),
        resources=st.lists(paths, min_size=1, max_size=3).map(tuple),
        verbs=st.lists(words, min_size=1, max_size=3).map(tuple),
        names=st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
    ),
    max_size=4,
)


def allows(rules: list[Rule], group: str, resource: str, verb: str, name: str) -> bool:
    """What RBAC's authorizer does with one request (`rbac.RuleAllows`), written down once more."""
    subresource = resource.partition("/")[2]
    return any(
        ("*" in rule.verbs or verb in rule.verbs)
        and ("*" in rule.groups or group in rule.groups)
        and (
            "*" in rule.resources
            or resource in rule.resources
            or (subresource and f"*/{subresource}" in rule.resources)
        )
        and (not rule.names or name in rule.names)
        for rule in rules
    )


# One word of each kind, z, that no rule names: it stands for all that only a wildcard can mean.
REQUESTS = [
    (group, resource, verb, name)
    for group in "abz"
    for resource in ("a", "z", "a/x", "b/y", "z/x", "z/z")
    for verb in "abz"
    for name in ("a", "b", "z", "")
]


@given(some_rules, some_rules)
def test_nothing_is_accepted_that_allows_more_than_the_offer(asked: list[Rule], offered: list[Rule]) -> None:
    if access.covered(asked, offered) == ():
        for request in REQUESTS:
            assert not allows(asked, *request) or allows(offered, *request)


@given(some_rules)
def test_every_rule_is_inside_of_itself_and_of_everything(rules: list[Rule]) -> None:
    everything = Rule(groups=("*",), resources=("*",), verbs=("*",))
    assert access.covered(rules, rules) == ()
    assert access.covered(rules, [everything]) == ()


@given(some_rules, some_rules, some_rules)
def test_a_further_rule_on_offer_takes_nothing_away(asked: list[Rule], offered: list[Rule], more: list[Rule]) -> None:
    if access.covered(asked, offered) == ():
        assert access.covered(asked, [*more, *offered]) == ()


def test_the_floor_is_plain_data_that_can_be_written_down_elsewhere() -> None:
    assert all(one.groups and one.resources and one.verbs and one.why and one.accepted for one in accessfloor.FLOOR)
    assert all("*" not in (*one.groups, *one.verbs) for one in accessfloor.FLOOR)
    assert all(one.resources == ("*",) or "*" not in "".join(one.resources) for one in accessfloor.FLOOR)
    assert all(set(one.verbs) <= set(accessfloor.VERBS) for one in accessfloor.FLOOR)


@pytest.mark.parametrize(
    "closed", accessfloor.FLOOR, ids=lambda one: f"{one.groups[0]} {one.resources[0]} {one.verbs[0]}"
)
def test_each_entry_of_the_floor_is_refused_in_each_of_its_parts(closed: accessfloor.Closed) -> None:
    for group in closed.groups:
        for resource in closed.resources if closed.resources != accessfloor.ANY else ("widgets", "widgets/status"):
            for verb in closed.verbs:
                assert access.refused([Rule(groups=(group,), resources=(resource,), verbs=(verb,))])
