"""The node's own view of the machine's files.

Kubelet, containerd, its shims and Cilium have places built in: /run/containerd, /var/lib/kubelet, /var/log/containers,
/run/cilium, /sys/fs/bpf, /run/netns. The node's programs share a mount namespace in which /run, /var/lib and /var/log
are folders below the cluster's state folder and bpffs is a fresh one. They use the usual paths; the machine's own stay
untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from devcluster import processes
from devcluster.errors import DevclusterError
from devcluster.network import NODE
from devcluster.paths import Cluster, cache_dir, write_atomically
from devcluster.processes import ProcessRecord

COMPONENT = "node-view"
"""The process that holds the mount namespace."""

# Set by the kubelet (setupKernelTunables) and by the Cilium agent (Reinitialize) for the whole machine.
_COPIED_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "kernel/unprivileged_bpf_disabled",
    "kernel/timer_migration",
)


def create(cluster: Cluster, *, visible: Iterable[Path]) -> None:
    """Make the view and start the process that holds it.

    Args:
        cluster: whose node.
        visible: folders that the node's programs must find at their place, besides the state folder and the cache.
    """
    folder = node_dir(cluster)
    for name in _COPIED_SYSCTLS:
        present = Path("/proc/sys", name)
        if present.exists():
            write_atomically(_sysctls(cluster) / name, present.read_text())
    ready = cluster.state_dir / "node-view.ready"
    keep = dict.fromkeys((cluster.state_dir, cache_dir(), *visible))
    script = Path(__file__).with_name("view.sh")
    holder = processes.start(
        cluster, COMPONENT, ["/bin/sh", script, folder, ready, *keep], netns=NODE, mount_namespace=True
    )
    processes.wait_until(
        ready.exists, cluster=cluster, record=holder, seconds=10, what="set up the node's view of the machine's files"
    )


def node_dir(cluster: Cluster) -> Path:
    """The folder whose subfolders the node sees as /run, /var/lib and /var/log."""
    return cluster.state_dir / "node"


def on_host(cluster: Cluster, path: str) -> Path:
    """Where the host finds what the node sees at a path below one of the three; not what the node mounted there."""
    return node_dir(cluster) / path.removeprefix("/")


def start(
    cluster: Cluster,
    component: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    own_sysctls: bool = False,
) -> ProcessRecord:
    """Start a program of the node: in its network namespace and with its view. See `processes.start`.

    Args:
        cluster: whose node.
        component: the program's name in the cluster.
        argv: the program and its arguments.
        env: see there.
        own_sysctls: whether it gets copies of the kernel variables that it would set for the whole machine. Its
            mounts stay shared with the rest of the node.
    """
    wrapped = list(argv)
    if own_sysctls:
        script = Path(__file__).with_name("sysctls.sh")
        own_namespace = ["/usr/bin/unshare", "--mount", "--propagation=unchanged"]
        wrapped = [*own_namespace, "/bin/sh", script, _sysctls(cluster), *wrapped]
    return processes.start(cluster, component, [*entered(cluster), *wrapped], env=env, netns=NODE)


def entered(cluster: Cluster) -> list[str]:
    """The start of a command line that runs the rest of it with the node's view.

    Raises:
        DevclusterError: the view's holder does not run.
    """
    for record in processes.records(cluster):
        if record.component == COMPONENT and processes.is_alive(record):
            return ["/usr/bin/nsenter", f"--mount=/proc/{record.pid}/ns/mnt", "--"]
    raise DevclusterError(f"{COMPONENT} of cluster {cluster.name} does not run, so its node has no files")


def _sysctls(cluster: Cluster) -> Path:
    return cluster.state_dir / "sysctls"
