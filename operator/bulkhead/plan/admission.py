"""Whether the admission policies that guard sandbox namespaces are there, whole and in force.

An admission policy cannot guard admission policies (KEP-3488: they are exempt from themselves), so whoever may write
them may take the guard away. It is noticed instead: the chart gives the operator the objects that it installed, and the
operator compares them with what the API server has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bulkhead.plan.observed import Object

POLICY: Final = "ValidatingAdmissionPolicy"
BINDING: Final = "ValidatingAdmissionPolicyBinding"

_MATCH_DEFAULTS: Final = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
_MATCH_FIELDS: Final = ("matchConstraints", "matchResources")
_RULE_FIELDS: Final = ("resourceRules", "excludeResourceRules")
_LONGEST_VALUE: Final = 60
"""Characters of a value that a sentence quotes; an expression of CEL can have thousands."""


def problems(expected: Iterable[Object], live: Iterable[Object]) -> tuple[str, ...]:
    """Says what differs between the admission objects that are to be in force and those that are.

    Any difference of a spec counts: from outside it cannot be told whether another expression is a weaker one. Left
    out are only the defaults that the API server fills in (admissionregistration.k8s.io/v1). Objects that are not
    expected do not matter, because further policies and bindings can only refuse more.

    Args:
        expected: ValidatingAdmissionPolicies and bindings as the chart has them.
        live: those of the cluster; others among them are ignored.

    Returns:
        One sentence for each object that is missing, on its way out or different, in the order of `expected`.
    """
    found = {(one.get("kind"), one["metadata"]["name"]): one for one in live}
    told = (_problem(one, found.get((one.get("kind"), one["metadata"]["name"]))) for one in expected)
    return tuple(sentence for sentence in told if sentence)


def _problem(expected: Object, live: Object | None) -> str:
    called = f"{expected['kind']} {expected['metadata']['name']}"
    if live is None:
        return f"{called} is missing."
    if live["metadata"].get("deletionTimestamp"):
        return f"{called} is being deleted."
    difference = _difference(_normal(live.get("spec")), _normal(expected.get("spec")), "spec")
    return f"{called} was changed: {difference}." if difference else ""


def _difference(live: Any, expected: Any, path: str) -> str:
    """Describes the first difference, as deep down as it can be told; empty when there is none."""
    if live == expected:
        return ""
    if isinstance(live, dict) and isinstance(expected, dict):
        return _difference_of_fields(live, expected, path)
    if isinstance(live, list) and isinstance(expected, list):
        return _difference_of_entries(live, expected, path)
    return f"{path} is {_shown(live)} instead of {_shown(expected)}"


def _difference_of_fields(live: Object, expected: Object, path: str) -> str:
    for key in sorted(live.keys() | expected.keys()):
        if key not in expected:
            return f"{path}.{key} was added, {_shown(live[key])}"
        if key not in live:
            return f"{path}.{key} is gone, it was {_shown(expected[key])}"
        deeper = _difference(live[key], expected[key], f"{path}.{key}")
        if deeper:
            return deeper
    return ""


def _difference_of_entries(live: list[Any], expected: list[Any], path: str) -> str:
    if len(live) != len(expected):
        return f"{path} has {len(live)} entries instead of {len(expected)}"
    told = (
        _difference(one, other, f"{path}[{index}]")
        for index, (one, other) in enumerate(zip(live, expected, strict=True))
    )
    return next(filter(None, told), "")


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _normal(spec: Any) -> Any:
    """Returns a spec with the defaults of the API server written out and what says nothing left out."""
    if not isinstance(spec, dict):
        return spec
    normal = {key: value for key, value in spec.items() if value not in (None, [], {})}
    normal.setdefault("failurePolicy", "Fail")
    for field in _MATCH_FIELDS:
        normal[field] = _normal_match(normal.get(field) or {})
    return normal


def _normal_match(match: Mapping[str, Any]) -> Object:
    normal: Object = {**_MATCH_DEFAULTS, **{key: value for key, value in match.items() if value is not None}}
    for field in _RULE_FIELDS:
        rules = normal.pop(field, None)
        if rules:
            normal[field] = [{"scope": "*", **rule} for rule in rules]
    return normal
