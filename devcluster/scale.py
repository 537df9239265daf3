"""Tier `scale`: a control plane with a scheduler and simulated nodes, for thousands of pods on one machine."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devcluster import controlplane, pki, processes
from devcluster.controlplane import ControlPlaneOptions
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster
from devcluster.progress import Progress

COMPONENTS: tuple[str, ...] = (*controlplane.COMPONENTS, "kube-scheduler", "kwok")

PODS_PER_NODE = 200

POD_CIDR = ipaddress.ip_network("10.244.0.0/16")
"""Simulated pods get addresses from here. Nothing answers at them and nothing is sent to them."""


def start(cluster: Cluster, binaries: Mapping[str, Path], options: Options, progress: Progress) -> None:
    """Start control plane, scheduler and kwok; create the nodes and wait until pods can be scheduled to them."""
    chosen = ControlPlaneOptions(audit=options.audit, apiserver_args=options.apiserver_args)
    server = controlplane.start(cluster, binaries, chosen, progress)
    with progress.step(f"starting kube-scheduler and kwok with {options.nodes} nodes"):
        _start_scheduler(cluster, binaries, server)
        _kubectl(cluster, binaries, "create", "-f", "-", content=_node_list(options.nodes))
        kwok = _start_kwok(cluster, binaries, server)
        processes.wait_until(
            lambda: _ready(cluster, binaries) == options.nodes,
            cluster=cluster,
            record=kwok,
            seconds=controlplane.READY_SECONDS,
            what=f"have {options.nodes} nodes ready and free of taints",
            interval=0.3,
        )


def _start_scheduler(cluster: Cluster, binaries: Mapping[str, Path], server: str) -> None:
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user="system:kube-scheduler")
    processes.start(
        cluster,
        "kube-scheduler",
        [
            binaries["kube-scheduler"],
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            *controlplane.FAST_CLIENT,
        ],
    )


def _start_kwok(cluster: Cluster, binaries: Mapping[str, Path], server: str) -> processes.ProcessRecord:
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user="kwok", groups=["system:masters"])
    configuration = Path(__file__).with_name("kwok.yaml")
    return processes.start(
        cluster, "kwok", [binaries["kwok"], f"--kubeconfig={kubeconfig}", f"--config={configuration}"]
    )


def _node_list(count: int) -> str:
    ranges = POD_CIDR.subnets(new_prefix=24)
    return json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [_node(i, str(next(ranges))) for i in range(count)]}
    )


def _node(number: int, pod_cidr: str) -> dict[str, Any]:
    """A node as its kubelet would register it; kwok makes it ready."""
    name = f"node-{number}"
    capacity = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": str(PODS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "Hostname", "address": name}],
        },
    }


def _ready(cluster: Cluster, binaries: Mapping[str, Path]) -> int:
    nodes = json.loads(_kubectl(cluster, binaries, "get", "nodes", "--output=json"))["items"]
    return sum(1 for node in nodes if is_ready(node))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a node says so and nothing keeps pods from it.

    Both are asked: the taint of a node that is not ready is put on by a controller some time after the node is made, so
    for a moment a node is free of taints and has no conditions at all.
    """
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def _kubectl(cluster: Cluster, binaries: Mapping[str, Path], *arguments: str, content: str | None = None) -> str:
    finished = subprocess.run(
        [str(binaries["kubectl"]), f"--kubeconfig={cluster.kubeconfig}", *arguments],
        input=content,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise DevclusterError(f"kubectl {' '.join(arguments)}: {finished.stderr.strip()}")
    return finished.stdout
