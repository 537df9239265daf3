"""What tests on a real cluster do again and again: namespaces, restricted pods, and commands in them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import containers
from devcluster import images
from devcluster.api import RunningCluster

USER = 65532

PRODUCTION_NAME = "db.production.example"
"""What production's database is called by a DNS that these tests install."""

Manifest = dict[str, Any]


def wait_for(condition: Callable[[], object], *, seconds: float, what: str, interval: float = 0.05) -> float:
    """Poll a condition until it is true; give the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(interval)
    return time.monotonic() - began


def restricted_pod(
    name: str,
    *,
    command: str = "exec sleep infinity",
    image: str = images.TOOLBOX,
    labels: Mapping[str, str] | None = None,
    claim: str | None = None,
    host_users: bool = True,
    restart: str = "Never",
    dns: str = "Default",
) -> Manifest:
    """A pod that pod security `restricted` admits, with a shell command and, if asked for, a claim mounted at /data."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "automountServiceAccountToken": False,
            "dnsPolicy": dns,
            "enableServiceLinks": False,
            "hostUsers": host_users,
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", command],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}] if claim else [],
                }
            ],
            "volumes": volumes,
        },
    }


def claim(name: str, size: str = "16Mi") -> Manifest:
    """A claim on a volume of the default class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }


@dataclass(frozen=True)
class Namespace:
    """A namespace of a running cluster.

    Attributes:
        cluster: which.
        name: the namespace's.
        kubeconfig: who does all this; the cluster's administrator by default.
    """

    cluster: RunningCluster
    name: str
    kubeconfig: Path | None = field(default=None, kw_only=True)

    @classmethod
    @contextmanager
    def created(cls, cluster: RunningCluster) -> Iterator[Namespace]:
        """Make a namespace that enforces restricted pods; delete it afterwards, without waiting for its end."""
        name = f"test-{secrets.token_hex(4)}"
        labels = {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "v1.34",
        }
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        cluster.kubectl("create", "--filename=-", input=json.dumps(manifest))
        try:
            yield cls(cluster, name)
        finally:
            cluster.kubectl("delete", "namespace", name, "--wait=false")

    def kubectl(self, *arguments: str, content: Manifest | None = None) -> str:
        """Run kubectl in the namespace."""
        given = json.dumps(content) if content else None
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, input=given, kubeconfig=self.kubeconfig)

    def create(self, *manifests: Manifest) -> None:
        """Create objects."""
        for manifest in manifests:
            self.kubectl("create", "--filename=-", content=manifest)

    def get(self, kind: str, name: str) -> Manifest:
        """Read an object."""
        found: Manifest = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def run(self, manifest: Manifest, *, seconds: int = 180) -> None:
        """Create a pod and wait until it is ready."""
        self.create(manifest)
        self.wait_ready(manifest["metadata"]["name"], seconds=seconds)

    def wait_ready(self, pod: str, *, seconds: int = 180) -> None:
        """Wait until a pod is ready."""
        self.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", f"--timeout={seconds}s")

    def address(self, pod: str) -> str:
        """The IP address of a pod; that of IPv4 where it has two."""
        return str(self.get("pod", pod)["status"]["podIP"])

    def addresses(self, pod: str) -> list[str]:
        """The IP addresses of a pod, one of each family."""
        return [one["ip"] for one in self.get("pod", pod)["status"]["podIPs"]]

    def network_of(self, pod: str) -> Path:
        """The file that stands for a pod's network namespace."""
        tasks = containers.running(self.cluster, self.name)
        (pid,) = [task.pid for task in tasks if (task.pod, task.container) == (pod, containers.SANDBOX)]
        return Path(f"/proc/{pid}/ns/net")

    def inside(self, pod: str, *command: str) -> str:
        """Run a command in a pod; give its output."""
        return self.kubectl("exec", pod, "--", *command)

    def reaches(self, pod: str, address: str, port: int) -> bool:
        """Tell whether a TCP connection from a pod to an address is answered within a second."""
        tried = f"nc -z -w 1 {address} {port} && echo answered || echo silent"
        return self.inside(pod, "sh", "-c", tried).strip() == "answered"
