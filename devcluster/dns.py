"""The cluster's DNS: CoreDNS in a pod behind the Service kube-system/kube-dns, as clusters have it.

It is not part of the tier `cluster`: building it takes longer than most of what is done with a cluster. Who wants names
in pods installs it; `queries` tells what it was asked, which is where data that leaves by DNS would be seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from devcluster import images, network
from devcluster.api import RunningCluster
from devcluster.progress import Progress

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
IMAGE = "localhost/bulkhead/coredns:dev"
LABELS = {"k8s-app": "kube-dns"}

_NAME = "coredns"
_METADATA = {"name": _NAME, "namespace": NAMESPACE}


def install(cluster: RunningCluster, *, hosts: Mapping[str, str] | None = None, progress: Progress) -> None:
    """Build it where needed, start it and wait until it answers. Done again, it takes the new hosts.

    Args:
        cluster: of tier `cluster`.
        hosts: names outside of the cluster that it knows, with their addresses. It asks nobody else.
        progress: told about it.

    Raises:
        DevclusterError: it could not be built or does not get ready.
    """
    archive = images.of_program(cluster.binary("coredns"), IMAGE, progress=progress)
    with progress.step("starting the cluster's DNS"):
        images.load(cluster, archive)
        manifest = {"apiVersion": "v1", "kind": "List", "items": _manifests(hosts or {})}
        cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(manifest))
        rollout = ("rollout", "status", f"deployment/{_NAME}", f"--namespace={NAMESPACE}", "--timeout=60s")
        cluster.kubectl(*rollout)


def queries(cluster: RunningCluster) -> str:
    """What it was asked so far: its log, a line for each query, with the name that was asked for."""
    return cluster.kubectl("logs", f"deployment/{_NAME}", f"--namespace={NAMESPACE}")


def _corefile(hosts: Mapping[str, str]) -> str:
    known = "\n".join(f"        {address} {name}" for name, address in sorted(hosts.items()))
    return f""".:53 {{
    errors
    log
    ready
    hosts {{
{known}
        fallthrough
    }}
    kubernetes {network.DOMAIN} in-addr.arpa ip6.arpa
}}
"""


def _manifests(hosts: Mapping[str, str]) -> list[dict[str, Any]]:
    ports = [{"name": f"dns-{name}", "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _METADATA},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **_METADATA}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _METADATA, "data": {"Corefile": _corefile(hosts)}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": LABELS},
            "spec": {
                "clusterIP": network.DNS_ADDRESS,
                "ipFamilyPolicy": "PreferDualStack",
                "selector": LABELS,
                "ports": ports,
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _METADATA,
            "spec": {
                "selector": {"matchLabels": LABELS},
                "template": {
                    # CoreDNS reads its file at the start only, so another file makes another pod.
                    "metadata": {"labels": LABELS, "annotations": {"devcluster/hosts": json.dumps(dict(hosts))}},
                    "spec": _pod(),
                },
            },
        },
    ]


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": _NAME,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": _NAME,
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": _NAME}}],
    }
