"""Lists are read object by object, and give what JSON's own parser gives."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.listing import read_list

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
lists = st.dictionaries(st.text() | st.just("items"), values) | st.builds(
    lambda before, items, after: {**before, "items": items, **after},
    st.dictionaries(st.text(), values),
    st.lists(values),
    st.dictionaries(st.text(), values),
)
styles = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def read(text: str) -> tuple[list[Any], dict[str, Any]]:
    taken: list[Any] = []
    return taken, read_list(text, taken.append)


@given(lists, styles)
def test_whatever_a_list_is_its_items_and_the_rest_are_those_that_it_has(document: Any, style: Any) -> None:
    taken, rest = read(json.dumps(document, **style))
    items = document.get("items")
    assert taken == (items if isinstance(items, list) else [])
    assert rest == {key: value for key, value in document.items() if key != "items" or not isinstance(items, list)}


@given(lists, styles, st.data())
def test_what_was_cut_off_or_goes_on_is_never_taken_for_a_list(document: Any, style: Any, data: st.DataObject) -> None:
    text = json.dumps(document, **style)
    with pytest.raises(ValueError):
        read(text[: data.draw(st.integers(min_value=0, max_value=len(text) - 1))])
    with pytest.raises(ValueError):
        read(text + data.draw(st.sampled_from(["}", ",", "0", " x", "{}"])))


NO_LISTS = {
    "nothing": "",
    "an array": "[]",
    "a text": '"items"',
    "a key that is a number": "{1: 2}",
    "no colon": '{"items" []}',
    "no comma between fields": '{"a": 1 "b": 2}',
    "no comma between items": '{"items": [1 2]}',
    "a comma at the end": '{"a": 1,}',
    "a comma after the last item": '{"items": [1,]}',
    "a comma at the beginning": '{"items": [,1]}',
    "an array that does not end": '{"items": [1',
    "a page of a proxy": "<html>items</html>",
}


@pytest.mark.parametrize("text", NO_LISTS.values(), ids=NO_LISTS)
def test_what_is_no_list_is_refused_as_json_is(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_of_a_long_list_no_more_than_one_item_is_held() -> None:
    item = {"metadata": {"labels": {f"label-{number}": "x" * 20 for number in range(50)}}}
    text = json.dumps({"kind": "List", "items": [item] * 500, "metadata": {"resourceVersion": "7"}})
    tracemalloc.start()
    try:
        rest = read_list(text, lambda one: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rest == {"kind": "List", "metadata": {"resourceVersion": "7"}}
    assert peak < len(text) / 10
