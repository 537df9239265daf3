"""Kill switches against a real API server: whom they stop, what they say of it, and what their removal resumes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from bench.audit import AuditLog
from bulkhead.engine import fleet
from devcluster.api import RunningCluster
from tests.apiserver.agents import RESTRICTED_POD, Lab, went_down_in_order
from tests.apiserver.killswitches import SWITCHES, Panel
from tests.apiserver.killswitches import panel as panels
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

FINALIZER = "example.test/holds"


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as process:
        yield process
        assert process.errors() == []


@pytest.fixture
def panel(rest: Rest) -> Iterator[Panel]:
    yield from panels(rest)


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def den(rest: Rest, new_sandbox: Callable[[], str]) -> Lab:
    """Another sandbox namespace."""
    return Lab(rest, new_sandbox())


def reasons(lab: Lab, name: str) -> list[str]:
    record = lab.status(name).get("suspension") or {}
    return sorted(f"{one['type']}: {one['message']}" for one in record.get("reasons") or ())


def switches(lab: Lab, name: str) -> list[str]:
    """The switches that an agent's status names."""
    return re.findall(r"KillSwitch ([a-z-]+):", " ".join(reasons(lab, name)))


def test_a_switch_for_a_tenant_stops_its_agents_in_every_namespace_and_nobody_else(
    lab: Lab, den: Lab, panel: Panel
) -> None:
    # A tenant of this test alone: agents of earlier ones, whose namespaces are still being deleted, would match too.
    acme = f"acme-{lab.namespace}"
    for where in (lab, den):
        for name, tenant in (("one", acme), ("two", acme), ("three", "other"), ("four", None)):
            where.create(name, **({"tenant": tenant} if tenant else {}), workspace={"size": "1Gi"})
    for where in (lab, den):
        where.until_built(["one", "two", "three", "four"])
    pods = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in lab.list("Pod")}
    panel.throw("acme", tenants=[acme], reason="copies what it must not")
    status = panel.until("acme", "Stopped")
    for where in (lab, den):
        assert where.names("Pod") == ["four-0", "three-0"]
        assert where.names("StatefulSet") == ["four", "three"]
        assert "bulkhead-deny-all" in where.names("NetworkPolicy")
        assert "workspace-one-0" in where.names("PersistentVolumeClaim")
    assert {pod["metadata"]["uid"] for pod in lab.list("Pod")} == {pods["three-0"], pods["four-0"]}
    assert (status["matched"], status["cutOff"], status["stopped"]) == (4, 4, 4)
    assert panel.condition("acme", "CutOff")["status"] == "True"
    assert status["startedAt"] <= status["cutOffAt"] <= status["stoppedAt"]
    assert 0 < float(status["seconds"]) < 30
    for where in (lab, den):
        where.until_state("one", "Suspended")
        # Accounts go beside the pods: that these are gone says nothing of them.
        assert "agent-one" not in where.names("ServiceAccount")
        [reason] = reasons(where, "one")
        assert reason.startswith("KillSwitch: ")
        assert "acme" in reason
        assert "copies what it must not" in reason
        assert went_down_in_order(where.status("one")["suspension"])


def test_an_agent_that_appears_later_and_matches_never_starts(lab: Lab, panel: Panel) -> None:
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    assert panel.status("lab")["matched"] == 0
    lab.create("late")
    lab.create("careless", suspend=False, tenant="x")
    eventually(lambda: panel.status("lab").get("matched") == 2, "both are matched")
    panel.until("lab", "Stopped")
    lab.until_state("late", "Suspended")
    assert lab.names("Pod") == lab.names("StatefulSet") == []
    assert [one for one in lab.names("ServiceAccount") if one != "default"] == []
    assert panel.status("lab")["stopped"] == 2


def test_removing_a_switch_resumes_what_nothing_else_holds(lab: Lab, panel: Panel) -> None:
    lab.create("both", tenant="globex", workflow="nightly")
    lab.create("one", tenant="globex")
    lab.create("asked", tenant="globex", suspend=True)
    lab.until_built(["both", "one"])
    panel.throw("tenant", tenants=["globex"])
    panel.throw("flow", workflows=["nightly"])
    panel.until("tenant", "Stopped")
    panel.until("flow", "Stopped")
    eventually(lambda: switches(lab, "both") == ["flow", "tenant"], "both switches are named")
    assert lab.get("ServiceAccount", "agent-both") is None
    panel.remove("tenant")
    lab.until_built(["one"])
    eventually(lambda: switches(lab, "both") == ["flow"], "one switch is named")
    assert lab.names("Pod") == ["one-0"]
    panel.remove("flow")
    lab.until_built(["one", "both"])
    assert lab.names("Pod") == ["both-0", "one-0"]
    assert lab.condition("asked", "Suspended")["status"] == "True"


def test_stopped_is_said_only_when_the_api_server_has_no_pod_left(lab: Lab, panel: Panel, rest: Rest) -> None:
    lab.create("fast")
    lab.create("slow")
    lab.until_built(["fast", "slow"])
    patched = rest.send(
        "PATCH",
        lab.path("Pod", "slow-0"),
        {"metadata": {"finalizers": [FINALIZER]}},
        content_type="application/merge-patch+json",
    )
    assert patched.ok, patched.message
    panel.throw("lab", namespaces=[lab.namespace], grace=2)
    panel.until("lab", "CutOff")
    eventually(lambda: lab.names("Pod") == ["slow-0"], "the other is gone")
    eventually(lambda: panel.status("lab").get("stopped") == 1, lambda: f"one is stopped: {panel.status('lab')}")
    status = panel.status("lab")
    assert status["pending"] == [f"{lab.namespace}/slow"]
    assert panel.condition("lab", "Stopped")["status"] == "False"
    assert "stoppedAt" not in status
    rest.send(
        "PATCH",
        lab.path("Pod", "slow-0"),
        {"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )
    status = panel.until("lab", "Stopped")
    assert "pending" not in status
    assert status["stopped"] == 2


@pytest.mark.parametrize("again", [False, True], ids=["the same operator", "one that never met it"])
def test_an_agent_that_is_deleted_in_the_midst_of_it_is_waited_for_too(
    again: bool, lab: Lab, panel: Panel, rest: Rest, operator: OperatorProcess
) -> None:
    lab.create("gone")
    lab.until_built(["gone"])
    path, merge = lab.path("Pod", "gone-0"), "application/merge-patch+json"
    assert rest.send("PATCH", path, {"metadata": {"finalizers": [FINALIZER]}}, content_type=merge).ok
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "CutOff")
    lab.delete("AgentDeployment", "gone")
    eventually(lambda: panel.status("lab").get("matched") == 0, "it is not matched any more")
    assert panel.status("lab")["pending"] == [f"{lab.namespace}/gone"]
    if again:
        operator.kill()
        lab.create("late")  # that it is counted can only be written by the next one
        operator.start()
        left = (1, [f"{lab.namespace}/gone"])
        eventually(lambda: (panel.status("lab").get("matched"), panel.status("lab").get("pending")) == left, "both")
    assert panel.condition("lab", "Stopped")["status"] == "False"
    assert rest.send("PATCH", path, {"metadata": {"finalizers": None}}, content_type=merge).ok
    panel.until("lab", "Stopped")


def test_a_status_that_says_all_is_not_written_again(lab: Lab, panel: Panel, rest: Rest) -> None:
    lab.create("one")
    lab.until_built(["one"])
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    before = rest.get(f"{SWITCHES}/lab").body["metadata"]["resourceVersion"]
    lab.until_state("one", "Suspended")
    lab.patch("one", tenant="x")
    lab.until_state("one", "Suspended")
    time.sleep(1.5)  # two rounds
    assert rest.get(f"{SWITCHES}/lab").body["metadata"]["resourceVersion"] == before


def test_who_leads_anew_takes_nothing_back_that_was_proven_before(
    lab: Lab, panel: Panel, rest: Rest, operator: OperatorProcess, new_sandbox: Callable[[], str]
) -> None:
    for name in ("one", "two"):
        lab.create(name)
    lab.until_built(["one", "two"])
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    before = rest.get(f"{SWITCHES}/lab").body["metadata"]["resourceVersion"]
    operator.kill()
    # That this one is stopped, too, can only be written by the next one, who looks at all switches in one round.
    panel.throw("next", namespaces=[new_sandbox()])
    operator.start()
    panel.until("next", "Stopped")
    time.sleep(1.5)  # two rounds
    assert rest.get(f"{SWITCHES}/lab").body["metadata"]["resourceVersion"] == before


def test_labels_select_with_expressions(lab: Lab, panel: Panel, rest: Rest) -> None:
    for name, labels in (("a", {"stage": "prod"}), ("b", {"stage": "test"}), ("c", {})):
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {"owner": "team-a", "image": "example.test/agent:1"},
        }
        assert rest.post(lab.path("AgentDeployment"), body).ok
    lab.until_built(["a", "b", "c"])
    expression = {"key": "stage", "operator": "NotIn", "values": ["prod"]}
    panel.throw("labels", namespaces=[lab.namespace], labels={"matchExpressions": [expression]})
    panel.until("labels", "Stopped")
    assert lab.names("Pod") == ["a-0"]
    # A label that makes an agent match stops it, and one that makes it match no more lets it go.
    merge = "application/merge-patch+json"
    for name, stage in (("a", "test"), ("b", "prod")):
        body = {"metadata": {"labels": {"stage": stage}}}
        assert rest.send("PATCH", lab.path("AgentDeployment", name), body, content_type=merge).ok
    eventually(lambda: lab.names("Pod") == ["b-0"], lambda: f"only b runs, but {lab.names('Pod')} do")
    panel.until("labels", "Stopped")


def test_objects_of_others_under_our_labels_and_names_are_left_where_they_are(
    lab: Lab, panel: Panel, rest: Rest
) -> None:
    agents = {name: lab.create(name)["metadata"]["uid"] for name in ("one", "two")}
    lab.until_built(agents)
    labels = {"app.kubernetes.io/managed-by": "bulkhead", "bulkhead.dev/agent-uid": agents["one"]}
    theirs = {"metadata": {"name": "theirs", "labels": labels}}
    lab.put("ServiceAccount", {"apiVersion": "v1", "kind": "ServiceAccount", **theirs})
    lab.put("Role", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", **theirs, "rules": []})
    policy = {"podSelector": {"matchLabels": {"theirs": "yes"}}, "policyTypes": ["Ingress"]}
    lab.put("NetworkPolicy", {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **theirs, "spec": policy})
    # The controller that makes the account that a pod needs may be behind.
    eventually(lambda: lab.get("ServiceAccount", "default"), "the namespace's own account")
    pod = lab.put("Pod", {"apiVersion": "v1", "kind": "Pod", **theirs, "spec": RESTRICTED_POD})
    until_seen(lab)
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    eventually(lambda: lab.names("Pod") == ["theirs"], lambda: f"pods: {lab.names('Pod')}")
    # That of the agent beside which theirs is goes by itself, the other's with all others, in whichever order.
    eventually(
        lambda: lab.names("ServiceAccount") == ["default", "theirs"],
        lambda: f"the agents' own accounts are gone, but there are {lab.names('ServiceAccount')}",
    )
    assert lab.names("Role") == ["theirs"]
    assert lab.names("NetworkPolicy") == ["bulkhead-deny-all", "theirs"]
    assert lab.the("Pod", "theirs")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "deletionTimestamp" not in lab.the("Pod", "theirs")["metadata"]
    assert panel.status("lab")["stopped"] == 2


def until_seen(lab: Lab) -> None:
    """Waits until the operator has seen what was just put beside agent `two`: it is by its caches that it decides.

    Each cache follows a watch of its own, which tells in order: who acts on something later has seen what was before.
    Of Roles, which no agent here has, no call is made, whether theirs is known or not.
    """
    lab.patch("two", replicas=2)
    for kind, name, change in (
        ("ServiceAccount", "agent-two", {"automountServiceAccountToken": True}),
        ("NetworkPolicy", "bulkhead-deny-all", {"spec": {"egress": [{}]}}),
    ):
        before = lab.the(kind, name)
        answer = lab.rest.patch(lab.path(kind, name), change)
        assert answer.ok, answer.message

        def mended(kind: str = kind, name: str = name, before: dict[str, Any] = before) -> bool:
            found = lab.the(kind, name)
            keys = ("automountServiceAccountToken", "spec")
            return [found.get(key) for key in keys] == [before.get(key) for key in keys]

        eventually(mended, f"{kind} {name} is mended")
    eventually(lambda: lab.status("two").get("replicas") == 2, "the operator has seen the pod that came last")


def test_the_reason_can_be_said_better_and_reaches_the_agents(lab: Lab, panel: Panel, rest: Rest) -> None:
    lab.create("one")
    lab.until_built(["one"])
    panel.throw("lab", namespaces=[lab.namespace], reason="not known yet")
    panel.until("lab", "Stopped")
    lab.until_state("one", "Suspended")
    merge = "application/merge-patch+json"
    body = {"spec": {"reason": "a library of it is compromised"}}
    assert rest.send("PATCH", "/apis/bulkhead.dev/v1alpha1/killswitches/lab", body, content_type=merge).ok
    eventually(lambda: "compromised" in " ".join(reasons(lab, "one")), lambda: str(reasons(lab, "one")))
    assert panel.condition("lab", "Stopped")["status"] == "True"


def counted(lab: Lab, name: str) -> bool:
    """Whether the operator knows of the agent's pod."""
    return bool(lab.status(name).get("replicas") == 1)


def deletions_of_a_stop(lab: Lab, panel: Panel, apiserver: RunningCluster, names: list[str]) -> list[tuple[str, str]]:
    """Stops agents by a switch; gives the verb and kind of each of the operator's calls that deleted something.

    Where its watches are behind, it asks again for what has gone by one call already.
    """
    lab.until_built(names)
    eventually(lambda: len(lab.list("NetworkPolicy")) == len(names) + 1, "each has its rules")
    for name in names:
        # Its controller owns them, and on a busy machine they can be collected before the operator comes to them.
        lab.keep_from_collector("Pod", f"{name}-0")
        # One that the operator has not seen yet is in no call for all.
        eventually(partial(counted, lab, name), f"the operator has seen the pod of {name}")
    log = AuditLog(apiserver.audit_log)
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    eventually(lambda: all(lab.state(name) == "Suspended" for name in names), "each says so")
    log.read()
    log.close()
    return [
        (one.verb, one.resource)
        for one in log.seen
        if one.done
        and one.agent.startswith("bulkhead/")
        and one.verb.startswith("delete")
        and one.namespace == lab.namespace
    ]


def cuts(operator: OperatorProcess, lab: Lab, count: int) -> list[float]:
    """How many seconds each cut of the lab's agents took; nothing before there were so many."""
    said = [one for one in operator.records() if one["message"] == "agents are cut"]
    times = [float(one["seconds"]) for one in said if one.get("namespace") == lab.namespace]
    return times if len(times) == count else []


def test_a_fleet_of_a_namespace_goes_by_one_call_for_a_kind(
    lab: Lab, panel: Panel, apiserver: RunningCluster, operator: OperatorProcess
) -> None:
    names = [f"agent-{number:02}" for number in range(30)]
    for name in names:
        caller = {"pods": {"namespace": lab.namespace, "labels": {"app": "caller"}}}
        lab.create(name, ports=[{"containerPort": 8080}], network={"ingress": [{"from": caller}]})
    for attempt in range(1, 4):
        calls = deletions_of_a_stop(lab, panel, apiserver, names)
        times = eventually(partial(cuts, operator, lab, attempt), "the cut is through")
        if times[-1] < fleet.HELD_FEW:
            break
        # Whom a cut has not reached by then the ordinary way takes, one by one: the machine was too slow for this test.
        panel.remove("lab")
    for resource in ("networkpolicies", "serviceaccounts", "statefulsets", "pods"):
        assert calls.count(("deletecollection", resource)) == 1, calls
    assert len([verb for verb, _ in calls if verb == "delete"]) < len(names), "the others were left nothing to do"
