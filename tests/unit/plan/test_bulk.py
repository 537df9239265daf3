"""What of many agents goes by one call for a kind, and what does not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import bulk, names, network
from bulkhead.plan.selectors import Requirement, Selector

Object = dict[str, Any]
GRACES = {"a": 5, "b": 5, "c": 9}
MANAGED = {"app.kubernetes.io/managed-by": "bulkhead"}


def child(uid: str, *, kind: str = "ServiceAccount", owner: str | None = "", **metadata: Any) -> Object:
    owners = [] if owner is None else [{"kind": "AgentDeployment", "name": "x", "uid": owner or uid}]
    labels = {**MANAGED, "bulkhead.dev/agent-uid": uid}
    return {
        "kind": kind,
        "metadata": {"name": f"agent-{uid}", "labels": labels, "ownerReferences": owners, **metadata},
    }


def pod(uid: str, *, marks: str | None = "", **metadata: Any) -> Object:
    env = [] if marks is None else [{"name": names.AGENT_ENV, "value": "x"}]
    env += [] if marks is None else [{"name": names.AGENT_UID_ENV, "value": marks or uid}]
    return {**child(uid, kind="Pod", **metadata), "spec": {"containers": [{"name": "agent", "env": env}]}}


def selected(calls: bulk.Calls, objects: list[Object]) -> set[str]:
    """The names of what the calls would delete."""
    return {
        obj["metadata"]["name"] for call in calls.calls for obj in objects if selector(call.selector).matches(_of(obj))
    }


def selector(text: str) -> Selector:
    """Reads the little of Kubernetes' syntax of selectors that is used."""
    found = []
    for one in re.split(r",(?![^(]*\))", text):
        if within := re.fullmatch(r"(\S+) in \((.*)\)", one):
            found.append(Requirement(within[1], "In", frozenset(within[2].split(","))))
        elif equals := re.fullmatch(r"([^=]+)=([^=]+)", one):
            found.append(Requirement(equals[1], "In", frozenset({equals[2]})))
        else:
            found.append(Requirement(one, "Exists"))
    return Selector(tuple(found))


def _of(obj: Object) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"]["labels"]
    return labels


def test_the_agents_that_are_meant_go_by_one_call_and_no_other_does() -> None:
    objects = [child("a"), child("b"), child("z")]
    planned = bulk.calls(objects, GRACES)
    assert len(planned.calls) == 1
    assert selected(planned, objects) == {"agent-a", "agent-b"}
    assert planned.odd == frozenset()


def test_the_deny_all_of_a_namespace_is_never_selected() -> None:
    deny_all = network.deny_all({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab", "uid": "ns"}})
    objects = [child("a", kind="NetworkPolicy"), deny_all]
    assert selected(bulk.calls(objects, GRACES), objects) == {"agent-a"}


STRANGERS: dict[str, Object] = {
    "nobody owns it": child("a", owner=None, name="theirs"),
    "somebody else owns it": child("a", owner="z", name="theirs"),
    "another agent that is meant owns it": child("a", owner="b", name="theirs"),
    "a pod without marks": pod("a", marks=None, name="theirs"),
    "a pod with the marks of another agent": pod("a", marks="z", name="theirs"),
    "a pod that the agent owns, without marks": pod("a", marks=None, owner="a", name="theirs"),
}


@pytest.mark.parametrize("theirs", STRANGERS.values(), ids=STRANGERS)
def test_a_strangers_object_under_an_agents_label_keeps_that_agent_out_of_the_call_and_no_other(
    theirs: Object,
) -> None:
    make = pod if theirs["kind"] == "Pod" else child
    objects = [make("a"), make("b"), theirs]
    planned = bulk.calls(objects, GRACES)
    assert selected(planned, objects) == {"agent-b"}
    assert planned.odd == {"a"}


def test_agents_with_different_graces_go_by_a_call_each_and_other_kinds_by_one() -> None:
    pods = [pod(uid) for uid in GRACES]
    planned = bulk.calls(pods, GRACES)
    assert sorted((call.grace_seconds or 0) for call in planned.calls) == [5, 9]
    assert selected(planned, pods) == {"agent-a", "agent-b", "agent-c"}
    by_grace = {call.grace_seconds: call for call in planned.calls}
    assert selected(bulk.Calls(calls=(by_grace[9],)), pods) == {"agent-c"}
    [call] = bulk.calls([child(uid) for uid in GRACES], GRACES).calls
    assert call.grace_seconds is None


def test_what_is_being_deleted_already_needs_no_call() -> None:
    objects = [child("a", deletionTimestamp="2026-03-01T12:00:00Z")]
    assert bulk.calls(objects, GRACES) == bulk.Calls()
    assert bulk.calls([], GRACES) == bulk.Calls()


@pytest.mark.parametrize(("allowed", "called"), [(30, True), (6, True), (5, False), (2, False)])
def test_a_pod_that_was_allowed_a_longer_grace_by_others_is_called_again(allowed: int, called: bool) -> None:
    objects = [pod("a", deletionTimestamp="2026-03-01T12:00:00Z", deletionGracePeriodSeconds=allowed)]
    planned = bulk.calls(objects, GRACES)
    assert [call.grace_seconds for call in planned.calls] == ([5] if called else [])


def test_a_great_many_agents_go_by_several_calls_whose_address_is_no_longer_than_servers_take() -> None:
    graces = {f"{number:08}-0000-4000-8000-000000000000": 5 for number in range(1000)}
    objects = [child(uid) for uid in graces]
    planned = bulk.calls(objects, graces)
    assert selected(planned, objects) == {obj["metadata"]["name"] for obj in objects}
    assert max(len(call.selector.replace(",", "%2C")) for call in planned.calls) < 8000


UIDS = st.sampled_from(["a", "b", "c", "d"])
FACTS = st.lists(st.tuples(UIDS, UIDS | st.none(), st.booleans()), max_size=12)


@given(facts=FACTS, are_pods=st.booleans(), meant=st.frozensets(UIDS))
def test_no_call_ever_selects_what_is_not_of_an_agent_that_is_meant(
    facts: list[tuple[str, str | None, bool]], are_pods: bool, meant: frozenset[str]
) -> None:
    objects, owners = [], {}
    for number, (label, owner, gone) in enumerate(facts):
        name, metadata = f"n{number}", {"deletionTimestamp": "now"} if gone else {}
        owners[name] = owner
        made = pod(label, marks=owner, name=name, **metadata) if are_pods else None
        objects.append(made or child(label, owner=owner, name=name, **metadata))
    planned = bulk.calls(objects, dict.fromkeys(meant, 5))
    for name in selected(planned, objects):
        assert owners[name] in meant
