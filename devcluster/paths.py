"""Where things are: the cache of built binaries and the state of each cluster."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.errors import DevclusterError

MODULES = Path(__file__).parent / "modules"
"""Go modules, one folder each, whose go.mod and go.sum pin what is built."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing of another user is taken there, see lifecycle
"""A file system in memory that every Linux has (POSIX shared memory), of half of the machine's memory as a rule."""

ENOUGH_MEMORY = 8 << 30
"""Bytes of it that are enough for clusters: a run of all tests needs a third of that."""

# A name becomes part of interface and namespace names; Linux allows 15 characters for an interface.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")

# Two threads that read, add and write would lose an addition; other processes are kept out by the cluster's lock.
_FACTS = threading.Lock()


def cache_dir() -> Path:
    """The folder that outlives clusters: `$BULKHEAD_CACHE`, else `bulkhead` in the XDG cache directory."""
    if given := os.environ.get("BULKHEAD_CACHE"):
        return Path(given).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "bulkhead"


def state_root() -> Path:
    """The folder with one subfolder per cluster: `$BULKHEAD_STATE`, else `bulkhead-dev` in memory or in /run.

    In memory where that is large enough: what etcd, containerd and databases write is of no use after them, and on a
    disk it costs the demo a tenth of its time (docs/performance.md).
    """
    if given := os.environ.get("BULKHEAD_STATE"):
        return Path(given).absolute()
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return Path("/run/bulkhead-dev")
    is_enough = room.f_frsize * room.f_blocks >= ENOUGH_MEMORY
    return (SHARED_MEMORY if is_enough else Path("/run")) / "bulkhead-dev"


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Cluster:
    """The places that belong to one cluster. It says nothing about whether the cluster runs.

    Attributes:
        name: unique among the clusters below one state root.
        tier: `apiserver`, `cluster` or `scale`.
        state_dir: everything the cluster writes is below it. `down` removes it.
    """

    name: str
    tier: str
    state_dir: Path

    @classmethod
    def named(cls, name: str, *, tier: str) -> Cluster:
        """Give the cluster of that name below the state root.

        Raises:
            DevclusterError: the name is not usable.
        """
        if not _NAME.fullmatch(name):
            raise DevclusterError(
                f"cluster name {name!r} is refused: up to 32 lower-case letters, digits and dashes are accepted, "
                "starting with a letter"
            )
        return cls(name=name, tier=tier, state_dir=state_root() / name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (group system:masters)."""
        return self.state_dir / "kubeconfig"

    @property
    def kubeconfigs(self) -> Path:
        """Folder of the kubeconfigs of components and of users made on request."""
        return self.state_dir / "kubeconfigs"

    @property
    def pki(self) -> Path:
        """Folder of the certificate authorities and what they signed."""
        return self.state_dir / "pki"

    @property
    def logs(self) -> Path:
        """Folder of one log per process, named COMPONENT.log, and of the audit log."""
        return self.state_dir / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON event a line; exists only where it was asked for."""
        return self.logs / "audit.jsonl"

    @property
    def facts_file(self) -> Path:
        """What the running cluster is: see `read_facts`."""
        return self.state_dir / "cluster.json"

    def read_facts(self) -> dict[str, Any]:
        """What was noted: tier, options, programs, API server URL, `ready`. Empty when there is no cluster."""
        try:
            facts: dict[str, Any] = json.loads(self.facts_file.read_text())
        except FileNotFoundError:
            return {}
        return facts

    def note_facts(self, facts: Mapping[str, Any]) -> None:
        """Add to what is noted about the cluster; a key given again is replaced. Threads may do so at the same time."""
        with _FACTS:
            write_atomically(self.facts_file, json.dumps({**self.read_facts(), **facts}, indent=2) + "\n")


def known_clusters() -> list[Cluster]:
    """Every cluster with a state folder below the state root, whether it runs or not, by name."""
    root = state_root()
    if not root.is_dir():
        return []
    clusters = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and _NAME.fullmatch(folder.name):
            unplaced = Cluster(name=folder.name, tier="", state_dir=folder)
            clusters.append(
                Cluster(name=folder.name, tier=str(unplaced.read_facts().get("tier", "")), state_dir=folder)
            )
    return clusters
