"""Specs of KillSwitches: named cases of what is refused and accepted, changes of them, and strategies.

The same cases are put to `parse_kill_switch` (tests/unit) and to the API server (tests/apiserver): both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.policy_specs import selectors
from tests.specs import Refused, Spec


def switch(*, reason: Any = "it was told to", **selector: Any) -> Spec:
    """A kill switch with this selector."""
    return {"selector": selector, "reason": reason}


def by_labels(**labels: Any) -> Spec:
    """A kill switch that selects by labels."""
    return switch(labels=labels)


_SELECTOR = "spec.selector"
_NOTHING = "nothing at all is not taken for everything"
_ALL = "accepted with all: true is none of tenants, workflows, namespaces and labels"
_NO_LABELS = "accepted as labels is a selector with at least one requirement"
_VALUE = "accepted are up to 63 letters"
_CONTROL = "accepted is text without control characters"

REFUSED: dict[str, Refused] = {
    "no selector": Refused({"reason": "because"}, "spec.selector", None),
    "no reason": Refused({"selector": {"all": True}}, "spec.reason", None),
    "a selector with nothing in it": Refused(switch(), _SELECTOR, _NOTHING),
    "a selector that does not select all": Refused(switch(all=False), _SELECTOR, _NOTHING),
    "no tenant in the list of tenants": Refused(switch(tenants=[]), f"{_SELECTOR}.tenants", None),
    "no tenant beside a namespace": Refused(switch(tenants=[], namespaces=["agents"]), f"{_SELECTOR}.tenants", None),
    "no workflow in the list of workflows": Refused(switch(workflows=[]), f"{_SELECTOR}.workflows", None),
    "no namespace in the list of namespaces": Refused(switch(namespaces=[]), f"{_SELECTOR}.namespaces", None),
    "no label at all": Refused(switch(labels={}), _SELECTOR, _NO_LABELS),
    "no label beside a tenant": Refused(
        switch(tenants=["acme"], labels={"matchLabels": {}, "matchExpressions": []}), _SELECTOR, _NO_LABELS
    ),
    "all and a tenant": Refused(switch(all=True, tenants=["acme"]), _SELECTOR, _ALL),
    "all and a workflow": Refused(switch(all=True, workflows=["nightly"]), _SELECTOR, _ALL),
    "all and a namespace": Refused(switch(all=True, namespaces=["agents"]), _SELECTOR, _ALL),
    "all and a label": Refused(switch(all=True, labels={"matchLabels": {"a": "b"}}), _SELECTOR, _ALL),
    "all in quotes": Refused(switch(all="true"), f"{_SELECTOR}.all", None),
    "a tenant that cannot be": Refused(switch(tenants=["a", "b c"]), f"{_SELECTOR}.tenants[1]", _VALUE),
    "every tenant by a star": Refused(switch(tenants=["*"]), f"{_SELECTOR}.tenants[0]", _VALUE),
    "a tenant without a name": Refused(switch(tenants=[""]), f"{_SELECTOR}.tenants[0]", None),
    "a tenant that is no list": Refused(switch(tenants="acme"), f"{_SELECTOR}.tenants", None),
    "a tenant twice": Refused(switch(tenants=["a", "a"]), f"{_SELECTOR}.tenants", None),
    "257 tenants": Refused(switch(tenants=[f"t{n}" for n in range(257)]), f"{_SELECTOR}.tenants", None),
    "a workflow that cannot be": Refused(switch(workflows=["a/b"]), f"{_SELECTOR}.workflows[0]", _VALUE),
    "a workflow of 64 characters": Refused(switch(workflows=["w" * 64]), f"{_SELECTOR}.workflows[0]", None),
    "a workflow twice": Refused(switch(workflows=["a", "a"]), f"{_SELECTOR}.workflows", None),
    "a namespace that cannot be": Refused(
        switch(namespaces=["Agents"]), f"{_SELECTOR}.namespaces[0]", "accepted is the name of a namespace"
    ),
    "257 namespaces": Refused(switch(namespaces=[f"n{n}" for n in range(257)]), f"{_SELECTOR}.namespaces", None),
    "a label with a key that is none": Refused(
        by_labels(matchLabels={"a b": "c"}), f"{_SELECTOR}.labels", "matchLabels are label keys"
    ),
    "a label with a value that is none": Refused(
        by_labels(matchLabels={"a": "b c"}), f"{_SELECTOR}.labels", "(matchLabels)"
    ),
    "In without values": Refused(
        by_labels(matchExpressions=[{"key": "a", "operator": "In"}]),
        f"{_SELECTOR}.labels.matchExpressions[0]",
        "at least one value",
    ),
    "an empty reason": Refused(switch(all=True, reason=""), "spec.reason", None),
    "a blank reason": Refused(switch(all=True, reason=" \n"), "spec.reason", "accepted is a reason in words"),
    "a reason that would write to a terminal": Refused(switch(all=True, reason="x\x1b[2J"), "spec.reason", _CONTROL),
    "a reason that would write to a terminal in one character": Refused(
        switch(all=True, reason="x\x9b2J"), "spec.reason", _CONTROL
    ),
    "a reason with a NUL": Refused(switch(all=True, reason="x\x00"), "spec.reason", _CONTROL),
    "a reason of 1025 characters": Refused(switch(all=True, reason="r" * 1025), "spec.reason", None),
    "a grace of 1 second": Refused({**switch(all=True), "graceSeconds": 1}, "spec.graceSeconds", None),
    "a grace of 31 seconds": Refused({**switch(all=True), "graceSeconds": 31}, "spec.graceSeconds", None),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "in the spec": ({**switch(all=True), "enabled": False}, "spec.enabled"),
    "in the selector": (switch(tenants=["a"], agents=["b"]), "spec.selector.agents"),
    "in the singular": (switch(tenants=["a"], namespace="b"), "spec.selector.namespace"),
    "of labels without matchLabels": (by_labels(app="a"), "spec.selector.labels.app"),
}

ACCEPTED: dict[str, Spec] = {
    "all": switch(all=True),
    "one tenant": switch(tenants=["acme"]),
    "one workflow": switch(workflows=["nightly.v2"]),
    "one namespace": switch(namespaces=["agents"]),
    "one label": by_labels(matchLabels={"example.com/team": ""}),
    "the absence of a label": by_labels(matchExpressions=[{"key": "exempt", "operator": "DoesNotExist"}]),
    "some of each": {
        **switch(
            all=False,
            tenants=["acme", "Umbrella"],
            workflows=["nightly", "hourly"],
            namespaces=["agents", "agents-2"],
            labels={
                "matchLabels": {"tier": "1"},
                "matchExpressions": [{"key": "model", "operator": "In", "values": ["a", "b"]}],
            },
        ),
        "graceSeconds": 2,
    },
    "a reason of several lines, as a block of YAML has it": switch(all=True, reason="It spends.\n\tA lot: 団.\n"),
    "the most of each bound": {
        "selector": {
            "tenants": [f"{'t' * 60}{n:03}" for n in range(256)],
            "workflows": [f"{'w' * 60}{n:03}" for n in range(256)],
            "namespaces": [f"{'n' * 60}{n:03}" for n in range(256)],
            "labels": {
                "matchLabels": {f"{'p' * 253}/{'n' * 61}{n:02}": "v" * 63 for n in range(16)},
                "matchExpressions": [
                    {"key": f"{'p' * 253}/{'n' * 61}{n:02}", "operator": "In", "values": ["v" * 63] * 16}
                    for n in range(16)
                ],
            },
        },
        "reason": "r" * 1024,
        "graceSeconds": 30,
    },
}


@dataclass(frozen=True)
class Change:
    """A change of a kill switch that is there.

    Attributes:
        before: the spec that it has.
        after: the spec that it would have.
        says: what the API server says to it; None if it is accepted.
    """

    before: Spec
    after: Spec
    says: str | None


_KEPT = "the selector of a kill switch cannot be changed"
_GRACE = "graceSeconds of a kill switch cannot be changed"
_TWO = switch(tenants=["a", "b"])

CHANGES: dict[str, Change] = {
    "another reason": Change(_TWO, {**_TWO, "reason": "a better one"}, None),
    "nothing": Change(_TWO, _TWO, None),
    "what is the default anyway": Change(_TWO, switch(all=False, tenants=["a", "b"]), None),
    "the same tenants in another order": Change(_TWO, switch(tenants=["b", "a"]), None),
    "one tenant less": Change(_TWO, switch(tenants=["a"]), _KEPT),
    "one tenant more": Change(_TWO, switch(tenants=["a", "b", "c"]), _KEPT),
    "a namespace in addition": Change(_TWO, switch(tenants=["a", "b"], namespaces=["x"]), _KEPT),
    "a label in addition": Change(_TWO, switch(tenants=["a", "b"], labels={"matchLabels": {"a": "b"}}), _KEPT),
    "another workflow": Change(switch(workflows=["a"]), switch(workflows=["b"]), _KEPT),
    "another namespace": Change(switch(namespaces=["a"]), switch(namespaces=["b"]), _KEPT),
    "another value of a label": Change(by_labels(matchLabels={"a": "b"}), by_labels(matchLabels={"a": "c"}), _KEPT),
    "a requirement less": Change(
        by_labels(matchLabels={"a": "b"}, matchExpressions=[{"key": "a", "operator": "Exists"}]),
        by_labels(matchLabels={"a": "b"}),
        _KEPT,
    ),
    "all in place of some": Change(_TWO, switch(all=True), _KEPT),
    "some in place of all": Change(switch(all=True), _TWO, _KEPT),
    "a grace where there was none": Change(_TWO, {**_TWO, "graceSeconds": 5}, _GRACE),
    "no grace where there was one": Change({**_TWO, "graceSeconds": 5}, _TWO, _GRACE),
    "a longer grace": Change({**_TWO, "graceSeconds": 5}, {**_TWO, "graceSeconds": 30}, _GRACE),
}

REFUSED_NAMES: dict[str, str] = {
    "64 characters": "n" * 64,
    "a dot": "a.b",
    "upper case": "Stop",
    "a dash at its end": "stop-",
    "nothing": "",
}


# Strategies.

_values = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?\Z").filter(str.isascii)
_namespaces = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z").filter(str.isascii)
_reasons = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip(" "))
)


def _some(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(values, min_size=1, max_size=3, unique=True)


def switches() -> st.SearchStrategy[Spec]:
    """Specs of kill switches that are accepted."""
    parts = {
        "tenants": _some(_values),
        "workflows": _some(_values),
        "namespaces": _some(_namespaces),
        "labels": selectors().filter(lambda selector: any(selector.values())),
    }
    some = st.fixed_dictionaries({}, optional={**parts, "all": st.just(False)}).filter(
        lambda selector: bool(selector.keys() - {"all"})
    )
    return st.fixed_dictionaries(
        {"selector": st.one_of(some, st.just({"all": True})), "reason": _reasons},
        optional={"graceSeconds": st.integers(2, 30)},
    )
