"""KillSwitches: who makes and removes them, and that neither owners nor agents nor editors get around one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.plan import killswitch
from bulkhead.plan.names import service_account_name
from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by
from tests.apiserver.admission.objects import AGENTS
from tests.apiserver.rest import Answer, Rest
from tests.operator_process import eventually

SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"
RBAC_API = "/apis/rbac.authorization.k8s.io/v1"
OWNER = {"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "00000000-0000-4000-8000-000000000000"}
FINALIZER = "example.com/forever"


def switch(name: str, **selector: Any) -> Object:
    """A KillSwitch."""
    spec = {"selector": selector or {"tenants": ["nobody"]}, "reason": "a test"}
    return objects.named("bulkhead.dev/v1alpha1", "KillSwitch", name, spec=spec)


def bound(guarded: Guarded, name: str, role: str) -> Rest:
    """A user with one of the chart's ClusterRoles in the whole cluster."""
    group = "rbac.authorization.k8s.io"
    binding = objects.named(
        f"{group}/v1",
        "ClusterRoleBinding",
        f"{name}-{role}",
        roleRef={"apiGroup": group, "kind": "ClusterRole", "name": role},
        subjects=[{"apiGroup": group, "kind": "User", "name": name}],
    )
    guarded.make(f"{RBAC_API}/clusterrolebindings", binding)
    user = guarded.user(name)
    eventually(lambda: user.get(SWITCHES).ok, f"{name} has {role}")
    return user


@pytest.fixture(scope="module")
def maker(guarded: Guarded) -> Rest:
    """Somebody with the ClusterRole for those who create switches."""
    return bound(guarded, "kim", "bulkhead-killswitch-create")


@pytest.fixture(scope="module")
def remover(guarded: Guarded) -> Rest:
    """Somebody with the ClusterRole for those who remove them."""
    return bound(guarded, "rita", "bulkhead-killswitch-remove")


@pytest.fixture
def standing(guarded: Guarded) -> Iterator[str]:
    """A switch that stops nobody of these tests."""
    made = guarded.make(SWITCHES, switch("standing"), guarded.admin)
    path = f"{SWITCHES}/{made['metadata']['name']}"
    yield path
    guarded.admin.delete(path)


def dry(who: Rest, method: str, path: str, body: Any = None) -> Answer:
    kind = {"PATCH": "application/merge-patch+json"}.get(method, "application/json")
    return who.send(method, path, body, content_type=kind, dryRun="All")


# --- two rights ----------------------------------------------------------------------------------------------


def test_who_may_create_switches_may_change_their_reason_and_not_remove_them(maker: Rest, standing: str) -> None:
    assert dry(maker, "POST", SWITCHES, switch("probe")).ok
    assert dry(maker, "PATCH", standing, {"spec": {"reason": "another"}}).ok
    assert dry(maker, "PATCH", standing, {"spec": {"selector": {"tenants": ["somebody-else"]}}}).status == 422
    for path in (standing, SWITCHES):
        assert dry(maker, "DELETE", path).status == 403
    assert dry(maker, "PATCH", f"{standing}/status", {"status": {"matched": 0}}).status == 403


def test_who_may_remove_switches_may_not_create_or_change_them(remover: Rest, standing: str) -> None:
    assert dry(remover, "DELETE", standing).ok
    assert dry(remover, "POST", SWITCHES, switch("probe")).status == 403
    assert dry(remover, "PATCH", standing, {"spec": {"reason": "another"}}).status == 403


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_the_clusters_own_roles_for_people_have_neither_right(guarded: Guarded, standing: str, role: str) -> None:
    user = bound(guarded, f"person-{role}", role)
    assert user.get(standing).ok
    for method, path, body in (
        ("POST", SWITCHES, switch("probe")),
        ("PATCH", standing, {"spec": {"reason": "another"}}),
        ("DELETE", standing, None),
        ("DELETE", SWITCHES, None),
    ):
        answer = dry(user, method, path, body)
        assert answer.status == 403 and refused_by(answer) is None, answer.message


# --- no other way to go --------------------------------------------------------------------------------------


def test_a_switch_with_an_owner_is_refused_whoever_writes_it(guarded: Guarded, maker: Rest, standing: str) -> None:
    owned = switch("probe")
    owned["metadata"]["ownerReferences"] = [OWNER]
    for who in (maker, guarded.admin, guarded.break_glass, guarded.operator):
        for answer in (
            dry(who, "POST", SWITCHES, owned),
            dry(who, "PATCH", standing, {"metadata": {"ownerReferences": [OWNER]}}),
        ):
            assert answer.status == 403, answer.message
            assert who is guarded.operator or refused_by(answer) == "killswitches", answer.message


def test_the_garbage_collector_removes_no_switch_that_has_an_owner_all_the_same(
    guarded: Guarded, standing: str
) -> None:
    for collector in (
        guarded.controller("generic-garbage-collector"),
        guarded.user("system:kube-controller-manager", "system:masters"),
    ):
        answer = dry(collector, "DELETE", standing)
        assert refused_by(answer) == "killswitches" and "garbage" in answer.message, answer.message


def test_no_finalizer_keeps_a_switch_in_force_after_it_was_deleted(
    guarded: Guarded, maker: Rest, standing: str
) -> None:
    lasting = switch("probe")
    lasting["metadata"]["finalizers"] = [FINALIZER]
    for answer in (
        dry(maker, "POST", SWITCHES, lasting),
        dry(maker, "PATCH", standing, {"metadata": {"finalizers": [FINALIZER]}}),
    ):
        assert refused_by(answer) == "killswitches", answer.message
    guarded.make(SWITCHES, switch("in-the-foreground"))
    assert guarded.admin.delete(f"{SWITCHES}/in-the-foreground", propagationPolicy="Foreground").ok
    eventually(lambda: guarded.admin.get(f"{SWITCHES}/in-the-foreground").status == 404, "it is gone")


def test_the_status_of_a_switch_is_the_operators(guarded: Guarded, standing: str) -> None:
    path = f"{standing}/status"
    done = {"status": {"matched": 3, "stopped": 3}}
    answer = dry(guarded.admin, "PATCH", path, done)
    assert refused_by(answer) == "killswitches" and "accepted" in answer.message, answer.message
    for who in (guarded.operator, guarded.break_glass):
        answer = dry(who, "PATCH", path, done)
        assert answer.ok, answer.message


# --- agents do not slip out ----------------------------------------------------------------------------------

FULL = {"tenant": "blue", "workflow": "mining"}
ESCAPES: dict[str, tuple[Object, Object, Object]] = {
    "by another tenant": ({"tenants": ["blue", "red"]}, FULL, {"spec": {"tenant": "green"}}),
    "by no tenant": ({"tenants": ["blue"]}, FULL, {"spec": {"tenant": None}}),
    "by another workflow": ({"workflows": ["mining"]}, FULL, {"spec": {"workflow": "baking"}}),
    "by no workflow": ({"workflows": ["mining"]}, FULL, {"spec": {"workflow": None}}),
    "by a workflow, where its name was one": ({"workflows": ["scout"]}, {}, {"spec": {"workflow": "baking"}}),
    "by another label": (
        {"labels": {"matchLabels": {"ring": "outer"}}},
        {},
        {"metadata": {"labels": {"ring": "inner"}}},
    ),
    "by a label less": ({"labels": {"matchLabels": {"ring": "outer"}}}, {}, {"metadata": {"labels": {"ring": None}}}),
    "by one label of two": (
        {"labels": {"matchLabels": {"ring": "outer"}, "matchExpressions": [{"key": "spare", "operator": "Exists"}]}},
        {},
        {"metadata": {"labels": {"spare": None}}},
    ),
    "by a label more": (
        {"labels": {"matchExpressions": [{"key": "new", "operator": "DoesNotExist"}]}},
        {},
        {"metadata": {"labels": {"new": "x"}}},
    ),
    "by a value in a list": (
        {"labels": {"matchExpressions": [{"key": "ring", "operator": "In", "values": ["outer", "middle"]}]}},
        {},
        {"metadata": {"labels": {"ring": "inner"}}},
    ),
    "by a value not in a list": (
        {"labels": {"matchExpressions": [{"key": "ring", "operator": "NotIn", "values": ["inner"]}]}},
        {},
        {"metadata": {"labels": {"ring": "inner"}}},
    ),
    "by one condition of several": (
        {"tenants": ["blue"], "workflows": ["mining"], "labels": {"matchLabels": {"ring": "outer"}}},
        FULL,
        {"spec": {"workflow": "baking"}},
    ),
}
LABELS = {"ring": "outer", "spare": "x"}
STAYS: dict[str, tuple[Object, Object, Object]] = {
    "all are stopped": ({"all": True}, FULL, {"spec": {"tenant": "green"}, "metadata": {"labels": {"ring": None}}}),
    "another of its tenants": ({"tenants": ["blue", "red"]}, FULL, {"spec": {"tenant": "red"}}),
    "what the switch does not ask": ({"tenants": ["blue"]}, FULL, {"spec": {"workflow": "baking"}}),
    "something else of it": ({"tenants": ["blue"]}, FULL, {"spec": {"suspend": True, "image": "registry.example/x:2"}}),
    "not stopped before": ({"tenants": ["red"]}, FULL, {"spec": {"tenant": "green"}}),
    "stopped from now on": ({"tenants": ["red"]}, FULL, {"spec": {"tenant": "red"}}),
    "stopped elsewhere": ({"tenants": ["blue"], "namespaces": ["elsewhere"]}, FULL, {"spec": {"tenant": "green"}}),
}


def attempt(guarded: Guarded, sandbox: str, selector: Object, spec: Object, edit: Object, who: Rest) -> Answer:
    """Makes an agent and a switch, and tries an edit once admission has seen the switch."""
    agent = objects.agent(**spec)
    agent["metadata"]["labels"] = dict(LABELS)
    guarded.make(AGENTS.replace("{ns}", sandbox), agent)
    marker = objects.agent("marker", tenant=f"marker-{sandbox}")
    guarded.make(AGENTS.replace("{ns}", sandbox), marker)
    guarded.make(SWITCHES, switch(f"{sandbox}-probe", **selector))
    guarded.make(SWITCHES, switch(f"{sandbox}-zmarker", tenants=[f"marker-{sandbox}"]))
    try:
        # The watch of admission brings the two in order: whoever sees the second has seen the first.
        unmark = Request("PATCH", f"{AGENTS}/marker", {"spec": {"tenant": "other"}}, "merge")
        eventually(lambda: not guarded.send(who, unmark, sandbox).ok, "the switches are seen")
        return guarded.send(who, Request("PATCH", f"{AGENTS}/scout", edit, "merge"), sandbox)
    finally:
        for name in ("probe", "zmarker"):
            assert guarded.admin.delete(f"{SWITCHES}/{sandbox}-{name}").ok


@pytest.fixture
def editor(guarded: Guarded, sandbox: str) -> Rest:
    """Somebody with the cluster's role `edit` in the sandbox namespace."""
    collection = f"{RBAC_API}/namespaces/{sandbox}/rolebindings"
    guarded.make(collection, objects.role_binding("editors", "edit", f"eve-{sandbox}"), guarded.admin)
    eve = guarded.user(f"eve-{sandbox}")
    eventually(lambda: guarded.send(eve, Request("GET", AGENTS), sandbox).ok, "eve may edit")
    return eve


@pytest.mark.parametrize(("selector", "spec", "edit"), ESCAPES.values(), ids=ESCAPES)
def test_an_agent_that_a_switch_stops_does_not_leave_it_by_an_edit(
    guarded: Guarded, sandbox: str, editor: Rest, selector: Object, spec: Object, edit: Object
) -> None:
    answer = attempt(guarded, sandbox, selector, spec, edit, editor)
    assert (answer.status, refused_by(answer)) == (403, "agent-switches"), answer.message
    assert f"KillSwitch {sandbox}-probe" in answer.message and "accepted" in answer.message


@pytest.mark.parametrize(("selector", "spec", "edit"), STAYS.values(), ids=STAYS)
def test_every_other_edit_is_open_to_whoever_may_write_the_agent(
    guarded: Guarded, sandbox: str, editor: Rest, selector: Object, spec: Object, edit: Object
) -> None:
    answer = attempt(guarded, sandbox, selector, spec, edit, editor)
    assert answer.ok, answer.message


@pytest.mark.parametrize("case", [*ESCAPES, *STAYS])
def test_admission_and_the_operator_agree_on_whom_a_switch_stops(case: str) -> None:
    selector, spec, edit = {**ESCAPES, **STAYS}[case]
    one = switch("probe", **selector)
    one["metadata"]["uid"] = "x"
    made = killswitch.read(one)
    before = objects.agent(**spec)
    before["metadata"] |= {"labels": LABELS, "namespace": "here"}
    after = objects.agent(**{key: one for key, one in {**spec, **edit.get("spec", {})}.items() if one is not None})
    labels = {**LABELS, **edit.get("metadata", {}).get("labels", {})}
    after["metadata"] |= {"labels": {key: one for key, one in labels.items() if one is not None}, "namespace": "here"}
    slips = made.matches(before) and not made.matches(after)
    assert slips is (case in ESCAPES)


def test_who_may_remove_the_switch_may_take_an_agent_out_of_it(guarded: Guarded, sandbox: str, editor: Rest) -> None:
    agent = objects.agent(tenant="blue")
    guarded.make(AGENTS.replace("{ns}", sandbox), agent)
    name = f"{sandbox}-probe"
    guarded.make(SWITCHES, switch(name, tenants=["blue"]))
    try:
        leave = Request("PATCH", f"{AGENTS}/scout", {"spec": {"tenant": "green"}}, "merge")
        eventually(lambda: refused_by(guarded.send(editor, leave, sandbox)) == "agent-switches", "the switch is seen")
        assert guarded.send(guarded.admin, leave, sandbox).ok
        end = Request("DELETE", f"{AGENTS}/scout")
        assert guarded.send(editor, end, sandbox).ok, "to delete an agent is to stop it"
    finally:
        assert guarded.admin.delete(f"{SWITCHES}/{name}").ok


# --- agents have no hand in it -------------------------------------------------------------------------------

NOW = "2026-01-31T12:00:00Z"
BY_AGENTS: dict[str, Request] = {
    "its breaker reset": Request("PATCH", f"{AGENTS}/scout", {"spec": {"circuitBreaker": {"resetAt": NOW}}}, "merge"),
    "its suspension taken back": Request("PATCH", f"{AGENTS}/scout", {"spec": {"suspend": False}}, "merge"),
    "its circuit written": Request(
        "PATCH", f"{AGENTS}/scout/status", {"status": {"circuit": {"state": "Closed", "since": NOW}}}, "merge"
    ),
    "its replicas": Request("PATCH", f"{AGENTS}/scout/scale", {"spec": {"replicas": 2}}, "merge"),
    "itself deleted": Request("DELETE", f"{AGENTS}/scout"),
    "another agent made": Request("POST", AGENTS, objects.agent("other")),
    "a switch made": Request("POST", SWITCHES, switch("probe")),
    "a switch removed": Request("DELETE", f"{SWITCHES}/standing"),
    "all switches removed": Request("DELETE", SWITCHES),
    "its policy": Request(
        "PATCH",
        "/apis/bulkhead.dev/v1alpha1/sandboxpolicies/loose",
        {"spec": {"circuitBreaker": {"restarts": {"count": 100}}}},
        "merge",
    ),
}


@pytest.mark.parametrize("request_", BY_AGENTS.values(), ids=BY_AGENTS)
def test_an_agents_account_ends_no_stop_even_with_every_right_of_the_cluster(
    guarded: Guarded, sandbox: str, standing: str, request_: Request
) -> None:
    policy = objects.named("bulkhead.dev/v1alpha1", "SandboxPolicy", "loose", spec={})
    policies = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
    guarded.make(AGENTS.replace("{ns}", sandbox), objects.agent(suspend=True))
    guarded.make(policies, policy)
    try:
        for namespace in (sandbox, "another"):
            account = f"system:serviceaccount:{namespace}:{service_account_name('scout')}"
            agent = guarded.user(account, "system:masters", "system:serviceaccounts")
            answer = guarded.send(agent, request_, sandbox)
            assert answer.status == 403, answer.message
            assert refused_by(answer) in ("agent-accounts", "agent-status"), answer.message
    finally:
        guarded.admin.delete(f"{policies}/loose")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("system:serviceaccount:delivery:deployer", id="an account of another name"),
        pytest.param("agent-smith", id="a person of such a name"),
        pytest.param("system:serviceaccount:agent-systems:deployer", id="a namespace of such a name"),
    ],
)
def test_others_are_not_taken_for_agents(guarded: Guarded, sandbox: str, name: str) -> None:
    user = guarded.user(name, "system:masters")
    answer = guarded.send(user, Request("POST", AGENTS, objects.agent("other")), sandbox)
    assert answer.ok, answer.message
