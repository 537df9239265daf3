"""The cgroup that all pods of a cluster are in, on hosts with cgroup v1, with v2, and with both."""

from __future__ import annotations

from pathlib import Path

from devcluster import processes, resources
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster
from devcluster.resources import CGROUPS

_NEEDED = ("cpu", "cpuset", "memory", "pids")


def name(cluster: Cluster) -> str:
    """The cgroup's path relative to each hierarchy's root. The kubelet makes its own below it."""
    return f"bulkhead-{cluster.name}"


def is_v2() -> bool:
    """Tell whether the host has the unified hierarchy alone, which is mounted at the top then."""
    return (CGROUPS / "cgroup.controllers").exists()


def create(cluster: Cluster) -> None:
    """Make the cgroup in every hierarchy, noted in the ledger first."""
    resources.record(cluster, "cgroup", name(cluster))
    for root in _hierarchies():
        (root / name(cluster)).mkdir(exist_ok=True)
    if is_v2():
        _hand_down_controllers()


def _hand_down_controllers() -> None:
    """Let the cgroup have what the kubelet wants its root cgroup to have: a cgroup has what its parent hands down."""
    for controller in (CGROUPS / "cgroup.controllers").read_text().split():
        try:
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            if controller in _NEEDED:
                raise DevclusterError(
                    f"the cgroup controller {controller} cannot be handed down from {CGROUPS}: {error.strerror}. In a "
                    "container the processes in its top cgroup are in the way: move them into a cgroup below it"
                ) from error


def kill(cluster: Cluster) -> None:
    """End every process in the cgroup at once, until none is left. The cgroup stays."""
    while pids := resources.cgroup_processes(name(cluster)):
        processes.end_all(pids, grace=0)


def _hierarchies() -> list[Path]:
    if is_v2():
        return [CGROUPS]
    return [entry for entry in CGROUPS.iterdir() if (entry / "cgroup.procs").exists()]
