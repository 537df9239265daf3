"""The chart and the manifests on a real API server: what it admits, and who may then do what."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster.api import RunningCluster, running
from devcluster.errors import DevclusterError
from manifests.render import CHART, INSTALL, NAMESPACE, POLICY, RELEASE
from tests.packaging.rendering import DEMO, EXAMPLES, Manifest

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"


def eventually(condition: Callable[[], bool], *, seconds: float = 180) -> bool:
    """Whether a condition comes true: discovery, admission and rights follow what was written, some time later."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


class Release:
    """The chart's release on one cluster."""

    def __init__(self, cluster: RunningCluster, helm: Path) -> None:
        self.cluster, self.helm = cluster, helm

    def run(self, *arguments: str | Path) -> str:
        command = [self.helm, *arguments, "--namespace", NAMESPACE, f"--kubeconfig={self.cluster.kubeconfig}"]
        finished = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": "/nonexistent"}
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def install(self, *arguments: str) -> None:
        self.run("upgrade", "--install", RELEASE, CHART, *arguments)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running("apiserver", os.environ.get("BULKHEAD_PACKAGING_CLUSTER", "packaging")) as started:
        yield started


@pytest.fixture(scope="module")
def installed(cluster: RunningCluster, helm: Path) -> Release:
    """The release, in a namespace that enforces the restricted standard."""
    namespace, _, _ = INSTALL.read_text().partition("---\n# Source")
    cluster.kubectl("apply", "-f", "-", input=namespace)
    release = Release(cluster, helm)
    release.install()
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=180s", "crd", "agentdeployments.bulkhead.dev")
    return release


@pytest.fixture(scope="module")
def sandbox(cluster: RunningCluster, installed: Release) -> str:
    """The examples' namespace."""
    cluster.kubectl("apply", "-f", str(EXAMPLES / "namespace.yaml"))
    assert eventually(lambda: "agentdeployments" in cluster.kubectl("api-resources", "--api-group=bulkhead.dev"))
    return "research"


def get(cluster: RunningCluster, *arguments: str) -> Manifest:
    found: Manifest = json.loads(cluster.kubectl("get", *arguments, "--output=json"))
    return found


def may(cluster: RunningCluster, who: str, verb: str, resource: str, *, namespace: str, name: str = "") -> bool:
    """Whether a user may do it, to any object or to the one named."""
    plain, _, subresource = resource.partition("/")  # kubectl would take what follows the slash for a name
    target = [f"{plain}/{name}" if name else plain, *([f"--subresource={subresource}"] if subresource else [])]
    answer = cluster.kubectl("auth", "can-i", verb, *target, f"--as={who}", f"--namespace={namespace}", check=False)
    verdict = answer.split()[0]
    assert verdict in ("yes", "no") and "have a resource type" not in answer, answer
    return verdict == "yes"


def test_the_operators_pod_is_admitted_where_the_restricted_standard_is_enforced(
    cluster: RunningCluster, installed: Release
) -> None:
    assert eventually(lambda: bool(get(cluster, "pods", f"--namespace={NAMESPACE}")["items"]))
    (pod,) = get(cluster, "pods", f"--namespace={NAMESPACE}")["items"]
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == {"tmp", "api-access", "admission"}


def test_an_upgrade_to_several_replicas_brings_a_budget_and_back_takes_it_away(
    cluster: RunningCluster, installed: Release
) -> None:
    def budgets() -> int:
        return len(get(cluster, "poddisruptionbudgets", f"--namespace={NAMESPACE}")["items"])

    installed.install("--set=replicas=2")
    assert budgets() == 1
    installed.install("--set=replicas=1")
    assert budgets() == 0


def test_uninstalling_keeps_the_definition_and_the_agents_and_installing_again_takes_them_over(
    cluster: RunningCluster, installed: Release, sandbox: str
) -> None:
    cluster.kubectl("apply", "-f", str(EXAMPLES / "minimal.yaml"))
    before = get(cluster, "agentdeployment", "summariser", "--namespace", sandbox)["metadata"]["uid"]
    installed.run("uninstall", RELEASE, "--wait")
    assert get(cluster, "crd", "agentdeployments.bulkhead.dev")
    assert get(cluster, "deployments", f"--namespace={NAMESPACE}")["items"] == []
    installed.install()
    assert get(cluster, "agentdeployment", "summariser", "--namespace", sandbox)["metadata"]["uid"] == before
    cluster.kubectl("delete", "agentdeployment", "summariser", "--namespace", sandbox)


def policy_uid(cluster: RunningCluster) -> str:
    return str(get(cluster, "sandboxpolicy", "default")["metadata"]["uid"])


def test_the_policy_of_the_values_comes_with_the_first_install_and_is_one_object_through_upgrade_and_uninstall(
    cluster: RunningCluster, installed: Release
) -> None:
    first = policy_uid(cluster)
    installed.install("--set-json", 'policy.spec={"production":{"cidrs":["10.0.0.0/8"]}}')
    assert policy_uid(cluster) == first
    assert get(cluster, "sandboxpolicy", "default")["spec"]["production"] == {"cidrs": ["10.0.0.0/8"]}
    installed.run("uninstall", RELEASE, "--wait")
    assert policy_uid(cluster) == first
    installed.install()
    assert policy_uid(cluster) == first
    assert get(cluster, "sandboxpolicy", "default")["spec"]["production"] == {}
    annotations = get(cluster, "sandboxpolicy", "default")["metadata"]["annotations"]
    assert "helm.sh/hook" not in annotations


def is_accepted(cluster: RunningCluster, file: Path) -> bool:
    answer = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(file), check=False)
    return answer.endswith(" created (server dry run)\n") and answer.count("\n") == 1


@pytest.mark.parametrize(
    ("agent", "policy", "values"),
    [
        pytest.param(EXAMPLES / "minimal.yaml", None, None, id="minimal"),
        pytest.param(EXAMPLES / "full.yaml", EXAMPLES / "sandboxpolicy.yaml", None, id="full"),
        pytest.param(DEMO / "agent.yaml", None, DEMO / "values.yaml", id="demo"),
    ],
)
def test_an_example_is_accepted_as_it_is(
    cluster: RunningCluster, installed: Release, sandbox: str, agent: Path, policy: Path | None, values: Path | None
) -> None:
    if policy is not None:
        # In place of the chart's policy, under which no agent may ask for any network.
        cluster.kubectl("delete", "sandboxpolicy", "default")
        cluster.kubectl("apply", "--validate=strict", "-f", str(policy))
    if values is not None:
        installed.install(f"--values={values}")
    try:
        assert eventually(lambda: is_accepted(cluster, agent)), cluster.kubectl(
            "apply", "--dry-run=server", "-f", str(agent), check=False
        )
    finally:
        if policy is not None:
            cluster.kubectl("delete", "-f", str(policy))
        if policy is not None or values is not None:
            installed.install()


def test_the_full_example_is_refused_under_the_charts_policy(
    cluster: RunningCluster, installed: Release, sandbox: str
) -> None:
    def told() -> str:
        return cluster.kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / "full.yaml"), check=False)

    # Network, rights and credentials are each over a ceiling; which of the policies answers first is not promised.
    assert eventually(lambda: "SandboxPolicy default (" in told()), told()


def test_the_install_manifest_can_be_applied_whole_and_twice(cluster: RunningCluster, installed: Release) -> None:
    for _ in range(2):
        answer = cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", str(INSTALL))
        assert answer.count("serverside-applied (server dry run)") == INSTALL.read_text().count("\nkind: ")


def test_the_install_manifest_is_enough_for_an_empty_cluster(helm: Path) -> None:
    with running("apiserver", "packaging-empty") as empty:
        empty.kubectl("apply", "--server-side", "-f", str(INSTALL))
        assert eventually(lambda: bool(get(empty, "pods", f"--namespace={NAMESPACE}")["items"]))
        empty.kubectl("wait", "--for=condition=Established", "--timeout=180s", "crd", "--all")
        assert eventually(lambda: "sandboxpolicies" in empty.kubectl("api-resources", "--api-group=bulkhead.dev"))
        empty.kubectl("apply", "--server-side", "-f", str(POLICY))
        assert get(empty, "sandboxpolicy", "default")["spec"]["namespaceSelector"] == {}


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("list", "agentdeployments.bulkhead.dev", True),
        ("watch", "sandboxpolicies.bulkhead.dev", True),
        ("patch", "sandboxpolicies.bulkhead.dev/status", True),
        ("patch", "sandboxpolicies.bulkhead.dev", False),
        ("create", "services", False),
        ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io", False),
        ("delete", "pods", True),
        ("deletecollection", "pods", True),
        ("deletecollection", "networkpolicies.networking.k8s.io", True),
        ("deletecollection", "secrets", False),
        ("deletecollection", "configmaps", False),
        ("deletecollection", "agentdeployments.bulkhead.dev", False),
        ("watch", "killswitches.bulkhead.dev", True),
        ("patch", "killswitches.bulkhead.dev/status", True),
        ("patch", "killswitches.bulkhead.dev", False),
        ("create", "killswitches.bulkhead.dev", False),
        ("delete", "killswitches.bulkhead.dev", False),
        ("create", "statefulsets.apps", True),
        ("update", "agentdeployments.bulkhead.dev", False),
        ("patch", "agentdeployments.bulkhead.dev", True),
        ("create", "agentdeployments.bulkhead.dev", False),
        ("create", "pods", False),
        ("create", "pods/exec", False),
        ("patch", "secrets", True),
        ("get", "secrets", False),
        ("list", "secrets", False),
        ("watch", "secrets", False),
        ("create", "serviceaccounts/token", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", True),
        ("escalate", "roles.rbac.authorization.k8s.io", True),
        ("bind", "clusterroles.rbac.authorization.k8s.io", False),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", False),
        ("create", "configmaps", False),
        ("delete", "namespaces", False),
        ("get", "leases.coordination.k8s.io", False),
        ("create", "leases.coordination.k8s.io", False),
    ],
)
def test_the_operators_account_may_do_its_work_in_a_sandbox_and_nothing_else(
    cluster: RunningCluster, sandbox: str, verb: str, resource: str, allowed: bool
) -> None:
    assert eventually(lambda: may(cluster, ACCOUNT, verb, resource, namespace=sandbox) is allowed)


def test_the_operators_account_may_hold_its_lease_and_no_other(cluster: RunningCluster, installed: Release) -> None:
    lease = "leases.coordination.k8s.io"
    assert eventually(lambda: may(cluster, ACCOUNT, "patch", lease, namespace=NAMESPACE, name="bulkhead-operator"))
    assert not may(cluster, ACCOUNT, "patch", lease, namespace=NAMESPACE, name="other")


def test_what_the_operator_deletes_goes_by_its_own_priority_level_and_nothing_else_does(
    cluster: RunningCluster, installed: Release, sandbox: str
) -> None:
    schema = get(cluster, "flowschema", "bulkhead-cuts")["metadata"]["uid"]

    def classified(*request: str, who: str = ACCOUNT) -> bool:
        # The API server names the flow schema of each request in a header of its answer.
        told = cluster.kubectl(*request, f"--namespace={sandbox}", f"--as={who}", "-v=8", check=False)
        assert "flowschema-uid" in told.lower(), told
        return schema in told

    assert eventually(lambda: classified("delete", "networkpolicy", "nobody"))
    assert classified("delete", "--raw", f"/api/v1/namespaces/{sandbox}/pods?labelSelector=app%3Dnobody")
    assert not classified("get", "pods")
    assert not classified("delete", "networkpolicy", "nobody", who="system:serviceaccount:other:bulkhead")


def test_signals_are_accepted_as_they_are_rendered(cluster: RunningCluster, installed: Release) -> None:
    receivers = '[{"url":"https://events.example.com","secret":"events"}]'
    installed.install(
        "--set=signals.prometheus.url=https://prometheus.example.com:9090,signals.prometheus.secret=prometheus",
        "--set=signals.alertmanager.enabled=true,signals.alertmanager.secret=alertmanager",
        "--set-json",
        f"signals.notifications={receivers}",
    )
    try:
        pod = get(cluster, "deployment", "bulkhead", f"--namespace={NAMESPACE}")["spec"]["template"]["spec"]
        mounted = {one["name"] for one in pod["volumes"]}
        assert mounted > {"signals", "signal-prometheus", "signal-alertmanager", "signal-notification-0"}
        service = get(cluster, "service", "bulkhead-alerts", f"--namespace={NAMESPACE}")["spec"]
        assert [one["port"] for one in service["ports"]] == [8083]
    finally:
        installed.install()


@pytest.fixture(scope="module")
def people(cluster: RunningCluster, sandbox: str) -> None:
    """One person for each of the cluster's roles for people, in the sandbox namespace."""
    for role in ("view", "edit", "admin"):
        cluster.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "--namespace", sandbox
        )
    # A controller adds the aggregated rules to the cluster's roles.
    assert eventually(lambda: may(cluster, "view", "get", "agentdeployments.bulkhead.dev", namespace=sandbox))


@pytest.mark.parametrize(
    ("person", "allowed"),
    [
        ("view", {"get": True, "list": True, "create": False, "patch": False, "delete": False}),
        ("edit", {"get": True, "list": True, "create": True, "patch": True, "delete": True}),
        ("admin", {"get": True, "list": True, "create": True, "patch": True, "delete": True}),
    ],
)
def test_people_may_do_with_agents_what_their_role_in_the_namespace_says(
    cluster: RunningCluster, sandbox: str, people: None, person: str, allowed: dict[str, bool]
) -> None:
    def asked(verb: str, resource: str = "agentdeployments.bulkhead.dev") -> bool:
        return may(cluster, person, verb, resource, namespace=sandbox)

    # The rules of one role are added after those of another.
    assert eventually(lambda: {verb: asked(verb) for verb in allowed} == allowed)
    assert asked("patch", "agentdeployments.bulkhead.dev/scale") is allowed["patch"]
    assert asked("get", "agentdeployments.bulkhead.dev/status")
    assert not asked("patch", "agentdeployments.bulkhead.dev/status")


def test_a_pod_that_is_not_restricted_is_refused_next_to_the_operator(
    cluster: RunningCluster, installed: Release
) -> None:
    with pytest.raises(DevclusterError, match="violates PodSecurity"):
        cluster.kubectl("run", "loose", "--image=x", "--privileged", f"--namespace={NAMESPACE}")
