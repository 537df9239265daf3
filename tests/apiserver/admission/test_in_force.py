"""Whether admission is in force: live objects are what the chart says, and every weakening of them is found."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bulkhead.plan import admission
from devcluster import auditlog
from devcluster.api import token_kubeconfig
from manifests.render import find_helm
from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import ADMISSION, OPERATOR, Guarded, Object, admission_objects, sandbox_policy
from tests.apiserver.agents import Lab
from tests.operator_process import NAMESPACE, OperatorProcess, eventually
from tests.packaging.rendering import render

SOURCES = "shared-secrets"

API = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS = {
    admission.POLICY: f"{API}/validatingadmissionpolicies",
    admission.BINDING: f"{API}/validatingadmissionpolicybindings",
}


@pytest.fixture(scope="module")
def expected() -> list[Object]:
    return admission_objects()


def live(guarded: Guarded) -> list[Object]:
    """The cluster's admission objects. Items of a list have no kind, as the operator's informers know."""
    found = []
    for kind, path in COLLECTIONS.items():
        answer = guarded.admin.get(path)
        assert answer.ok, answer.message
        found += [{**item, "kind": kind} for item in answer.body["items"]]
    return found


def path_of(obj: Object) -> str:
    return f"{COLLECTIONS[obj['kind']]}/{obj['metadata']['name']}"


def test_the_api_server_stores_each_object_as_the_chart_has_it(guarded: Guarded, expected: list[Object]) -> None:
    stored = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in live(guarded)}
    for one in expected:
        assert stored[one["kind"], one["metadata"]["name"]] == one["spec"]
    assert admission.problems(expected, live(guarded)) == ()


def test_no_expression_mistakes_a_type(guarded: Guarded) -> None:
    def checked() -> bool:
        policies = [one for one in live(guarded) if one["kind"] == admission.POLICY]
        return all(
            (one.get("status") or {}).get("observedGeneration") == one["metadata"]["generation"] for one in policies
        )

    eventually(checked, "kube-controller-manager has checked the types of each")
    warned = {
        one["metadata"]["name"]: one["status"]["typeChecking"]["expressionWarnings"]
        for one in live(guarded)
        if (one.get("status") or {}).get("typeChecking", {}).get("expressionWarnings")
    }
    assert warned == {}


def set_spec(**fields: object) -> Callable[[Object], None]:
    return lambda obj: obj["spec"].update(fields)


def narrowed(obj: Object) -> None:
    obj["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["CREATE"]


def elsewhere(obj: Object) -> None:
    obj["spec"]["matchConstraints"]["namespaceSelector"] = {"matchLabels": {"a": "b"}}


def excepted(obj: Object) -> None:
    obj["spec"]["matchConstraints"]["excludeResourceRules"] = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]}
    ]


def hollow(obj: Object) -> None:
    obj["spec"]["validations"][0]["expression"] = "true"


POLICY_EDITS: dict[str, tuple[Callable[[Object], None], str]] = {
    "failurePolicy": (set_spec(failurePolicy="Ignore"), "spec.failurePolicy is Ignore instead of Fail"),
    "a validation that is always true": (hollow, "spec.validations[0].expression is true instead of"),
    "fewer validations": (set_spec(validations=[{"expression": "true"}]), "spec.validations[0]"),
    "a condition that never holds": (
        set_spec(matchConditions=[{"name": "never", "expression": "false"}]),
        "spec.matchConditions[0].expression is false instead of",
    ),
    "fewer operations": (narrowed, "spec.matchConstraints.resourceRules[0].operations"),
    "other namespaces": (elsewhere, "spec.matchConstraints.namespaceSelector"),
    "an exception": (excepted, "spec.matchConstraints.excludeResourceRules was added"),
}
BINDING_EDITS: dict[str, tuple[Callable[[Object], None], str]] = {
    "only a warning": (set_spec(validationActions=["Warn"]), "spec.validationActions[0] is Warn instead of Deny"),
    "only the audit log": (set_spec(validationActions=["Audit"]), "spec.validationActions[0]"),
    "other namespaces": (
        set_spec(matchResources={"namespaceSelector": {"matchLabels": {"a": "b"}}}),
        "spec.matchResources.namespaceSelector.matchLabels was added",
    ),
}
PARAMETER_EDITS: dict[str, tuple[Callable[[Object], None], str]] = {
    "other parameters": (
        set_spec(paramRef={"selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Allow"}),
        "spec.paramRef.selector",
    ),
}
CASES = [
    pytest.param(kind, name, *edit, id=f"{kind}: {what}")
    for kind, name, edits in (
        (admission.POLICY, "bulkhead-stateful-sets", POLICY_EDITS),
        (admission.BINDING, "bulkhead-stateful-sets", BINDING_EDITS),
        (admission.BINDING, "bulkhead-network-production", PARAMETER_EDITS),
    )
    for what, edit in edits.items()
]


@pytest.mark.parametrize(("kind", "name", "edit", "told"), CASES)
def test_a_weaker_object_is_found_and_told(
    guarded: Guarded, expected: list[Object], kind: str, name: str, edit: Callable[[Object], None], told: str
) -> None:
    (whole,) = (one for one in expected if (one["kind"], one["metadata"]["name"]) == (kind, name))
    weaker = copy.deepcopy(whole)
    edit(weaker)
    weaker["metadata"]["resourceVersion"] = guarded.admin.get(path_of(whole)).body["metadata"]["resourceVersion"]
    try:
        answer = guarded.admin.send("PUT", path_of(whole), weaker)
        assert answer.ok, answer.message
        (problem,) = admission.problems(expected, live(guarded))
        assert problem.startswith(f"{kind} {name} was changed: ") and told in problem
    finally:
        weaker = guarded.admin.get(path_of(whole)).body
        assert guarded.admin.send("PUT", path_of(whole), {**weaker, "spec": whole["spec"]}).ok
    assert admission.problems(expected, live(guarded)) == ()


@pytest.mark.parametrize("kind", ADMISSION)
def test_a_deleted_object_is_found_and_told(guarded: Guarded, expected: list[Object], kind: str) -> None:
    (whole,) = (one for one in expected if (one["kind"], one["metadata"]["name"]) == (kind, "bulkhead-stateful-sets"))
    assert guarded.admin.delete(path_of(whole)).ok
    try:
        assert admission.problems(expected, live(guarded)) == (f"{kind} bulkhead-stateful-sets is missing.",)
    finally:
        guarded.make(COLLECTIONS[kind], whole)


# --- the operator itself -------------------------------------------------------------------------------------


@pytest.fixture
def operator(guarded: Guarded, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator under its chart's account and rights, with the ConfigMap of the chart where it is mounted."""
    kubeconfig = token_kubeconfig(guarded.cluster, NAMESPACE, "bulkhead")
    mounted = tmp_path / "admission"
    mounted.mkdir()
    data = guarded.admin.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/bulkhead-admission").body["data"]
    for name, text in data.items():
        (mounted / name).write_text(text, encoding="utf-8")
    issuers = tmp_path / "issuers.yaml"
    issuers.write_text(f"secretSources: [{SOURCES}]", encoding="utf-8")
    options = [f"--admission-dir={mounted}", f"--issuers={issuers}"]
    with OperatorProcess(kubeconfig, tmp_path, extra=options) as process:
        yield process


@pytest.fixture
def sources(guarded: Guarded) -> Iterator[None]:
    """A namespace whose Secrets the operator may read, by the chart's Role, with one Secret in it."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SOURCES}}
    secret = objects.named("v1", "Secret", "mail", stringData={"password": secrets.token_hex(16)})
    secret["metadata"]["namespace"] = SOURCES
    rights = [
        one for one in render(find_helm(), {"secretSources": [SOURCES]}) if one["metadata"].get("namespace") == SOURCES
    ]
    applied = yaml.safe_dump_all([namespace, secret, *rights])
    guarded.cluster.kubectl("apply", "--server-side", "-f", "-", input=applied)
    yield
    guarded.cluster.kubectl("delete", "namespace", SOURCES, "--wait=false")


OFFERED: Object = {
    "identity": {"kubernetesApi": {"rules": [ordinary.READ]}, "audiences": ["vault"]},
    "credentials": {"secrets": [{"namespace": SOURCES, "name": "mail"}]},
}
ASKED: Object = {
    "identity": {"kubernetesApi": {"rules": [ordinary.READ]}, "tokens": [{"audience": "vault", "path": "vault"}]},
    "credentials": [{"name": "mail", "secret": {"namespace": SOURCES, "name": "mail", "keys": ["password"]}}],
}


def test_admission_is_not_in_the_operators_way(
    guarded: Guarded, sources: None, operator: OperatorProcess, sandbox: str
) -> None:
    lab = Lab(guarded.admin, sandbox)
    start = auditlog.end(guarded.cluster.audit_log)
    with guarded.policies(sandbox_policy("default", **OFFERED)):
        eventually(
            lambda: lab.try_create("scout", workspace={"size": "1Gi", "onDelete": "Delete"}, **ASKED).ok, "an agent"
        )
        lab.until_built(["scout"])
        for path in (f"{objects.CORE}/secrets/agent-scout.mail", f"{objects.RBAC}/rolebindings/agent-scout"):
            assert guarded.admin.get(path.replace("{ns}", sandbox)).ok, path
        lab.patch("scout", tenant="t1")
        lab.patch("scout", suspend=True)
        lab.until_state("scout", "Suspended")
        lab.patch("scout", suspend=False)
        lab.until_built(["scout"])
        lab.delete("AgentDeployment", "scout")
        eventually(lambda: not lab.list("Pod") and not lab.list("StatefulSet"), "all of it is gone", within=60)
    # An event about an agent in another test's namespace, which is being deleted, is refused for that.
    here = (sandbox, NAMESPACE, SOURCES, None)
    mine = [
        one
        for one in auditlog.entries(guarded.cluster.audit_log, start)
        if one["user"]["username"] == OPERATOR and one.get("objectRef", {}).get("namespace") in here
    ]
    assert mine
    assert [one for one in mine if one.get("responseStatus", {}).get("code") == 403] == []


def test_the_operator_tells_every_agent_within_seconds_that_admission_was_weakened(
    guarded: Guarded, operator: OperatorProcess, sandbox: str, expected: list[Object]
) -> None:
    lab = Lab(guarded.admin, sandbox)
    (binding,) = (
        one for one in expected if (one["kind"], one["metadata"]["name"]) == (admission.BINDING, "bulkhead-pods")
    )

    def condition(name: str) -> Object:
        return lab.condition(name, "AdmissionInForce")

    with guarded.policies(sandbox_policy("default")):
        names = ["first", "second"]
        for name in names:
            lab.create(name)
            eventually(lambda name=name: condition(name).get("status") == "True", "admission is in force")  # type: ignore[misc]
        assert guarded.admin.delete(path_of(binding)).ok
        try:
            for name in names:
                eventually(lambda name=name: condition(name).get("status") == "False", "it is told", within=15)  # type: ignore[misc]
                assert "ValidatingAdmissionPolicyBinding bulkhead-pods is missing" in condition(name)["message"]
        finally:
            guarded.make(COLLECTIONS[admission.BINDING], binding)
        for name in names:
            eventually(lambda name=name: condition(name).get("status") == "True", "and mended", within=15)  # type: ignore[misc]
