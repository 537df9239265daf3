"""The network policy kinds that only some clusters serve: their definitions, as their own projects publish them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from devcluster.api import RunningCluster
from devcluster.build import Binaries
from devcluster.progress import Progress

CILIUM_NETWORK_POLICIES = "ciliumnetworkpolicies"
CILIUM_CLUSTERWIDE_NETWORK_POLICIES = "ciliumclusterwidenetworkpolicies"
CLUSTER_NETWORK_POLICIES = "clusternetworkpolicies"

FILES = {
    CILIUM_NETWORK_POLICIES: "cilium/ciliumnetworkpolicies.yaml",
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES: "cilium/ciliumclusterwidenetworkpolicies.yaml",
    CLUSTER_NETWORK_POLICIES: "network-policy-api/policy.networking.k8s.io_clusternetworkpolicies.yaml",
}


def foreign_crds() -> dict[str, Path]:
    """Returns the file of each CustomResourceDefinition by the plural of its kind."""
    folder = Binaries(progress=Progress()).folder("policy-kinds")
    return {plural: folder / path for plural, path in FILES.items()}


def served_path(file: Path) -> str:
    """Returns the path under which the API server serves a definition's kind, in its version that is stored."""
    spec = yaml.safe_load(file.read_text())["spec"]
    (version,) = [one["name"] for one in spec["versions"] if one["storage"]]
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"


@contextmanager
def installed(cluster: RunningCluster, *plurals: str) -> Iterator[None]:
    """Lets a cluster serve these kinds, and takes them away in the end, with every object of them."""
    known = foreign_crds()
    try:
        for plural in plurals:
            cluster.kubectl("apply", "--server-side", "-f", str(known[plural]))
        for plural in plurals:
            until_served(cluster, served_path(known[plural]), served=True)
        yield
    finally:
        for plural in plurals:
            cluster.kubectl("delete", "--ignore-not-found", "--wait", "-f", str(known[plural]))
        for plural in plurals:
            until_served(cluster, served_path(known[plural]), served=False)


def until_served(cluster: RunningCluster, path: str, *, served: bool) -> None:
    """Returns once the API server serves a collection, or no longer does; fails the test after 120 s."""
    deadline = time.monotonic() + 120
    while is_served(cluster, path) is not served:
        assert time.monotonic() < deadline, f"after 120 s {path} is {'not ' if served else ''}served"
        time.sleep(0.1)


def is_served(cluster: RunningCluster, path: str) -> bool:
    """Says whether the API server serves a collection; a group that it does not know it answers with plain text."""
    answer = cluster.kubectl("get", "--raw", path, check=False)
    try:
        return bool(json.loads(answer)["kind"].endswith("List"))
    except ValueError:
        return False
