"""The labels of sandbox namespaces: who may change them, and by which ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.api.meta import SANDBOX_LABEL
from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.rest import Answer, Rest
from tests.operator_process import eventually

NAMESPACES = "/api/v1/namespaces"
ENFORCE = "pod-security.kubernetes.io/enforce"
EDITS: dict[str, Object] = {
    "the sandbox label taken": {SANDBOX_LABEL: None},
    "the sandbox label changed": {SANDBOX_LABEL: "false"},
    "pod security taken": {ENFORCE: None},
    "pod security lowered": {ENFORCE: "privileged"},
    "a label added": {"tier": "gold"},
    "a label that policies select by changed": {"team": "red"},
}


@pytest.fixture(scope="module")
def namespace_editor(guarded: Guarded) -> Rest:
    """Somebody who may write every namespace, its status and its finalizers, and no SandboxPolicy."""
    rules = [
        {
            "apiGroups": [""],
            "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
            "verbs": ["get", "create", "update", "patch", "delete"],
        }
    ]
    return person(guarded, "nia", "namespace-editor", rules)


def person(guarded: Guarded, name: str, role: str, rules: list[Object]) -> Rest:
    """A user with a ClusterRole in the whole cluster."""
    api = "/apis/rbac.authorization.k8s.io/v1"
    group = "rbac.authorization.k8s.io"
    guarded.make(f"{api}/clusterroles", objects.named(f"{group}/v1", "ClusterRole", role, rules=rules))
    subjects = [{"apiGroup": group, "kind": "User", "name": name}]
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
    binding = objects.named(f"{group}/v1", "ClusterRoleBinding", role, roleRef=reference, subjects=subjects)
    guarded.make(f"{api}/clusterrolebindings", binding)
    user = guarded.user(name)
    eventually(lambda: user.get(f"{NAMESPACES}/default").status != 403, f"{name} has {role}")
    return user


@pytest.fixture(scope="module")
def labelled(guarded: Guarded) -> Iterator[str]:
    with guarded.sandbox(**{ENFORCE: "restricted", "team": "blue"}) as name:
        yield name


def relabel(guarded: Guarded, who: Rest, namespace: str, labels: Object, sub: str = "") -> Answer:
    body = {"metadata": {"labels": labels}}
    return guarded.send(who, Request("PATCH", f"{NAMESPACES}/{namespace}{sub}", body, "merge"), namespace)


@pytest.mark.parametrize("sub", ["", "/status"])
@pytest.mark.parametrize("labels", EDITS.values(), ids=EDITS)
def test_no_label_of_a_sandbox_is_changed_by_who_may_write_namespaces(
    guarded: Guarded, namespace_editor: Rest, labelled: str, labels: Object, sub: str
) -> None:
    answer = relabel(guarded, namespace_editor, labelled, labels, sub)
    assert refused_by(answer) == "namespaces", answer.message
    assert next(iter(labels)) in answer.message and "whoever may update SandboxPolicies" in answer.message
    assert relabel(guarded, guarded.admin, labelled, labels, sub).ok


def test_finalizing_a_namespace_does_not_relabel_it(guarded: Guarded, namespace_editor: Rest, labelled: str) -> None:
    found = guarded.admin.get(f"{NAMESPACES}/{labelled}").body
    found["metadata"]["labels"].pop(SANDBOX_LABEL)
    answer = guarded.send(namespace_editor, Request("PUT", f"{NAMESPACES}/{labelled}/finalize", found), labelled)
    assert refused_by(answer) == "namespaces", answer.message


def test_nobody_else_makes_a_namespace_a_sandbox(guarded: Guarded, namespace_editor: Rest) -> None:
    def create(who: Rest, **labels: str) -> Answer:
        body = objects.named("v1", "Namespace", "fresh")
        body["metadata"]["labels"] = labels
        return guarded.send(who, Request("POST", NAMESPACES, body), "")

    assert refused_by(create(namespace_editor, **{SANDBOX_LABEL: "true"})) == "namespaces"
    assert create(namespace_editor, team="blue").ok
    assert create(guarded.admin, **{SANDBOX_LABEL: "true"}).ok
    answer = relabel(guarded, namespace_editor, "default", {SANDBOX_LABEL: "true"})
    assert refused_by(answer) == "namespaces", answer.message


def test_labels_of_other_namespaces_and_annotations_are_none_of_admissions_business(
    guarded: Guarded, namespace_editor: Rest, labelled: str
) -> None:
    assert relabel(guarded, namespace_editor, "default", {"team": "red"}).ok
    body = {"metadata": {"annotations": {"note": "x"}}}
    request = Request("PATCH", f"{NAMESPACES}/{labelled}", body, "merge")
    assert guarded.send(namespace_editor, request, labelled).ok
    assert guarded.send(namespace_editor, Request("DELETE", f"{NAMESPACES}/{labelled}"), labelled).ok


# --- external addresses of Services, anywhere ----------------------------------------------------------------


def test_external_addresses_that_agents_may_be_granted_are_not_led_elsewhere_by_services_of_any_namespace(
    guarded: Guarded,
) -> None:
    rules = [{"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["*"]}]
    editor = person(guarded, "sam", "service-editor", rules)
    path = "/api/v1/namespaces/default/services"

    def create(who: Rest, *addresses: str) -> Answer:
        return guarded.send(who, Request("POST", path, objects.service(externalIPs=list(addresses))), "default")

    def patch(*addresses: str, **labels: str) -> Answer:
        body = {"metadata": {"labels": labels}, "spec": {"externalIPs": list(addresses)}}
        return guarded.send(editor, Request("PATCH", f"{path}/old", body, "merge"), "default")

    assert create(editor, "203.0.113.99").ok
    guarded.make(path, {**objects.service("old", externalIPs=["203.0.113.99"])}, editor)
    networks = {"egressCIDRs": ["203.0.113.0/24", "2001:db8:113::/64"]}
    with guarded.policies(sandbox_policy("grants", network=networks)):
        eventually(lambda: not create(editor, "203.0.113.99").ok, "the policy is seen")
        for address in ("203.0.113.99", "2001:db8:113::7"):
            answer = create(editor, "198.51.100.1", address)
            assert refused_by(answer) == "services-elsewhere", answer.message
            assert f"{address} lies in what SandboxPolicy grants" in answer.message
            assert create(guarded.admin, address).ok
        assert create(editor, "198.51.100.1").ok and create(editor).ok
        assert patch("203.0.113.99", app="x").ok and patch().ok
        assert refused_by(patch("203.0.113.99", "203.0.113.98")) == "services-elsewhere"
    guarded.admin.delete(f"{path}/old")
