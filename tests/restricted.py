"""The pod security standard "restricted" of Kubernetes 1.34, and what Bulkhead promises beyond it.

Written from the published standard and from DESIGN's promises, without a look at the code that builds pods: it names
every field of a pod that it knows and refuses all others, so that a new field has to be thought about here too.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {"configMap", "downwardAPI", "emptyDir", "projected", "secret", "csi", "persistentVolumeClaim", "ephemeral"}
POD_FIELDS = {
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostUsers",
    "initContainers",
    "nodeSelector",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
}
CONTAINER_FIELDS = {
    "args",
    "command",
    "env",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
}
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


SAFE_SYSCTLS = [{"name": "net.ipv4.ping_group_range", "value": "65532 65532"}]
"""On the standard's list of safe ones; the gate needs it to ask the link who is there."""


def violations(pod: dict[str, Any], *, cluster_dns: bool = False) -> list[str]:
    """What is wrong with a pod's spec, in words; empty when nothing is.

    Args:
        pod: the spec.
        cluster_dns: whether the agent was allowed the cluster's DNS and asked for it.
    """
    found = [*_standard(pod), *_promises(pod)]
    if not cluster_dns and (pod.get("dnsPolicy"), pod.get("dnsConfig")) != ("None", {"nameservers": ["127.0.0.1"]}):
        found.append("names are resolved")
    found += [f"{one['name']} has a restart policy of its own" for one in pod["containers"] if "restartPolicy" in one]
    for container in _containers(pod):
        for check in (_container_standard, _container_reach, _container_promises):
            found += check(container)
    return found


def _standard(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    if context.get("sysctls", []) not in ([], SAFE_SYSCTLS):
        yield "sysctls are set"
    if context.get("runAsUser") == 0:
        yield "the pod runs as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "the pod has no seccomp profile"
    if context.get("runAsNonRoot") is not True:
        yield "the pod may run as root"
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of kind {sorted(kinds)}"


def _container_standard(container: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    context = container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    if context.get("privileged"):
        yield f"{name} is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield f"{name} keeps capabilities"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield f"{name} may run as root"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} has another procMount"
    if context.get("seccompProfile", {"type": "RuntimeDefault"})["type"] == "Unconfined":
        yield f"{name} has no seccomp profile"


def _container_reach(container: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} has a host port"
    handlers = container.get("lifecycle", {})
    if handlers.keys() - {"preStop"} or handlers.get("preStop", {"exec": {}}).keys() != {"exec"}:
        yield f"{name} has lifecycle handlers other than a command before its stop"
    for probe in PROBES:
        for handler in ("httpGet", "tcpSocket"):
            if "host" in container.get(probe, {}).get(handler, {}):
                yield f"{probe} of {name} names a host"


def _promises(pod: dict[str, Any]) -> Iterator[str]:
    unknown = pod.keys() - POD_FIELDS
    if unknown:
        yield f"fields that nobody thought about: {sorted(unknown)}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "an API token is mounted"
    if pod.get("enableServiceLinks") is not False:
        yield "Services are in the environment"
    if pod.get("serviceAccountName") in (None, "", "default"):
        yield "the service account is not the agent's own"
    if not 1 <= pod.get("terminationGracePeriodSeconds", 30) <= 30:
        yield "the grace period is out of bounds"
    yield from _bounds(pod)


def _bounds(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if not all(context.get(field, 0) >= 1000 for field in ("runAsUser", "runAsGroup", "fsGroup")):
        yield "user or group are not set, or are those of a node"
    for volume in pod.get("volumes", []):
        if "sizeLimit" not in volume.get("emptyDir", {"sizeLimit": ""}):
            yield f"volume {volume['name']} has no bound"
    for toleration in pod.get("tolerations", []):
        if not toleration.get("key"):
            yield "every taint is tolerated"


def _container_promises(container: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    unknown = container.keys() - CONTAINER_FIELDS
    if unknown:
        yield f"fields of {name} that nobody thought about: {sorted(unknown)}"
    if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write to its root file system"
    for kind in ("limits", "requests"):
        if container.get("resources", {}).get(kind, {}).keys() != {"cpu", "memory", "ephemeral-storage"}:
            yield f"{name} has no {kind}"
    for variable in container.get("env", []):
        if variable.get("valueFrom", {}).keys() - {"fieldRef"}:
            yield f"{name} reads {variable['name']} from elsewhere"


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        container for kind in ("initContainers", "containers", "ephemeralContainers") for container in pod.get(kind, [])
    ]
