"""What really runs on the node: asked of containerd and of the machine, not of Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devcluster import cgroups, node, resources
from devcluster.api import RunningCluster
from devcluster.errors import DevclusterError
from devcluster.processes import start_time

# The labels that containerd's CRI plugin gives to containers, and to the sandboxes that hold a pod's namespaces.
_POD, _NAMESPACE, _CONTAINER = ("io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.container.name")

PROCESSES = "cgroup.procs"
SANDBOX = "(pod sandbox)"
"""What stands in for the name of a container where it is the one that holds the pod's namespaces."""


@dataclass(frozen=True, order=True)
class Task:
    """A container that has a process.

    Attributes:
        pod: name of its pod.
        container: its name in the pod, or `SANDBOX`.
        pid: its first process, as the machine counts.
        born: when that process started, in clock ticks since the machine's start: a pid may be given again.
    """

    pod: str
    container: str
    pid: int
    born: int

    @property
    def is_alive(self) -> bool:
        """Whether the process still exists."""
        return start_time(self.pid) == self.born


def running(cluster: RunningCluster, namespace: str) -> list[Task]:
    """Give every container of a namespace's pods that has a process, in containerd's own words.

    Args:
        cluster: of tier `cluster`.
        namespace: of the pods.

    Raises:
        DevclusterError: containerd does not answer.
    """
    pids = {
        fields[0]: int(fields[1])
        for line in _ctr(cluster, "tasks", "list").splitlines()[1:]
        if len(fields := line.split()) == 3 and fields[2] != "STOPPED"
    }
    tasks = []
    for identity in _ctr(cluster, "containers", "list", "--quiet", f'labels."{_NAMESPACE}"=={namespace}').split():
        born = start_time(pids[identity]) if identity in pids else None
        if born is not None:
            try:
                labels = _labels(cluster, identity)
            except DevclusterError:
                if start_time(pids[identity]) == born:
                    raise
                continue  # it ended, and was removed, between the two looks
            tasks.append(Task(labels[_POD], labels.get(_CONTAINER, SANDBOX), pids[identity], born))
    return sorted(tasks)


def processes_of_pod(cluster: RunningCluster, uid: str) -> set[int]:
    """Give the pids of all processes in the cgroups of a pod, whatever containerd knows of them.

    Args:
        cluster: of tier `cluster`.
        uid: the pod's `metadata.uid`.
    """
    found: set[int] = set()
    for root in resources.cgroup_paths(cgroups.name(cluster)):
        # Groups end while they are walked through, which is what one looks for: os.walk goes on, Path.glob raises.
        for folder, _, files in os.walk(root):
            if f"pod{uid}" not in Path(folder).relative_to(root).parts or PROCESSES not in files:
                continue
            with suppress(FileNotFoundError):  # gone between being found and being read
                found |= {int(line) for line in Path(folder, PROCESSES).read_text().split()}
    return found


def _labels(cluster: RunningCluster, identity: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(_ctr(cluster, "containers", "info", identity))["Labels"]
    return labels


def _ctr(cluster: RunningCluster, *arguments: str) -> str:
    address = f"--address={node.containerd_socket(cluster)}"
    command = [str(cluster.binary("ctr")), address, "--namespace=k8s.io", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DevclusterError(f"ctr {' '.join(arguments)}: {finished.stderr.strip()}")
    return finished.stdout
