from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import workload
from tests import restricted, specs

AGENT: dict[str, Any] = {
    "apiVersion": "bulkhead.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "demo", "namespace": "sandbox", "uid": "4f0c9a2e-0000-4000-8000-000000000001"},
}
UID = AGENT["metadata"]["uid"]


def build(*, user_namespaces: bool = False, **fields: Any) -> dict[str, Any]:
    spec = parse_spec(specs.minimal(**fields), name="demo")
    return workload.stateful_set(AGENT, spec, user_namespaces=user_namespaces)


GATE: dict[str, Any] = {
    "name": "isolation-gate",
    "resources": {
        "limits": {"cpu": "25m", "memory": "16Mi", "ephemeral-storage": "16Mi"},
        "requests": {"cpu": "25m", "memory": "16Mi", "ephemeral-storage": "16Mi"},
    },
}


def build_with(*, spec: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    return pod_of(workload.stateful_set(AGENT, parse_spec(specs.minimal(**(spec or {})), name="demo"), **arguments))


def pod_of(stateful_set: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = stateful_set["spec"]["template"]["spec"]
    return pod


def container_of(stateful_set: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(stateful_set)["containers"]
    return dict(container)


@given(specs.valid_specs(), st.booleans())
def test_any_valid_spec_gives_a_restricted_pod(raw: specs.Spec, user_namespaces: bool) -> None:
    built = workload.stateful_set(AGENT, parse_spec(raw, name="demo"), user_namespaces=user_namespaces)
    cluster_dns = raw.get("network", {}).get("dns") == "Cluster"
    assert restricted.violations(pod_of(built), cluster_dns=cluster_dns) == []


@given(specs.valid_specs())
def test_the_same_spec_gives_the_same_bytes(raw: specs.Spec) -> None:
    before = copy.deepcopy((raw, AGENT))
    texts = {json.dumps(workload.stateful_set(AGENT, parse_spec(raw, name="demo")), sort_keys=False) for _ in range(2)}
    assert len(texts) == 1
    assert (raw, AGENT) == before


@given(specs.valid_specs())
def test_two_builds_share_nothing_that_could_be_changed(raw: specs.Spec) -> None:
    spec = parse_spec(raw, name="demo")
    first = workload.stateful_set(AGENT, spec)
    untouched = json.dumps(first)
    spoil(workload.stateful_set(AGENT, spec))
    assert json.dumps(workload.stateful_set(AGENT, spec)) == untouched


def spoil(value: Any) -> None:
    """Changes every container in a JSON value."""
    if isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
        value["spoilt"] = True
    elif isinstance(value, list):
        for inner in value:
            spoil(inner)
        value.append("spoilt")


# Each entry breaks one promise of a restricted pod; the checker of the tests above must see each.
BREACHES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "host network": lambda pod: pod.update(hostNetwork=True),
    "host processes": lambda pod: pod.update(hostPID=True),
    "root": lambda pod: pod["securityContext"].update(runAsUser=0),
    "maybe root": lambda pod: pod["securityContext"].pop("runAsNonRoot"),
    "no seccomp": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "a host path": lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "an unbounded emptyDir": lambda pod: pod["volumes"].append({"name": "x", "emptyDir": {}}),
    "a token": lambda pod: pod.update(automountServiceAccountToken=True),
    "DNS": lambda pod: pod.update(dnsPolicy="ClusterFirst"),
    "service links": lambda pod: pod.pop("enableServiceLinks"),
    "the default account": lambda pod: pod.update(serviceAccountName="default"),
    "a nameserver": lambda pod: pod["dnsConfig"].update(nameservers=["10.96.0.10"]),
    "a kernel parameter": lambda pod: pod["securityContext"]["sysctls"].append({"name": "net.ipv4.ip_forward"}),
    "a restart policy of the agent's own": lambda pod: pod["containers"][0].update(restartPolicy="Never"),
    "no grace": lambda pod: pod.update(terminationGracePeriodSeconds=0),
    "every taint tolerated": lambda pod: pod.update(tolerations=[{"operator": "Exists"}]),
    "a shared process namespace": lambda pod: pod.update(shareProcessNamespace=True),
    "a sidecar without limits": lambda pod: pod.update(initContainers=[{"name": "x", "image": "x"}]),
    "privileges": lambda pod: pod["containers"][0]["securityContext"].update(privileged=True),
    "escalation": lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "a capability": lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    "a writable root": lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    "a host port": lambda pod: pod["containers"][0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
    "a probe of a host": lambda pod: pod["containers"][0].update(
        livenessProbe={"httpGet": {"port": 1, "host": "169.254.169.254"}}
    ),
    "a handler that does nothing known": lambda pod: pod["containers"][0].update(lifecycle={"preStop": {}}),
    "a handler that calls somebody": lambda pod: pod["containers"][0].update(
        lifecycle={"preStop": {"httpGet": {"port": 80}}}
    ),
    "a handler at the start": lambda pod: pod["containers"][0].update(lifecycle={"postStart": {"exec": {}}}),
    "no limits": lambda pod: pod["containers"][0]["resources"].pop("limits"),
    "a secret in the environment": lambda pod: pod["containers"][0].update(
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {}}}]
    ),
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
def test_the_checker_sees_each_breach(breach: Callable[[dict[str, Any]], Any]) -> None:
    pod = copy.deepcopy(pod_of(build()))
    breach(pod)
    assert restricted.violations(pod)


def test_the_grace_period_is_the_spec_s_and_at_least_two_seconds() -> None:
    assert [
        pod_of(build(suspendGraceSeconds=seconds))["terminationGracePeriodSeconds"] for seconds in (0, 1, 5, 30)
    ] == [2, 2, 5, 30]


def test_a_command_before_the_stop_runs_in_the_agent_s_container_without_a_shell() -> None:
    command = ["/bin/save", "--all", "$(HOME)"]
    assert container_of(build(preStop={"command": command}))["lifecycle"] == {"preStop": {"exec": {"command": command}}}
    assert "lifecycle" not in container_of(build())


def test_the_kubelet_hands_over_the_last_lines_of_an_agent_that_failed() -> None:
    assert container_of(build())["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_pods_are_selected_by_the_uid_alone_and_bear_all_labels() -> None:
    built = build(tenant="acme", workflow="nightly")
    assert built["spec"]["selector"] == {"matchLabels": {"bulkhead.dev/agent-uid": UID}}
    assert built["spec"]["template"]["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "bulkhead",
        "bulkhead.dev/agent": "demo",
        "bulkhead.dev/agent-uid": UID,
        "bulkhead.dev/tenant": "acme",
        "bulkhead.dev/workflow": "nightly",
    }


def test_a_change_of_tenant_or_workflow_leaves_what_a_stateful_set_cannot_change() -> None:
    before = build(workspace={"size": "1Gi"}, tenant="a", workflow="b")["spec"]
    after = build(workspace={"size": "1Gi", "onDelete": "Delete", "mountPath": "/data"})["spec"]
    for field in ("selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"):
        assert before[field] == after[field]
    assert before["template"] != after["template"]


def test_the_agent_owns_its_stateful_set_as_controller_without_blocking_its_deletion() -> None:
    assert build()["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "name": "demo",
            "uid": UID,
            "controller": True,
        }
    ]


def test_the_environment_begins_with_the_marks_of_the_agent() -> None:
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "EMPTY", "value": ""},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    assert container_of(build(env=env))["env"] == [
        {"name": "BULKHEAD_AGENT", "value": "demo"},
        {"name": "BULKHEAD_AGENT_UID", "value": UID},
        {"name": "PLAIN", "value": "x"},
        {"name": "EMPTY"},
        {"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
    ]


def test_requests_are_the_limits_unless_given() -> None:
    resources = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}}
    assert container_of(build(resources=resources))["resources"] == {
        "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi"},
        "requests": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1Gi"},
    }


def test_without_a_workspace_there_is_no_claim_and_tmp_is_the_only_place_to_write() -> None:
    built = build(scratch="1024Mi")
    assert "volumeClaimTemplates" not in built["spec"]
    assert pod_of(built)["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]
    assert container_of(built)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (in the pod)


def test_a_workspace_is_claimed_for_each_replica_and_survives_everything() -> None:
    built = build(workspace={"size": "1.5Gi", "storageClassName": "fast", "mountPath": "/data"})
    [claim] = built["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "workspace"
    assert claim["metadata"]["annotations"] == {"bulkhead.dev/agent-uid": UID}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1536Mi"}},
        "volumeMode": "Filesystem",
        "storageClassName": "fast",
    }
    assert built["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert {"name": "workspace", "mountPath": "/data"} in container_of(built)["volumeMounts"]


def test_user_namespaces_are_asked_for_only_where_the_cluster_has_them() -> None:
    assert pod_of(build(user_namespaces=True))["hostUsers"] is False
    assert "hostUsers" not in pod_of(build())


def test_a_spread_counts_the_agent_s_own_pods() -> None:
    built = build(placement={"topologySpread": [{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2}]})
    assert pod_of(built)["topologySpreadConstraints"] == [
        {
            "topologyKey": "topology.kubernetes.io/zone",
            "maxSkew": 2,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"bulkhead.dev/agent-uid": UID}},
        }
    ]


def test_an_empty_placement_leaves_no_empty_fields() -> None:
    assert pod_of(build(placement={})) == pod_of(build())


@pytest.mark.parametrize(
    "image, policy",
    [
        ("agent", "Always"),
        ("agent:latest", "Always"),
        ("agent:1.0", "IfNotPresent"),
        ("registry.example:5000/agent", "Always"),
        ("registry.example:5000/agent:1", "IfNotPresent"),
        (f"agent@{specs.DIGEST}", "IfNotPresent"),
        (f"agent:latest@{specs.DIGEST}", "Always"),
        (f"registry.example:5000/agent@{specs.DIGEST}", "IfNotPresent"),
    ],
)
def test_the_pull_policy_is_the_api_server_s_default(image: str, policy: str) -> None:
    assert workload.pull_policy(image) == policy


def test_the_gate_comes_before_the_agent_and_keeps_its_order() -> None:
    watch = {**GATE, "name": "isolation-watch", "restartPolicy": "Always"}
    pod = build_with(gate_containers=[GATE, watch])
    assert [one["name"] for one in pod["initContainers"]] == ["isolation-gate", "isolation-watch"]
    assert [one["name"] for one in pod["containers"]] == ["agent"]
    assert "initContainers" not in build_with()


def test_labels_that_policies_demand_of_the_node_are_added_to_the_agent_s() -> None:
    placement = {"nodeSelector": {"disk": "fast"}}
    assert build_with(spec={"placement": placement}, required_node_labels={"pool": "sandbox"})["nodeSelector"] == {
        "disk": "fast",
        "pool": "sandbox",
    }
    assert build_with(required_node_labels={"pool": "sandbox"})["nodeSelector"] == {"pool": "sandbox"}
    assert "nodeSelector" not in build_with()


def test_names_of_services_are_known_without_dns() -> None:
    aliases = ({"ip": "10.96.0.20", "hostnames": ["search.tools.svc", "search.tools"]},)
    pod = build_with(host_aliases=aliases)
    assert pod["hostAliases"] == list(aliases)
    assert (pod["dnsPolicy"], pod["dnsConfig"]) == ("None", {"nameservers": ["127.0.0.1"]})
    assert "hostAliases" not in build_with()


def test_cluster_dns_is_the_cluster_s_resolver_and_nothing_else() -> None:
    pod = build_with(spec={"network": {"dns": "Cluster"}})
    assert pod["dnsPolicy"] == "ClusterFirst"
    assert "dnsConfig" not in pod
    assert restricted.violations(pod, cluster_dns=True) == []
    assert restricted.violations(pod) == ["names are resolved"]
