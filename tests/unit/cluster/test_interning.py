"""What kept objects have in common is stored once, and nothing else of them changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.interning import interned

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two documents of which one may be the other, or a part of it, or have parts of it."""
    first, second = draw(documents), draw(documents)
    pair: tuple[Any, Any] = draw(
        st.sampled_from([(first, second), (first, first), ([first, second], [second]), ({"a": first}, {})])
    )
    return pair


@given(pairs())
def test_an_equal_value_comes_out_and_what_went_in_stays(pair: tuple[Any, Any]) -> None:
    document, other = pair
    text, like = json.dumps(document), interned(other)
    kept = json.dumps(like)
    assert json.dumps(interned(document, like=like)) == text
    assert (json.dumps(document), json.dumps(like)) == (text, kept)


def test_two_documents_share_their_strings() -> None:
    text = '{"spec": {"serviceName of a long name": ["bulkhead/agent of a long name"]}}'
    first, second = (interned(json.loads(text))["spec"] for _ in range(2))
    assert first is not second
    (key,), (other,) = first, second
    assert key is other
    assert first[key][0] is second[key][0]


def test_what_is_the_same_at_the_same_place_is_shared_and_nothing_else() -> None:
    def parsed(name: str, command: str) -> Any:
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 3000}
        pod = {"containers": [{"name": "gate", "probe": probe}, {"name": "agent", "command": [command]}]}
        return json.loads(json.dumps({"metadata": {"name": name}, "spec": pod}))

    first = interned(parsed("scout", "work"))
    second = interned(parsed("miner", "dig"), like=first)
    assert second == parsed("miner", "dig")
    (gate, agent), (its_gate, its_agent) = first["spec"]["containers"], second["spec"]["containers"]
    assert its_gate is gate
    assert its_agent is not agent
    assert interned(parsed("scout", "work"), like=first) is first


UNLIKE = {
    "a number and a truth": (1, True),
    "numbers of two kinds": (1, 1.0),
    "zeros of two signs": (0.0, -0.0),
    "keys in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "one item less": (["a", "b"], ["a"]),
    "one field less": ({"a": None}, {}),
    "nothing, of two kinds": ([], {}),
}


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE)
def test_what_python_takes_for_equal_and_json_does_not_is_not_shared(one: Any, other: Any) -> None:
    for value, like in ((one, other), (other, one)):
        assert json.dumps(interned([value], like=interned([like]))) == json.dumps([value])
