"""Which processes the demo and the tests find in a pod's cgroups."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from demo import containers
from devcluster import resources
from devcluster.api import RunningCluster


class Named:
    """As much of a cluster as its cgroups are found by."""

    name = "any"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is taken for the cluster's cgroups."""
    monkeypatch.setattr(resources, "cgroup_paths", lambda _: [tmp_path])
    return tmp_path


def processes(uid: str) -> set[int]:
    return containers.processes_of_pod(cast(Any, cast(RunningCluster, Named())), uid)


def group(folder: Path, *pids: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


def test_all_groups_below_a_pods_are_its_own_and_no_others(root: Path) -> None:
    group(root / "kubepods" / "pod-a", 1)
    group(root / "kubepods" / "poda", 2)
    group(root / "kubepods" / "poda" / "one", 3, 4)
    group(root / "kubepods" / "podab" / "one", 5)
    assert processes("a") == {2, 3, 4}


def test_groups_that_end_while_they_are_looked_at_disturb_nobody(root: Path) -> None:
    group(root / "kubepods" / "poda" / "stays", 7)
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(20):
                group(root / "kubepods" / f"podother{number}" / "one")
            for number in range(20):
                shutil.rmtree(root / "kubepods" / f"podother{number}")

    coming = threading.Thread(target=come_and_go)
    coming.start()
    try:
        assert all(processes("a") == {7} for _ in range(300))
    finally:
        ended.set()
        coming.join()
