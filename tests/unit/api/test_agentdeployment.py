from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.problems import MAX_PROBLEMS
from tests import specs


def problems(raw: Any, name: str = "agent") -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name=name)
    return refused.value.problems


@pytest.mark.parametrize("case", specs.REFUSED.values(), ids=specs.REFUSED.keys())
def test_a_bad_spec_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    assert any(sentence.startswith((f"{case.path}:", f"{case.path} ", f"{case.path}[")) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found
    assert all(sentence.endswith((".", "?")) for sentence in found)


@pytest.mark.parametrize("spec, path", specs.UNKNOWN_FIELDS.values(), ids=specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", specs.ACCEPTED.values(), ids=specs.ACCEPTED.keys())
def test_a_good_spec_is_accepted(spec: specs.Spec) -> None:
    parse_spec(spec, name="agent")


@pytest.mark.parametrize("name", specs.REFUSED_NAMES.values(), ids=specs.REFUSED_NAMES.keys())
def test_a_name_that_does_not_fit_into_a_label_with_a_hash_is_refused(name: str) -> None:
    [sentence] = problems(specs.minimal(), name=name)
    assert sentence.startswith("metadata.name: ")
    assert "up to 52 lower case letters" in sentence


def test_the_name_and_the_spec_are_refused_together() -> None:
    assert [sentence.split(":")[0] for sentence in problems(specs.minimal(replicas=-1), name="A")] == [
        "metadata.name",
        "spec.replicas",
    ]


def test_a_misspelt_field_is_answered_with_the_right_one() -> None:
    assert problems(specs.minimal(suspnd=True)) == ("spec.suspnd is not a field; did you mean suspend?",)


def test_a_misspelt_field_deep_inside_is_answered_with_the_right_one() -> None:
    spec = specs.minimal(placement={"topologySpread": [{"topologyKey": "zone", "maxSkw": 1}]})
    assert problems(spec) == ("spec.placement.topologySpread[0].maxSkw is not a field; did you mean maxSkew?",)


def test_a_field_unlike_any_is_answered_with_all_there_are() -> None:
    [sentence] = problems(specs.minimal(lifetime={"maxSeconds": 1, "zzz": 1}))
    assert sentence == "spec.lifetime.zzz is not a field; accepted are maxSeconds, onExpiry."


def test_what_was_given_is_repeated_but_bounded() -> None:
    [sentence] = problems(specs.minimal(tenant="x" * 1_000_000))
    assert len(sentence) < 300
    assert '"xxxx' in sentence


@pytest.mark.parametrize(
    "spec",
    [
        specs.minimal(env=[{"name": "TOKEN", "value": "hunter2\x00"}]),
        specs.minimal(env=[{"name": "TOKEN", "value": ["hunter2"]}]),
        specs.minimal(env=[{"name": "TOKEN", "value": 2, "valueFrom": "hunter2"}]),
        specs.minimal(env="TOKEN=hunter2"),
        specs.minimal(args=["--password=hunter2\x00"]),
        specs.minimal(command="run --password=hunter2"),
        specs.minimal(
            probes={"readiness": {"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "hunter2\n"}]}}}
        ),
        specs.minimal(probes={"readiness": {"exec": {"command": ["hunter2\x00"]}}}),
    ],
)
def test_a_value_in_which_people_hide_secrets_is_never_repeated(spec: specs.Spec) -> None:
    assert not any("hunter2" in sentence for sentence in problems(spec))


def test_a_thousand_problems_are_counted_and_not_all_listed() -> None:
    found = problems(specs.minimal(env=[{"name": f"{number}", "value": "x"} for number in range(100)]))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "80 more problems are not listed."


@pytest.mark.parametrize("raw", [None, [], "spec", 7, True], ids=repr)
def test_a_spec_that_is_no_object_is_refused(raw: Any) -> None:
    [sentence] = problems(raw)
    assert sentence.endswith("was given; accepted is an object.")


def test_what_is_left_out_has_the_values_that_the_crd_writes_out() -> None:
    spec = parse_spec(specs.minimal(workspace={"size": "1Gi"}, lifetime={"maxSeconds": 60}), name="agent")
    assert spec.suspend is False
    assert spec.suspend_grace_seconds == 5
    assert spec.replicas == 1
    assert spec.scratch == "64Mi"
    assert spec.resources.limits.model_dump(by_alias=True) == {
        "cpu": "500m",
        "memory": "512Mi",
        "ephemeral-storage": "1Gi",
    }
    assert spec.workspace is not None
    assert (spec.workspace.mount_path, spec.workspace.on_delete) == ("/workspace", "Retain")
    assert spec.lifetime is not None
    assert spec.lifetime.on_expiry == "Suspend"


def test_quantities_become_canonical() -> None:
    spec = parse_spec(specs.ACCEPTED["quantities in other spellings"], name="agent")
    assert spec.resources.limits.model_dump(by_alias=True) == {
        "cpu": "1500m",
        "memory": "1536Mi",
        "ephemeral-storage": "2G",
    }
    assert spec.scratch == "1Gi"


def test_a_spec_cannot_be_changed() -> None:
    spec = parse_spec(specs.minimal(), name="agent")
    with pytest.raises(ValueError, match="frozen"):
        spec.suspend = True


@given(specs.valid_specs(), specs.names())
def test_every_spec_that_the_strategy_makes_is_accepted(raw: specs.Spec, name: str) -> None:
    parse_spec(raw, name=name)


@given(st.one_of(specs.json_values, specs.mutated_specs()), st.text(max_size=60))
def test_whatever_json_holds_is_either_accepted_or_refused_in_bounded_sentences(raw: Any, name: str) -> None:
    try:
        parse_spec(raw, name=name)
    except InvalidSpec as error:
        assert 0 < len(error.problems) <= MAX_PROBLEMS + 1
        assert all(len(sentence) < 2000 for sentence in error.problems)
        assert all("\n" not in sentence for sentence in error.problems)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"], ids=["a lone surrogate", "one at the end"])
@pytest.mark.parametrize("field", ["owner", "image", "tenant", "suspendReason", "scratch"])
def test_half_a_surrogate_pair_is_refused_and_does_not_crash(field: str, text: str) -> None:
    json.dumps(problems(specs.minimal(**{field: text}))).encode()


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    raw: Any = "x"
    for _ in range(500):
        raw = {"a": [raw]}
    problems(specs.minimal(placement=raw))
