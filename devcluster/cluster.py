"""Tier `cluster`: all of Kubernetes on one node, with Cilium, volumes and images, beside production; no way out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from devcluster import cgroups, cilium, controlplane, images, network, node, pki, processes, production, storage, view
from devcluster.commands import run
from devcluster.controlplane import ControlPlaneOptions
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster
from devcluster.progress import Progress

COMPONENTS: tuple[str, ...] = (
    *controlplane.COMPONENTS,
    *("kube-scheduler", "kubelet", "kube-proxy", "helm"),
    *("containerd", "runc", "cilium", "local-path-provisioner", "pause"),
)

_NODE_READY_SECONDS = 60


def start(cluster: Cluster, binaries: Mapping[str, Path], options: Options, progress: Progress) -> None:
    """Start everything and wait until a pod can run, with its policies enforced and a volume."""
    own_images = [images.pause(binaries["pause"], progress=progress), images.base(progress=progress)]
    with progress.step("making network namespaces, cgroups and the node's view of the machine's files"):
        network.create(cluster)
        cgroups.create(cluster)
        view.create(cluster, visible={path.parent for path in binaries.values()})
    # Two cores are the measure: what nobody waits for yet goes on beside what everything waits for.
    with ThreadPoolExecutor() as pool:
        production_started = pool.submit(_start_production, cluster, progress)
        containerd_started = pool.submit(_start_containerd, cluster, binaries, progress)
        # At once: etcd and the API server leave one of the cores idle for half of the time that they take.
        images_loaded = pool.submit(_load_images, cluster, [*own_images, *options.images], containerd_started, progress)
        server = _start_control_plane(cluster, binaries, options, progress)
        containerd_started.result()
        _start_node(cluster, binaries, server, progress)
        images_loaded.result()
        production_started.result()


def restart_node(cluster: Cluster) -> None:
    """Let the node lose its power and come back: kubelet, containerd and all containers end at once and start again.

    The control plane and Cilium's agent go on. Returns when the node says that it is ready again.

    Raises:
        DevclusterError: it does not come back.
    """
    facts = cluster.read_facts()
    binaries = {name: Path(path) for name, path in facts["programs"].items()}
    node.stop(cluster)
    node.start_containerd(cluster, binaries)
    node.start_kubelet(cluster, binaries, server=str(facts["server"]))
    _wait_for_node(cluster)


def _start_control_plane(cluster: Cluster, binaries: Mapping[str, Path], options: Options, progress: Progress) -> str:
    chosen = ControlPlaneOptions(
        address=network.NODE_ADDRESS,
        port=6443,
        netns=network.NODE,
        service_cidr=network.both(network.SERVICE_CIDR, network.SERVICE_CIDR_6),
        pod_cidr=network.both(network.POD_CIDR, network.POD_CIDR_6),
        audit=options.audit,
        apiserver_args=options.apiserver_args,
    )
    return controlplane.start(cluster, binaries, chosen, progress)


def _start_containerd(cluster: Cluster, binaries: Mapping[str, Path], progress: Progress) -> None:
    with progress.step("starting containerd"):
        node.start_containerd(cluster, binaries)


def _load_images(cluster: Cluster, archives: list[Path], containerd_started: Future[None], progress: Progress) -> None:
    containerd_started.result()
    with progress.step("loading images"):
        for archive in archives:
            images.load(cluster, archive)


def _start_production(cluster: Cluster, progress: Progress) -> None:
    with progress.step("starting production: a database and a metadata service"):
        production.start_metadata(cluster)
        production.start_database(cluster)


def _start_node(cluster: Cluster, binaries: Mapping[str, Path], server: str, progress: Progress) -> None:
    with progress.step("starting Cilium, kubelet, kube-proxy, scheduler and storage"):
        cilium.start_operator(cluster, binaries, server=server)
        node.start_kubelet(cluster, binaries, server=server)
        agent = cilium.start_agent(cluster, binaries, server=server)
        node.start_kube_proxy(cluster, binaries, server=server)
        _start_scheduler(cluster, binaries, server=server)
        # Not validated here: the API server would compute its whole schema anew for it, while Cilium defines its kinds.
        _kubectl(cluster, "create", "--validate=false", "--filename=-", content=storage.manifests())
        storage.start(cluster, binaries, server=server)
        cilium.wait_ready(cluster, agent)
        _wait_for_node(cluster)


def _start_scheduler(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> None:
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user="system:kube-scheduler")
    processes.start(
        cluster,
        "kube-scheduler",
        [
            *(binaries["kube-scheduler"], f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"),
            *controlplane.FAST_CLIENT,
        ],
        netns=network.NODE,
    )


def _wait_for_node(cluster: Cluster) -> None:
    try:
        _kubectl(cluster, "wait", f"node/{node.NAME}", "--for=condition=Ready", f"--timeout={_NODE_READY_SECONDS}s")
    except DevclusterError as error:
        tail = processes.log_tail(cluster, "kubelet")
        raise DevclusterError(f"the node did not get ready: {error}. The end of the kubelet's log:\n{tail}") from error


def _kubectl(cluster: Cluster, *arguments: str, content: list[dict[str, Any]] | None = None) -> None:
    program = cluster.read_facts()["programs"]["kubectl"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": content}) if content else ""
    run(program, f"--kubeconfig={cluster.kubeconfig}", *arguments, standard_input=listed)
