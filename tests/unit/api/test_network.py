from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.network import Network
from tests import network_specs, specs
from tests.policy_specs import NEAR_MISSES, mutated


def problems(raw: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name="agent")
    return refused.value.problems


@pytest.mark.parametrize("case", network_specs.REFUSED.values(), ids=network_specs.REFUSED.keys())
def test_a_bad_network_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    assert any(sentence.startswith((f"{case.path}:", f"{case.path} ")) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found


@pytest.mark.parametrize("spec, path", network_specs.UNKNOWN_FIELDS.values(), ids=network_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_a_network_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", network_specs.ACCEPTED.values(), ids=network_specs.ACCEPTED.keys())
def test_a_good_network_is_accepted(spec: specs.Spec) -> None:
    parse_spec(spec, name="agent")


def test_without_a_network_section_nothing_leaves_nothing_enters_and_nothing_resolves() -> None:
    assert parse_spec(specs.minimal(), name="agent").network == Network(egress=[], ingress=[], dns="None")


def test_fields_that_python_has_other_words_for_are_spelt_as_in_kubernetes() -> None:
    spec = parse_spec(
        specs.minimal(
            ports=[{"containerPort": 8080}],
            network={
                "egress": [
                    {"to": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, "ports": [{"port": 1, "endPort": 2}]}
                ],
                "ingress": [{"from": {"cidr": "203.0.113.0/24"}}],
            },
        ),
        name="agent",
    )
    [egress], [ingress] = spec.network.egress, spec.network.ingress
    assert egress.to.except_ == ["10.1.0.0/16"]
    assert (egress.ports[0].port, egress.ports[0].end_port, egress.ports[0].protocol) == (1, 2, "TCP")
    assert (ingress.from_.cidr, ingress.ports) == ("203.0.113.0/24", [])


@given(network_specs.specs_with_networks())
def test_every_network_that_the_strategy_makes_is_accepted(raw: specs.Spec) -> None:
    parse_spec(raw, name="agent")


@given(mutated(network_specs.specs_with_networks(), st.one_of(NEAR_MISSES, specs.json_values)))
def test_whatever_a_network_holds_is_either_accepted_or_refused_in_bounded_sentences(raw: Any) -> None:
    try:
        parse_spec(raw, name="agent")
    except InvalidSpec as error:
        assert error.problems
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
