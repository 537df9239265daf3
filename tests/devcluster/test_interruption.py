"""Runs of tests that are cut off: what they started goes with them. A real pytest with real workers and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devcluster import lifecycle, processes
from devcluster.paths import Cluster
from devcluster.progress import Progress
from tests.devcluster.support import leftovers, python_environment, wait_for

SLEEPING = """
import time
from pathlib import Path

import pytest

from devcluster import lifecycle, processes
from devcluster.paths import Cluster
from devcluster.progress import Progress


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster.named("cut-off", tier="apiserver")
    with lifecycle.in_use(cluster):
        processes.start(cluster, "sleeper", ["/bin/sleep", "infinity"])
        yield cluster
        {at_the_end}
        lifecycle.down(cluster, progress=Progress())


def test_that_goes_on(cluster):
    Path("{started}").touch()
    time.sleep(600)
"""


@contextmanager
def session(folder: Path, *arguments: str, at_the_end: str = "pass") -> Iterator[subprocess.Popen[bytes]]:
    """A run with one test that goes on, and a cluster that is to be taken down after it."""
    started = folder / "started"
    (folder / "test_sleeping.py").write_text(SLEEPING.format(started=started, at_the_end=at_the_end))
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in python_environment().items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "tests.interruption", "-p", "no:cacheprovider", *arguments]
    with (
        (folder / "output").open("wb") as output,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=output, start_new_session=True) as process,
    ):
        wait_for(started.exists)
        yield process


def worker(root: Path) -> int:
    """The process that holds the cluster."""
    return int((root / ".cut-off.user").read_text())


@pytest.fixture
def cut_off(state_root: Path) -> Cluster:
    """The cluster of the session."""
    return Cluster.named("cut-off", tier="apiserver")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_takes_down_what_it_brought_up(
    tmp_path: Path, cut_off: Cluster, number: signal.Signals, workers: int
) -> None:
    with session(tmp_path, f"--numprocesses={workers}") as process:
        assert leftovers(cut_off) != []
        os.killpg(process.pid, number)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert leftovers(cut_off) == []


def test_a_second_signal_does_not_cut_off_what_the_first_one_began(
    tmp_path: Path, state_root: Path, cut_off: Cluster
) -> None:
    ending, go_on = tmp_path / "ending", tmp_path / "go-on"
    waits = f"Path({str(ending)!r}).touch(); [time.sleep(0.01) for _ in iter(Path({str(go_on)!r}).exists, True)]"
    with session(tmp_path, "--numprocesses=1", at_the_end=waits) as process:
        os.killpg(process.pid, signal.SIGTERM)
        wait_for(ending.exists)
        os.killpg(process.pid, signal.SIGTERM)
        go_on.touch()

    assert leftovers(cut_off) == []


def test_the_cluster_of_a_worker_that_was_killed_is_taken_down_at_the_end_of_the_run(
    tmp_path: Path, state_root: Path, cut_off: Cluster
) -> None:
    with session(tmp_path, "--numprocesses=1", "--max-worker-restart=0") as process:
        os.kill(worker(state_root), signal.SIGKILL)

    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert leftovers(cut_off) == []


def test_no_cluster_is_abandoned_that_is_in_use_or_that_nobody_claimed(state_root: Path, progress: Progress) -> None:
    used, free = (Cluster.named(name, tier="apiserver") for name in ("used", "free"))
    with lifecycle.in_use(free):
        pass
    sleepers = [processes.start(cluster, "sleeper", ["/bin/sleep", "infinity"]) for cluster in (used, free)]
    with lifecycle.in_use(used):
        lifecycle.down_abandoned(progress=progress)

    assert all(processes.is_alive(sleeper) for sleeper in sleepers)
