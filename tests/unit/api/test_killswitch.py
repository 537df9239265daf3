from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.killswitch import InvalidSpec, parse_kill_switch
from bulkhead.api.problems import MAX_PROBLEMS
from tests import killswitch_specs, specs
from tests.policy_specs import NEAR_MISSES, mutated


def problems(raw: Any, name: str = "stop") -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_kill_switch(raw, name=name)
    return refused.value.problems


@pytest.mark.parametrize("case", killswitch_specs.REFUSED.values(), ids=killswitch_specs.REFUSED.keys())
def test_a_bad_kill_switch_is_refused_with_the_path_and_what_would_be_accepted(case: specs.Refused) -> None:
    found = problems(case.spec)
    # A value of a map is below the map.
    starts = (f"{case.path}:", f"{case.path} ", f"{case.path}.")
    assert any(sentence.startswith(starts) for sentence in found), found
    assert case.says is None or any(case.says in sentence for sentence in found), found
    assert all(sentence.endswith((".", "?")) for sentence in found)


@pytest.mark.parametrize(
    "spec, path", killswitch_specs.UNKNOWN_FIELDS.values(), ids=killswitch_specs.UNKNOWN_FIELDS.keys()
)
def test_an_unknown_field_is_refused(spec: specs.Spec, path: str) -> None:
    assert any(sentence.startswith(f"{path} is not a field") for sentence in problems(spec))


@pytest.mark.parametrize("spec", killswitch_specs.ACCEPTED.values(), ids=killswitch_specs.ACCEPTED.keys())
def test_a_good_kill_switch_is_accepted(spec: specs.Spec) -> None:
    parse_kill_switch(spec, name="stop")


@pytest.mark.parametrize("name", killswitch_specs.REFUSED_NAMES.values(), ids=killswitch_specs.REFUSED_NAMES.keys())
def test_a_name_that_does_not_fit_into_a_label_is_refused(name: str) -> None:
    [sentence] = problems(killswitch_specs.switch(all=True), name=name)
    assert sentence.startswith("metadata.name: ")
    assert "up to 63 lower case letters" in sentence


def test_an_empty_selector_is_answered_with_how_everything_is_said() -> None:
    assert problems(killswitch_specs.switch()) == (
        "spec.selector: an object was given; accepted is all: true, or at least one of tenants, workflows, namespaces "
        "and labels; nothing at all is not taken for everything.",
    )


@pytest.mark.parametrize("raw", [None, [], "spec", 7, True], ids=repr)
def test_a_spec_that_is_no_object_is_refused(raw: Any) -> None:
    [sentence] = problems(raw)
    assert sentence.endswith("was given; accepted is an object.")


def test_what_is_not_given_is_told_from_what_is() -> None:
    spec = parse_kill_switch(killswitch_specs.switch(tenants=["acme"]), name="stop")
    selector = spec.selector
    assert (selector.all, selector.tenants, selector.workflows, selector.namespaces, selector.labels) == (
        False,
        ["acme"],
        None,
        None,
        None,
    )
    assert (spec.reason, spec.grace_seconds) == ("it was told to", None)


def test_a_kill_switch_cannot_be_changed() -> None:
    spec = parse_kill_switch(killswitch_specs.switch(all=True), name="stop")
    with pytest.raises(ValueError, match="frozen"):
        spec.selector.all = False


@given(killswitch_specs.switches())
def test_every_kill_switch_that_the_strategy_makes_selects_something(raw: specs.Spec) -> None:
    selector = parse_kill_switch(raw, name="stop").selector
    parts = [selector.tenants, selector.workflows, selector.namespaces, selector.labels]
    assert selector.all != any(part is not None for part in parts)
    assert selector.labels is None or not selector.labels.selects_everything


@given(
    st.one_of(specs.json_values, mutated(killswitch_specs.switches(), st.one_of(NEAR_MISSES, specs.json_values))),
    st.text(max_size=70),
)
def test_whatever_json_holds_selects_something_or_is_refused_in_bounded_sentences(raw: Any, name: str) -> None:
    try:
        selector = parse_kill_switch(raw, name=name).selector
    except InvalidSpec as error:
        assert 0 < len(error.problems) <= MAX_PROBLEMS + 1
        assert all(len(sentence) < 2000 and "\n" not in sentence for sentence in error.problems)
    else:
        assert selector.all or selector.tenants or selector.workflows or selector.namespaces or selector.labels
