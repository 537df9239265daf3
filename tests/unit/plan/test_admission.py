"""Whether differences of admission objects are found, and defaults of the API server are none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bulkhead.plan.admission import BINDING, POLICY, problems

Object = dict[str, Any]

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
A_POLICY: Object = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": POLICY,
    "metadata": {"name": "pods"},
    "spec": {
        "matchConstraints": {"resourceRules": [RULE], "namespaceSelector": {"matchLabels": {"a": "b"}}},
        "validations": [{"expression": "object.x == 1", "message": "no"}],
    },
}
A_BINDING: Object = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": BINDING,
    "metadata": {"name": "pods"},
    "spec": {"policyName": "pods", "validationActions": ["Deny"], "matchResources": {}},
}


def changed(obj: Object, *path: Any, to: Any) -> Object:
    """A copy of an object with one field set."""
    copied = copy.deepcopy(obj)
    place = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return copied


def as_stored(obj: Object) -> Object:
    """The object with what an API server adds: its defaults, and metadata and status of its own."""
    stored = copy.deepcopy(obj)
    stored["metadata"] |= {"uid": "u", "resourceVersion": "7", "labels": {"x": "y"}}
    stored["status"] = {"observedGeneration": 1}
    defaults = {"matchPolicy": "Equivalent", "objectSelector": {}}
    if obj["kind"] == POLICY:
        stored["spec"] |= {"failurePolicy": "Fail"}
        stored["spec"]["matchConstraints"] |= {**defaults, "resourceRules": [{**RULE, "scope": "*"}]}
    else:
        stored["spec"]["matchResources"] |= {**defaults, "namespaceSelector": {}}
    return stored


def test_what_the_api_server_fills_in_is_no_difference() -> None:
    assert problems([A_POLICY, A_BINDING], map(as_stored, [A_POLICY, A_BINDING])) == ()
    assert problems(map(as_stored, [A_POLICY, A_BINDING]), [A_POLICY, A_BINDING]) == ()


def test_what_is_missing_or_going_is_told_in_the_order_of_what_is_expected() -> None:
    going = changed(A_POLICY, "metadata", "deletionTimestamp", to="2026-01-01T00:00:00Z")
    assert problems([A_BINDING, A_POLICY], [going]) == (
        f"{BINDING} pods is missing.",
        f"{POLICY} pods is being deleted.",
    )


def test_a_policy_of_the_same_name_is_no_binding() -> None:
    assert problems([A_BINDING], [A_POLICY]) == (f"{BINDING} pods is missing.",)


def test_what_nobody_expects_does_not_matter() -> None:
    other = changed(A_POLICY, "metadata", "name", to="other")
    assert problems([A_POLICY], [A_POLICY, other]) == ()
    assert problems([], [A_POLICY]) == ()


DIFFERENCES: dict[str, tuple[Object, str]] = {
    "fail open": (
        changed(A_POLICY, "spec", "failurePolicy", to="Ignore"),
        "spec.failurePolicy is Ignore instead of Fail",
    ),
    "no validation": (changed(A_POLICY, "spec", "validations", to=[]), "spec.validations is gone, it was"),
    "a hollow one": (
        changed(A_POLICY, "spec", "validations", 0, "expression", to="true"),
        "spec.validations[0].expression is true instead of object.x == 1",
    ),
    "a condition": (
        changed(A_POLICY, "spec", "matchConditions", to=[{"name": "n", "expression": "false"}]),
        "spec.matchConditions was added",
    ),
    "rules": (
        changed(A_POLICY, "spec", "matchConstraints", "resourceRules", to=[RULE, RULE]),
        "spec.matchConstraints.resourceRules has 2 entries instead of 1",
    ),
    "a scope": (
        changed(A_POLICY, "spec", "matchConstraints", "resourceRules", 0, "scope", to="Cluster"),
        "resourceRules[0].scope is Cluster instead of *",
    ),
    "names": (
        changed(A_POLICY, "spec", "matchConstraints", "resourceRules", 0, "resourceNames", to=["x"]),
        "resourceRules[0].resourceNames was added",
    ),
    "a selector of objects": (
        changed(A_POLICY, "spec", "matchConstraints", "objectSelector", to={"matchLabels": {"c": "d"}}),
        "objectSelector.matchLabels was added",
    ),
    "other namespaces": (
        changed(A_POLICY, "spec", "matchConstraints", "namespaceSelector", to={"matchLabels": {"a": "c"}}),
        "namespaceSelector.matchLabels.a is c instead of b",
    ),
    "one version only": (
        changed(A_POLICY, "spec", "matchConstraints", "matchPolicy", to="Exact"),
        "matchPolicy is Exact instead of Equivalent",
    ),
    "a field of the future": (changed(A_POLICY, "spec", "unheardOf", to=1), "spec.unheardOf was added, 1"),
    "no spec": (changed(A_POLICY, "spec", to=None), "spec is None instead of"),
    "a warning only": (
        changed(A_BINDING, "spec", "validationActions", to=["Warn"]),
        "spec.validationActions[0] is Warn instead of Deny",
    ),
    "another action": (
        changed(A_BINDING, "spec", "validationActions", to=["Deny", "Audit"]),
        "has 2 entries instead of 1",
    ),
    "another policy": (
        changed(A_BINDING, "spec", "policyName", to="harmless"),
        "spec.policyName is harmless instead of pods",
    ),
    "a narrower binding": (
        changed(A_BINDING, "spec", "matchResources", "namespaceSelector", to={"matchLabels": {"x": "y"}}),
        "namespaceSelector.matchLabels was added",
    ),
}


@pytest.mark.parametrize(("live", "told"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_any_other_difference_is_told_where_it_is(live: Object, told: str) -> None:
    expected = A_POLICY if live["kind"] == POLICY else A_BINDING
    (problem,) = problems([expected], [as_stored(live) if live["spec"] and "matchConditions" in live["spec"] else live])
    assert problem.startswith(f"{live['kind']} pods was changed: ") and told in problem, problem


def test_a_long_expression_is_quoted_in_part_and_on_one_line() -> None:
    live = changed(A_POLICY, "spec", "validations", 0, "expression", to="true ||\n" + "x" * 5000)
    (problem,) = problems([A_POLICY], [live])
    assert len(problem) < 300 and "\n" not in problem and "…" in problem


def test_it_does_not_change_what_it_compares() -> None:
    expected, live = [copy.deepcopy(A_POLICY)], [as_stored(A_POLICY)]
    before = copy.deepcopy((expected, live))
    problems(expected, live)
    assert (expected, live) == before
