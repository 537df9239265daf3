"""PostgreSQL of a cluster leaves nothing where the machine keeps what processes share. A real server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from devcluster import processes
from devcluster.paths import Cluster
from devcluster.ports import PortReservation
from devcluster.postgres import Server
from tests.devcluster.support import wait_for


def shared(account: str = "postgres") -> set[str]:
    """The machine's shared memory, of both kinds, that an account's processes made."""
    posix = {path.name for path in Path("/dev/shm").iterdir() if path.owner() == account}  # noqa: S108 - it is read
    return posix | set(Path("/proc/sysvipc/shm").read_text().splitlines()[1:])


def test_a_server_that_is_killed_leaves_no_shared_memory(state_root: Path, cluster: Cluster) -> None:
    state_root.chmod(0o711)  # its account must reach what is its own
    before = shared()
    with PortReservation() as ports:
        server = Server(cluster, "lost", port=ports.take())
        server.start(addresses=["127.0.0.1"], netns=None, rules=[])
    assert server.sql("SELECT count(*) FROM pg_shmem_allocations", database="postgres") != "0"
    [record] = processes.records(cluster)

    os.kill(record.pid, signal.SIGKILL)

    wait_for(lambda: not processes.find_marked(cluster.state_dir))
    wait_for(lambda: shared() <= before, seconds=30)
