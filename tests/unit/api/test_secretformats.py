from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.secretformats import FORMATS, found
from tests import credential_specs
from tests.credential_specs import CREDENTIALS, ORDINARY, UNWRITTEN

PLACES = {"env": credential_specs.environment, "httpHeaders": credential_specs.header, **UNWRITTEN}
LINES = {name: text for name, (text, _) in CREDENTIALS.items() if "\n" not in text}


def problems(raw: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(raw, name="agent")
    return refused.value.problems


@pytest.mark.parametrize("text, says", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_what_holds_a_credential_is_refused_by_its_kind_and_not_repeated(text: str, says: str) -> None:
    format = found(text)
    assert format is not None
    assert says in format.name
    [sentence] = problems(credential_specs.environment(text))
    assert sentence.startswith(f"spec.env[0].value: a string of {len(text)} characters was given; accepted is text ")
    assert format.name in sentence
    assert "spec.credentials" in sentence
    assert text not in sentence


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY.keys())
def test_what_is_ordinary_passes_wherever_it_stands(text: str) -> None:
    assert found(text) is None
    for place, spec in PLACES.items():
        one_line = place in ("httpHeaders", "parameters")
        if place == "env" or (len(text) <= 1024 and not (one_line and "\n" in text)):
            parse_spec(spec(text), name="agent")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", LINES.values(), ids=LINES.keys())
def test_a_credential_is_refused_wherever_a_text_of_the_author_goes(place: str, text: str) -> None:
    [sentence] = problems(PLACES[place](text))
    assert f"{place}" in sentence.split(":")[0]
    assert text not in sentence


def test_each_format_has_a_text_that_it_alone_explains() -> None:
    by_name = {format.name: [text for text, _ in CREDENTIALS.values() if format.found_in(text)] for format in FORMATS}
    assert [name for name, texts in by_name.items() if not texts] == []


def test_every_format_says_where_it_is_described() -> None:
    assert len({format.name for format in FORMATS}) == len(FORMATS)
    for format in FORMATS:
        assert format.source
        assert format.marks


@pytest.mark.parametrize(
    "unit",
    [*[mark for format in FORMATS for mark in format.marks], ":", "://:", "-", "0", "eyJ", "sk-ant-0", "A", " @"],
)
@pytest.mark.parametrize("start", ["", "://", "PRIVATE KEY-----", "sk-ant-", "hvs."])
def test_no_text_keeps_the_search_busy(start: str, unit: str) -> None:
    # A pattern with two ways to divide a text took eight seconds for one value of this length.
    text = start + unit * (16_384 // len(unit))
    began = time.thread_time()
    found(text)
    assert time.thread_time() - began < 2.0


@settings(max_examples=300)
@given(st.text(max_size=40), st.sampled_from(sorted(text for text, _ in CREDENTIALS.values())), st.text(max_size=40))
def test_a_credential_is_found_wherever_it_stands_in_a_text(before: str, text: str, after: str) -> None:
    # What stands against it may belong to it: a word goes on, a URL has another host.
    anywhere = found(f"{before} {text} {after}") is not None
    whole = next(format for format in FORMATS if format.found_in(text)).whole
    excepted = any(format.unless and format.unless in before + after for format in FORMATS)
    assert anywhere or whole or excepted
