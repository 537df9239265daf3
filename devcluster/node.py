"""The node's programs: containerd, kubelet and kube-proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import cgroups, images, network, pki, processes, view
from devcluster.paths import Cluster, write_atomically

NAME = "node-1"
"""The node's name in Kubernetes."""

CNI_CONFIG = "/run/cni/net.d"
"""Folder, as the node sees it, of the network plugin's configuration. Empty, and the node unready, until Cilium is."""

_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_READY_SECONDS = 60.0
_CAP_SYS_RESOURCE = 24  # linux/capability.h


def start_containerd(cluster: Cluster, binaries: Mapping[str, Path]) -> None:
    """Start containerd and wait until it answers."""
    config = view.node_dir(cluster) / "containerd.toml"
    write_atomically(config, _containerd_config(binaries))
    on_host = view.on_host(cluster, CNI_CONFIG)
    on_host.mkdir(parents=True, exist_ok=True)
    folders = [binaries[program].parent for program in ("containerd", "containerd-shim-runc-v2", "runc")]
    record = view.start(
        cluster,
        "containerd",
        [binaries["containerd"], f"--config={config}"],
        env={"PATH": ":".join([*map(str, dict.fromkeys(folders)), _system_path()])},
    )
    processes.wait_until(
        lambda: images.containerd_answers(cluster, binaries["ctr"]),
        cluster=cluster,
        record=record,
        seconds=_READY_SECONDS,
        what="answer",
        interval=0.05,
    )


def containerd_socket(cluster: Cluster) -> Path:
    """The socket as the host sees it."""
    return view.on_host(cluster, _CONTAINERD_SOCKET)


def start_kubelet(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> None:
    """Start the kubelet. It registers the node, which is ready as soon as the network plugin is configured."""
    authority = pki.cluster_authority(cluster)
    # For exec, logs and port forwarding the API server connects to the node's address and checks the certificate.
    serving = authority.server("kubelet", [network.NODE_ADDRESS, NAME])
    config = view.node_dir(cluster) / "kubelet.yaml"
    write_atomically(config, yaml.safe_dump(_kubelet_config(cluster, serving)))
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user=f"system:node:{NAME}", groups=["system:nodes"])
    view.start(
        cluster,
        "kubelet",
        [
            binaries["kubelet"],
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.both(network.NODE_ADDRESS, network.NODE_ADDRESS_6)}",
        ],
        own_sysctls=True,
    )


def start_kube_proxy(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> None:
    """Start kube-proxy, which makes Services' addresses lead to their pods."""
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user="system:kube-proxy")
    config = view.node_dir(cluster) / "kube-proxy.yaml"
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": network.both(network.POD_CIDR, network.POD_CIDR_6),
        "hostnameOverride": NAME,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The machine's connection tracking is not this cluster's to tune; 0 leaves it as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    }
    write_atomically(config, yaml.safe_dump(content))
    view.start(cluster, "kube-proxy", [binaries["kube-proxy"], f"--config={config}"])


def stop(cluster: Cluster) -> None:
    """End kubelet, containerd and every container as a loss of power does: nothing gets time to finish."""
    processes.stop(cluster, "kubelet", grace=0)
    processes.stop(cluster, "containerd", grace=0)
    cgroups.kill(cluster)
    # The shims, which carry the marker of the containerd that started them.
    processes.end_all(processes.find_marked_component(cluster, "containerd"), grace=0)


def _containerd_config(binaries: Mapping[str, Path]) -> str:
    restricted = "false" if _has_capability(_CAP_SYS_RESOURCE) else "true"
    return f"""version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
# What is not used and only looks for things that are not there.
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.zfs',
]

[grpc]
  address = '{_CONTAINERD_SOCKET}'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{images.PAUSE}'

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE runc cannot lower a score and dies of it: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = {restricted}

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{binaries["cilium-cni"].parent}']
  conf_dir = '{CNI_CONFIG}'
  use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = '{binaries["runc"]}'
"""


def _kubelet_config(cluster: Cluster, serving: pki.KeyPair) -> dict[str, Any]:
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.cluster_authority(cluster).files.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "address": network.NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{_CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.name(cluster)}",
        "seccompDefault": True,
        "resolvConf": "/dev/null",  # there is nobody to ask
        "clusterDomain": network.DOMAIN,
        # Where pods that use the cluster's DNS ask. Nobody answers there until `dns.install`.
        "clusterDNS": [network.DNS_ADDRESS],
        "failSwapOn": False,
        "serializeImagePulls": False,
        # How soon a volume over its bound is noticed; the default is a minute.
        "volumeStatsAggPeriod": "5s",
        # The disk is shared with much else: evict late. And no registry could give back an image thrown away.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "200Mi", "imagefs.available": "200Mi"},
        "imageGCHighThresholdPercent": 100,
        # KEP-4603. What crashes again and again is looked at again and again, not once in five minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        "oomScoreAdj": 0,
    }
    if not cgroups.is_v2():
        config["failCgroupV1"] = False
    return config


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _system_path() -> str:
    return os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
