from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.credentials import SECRET_ISSUER, Credential
from tests import credential_specs, specs
from tests.policy_specs import NEAR_MISSES, mutated


def problems(raw: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name="agent")
    return refused.value.problems


def only(raw: specs.Spec) -> Credential:
    [credential] = parse_spec(raw, name="agent").credentials
    return credential


@pytest.mark.parametrize("case", credential_specs.REFUSED.values(), ids=credential_specs.REFUSED.keys())
def test_a_bad_credential_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    starts = (f"{case.path}:", f"{case.path} ", f"{case.path}.")
    assert any(sentence.startswith(starts) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found


@pytest.mark.parametrize(
    "spec, path", credential_specs.UNKNOWN_FIELDS.values(), ids=credential_specs.UNKNOWN_FIELDS.keys()
)
def test_an_unknown_field_of_a_credential_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", credential_specs.ACCEPTED.values(), ids=credential_specs.ACCEPTED.keys())
def test_a_good_credential_is_accepted(spec: specs.Spec) -> None:
    parse_spec(spec, name="agent")


def test_a_credential_lives_a_quarter_of_an_hour_unless_said_otherwise() -> None:
    assert only(credential_specs.credential()).ttl_seconds == 900


@pytest.mark.parametrize(
    "spec, kind, issuer, source",
    [
        (credential_specs.vault("a/b"), "vault", "vault", {"path": "a/b"}),
        (credential_specs.postgres("reader"), "postgres", "warehouse", {"role": "reader"}),
        (
            credential_specs.secret(keys=["a", "b"]),
            "secret",
            SECRET_ISSUER,
            {"namespace": "shared", "name": "api", "keys": ["a", "b"]},
        ),
        (credential_specs.custom({"level": "3"}), "custom", "badges", {"parameters": {"level": "3"}}),
    ],
)
def test_a_credential_tells_its_kind_its_issuer_and_what_is_asked_of_it(
    spec: specs.Spec, kind: str, issuer: str, source: dict[str, Any]
) -> None:
    credential = only(spec)
    assert (credential.kind, credential.issuer, credential.source) == (kind, issuer, source)


@pytest.mark.parametrize("value", ["hunter2\nhunter2", ["hunter2"], "hunter2" * 200])
def test_the_value_of_a_parameter_is_never_repeated(value: Any) -> None:
    assert not any("hunter2" in sentence for sentence in problems(credential_specs.custom({"a": value})))


@given(credential_specs.specs_with_credentials())
def test_every_list_of_credentials_that_the_strategy_makes_is_accepted(raw: specs.Spec) -> None:
    parse_spec(raw, name="agent")


@given(mutated(credential_specs.specs_with_credentials(), st.one_of(NEAR_MISSES, specs.json_values)))
def test_whatever_credentials_hold_is_either_accepted_or_refused_in_bounded_sentences(raw: Any) -> None:
    try:
        parse_spec(raw, name="agent")
    except InvalidSpec as error:
        assert error.problems
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
