"""The agent's StatefulSet: one pod per identity, restricted in full.

What is built is what the API server would return: its defaults are written out and quantities are canonical, so that
a difference between the two is drift and nothing else.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec, Placement, Toleration, Workspace
from bulkhead.api.container import EnvVar, Probe, Resources
from bulkhead.api.meta import AGENT_UID_ANNOTATION, KUBERNETES_API_LABEL, owner_reference
from bulkhead.plan import mounts
from bulkhead.plan.identity import wants_api
from bulkhead.plan.names import (
    AGENT_ENV,
    AGENT_UID_ENV,
    CONTAINER,
    SCRATCH,
    WORKSPACE,
    child_labels,
    identity_labels,
    pod_selector,
    service_account_name,
    stateful_set_name,
)
from bulkhead.plan.observed import Object
from bulkhead.plan.pods import MIN_GRACE_SECONDS

USER_ID: Final = 65532
"""User, group and fsGroup of every agent: the "nonroot" of the usual base images, and no user of a node."""


def grace_seconds(spec: AgentDeploymentSpec) -> int:
    """Returns the seconds between SIGTERM and SIGKILL that are really used."""
    return max(MIN_GRACE_SECONDS, spec.suspend_grace_seconds)


def stateful_set(
    agent: Object,
    spec: AgentDeploymentSpec,
    *,
    user_namespaces: bool = False,
    gate_containers: Sequence[Object] = (),
    host_aliases: Sequence[Object] = (),
    required_node_labels: Mapping[str, str] = MappingProxyType({}),
) -> Object:
    """Builds the agent's StatefulSet.

    A StatefulSet, because it keeps at most one pod per identity even when a node is lost. `Parallel`, because a
    replica that does not become ready must not hold the others back, nor the update that mends it.

    `serviceName` is empty: no Service names the replicas one by one. `partition: 0` is written because without it the
    StatefulSet controller remakes a deleted pod from the revision before the update.

    Args:
        agent: the AgentDeployment; `apiVersion`, `kind` and `metadata` are used.
        spec: its parsed spec.
        user_namespaces: whether every node runs pods with `hostUsers: false` (KEP-127).
        gate_containers: the init containers that prove isolation (`isolation.containers`).
        host_aliases: names of Services that the pod knows without DNS.
        required_node_labels: labels that policies demand of the node.
    """
    name = agent["metadata"]["name"]
    built: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": stateful_set_name(name),
            "namespace": agent["metadata"]["namespace"],
            "labels": child_labels(agent, spec),
            "ownerReferences": [owner_reference(agent)],
        },
        "spec": {
            "replicas": spec.replicas,
            "serviceName": "",
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 1,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": pod_selector(agent)},
            "template": {
                "metadata": {"labels": _pod_labels(agent, spec)},
                "spec": _pod_spec(agent, spec),
            },
        },
    }
    pod = built["spec"]["template"]["spec"]
    if user_namespaces:
        pod["hostUsers"] = False
    if gate_containers:
        pod["initContainers"] = [dict(one) for one in gate_containers]
    if host_aliases:
        pod["hostAliases"] = [{**one, "hostnames": list(one["hostnames"])} for one in host_aliases]
    if required_node_labels:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **required_node_labels}
    if spec.workspace is not None:
        built["spec"]["volumeClaimTemplates"] = [_claim_template(agent, spec.workspace)]
    return built


def _pod_labels(agent: Object, spec: AgentDeploymentSpec) -> dict[str, str]:
    """Returns the labels of the agent's pods: those of every child, and whether they may reach the API server."""
    granted = {KUBERNETES_API_LABEL: "true"} if wants_api(spec) else {}
    return {**child_labels(agent, spec), **granted}


def _pod_spec(agent: Object, spec: AgentDeploymentSpec) -> Object:
    """Builds the pod's spec.

    `supplementalGroupsPolicy: Strict` (KEP-3619) would be wanted too, but the kubelet rejects a pod that asks for it
    where the container runtime does not know it (containerd before 2.0).
    """
    account = service_account_name(agent["metadata"]["name"])
    pod: Object = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "schedulerName": "default-scheduler",
        "serviceAccountName": account,
        # The old name of the same field: the API server fills it in.
        "serviceAccount": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **_dns(spec),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
            # The gate asks the link who is there by an ICMP socket. Not every container runtime allows these by itself.
            "sysctls": [{"name": "net.ipv4.ping_group_range", "value": f"{USER_ID} {USER_ID}"}],
        },
        "containers": [_container(agent, spec)],
        "volumes": [{"name": SCRATCH, "emptyDir": {"sizeLimit": spec.scratch}}, *mounts.volumes(agent, spec)],
    }
    if spec.runtime_class_name is not None:
        pod["runtimeClassName"] = spec.runtime_class_name
    if spec.placement is not None:
        pod.update(_placement(agent, spec.placement))
    return pod


def _dns(spec: AgentDeploymentSpec) -> Object:
    """Builds the pod's resolver settings.

    Unless cluster DNS was asked for and allowed, nothing resolves: a resolver would carry data out in the names that
    are asked for. The policy None wants a nameserver; on the pod's own loopback nothing answers, so a lookup fails at
    once.
    """
    if spec.network.dns == "Cluster":
        return {"dnsPolicy": "ClusterFirst"}
    return {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}


def _container(agent: Object, spec: AgentDeploymentSpec) -> Object:
    mounted: list[Object] = [{"name": SCRATCH, "mountPath": "/tmp"}]  # noqa: S108 (a path in the pod, not on this machine)
    if spec.workspace is not None:
        mounted.append({"name": WORKSPACE, "mountPath": spec.workspace.mount_path})
    mounted += mounts.mounts(spec)
    container: Object = {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": pull_policy(spec.image),
        "env": _environment(agent, spec.env),
        "resources": _resources(spec.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounted,
        "terminationMessagePath": "/dev/termination-log",
        # The kubelet itself hands over the last lines of a container that failed: the operator may not read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if spec.command:
        container["command"] = list(spec.command)
    if spec.args:
        container["args"] = list(spec.args)
    if spec.ports:
        container["ports"] = [
            {**_given(name=port.name), "containerPort": port.container_port, "protocol": port.protocol}
            for port in spec.ports
        ]
    if spec.pre_stop is not None:
        # Exec alone: the other forms of a handler reach out over a network that is gone by then.
        container["lifecycle"] = {"preStop": {"exec": {"command": list(spec.pre_stop.command)}}}
    if spec.probes is not None:
        probes = spec.probes
        for field, probe in (
            ("startupProbe", probes.startup),
            ("readinessProbe", probes.readiness),
            ("livenessProbe", probes.liveness),
        ):
            if probe is not None:
                container[field] = _probe(probe)
    return container


def _environment(agent: Object, env: list[EnvVar]) -> list[Object]:
    """Builds the environment, the agent's marks first: a pod's environment is immutable, its labels are not.

    An empty value is left out, as the API server leaves it out.
    """
    built: list[Object] = [
        {"name": AGENT_ENV, "value": agent["metadata"]["name"]},
        {"name": AGENT_UID_ENV, "value": agent["metadata"]["uid"]},
    ]
    for variable in env:
        if variable.value_from is not None:
            field = {"apiVersion": "v1", "fieldPath": variable.value_from.field_ref.field_path}
            built.append({"name": variable.name, "valueFrom": {"fieldRef": field}})
        else:
            built.append({"name": variable.name, **_given(value=variable.value or None)})
    return built


def _resources(resources: Resources) -> Object:
    limits = resources.limits.model_dump(by_alias=True)
    requests = resources.requests.model_dump(by_alias=True, exclude_none=True) if resources.requests else {}
    return {"limits": limits, "requests": {**limits, **requests}}


def _probe(probe: Probe) -> Object:
    built: Object = {
        "timeoutSeconds": probe.timeout_seconds,
        "periodSeconds": probe.period_seconds,
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
        **_given(initialDelaySeconds=probe.initial_delay_seconds or None),
    }
    if probe.exec is not None:
        built["exec"] = {"command": list(probe.exec.command)}
    if probe.http_get is not None:
        headers = [header.model_dump() for header in probe.http_get.http_headers]
        built["httpGet"] = {
            "path": probe.http_get.path,
            "port": probe.http_get.port,
            "scheme": probe.http_get.scheme,
            **_given(httpHeaders=headers or None),
        }
    if probe.tcp_socket is not None:
        built["tcpSocket"] = {"port": probe.tcp_socket.port}
    if probe.grpc is not None:
        built["grpc"] = {"port": probe.grpc.port, "service": probe.grpc.service}
    return built


def _placement(agent: Object, placement: Placement) -> Object:
    spread = [
        {
            "topologyKey": constraint.topology_key,
            "maxSkew": constraint.max_skew,
            "whenUnsatisfiable": constraint.when_unsatisfiable,
            "labelSelector": {"matchLabels": pod_selector(agent)},
        }
        for constraint in placement.topology_spread
    ]
    return _given(
        nodeSelector=dict(placement.node_selector) or None,
        tolerations=[_toleration(toleration) for toleration in placement.tolerations] or None,
        topologySpreadConstraints=spread or None,
    )


def _toleration(toleration: Toleration) -> Object:
    return {
        "key": toleration.key,
        "operator": toleration.operator,
        **_given(value=toleration.value, effect=toleration.effect, tolerationSeconds=toleration.toleration_seconds),
    }


def _claim_template(agent: Object, workspace: Workspace) -> Object:
    """Builds the template of the workspace claims.

    Templates cannot be changed while the StatefulSet lives, so nothing that may change is in one: `onDelete` is
    applied to the claims themselves (see `plan.workspace`).
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": WORKSPACE,
            "labels": identity_labels(agent),
            "annotations": {AGENT_UID_ANNOTATION: agent["metadata"]["uid"]},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": workspace.size}},
            "volumeMode": "Filesystem",
            **_given(storageClassName=workspace.storage_class_name),
        },
        # The API server fills this in, in templates too.
        "status": {"phase": "Pending"},
    }


def pull_policy(image: str) -> str:
    """Returns the pull policy that the API server gives to an image: Always for `latest`, said or implied."""
    reference, _, digest = image.partition("@")
    _, colon, tag = reference.rpartition("/")[2].partition(":")
    latest = tag == "latest" if colon else not digest
    return "Always" if latest else "IfNotPresent"


def _given(**fields: Any) -> Object:
    """Keeps the fields that have a value: the API server leaves the others out."""
    return {name: value for name, value in fields.items() if value is not None}
