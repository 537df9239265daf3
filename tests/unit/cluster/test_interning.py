"""Strings of kept objects are stored once, and nothing else of them changes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.interning import interned

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_an_equal_value_comes_out_and_what_went_in_stays(document: Any) -> None:
    text = json.dumps(document)
    assert json.dumps(interned(document)) == text
    assert json.dumps(document) == text


def test_two_documents_share_their_strings() -> None:
    text = '{"spec": {"serviceName of a long name": ["bulkhead/agent of a long name"]}}'
    first, second = (interned(json.loads(text))["spec"] for _ in range(2))
    assert first is not second
    (key,), (other,) = first, second
    assert key is other
    assert first[key][0] is second[key][0]
