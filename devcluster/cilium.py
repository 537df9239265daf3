"""Cilium: the network between pods, and what enforces NetworkPolicies and Cilium's own kinds.

Routed, in both families, beside kube-proxy.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from devcluster import network, node, pki, processes, view
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster, write_atomically
from devcluster.processes import ProcessRecord

AGENT = "cilium-agent"

Enforcement = Literal["default", "always", "never"]

_READY_SECONDS = 120.0
_SOCKET = "/run/cilium/cilium.sock"
_LIBRARY = "/var/lib/cilium"
_LLVM = "/usr/lib/llvm-19/bin"

_FAST_CLIENT = ("--k8s-client-qps=1000", "--k8s-client-burst=1000")
"""With the default of five requests a second the operator takes 6 s to define its kinds, which the agent waits for."""


def start_operator(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> None:
    """Start Cilium's operator, which defines its kinds in the API and collects what nodes leave."""
    view.start(
        cluster,
        "cilium-operator",
        [
            binaries["cilium-operator"],
            f"--k8s-kubeconfig-path={_kubeconfig(cluster, 'cilium-operator', server)}",
            "--ipam=kubernetes",
            "--identity-allocation-mode=crd",
            f"--enable-ipv6={_flag(network.IPV6)}",
            # These look after Cilium's own pods; nothing of Cilium runs in pods here.
            "--unmanaged-pod-watcher-interval=0",
            "--set-cilium-node-taints=false",
            "--set-cilium-is-up-condition=false",
            "--remove-cilium-node-taints=false",
            *_FAST_CLIENT,
        ],
        env={"K8S_NODE_NAME": node.NAME},
    )


def start_agent(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> ProcessRecord:
    """Start Cilium's agent, which compiles its packet programs first.

    Raises:
        DevclusterError: the sources of its packet programs are not beside it.
    """
    _prepare_library(cluster, binaries)
    argv: list[str | Path] = [
        binaries[AGENT],
        f"--k8s-kubeconfig-path={_kubeconfig(cluster, AGENT, server)}",
        f"--lib-dir={_LIBRARY}",
        f"--devices={network.NODE_LINK}",
        f"--direct-routing-device={network.NODE_LINK}",
        f"--ipv4-native-routing-cidr={network.POD_CIDR}",
        f"--ipv6-native-routing-cidr={network.POD_CIDR_6}",
        "--bpf-root=/sys/fs/bpf",
        "--cgroup-root=/run/cilium/cgroupv2",
        "--ipam=kubernetes",
        "--k8s-require-ipv4-pod-cidr=true",
        f"--k8s-require-ipv6-pod-cidr={_flag(network.IPV6)}",
        "--routing-mode=native",
        "--enable-ipv4=true",
        f"--enable-ipv6={_flag(network.IPV6)}",
        # Masquerading would give pods the node's address, and with it whatever the node may reach.
        "--enable-ipv4-masquerade=false",
        "--enable-ipv6-masquerade=false",
        "--enable-policy=default",
        "--identity-allocation-mode=crd",
        "--cluster-name=default",
        "--cluster-id=0",
        "--kube-proxy-replacement=false",
        "--cni-exclusive=false",
        # What costs start-up time and is not looked at.
        "--enable-l7-proxy=false",
        "--enable-hubble=false",
        "--enable-health-checking=false",
        "--enable-endpoint-health-checking=false",
        *_FAST_CLIENT,
    ]
    if not Path("/proc/modules").exists():
        folder = view.node_dir(cluster) / "cilium-proc"
        folder.mkdir(parents=True, exist_ok=True)
        own_mounts = ["/usr/bin/unshare", "--mount", "--propagation=slave"]
        argv = [*own_mounts, "/bin/sh", Path(__file__).with_name("cilium.sh"), folder, *argv]
    path = f"{_LIBRARY}/bin:{_LLVM}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return view.start(cluster, AGENT, argv, env={"PATH": path, "K8S_NODE_NAME": node.NAME}, own_sysctls=True)


def wait_ready(cluster: Cluster, agent: ProcessRecord) -> None:
    """Wait until the agent enforces policies; then configure the network plugin, which makes the node ready.

    The agent can write that configuration itself (`--write-cni-conf-when-ready`), but does so long before it is ready.
    """
    processes.wait_until(
        lambda: _healthy(view.on_host(cluster, _SOCKET)),
        cluster=cluster,
        record=agent,
        seconds=_READY_SECONDS,
        what="get ready to connect pods",
        interval=0.1,
    )
    configuration = {"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni"}]}
    write_atomically(view.on_host(cluster, f"{node.CNI_CONFIG}/05-cilium.conflist"), json.dumps(configuration))


def set_enforcement(cluster: Cluster, mode: Enforcement) -> None:
    """Change, while it runs, which pods the agent enforces policies for; it returns before that is so everywhere.

    Args:
        cluster: whose agent.
        mode: `default` (pods that a policy selects), `always` or `never`.

    Raises:
        DevclusterError: the agent refuses or does not answer.
    """
    connection = _UnixConnection(view.on_host(cluster, _SOCKET), seconds=60)
    try:
        body = json.dumps({"policy-enforcement": mode})
        connection.request("PATCH", "/v1/config", body=body, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise DevclusterError(f"Cilium's agent does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise DevclusterError(f"Cilium's agent refuses to enforce policies {mode}: {answer.status} {said}")


def _flag(value: bool) -> str:
    return str(value).lower()


def _kubeconfig(cluster: Cluster, user: str, server: str) -> Path:
    # Its rights would be a long list to keep in step with its version, and what is tested here is not Cilium.
    return pki.client_kubeconfig(cluster, server=server, user=user, groups=["system:masters"])


def _prepare_library(cluster: Cluster, binaries: Mapping[str, Path]) -> None:
    """Lay out the agent's library: the sources of its packet programs, and a compiler that accepts them."""
    sources = binaries[AGENT].parent / "bpf"
    if not sources.is_dir():
        raise DevclusterError(
            f"{sources} is missing: the folder bpf of Cilium's module belongs beside the program {AGENT}"
        )
    library = view.on_host(cluster, _LIBRARY)
    shutil.copytree(sources, library / "bpf", dirs_exist_ok=True)
    compiler = library / "bin" / "clang"
    # Warnings are errors there, and clang 19 has one that the sources' own compiler, clang 17, had not.
    write_atomically(compiler, f'#!/bin/sh\nexec {_LLVM}/clang "$@" -Wno-shorten-64-to-32\n', mode=0o755)


def _healthy(socket_path: Path) -> bool:
    connection = _UnixConnection(socket_path)
    try:
        connection.request("GET", "/v1/healthz", headers={"brief": "true"})
        answer = connection.getresponse()
        return answer.status == HTTPStatus.OK and json.load(answer)["cilium"]["state"] == "Ok"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, *, seconds: float = 2.0) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
