"""What holds for the plan of any agent."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan.agent import plan
from tests.restricted import violations
from tests.specs import valid_specs
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, UID, observed


def agent_with(spec: dict[str, Any]) -> dict[str, Any]:
    return {**samples.agent(), "spec": {**spec, "suspend": False}}


@given(valid_specs())
def test_any_valid_spec_gives_a_restricted_pod_and_objects_that_are_owned(spec: dict[str, Any]) -> None:
    made = plan(observed(agent_with(spec)), now=NOW)
    assert [one.object["kind"] for one in made.desired] == ["NetworkPolicy", "ServiceAccount", "StatefulSet"]
    for one in made.desired:
        assert [owner["uid"] for owner in one.object["metadata"]["ownerReferences"]] == [one.owner_uid]
    template = made.desired[-1].object["spec"]["template"]
    assert violations(template["spec"]) == []


@given(valid_specs())
def test_the_plan_is_deterministic_and_changes_nothing_that_it_reads(spec: dict[str, Any]) -> None:
    known = observed(agent_with(spec))
    before = copy.deepcopy(known)
    assert plan(known, now=NOW) == plan(known, now=NOW)
    assert known == before


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(
    ["owner", "image", "suspend", "suspendGraceSeconds", "replicas", "lifetime", "workspace", "env"]
)


@given(anything | st.dictionaries(fields, anything))
def test_no_spec_whatever_breaks_the_plan_and_what_is_not_valid_does_not_run(spec: Any) -> None:
    of = {**samples.agent(), "spec": spec}
    made = plan(observed(of, pods=(samples.pod(),)), now=NOW)
    assert made.suspends
    assert [one.name for phase in made.phases for one in phase.removals] == ["scout-0"]


@given(valid_specs(), st.booleans(), st.booleans(), st.booleans())
def test_a_plan_that_suspends_builds_nothing_and_one_that_builds_takes_no_child_away(
    spec: dict[str, Any], suspend: bool, sandbox: bool, deleting: bool
) -> None:
    of = {**samples.agent(), "spec": {**spec, "suspend": suspend}}
    if deleting:
        of["metadata"] = {**of["metadata"], "deletionTimestamp": samples.seconds_ago(1)}
    known = {"service_account": samples.service_account(samples.agent()), "pods": (samples.pod(),)}
    made = plan(observed(of, **known, **({} if sandbox else {"namespace": None})), now=NOW)
    assert made.suspends is (suspend or deleting or not sandbox)
    assert bool(made.desired) is not made.suspends
    taken = {one.kind for phase in made.phases for one in phase.removals}
    assert taken <= ({"ServiceAccount", "Pod"} if made.suspends else {"Pod"})
    assert all(one.uid != UID for phase in made.phases for one in phase.removals)
