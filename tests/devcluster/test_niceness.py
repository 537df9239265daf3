"""Giving way to others on a processor, with real processes that want all of it."""

from __future__ import annotations

import os
from pathlib import Path

from devcluster import niceness, processes
from devcluster.paths import Cluster
from tests.devcluster.support import wait_for

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

    niceness.give_way(polite.pid, 0)

    assert share_of(polite.pid, other.pid) > 0.25, "and no longer than that"


def test_a_process_that_is_gone_is_no_error(cluster: Cluster) -> None:
    record = processes.start(cluster, "short", ["/bin/true"])
    wait_for(lambda: not processes.is_alive(record))

    niceness.give_way(record.pid, 15)
