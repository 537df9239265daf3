"""Label selectors, as Kubernetes reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.sandboxpolicy import SandboxPolicySpec
from bulkhead.plan import selectors
from tests.specs import json_values

LABELS = {"env": "prod", "team": "payments", "empty": ""}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param(None, False, id="None selects nothing"),
        pytest.param({}, True, id="an empty one selects everything"),
        pytest.param({"matchLabels": {}}, True, id="empty labels select everything"),
        pytest.param({"matchLabels": None, "matchExpressions": []}, True, id="absent parts select everything"),
        pytest.param({"matchLabels": {"env": "prod"}}, True, id="a label that is there"),
        pytest.param({"matchLabels": {"env": "Prod"}}, False, id="another value"),
        pytest.param({"matchLabels": {"zone": "a"}}, False, id="a label that is missing"),
        pytest.param({"matchLabels": {"empty": ""}}, True, id="an empty value that is there"),
        pytest.param({"matchLabels": {"zone": ""}}, False, id="an empty value that is missing"),
        pytest.param({"matchLabels": {"env": "prod", "team": "web"}}, False, id="one of two labels"),
        pytest.param(expression("env", "In", "dev", "prod"), True, id="In with the value"),
        pytest.param(expression("env", "In", "dev"), False, id="In without the value"),
        pytest.param(expression("zone", "In", "a"), False, id="In of a missing label"),
        pytest.param(expression("env", "NotIn", "dev"), True, id="NotIn with another value"),
        pytest.param(expression("env", "NotIn", "prod"), False, id="NotIn with the value"),
        pytest.param(expression("zone", "NotIn", "a"), True, id="NotIn of a missing label"),
        pytest.param(expression("env", "Exists"), True, id="Exists"),
        pytest.param(expression("empty", "Exists"), True, id="Exists with an empty value"),
        pytest.param(expression("zone", "Exists"), False, id="Exists of a missing label"),
        pytest.param(expression("env", "DoesNotExist"), False, id="DoesNotExist"),
        pytest.param(expression("zone", "DoesNotExist"), True, id="DoesNotExist of a missing label"),
        pytest.param({"matchLabels": {"env": "prod"}, **expression("team", "In", "web")}, False, id="all must be met"),
        pytest.param({"matchLabels": {"env": "prod"}, **expression("team", "Exists")}, True, id="all are met"),
    ],
)
def test_a_selector_selects_as_kubernetes_does(selector: Any, expected: bool) -> None:
    assert selectors.selects(selector, LABELS) is expected


@pytest.mark.parametrize(
    "selector",
    [
        pytest.param({"matchLabel": {"env": "prod"}}, id="an unknown field"),
        pytest.param({"matchLabels": ["env"]}, id="labels that are no map"),
        pytest.param({"matchLabels": {"env": True}}, id="a value that is no string"),
        pytest.param({"matchExpressions": {"key": "env"}}, id="expressions that are no list"),
        pytest.param({"matchExpressions": ["env"]}, id="an expression that is no object"),
        pytest.param({"matchExpressions": [{"key": "env", "operator": "Exists", "not": 1}]}, id="a field too many"),
        pytest.param(expression("env", "Equals", "prod"), id="an unknown operator"),
        pytest.param(expression("env", "In"), id="In without values"),
        pytest.param(expression("env", "Exists", "prod"), id="Exists with values"),
        pytest.param({"matchExpressions": [{"key": "env", "operator": ["In"], "values": ["a"]}]}, id="an odd operator"),
        pytest.param({"matchExpressions": [{"key": "env", "operator": "In", "values": [1]}]}, id="an odd value"),
        pytest.param("env=prod", id="text"),
        pytest.param([], id="a list"),
        pytest.param(0, id="a number"),
    ],
)
def test_what_is_no_selector_is_not_guessed_at(selector: Any) -> None:
    with pytest.raises(ValueError, match="accepted"):
        selectors.selects(selector, LABELS)


@given(json_values)
def test_anything_is_either_read_or_refused_with_what_is_accepted(selector: Any) -> None:
    try:
        found = selectors.read(selector)
    except ValueError as error:
        assert "accepted" in str(error)
    else:
        assert found.matches({}) in (True, False)


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")))
def test_a_selector_of_the_api_reads_as_what_it_was_written_as(labels: dict[str, str]) -> None:
    written = {"matchLabels": labels, **expression("a", "NotIn", "x")}
    spec = SandboxPolicySpec.model_validate({"namespaceSelector": written})

    assert selectors.read(spec.namespace_selector.plain()) == selectors.read(written)
