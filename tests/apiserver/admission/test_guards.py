"""Who may write what in a sandbox namespace, tried as administrators, as controllers and as the operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.apiserver.admission import objects
from tests.apiserver.admission.allowed import LET_THROUGH, STANDING_POD
from tests.apiserver.admission.cluster import Guarded, Request, refused_by
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, NETWORK, RBAC
from tests.apiserver.admission.refused import REFUSED
from tests.apiserver.rest import Answer, Rest
from tests.operator_process import eventually
from tests.packaging.rendering import CHART

CASES = [
    pytest.param(name, request, id=f"{name}: {what}")
    for name, requests in REFUSED.items()
    for what, request in requests.items()
]


@pytest.fixture(scope="module")
def furnished(guarded: Guarded) -> Iterator[str]:
    """A sandbox namespace with an object called `standing` of each kind that requests are about."""
    with guarded.sandbox() as namespace:
        furnish(guarded, namespace)
        yield namespace


def furnish(guarded: Guarded, namespace: str) -> None:
    def make(path: str, body: objects.Object) -> Answer:
        return guarded.break_glass.post(path.replace("{ns}", namespace), body)

    # The service account `default`, which a pod needs, comes from a controller.
    eventually(lambda: make(f"{CORE}/pods", objects.pod("standing")).status in (201, 409), "a pod is admitted")
    for path, body in (
        (f"{CORE}/serviceaccounts", objects.named("v1", "ServiceAccount", "standing")),
        (f"{CORE}/secrets", objects.lease_secret("standing")),
        (f"{CORE}/services", objects.service("standing")),
        (f"{NETWORK}/networkpolicies", objects.network_policy("standing")),
        (f"{APPS}/statefulsets", objects.workload("StatefulSet", "standing")),
        (f"{AGENTS}", objects.agent("standing")),
    ):
        answer = make(path, body)
        assert answer.ok, answer.message


@pytest.mark.parametrize(("guard", "request_"), CASES)
def test_an_administrator_of_the_cluster_is_refused_and_told_who_is_accepted(
    guarded: Guarded, furnished: str, guard: str, request_: Request
) -> None:
    answer = guarded.send(guarded.admin, request_, furnished)
    assert (answer.status, refused_by(answer)) == (403, guard), answer.message
    assert "accepted" in answer.message


@pytest.mark.parametrize(("guard", "request_"), CASES)
def test_a_member_of_a_break_glass_group_is_not_refused_by_admission(
    guarded: Guarded, furnished: str, guard: str, request_: Request
) -> None:
    answer = guarded.send(guarded.break_glass, request_, furnished)
    assert refused_by(answer) is None and answer.status != 403, answer.message


@pytest.mark.parametrize(("guard", "request_"), CASES)
def test_outside_of_sandbox_namespaces_admission_is_not_in_the_way(
    guarded: Guarded, guard: str, request_: Request
) -> None:
    assert refused_by(guarded.send(guarded.admin, request_, "default")) is None


def test_every_guard_of_the_chart_is_tried() -> None:
    guards = {one["name"] for one in yaml.safe_load((CHART / "files" / "guards.yaml").read_text())}
    assert guards - {"roles"} == REFUSED.keys() - {"evictions", "orphans", "services"}


# --- who is let through --------------------------------------------------------------------------------------

LABEL = {"metadata": {"labels": {"app": "x"}}}


@pytest.mark.parametrize(("who", "request_"), [pytest.param(*sent, id=what) for what, sent in LET_THROUGH.items()])
def test_who_keeps_a_cluster_going_is_let_through(
    guarded: Guarded, furnished: str, who: str, request_: Request
) -> None:
    answer = guarded.send(connection(guarded, who), request_, furnished)
    assert answer.ok, answer.message


def connection(guarded: Guarded, who: str) -> Rest:
    if who == "operator":
        return guarded.operator
    return guarded.user("system:kube-scheduler") if who == "scheduler" else guarded.controller(who)


def test_a_controller_manager_whose_controllers_have_no_accounts_of_their_own_is_let_through(
    guarded: Guarded, furnished: str
) -> None:
    manager = guarded.user("system:kube-controller-manager", "system:masters")
    assert guarded.send(manager, Request("POST", f"{CORE}/pods", objects.pod()), furnished).ok
    assert refused_by(
        guarded.send(manager, Request("POST", f"{APPS}/deployments", objects.workload("Deployment")), furnished)
    )


@pytest.mark.parametrize(
    ("name", "group"),
    [
        pytest.param("system:nodes", "", id="the name of the group of nodes"),
        pytest.param("system:node:n1", "", id="a node's name without its group"),
        pytest.param("platform", "", id="a word of the chart"),
        pytest.param("statefulset-controller", "", id="a controller's bare name"),
        pytest.param("system:serviceaccount:kube-system:default", "", id="another account of kube-system"),
        pytest.param("system:serviceaccount:other:bulkhead", "", id="the operator's name in another namespace"),
        pytest.param("mallory", "bulkhead:break-glasses", id="almost a break-glass group"),
        pytest.param("mallory", "system:nodes", id="the group of nodes without a node's name"),
    ],
)
def test_a_name_that_looks_like_a_writers_does_not_help(
    guarded: Guarded, furnished: str, name: str, group: str
) -> None:
    user = guarded.user(name, "system:masters", *([group] if group else []))
    for request in (
        Request("DELETE", STANDING_POD),
        Request("POST", f"{CORE}/pods", objects.pod()),
        Request("POST", f"{NETWORK}/networkpolicies", objects.network_policy()),
    ):
        answer = guarded.send(user, request, furnished)
        assert refused_by(answer) in ("pods", "network-policies"), answer.message


@pytest.mark.parametrize(
    "who", ["statefulset-controller", "node-controller", "pod-garbage-collector", "taint-eviction-controller"]
)
def test_a_status_cannot_carry_another_label_not_even_a_controllers(guarded: Guarded, furnished: str, who: str) -> None:
    manager = guarded.user("system:kube-controller-manager", "system:masters")
    answer = guarded.send(manager, Request("PATCH", f"{STANDING_POD}/status", LABEL, "merge"), furnished)
    assert refused_by(answer) == "pod-labels", answer.message
    assert not guarded.send(
        guarded.controller(who), Request("PATCH", f"{STANDING_POD}/status", LABEL, "merge"), furnished
    ).ok


@pytest.mark.parametrize("grace", [None, 2, 30])
def test_an_eviction_that_leaves_processes_their_grace_is_open_to_whoever_has_the_right(
    guarded: Guarded, furnished: str, grace: int | None
) -> None:
    request = Request("POST", f"{STANDING_POD}/eviction", objects.eviction(grace))
    answer = guarded.send(guarded.admin, request, furnished)
    assert answer.ok, answer.message


@pytest.mark.parametrize("query", ["", "?propagationPolicy=Background", "?propagationPolicy=Foreground"])
def test_an_agent_is_deleted_with_what_it_has_by_whoever_has_the_right(
    guarded: Guarded, furnished: str, query: str
) -> None:
    answer = guarded.send(guarded.admin, Request("DELETE", f"{objects.AGENTS}/standing{query}"), furnished)
    assert answer.ok, answer.message


def test_the_pull_secrets_of_the_default_account_are_open_to_whoever_has_the_right(
    guarded: Guarded, furnished: str
) -> None:
    body = {"imagePullSecrets": [{"name": "registry"}]}
    path = f"{CORE}/serviceaccounts/default"
    assert guarded.send(guarded.admin, Request("PATCH", path, body, "merge"), furnished).ok
    for more in (
        {"automountServiceAccountToken": False},
        {"secrets": [{"name": "x"}]},
        {"metadata": {"labels": {"a": "b"}}},
    ):
        answer = guarded.send(guarded.admin, Request("PATCH", path, {**body, **more}, "merge"), furnished)
        assert refused_by(answer) == "service-accounts", answer.message


def test_other_secrets_are_none_of_admissions_business(guarded: Guarded, furnished: str) -> None:
    for name in ("plain", "agent", "agent-probe", "an.agent-probe.db"):
        body = objects.named("v1", "Secret", name, stringData={"a": "b"})
        answer = guarded.send(guarded.admin, Request("POST", f"{CORE}/secrets", body), furnished)
        assert answer.ok, answer.message


def test_roles_are_for_platform_engineers(guarded: Guarded, furnished: str) -> None:
    body = objects.role_binding(to="admin", user="nadia")
    request = Request("POST", f"{RBAC}/rolebindings", body)
    assert guarded.send(guarded.admin, request, furnished).ok
    guarded.make(f"{RBAC}/rolebindings".replace("{ns}", furnished), objects.role_binding("nadia", "admin", "nadia"))
    nadia = guarded.user("nadia")
    eventually(lambda: guarded.send(nadia, Request("GET", f"{RBAC}/rolebindings"), furnished).ok, "nadia is admin")
    for request in (
        Request("POST", f"{RBAC}/rolebindings", objects.role_binding()),
        Request("POST", f"{RBAC}/roles", objects.role()),
        Request("DELETE", f"{RBAC}/rolebindings/nadia"),
        Request("DELETE", f"{RBAC}/rolebindings"),
    ):
        answer = guarded.send(nadia, request, furnished)
        assert refused_by(answer) == "roles" and "whoever may update SandboxPolicies" in answer.message, answer.message


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="a plain one"),
        pytest.param({"clusterIP": "None"}, id="a headless one"),
        pytest.param({"type": "ClusterIP", "ports": [{"port": 80, "targetPort": "http"}]}, id="a named port"),
    ],
)
def test_a_service_of_pods_is_open_to_whoever_has_the_right(
    guarded: Guarded, furnished: str, spec: objects.Object
) -> None:
    answer = guarded.send(guarded.admin, Request("POST", f"{CORE}/services", objects.service(**spec)), furnished)
    assert answer.ok, answer.message
