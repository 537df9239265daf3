"""Giving way to others on a processor, with real processes that want all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devcluster import niceness, processes
from devcluster.paths import Cluster
from tests.devcluster.support import python_environment, wait_for

BUSY = ["/bin/sh", "-c", "while :; do :; done"]
TICKS = os.sysconf("SC_CLK_TCK")
ENOUGH = 1.0
"""Processor seconds after which shares are compared: hundreds of turns of the scheduler."""


def used(pid: int) -> float:
    """Processor seconds that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def share_of(polite: int, other: int) -> float:
    """What one has of a processor beside another that wants it as much, counted from now."""
    for pid in (polite, other):
        os.sched_setaffinity(pid, {0})
    before = {pid: used(pid) for pid in (polite, other)}
    wait_for(lambda: used(polite) + used(other) - sum(before.values()) >= ENOUGH)
    got = {pid: used(pid) - before[pid] for pid in (polite, other)}
    return got[polite] / sum(got.values())


def test_a_session_that_gives_way_leaves_the_processor_to_another(cluster: Cluster) -> None:
    other = processes.start(cluster, "other", BUSY)
    polite = processes.start(cluster, "polite", BUSY)
    assert share_of(polite.pid, other.pid) > 0.25, "until it is told to, it does not"

    niceness.give_way(polite.pid, 15)

    assert share_of(polite.pid, other.pid) < 0.2


def test_what_a_nice_program_starts_in_a_session_of_its_own_gives_way_too(cluster: Cluster) -> None:
    other = processes.start(cluster, "other", BUSY)
    script = f"""
import os
from devcluster import processes
from devcluster.paths import Cluster
os.nice(15)
print(processes.start(Cluster.named({cluster.name!r}, tier="apiserver"), "polite", {BUSY!r}).pid)
"""
    starter = subprocess.run(
        [sys.executable, "-c", script], env=python_environment(), capture_output=True, text=True, check=True
    )

    assert share_of(int(starter.stdout), other.pid) < 0.2


@pytest.mark.parametrize(
    "tell", [niceness.inherit, lambda pid: niceness.give_way(pid, 15)], ids=["as we do", "give way"]
)
def test_a_process_that_is_gone_is_no_error(tell: Callable[[int], None], cluster: Cluster) -> None:
    record = processes.start(cluster, "short", ["/bin/true"])
    wait_for(lambda: not processes.is_alive(record))

    tell(record.pid)
