"""Whom a kill switch stops."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api import meta
from bulkhead.plan import killswitch, suspension
from tests import killswitch_specs
from tests.killswitch_specs import switch

Object = dict[str, Any]


def agent(
    *, name: str = "scout", namespace: str = "lab", labels: dict[str, str] | None = None, spec: Any = None
) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    if labels is not None:
        metadata["labels"] = labels
    return {"metadata": metadata, "spec": {"owner": "o", "image": "i"} if spec is None else spec}


def read(spec: Any, *, name: str = "stop") -> killswitch.Switch:
    return killswitch.read({"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec})


TENANT_A = {"owner": "o", "image": "i", "tenant": "a"}
CASES: dict[str, tuple[Object, Object, bool]] = {
    "all": (switch(all=True), agent(), True),
    "all, with a spec that is no object": (switch(all=True), agent(spec="nonsense"), True),
    "its tenant": (switch(tenants=["b", "a"]), agent(spec=TENANT_A), True),
    "another tenant": (switch(tenants=["b"]), agent(spec=TENANT_A), False),
    "a tenant where the agent has none": (switch(tenants=["a"]), agent(), False),
    "a tenant that begins the same": (switch(tenants=["a"]), agent(spec={**TENANT_A, "tenant": "ab"}), False),
    "its tenant in a spec that cannot be parsed": (switch(tenants=["a"]), agent(spec={"tenant": "a", "x": 1}), True),
    "a tenant that is a number": (switch(tenants=["1"]), agent(spec={"tenant": 1}), False),
    "no spec at all": (switch(tenants=["a"]), {"metadata": {"name": "s", "namespace": "lab", "uid": "u"}}, False),
    "its workflow": (switch(workflows=["w"]), agent(spec={"workflow": "w"}), True),
    "its name, where it has no workflow": (switch(workflows=["scout"]), agent(), True),
    "its name, where it has an empty workflow": (switch(workflows=["scout"]), agent(spec={"workflow": ""}), True),
    "its name, where it has another workflow": (switch(workflows=["scout"]), agent(spec={"workflow": "w"}), False),
    "its name, where the spec is no object": (switch(workflows=["scout"]), agent(spec=[]), True),
    "its namespace": (switch(namespaces=["den", "lab"]), agent(), True),
    "another namespace": (switch(namespaces=["den"]), agent(), False),
    "tenant and namespace": (switch(tenants=["a"], namespaces=["lab"]), agent(spec=TENANT_A), True),
    "its tenant in another namespace": (switch(tenants=["a"], namespaces=["den"]), agent(spec=TENANT_A), False),
    "its namespace and another tenant": (switch(tenants=["b"], namespaces=["lab"]), agent(spec=TENANT_A), False),
    "its label": (switch(labels={"matchLabels": {"team": "x"}}), agent(labels={"team": "x", "more": "y"}), True),
    "another value of the label": (switch(labels={"matchLabels": {"team": "x"}}), agent(labels={"team": "y"}), False),
    "a label where it has none": (switch(labels={"matchLabels": {"team": "x"}}), agent(), False),
    "one of two labels": (switch(labels={"matchLabels": {"team": "x", "b": "1"}}), agent(labels={"team": "x"}), False),
    "an expression that is met": (
        switch(labels={"matchExpressions": [{"key": "team", "operator": "In", "values": ["x", "y"]}]}),
        agent(labels={"team": "y"}),
        True,
    ),
    "an expression that a missing label meets": (
        switch(labels={"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]}),
        agent(),
        True,
    ),
    "NotIn of a missing label": (
        switch(labels={"matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["prod"]}]}),
        agent(),
        True,
    ),
    "an expression that is not met": (
        switch(labels={"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]}),
        agent(labels={"exempt": ""}),
        False,
    ),
    "a label and another tenant": (
        switch(tenants=["b"], labels={"matchLabels": {"team": "x"}}),
        agent(labels={"team": "x"}, spec=TENANT_A),
        False,
    ),
}


@pytest.mark.parametrize(("spec", "subject", "expected"), CASES.values(), ids=CASES)
def test_a_switch_stops_whom_its_selector_means(spec: Object, subject: Object, expected: bool) -> None:
    assert read(spec).matches(subject) is expected


@pytest.mark.parametrize(("spec", "subject", "expected"), CASES.values(), ids=CASES)
def test_a_pod_whose_agent_is_gone_is_counted_where_the_agent_was_meant_or_nobody_can_tell(
    spec: Object, subject: Object, expected: bool
) -> None:
    labels = {meta.WORKFLOW_LABEL: killswitch.workflow_of(subject)}
    tenant = killswitch.tenant_of(subject)
    if tenant is not None:
        labels[meta.TENANT_LABEL] = tenant
    pod = {"metadata": {"namespace": subject["metadata"]["namespace"], "labels": labels}}
    selection = read(spec).selection
    assert selection is not None
    asks_for_labels = "labels" in spec["selector"]
    others = read({**spec, "selector": {k: v for k, v in spec["selector"].items() if k != "labels"} or {"all": True}})
    assert selection.may_mean(pod) is (others.matches(subject) if asks_for_labels else expected)


@pytest.mark.parametrize("case", killswitch_specs.REFUSED.values(), ids=killswitch_specs.REFUSED)
def test_a_switch_that_cannot_be_understood_stops_nobody_and_says_why(case: Any) -> None:
    found = read(case.spec)
    assert found.problems
    assert not found.matches(agent(spec=TENANT_A, labels={"team": "x"}))


@given(
    spec=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["selector", "all", "reason", "x"]), inner),
    )
)
def test_nothing_that_may_stand_in_a_spec_makes_reading_fail(spec: Any) -> None:
    found = read(spec)
    assert bool(found.problems) == (found.selection is None)


def test_switches_over_the_same_agent_are_all_named_and_the_shortest_grace_counts() -> None:
    subject = agent(spec={**TENANT_A, "suspendGraceSeconds": 10})
    switches = [
        read({**switch(tenants=["a"]), "graceSeconds": 7}, name="two"),
        read({**switch(tenants=["z"]), "graceSeconds": 2}, name="other"),
        read({**switch(all=True), "graceSeconds": 4}, name="one"),
        read(switch(namespaces=["lab"]), name="three"),
    ]
    holding = killswitch.matching(switches, subject)
    assert [one.name for one in holding] == ["one", "three", "two"]
    assert suspension.grace_seconds(subject, holding) == 4


def test_a_switch_does_not_lengthen_an_agents_grace() -> None:
    subject = agent(spec={"suspendGraceSeconds": 3})
    assert suspension.grace_seconds(subject, (read({**switch(all=True), "graceSeconds": 30}),)) == 3
