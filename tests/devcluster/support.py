"""What the tests of devcluster do again and again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from devcluster import processes
from devcluster.paths import Cluster


def wait_for(condition: Callable[[], object], *, seconds: float = 180) -> None:
    """Poll a condition until it is true, for as long as a cluster may take to start on a busy machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def python_environment() -> dict[str, str]:
    """The environment in which another Python finds the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def leftovers(cluster: Cluster) -> list[str]:
    """Everything that is still there of a cluster, in words; what a test wants to see is an empty list."""
    found = [f"marked process {pid}" for pid in processes.find_marked(cluster.state_dir)]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{cluster.state_dir}/".encode() in command:
            found.append(f"process {folder.name} naming the state folder: {command.decode(errors='replace')}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if f" {cluster.state_dir}" in line]
    if cluster.state_dir.exists():
        found += [str(path) for path in (cluster.state_dir, *cluster.state_dir.rglob("*"))]
    return found
