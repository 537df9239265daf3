"""Reading an answer a series at a time gives what reading it at once gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.signals.answers import Document, Malformed, walk

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8)
SERIES = st.dictionaries(st.sampled_from(["metric", "value", "values"]), VALUES)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "status": LEAVES,
        "warnings": st.lists(st.text()),
        "data": st.fixed_dictionaries({}, optional={"resultType": LEAVES, "result": st.lists(SERIES)}) | LEAVES,
        "error": LEAVES,
        '\\"': LEAVES,
    },
)


def read(text: str) -> tuple[list[Any], Document]:
    document = Document()
    return list(walk(text, document)), document


@given(ANSWERS, st.sampled_from([None, 1, "\t"]), st.randoms())
def test_it_is_what_a_decoder_gives(answer: dict[str, Any], indent: Any, random: Any) -> None:
    keys = list(answer)
    random.shuffle(keys)
    series, document = read(f" {json.dumps({key: answer[key] for key in keys}, indent=indent)}\n")
    data = answer.get("data")
    if isinstance(data, dict):
        assert series == data.get("result", [])
        assert document.data == {key: value for key, value in data.items() if key != "result"}
        assert document.top == {key: value for key, value in answer.items() if key != "data"}
    else:
        assert (series, document.data, document.top) == ([], {}, answer)


@given(st.text() | VALUES.map(json.dumps))
def test_whatever_else_comes_is_told_from_an_answer(text: str) -> None:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict):
        read(text)
    else:
        with pytest.raises(Malformed):
            read(text)


@given(ANSWERS.map(json.dumps), st.data())
def test_an_answer_that_breaks_off_is_none(text: str, data: st.DataObject) -> None:
    with pytest.raises(Malformed):
        read(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize("text", ['{"a":1}x', '{"a":1}{}', "{" + '"a":{' * 100_000, '{"a":"' + "x" * 70_000 + '"}'])
def test_what_follows_an_answer_or_is_without_measure_makes_it_none(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)
