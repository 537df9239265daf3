from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.identity import Identity
from tests import identity_specs, specs
from tests.policy_specs import NEAR_MISSES, mutated


def problems(raw: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name="agent")
    return refused.value.problems


@pytest.mark.parametrize("case", identity_specs.REFUSED.values(), ids=identity_specs.REFUSED.keys())
def test_a_bad_identity_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    assert any(sentence.startswith((f"{case.path}:", f"{case.path} ")) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found


@pytest.mark.parametrize("spec, path", identity_specs.UNKNOWN_FIELDS.values(), ids=identity_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_an_identity_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", identity_specs.ACCEPTED.values(), ids=identity_specs.ACCEPTED.keys())
def test_a_good_identity_is_accepted(spec: specs.Spec) -> None:
    parse_spec(spec, name="agent")


def test_without_an_identity_section_the_agent_has_no_rights_and_no_token() -> None:
    assert parse_spec(specs.minimal(), name="agent").identity == Identity(tokens=[])
    assert parse_spec(specs.minimal(), name="agent").identity.kubernetes_api is None


def test_tokens_live_ten_minutes_unless_said_otherwise() -> None:
    spec = parse_spec(
        identity_specs.identity(
            kubernetesApi={"rules": [identity_specs.rule()]}, tokens=[{"audience": "a", "path": "p"}]
        ),
        name="agent",
    )
    assert spec.identity.kubernetes_api is not None
    assert (spec.identity.kubernetes_api.token_seconds, spec.identity.tokens[0].expiration_seconds) == (600, 600)


@given(identity_specs.specs_with_identities())
def test_every_identity_that_the_strategy_makes_is_accepted(raw: specs.Spec) -> None:
    parse_spec(raw, name="agent")


@given(mutated(identity_specs.specs_with_identities(), st.one_of(NEAR_MISSES, specs.json_values)))
def test_whatever_an_identity_holds_is_either_accepted_or_refused_in_bounded_sentences(raw: Any) -> None:
    try:
        parse_spec(raw, name="agent")
    except InvalidSpec as error:
        assert error.problems
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
