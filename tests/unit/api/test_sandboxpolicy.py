from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.problems import MAX_PROBLEMS
from bulkhead.api.sandboxpolicy import InvalidSpec, parse_policy
from tests import policy_specs, specs


def problems(raw: Any, name: str = "default") -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_policy(raw, name=name)
    return refused.value.problems


@pytest.mark.parametrize("case", policy_specs.REFUSED.values(), ids=policy_specs.REFUSED.keys())
def test_a_bad_policy_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    # A value of a map is below the map.
    starts = (f"{case.path}:", f"{case.path} ", f"{case.path}.")
    assert any(sentence.startswith(starts) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found
    assert all(sentence.endswith((".", "?")) for sentence in found)


@pytest.mark.parametrize("spec, path", policy_specs.UNKNOWN_FIELDS.values(), ids=policy_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", policy_specs.ACCEPTED.values(), ids=policy_specs.ACCEPTED.keys())
def test_a_good_policy_is_accepted(spec: specs.Spec) -> None:
    parse_policy(spec, name="default")


@pytest.mark.parametrize("name", policy_specs.REFUSED_NAMES.values(), ids=policy_specs.REFUSED_NAMES.keys())
def test_a_name_that_does_not_fit_into_a_label_is_refused(name: str) -> None:
    [sentence] = problems({}, name=name)
    assert sentence.startswith("metadata.name: ")
    assert "up to 63 lower case letters" in sentence


def test_the_name_and_the_spec_are_refused_together() -> None:
    found = problems({"isolation": {"mode": "Never"}}, name="A")
    assert [sentence.split(":")[0] for sentence in found] == ["metadata.name", "spec.isolation.mode"]


@pytest.mark.parametrize("raw", [None, [], "spec", 7, True], ids=repr)
def test_a_spec_that_is_no_object_is_refused(raw: Any) -> None:
    [sentence] = problems(raw)
    assert sentence.endswith("was given; accepted is an object.")


def test_an_empty_policy_applies_everywhere_names_no_production_and_allows_nothing() -> None:
    spec = parse_policy({}, name="default")
    assert spec.namespace_selector.selects_everything
    assert (spec.production.cidrs, spec.production.namespace_selector, spec.production.canaries) == ([], None, [])
    network = spec.network
    assert (network.egress_cidrs, network.namespaces, network.cluster_dns) == ([], [], False)
    assert network.open_shared_address_space == []
    assert (spec.isolation.mode, spec.isolation.interval_seconds) == ("Continuous", 10)
    assert (spec.identity.kubernetes_api, spec.identity.audiences, spec.identity.max_token_seconds) == (None, [], 3600)
    ceiling = spec.credentials
    assert (ceiling.max_ttl_seconds, ceiling.vault, ceiling.postgres, ceiling.secrets, ceiling.custom) == (
        3600,
        [],
        [],
        [],
        [],
    )


def test_a_bound_that_is_not_given_is_told_from_one_that_is_empty() -> None:
    assert parse_policy({}, name="default").workload.tolerations is None
    assert parse_policy({"workload": {"tolerations": []}}, name="default").workload.tolerations == []


def test_a_misspelt_field_is_answered_with_the_right_one() -> None:
    assert problems({"network": {"egressCidrs": []}}) == (
        "spec.network.egressCidrs is not a field; did you mean egressCIDRs?",
    )


def test_quantities_become_canonical() -> None:
    spec = parse_policy({"workload": {"maxResources": {"cpu": "0.5", "memory": "1024Mi"}}}, name="default")
    assert spec.workload.max_resources is not None
    assert (spec.workload.max_resources.cpu, spec.workload.max_resources.memory) == ("500m", "1Gi")


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"matchLabels": {"a": "b"}},
        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", ""]}]},
        {"matchLabels": {"a": ""}, "matchExpressions": [{"key": "a", "operator": "Exists"}]},
    ],
)
def test_a_selector_is_given_back_as_kubernetes_writes_it(raw: Any) -> None:
    selector = parse_policy({"namespaceSelector": raw}, name="default").namespace_selector
    assert selector.plain() == raw
    assert selector.selects_everything is (raw == {})


def test_a_policy_cannot_be_changed() -> None:
    spec = parse_policy({}, name="default")
    with pytest.raises(ValueError, match="frozen"):
        spec.production.cidrs = []


@given(policy_specs.policies())
def test_every_policy_that_the_strategy_makes_is_accepted(raw: specs.Spec) -> None:
    parse_policy(raw, name="default")


@given(
    st.one_of(specs.json_values, policy_specs.mutated(policy_specs.policies(), policy_specs.NEAR_MISSES)),
    st.text(max_size=70),
)
def test_whatever_json_holds_is_either_accepted_or_refused_in_bounded_sentences(raw: Any, name: str) -> None:
    try:
        parse_policy(raw, name=name)
    except InvalidSpec as error:
        assert 0 < len(error.problems) <= MAX_PROBLEMS + 1
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
