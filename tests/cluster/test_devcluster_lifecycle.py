"""The tier `cluster` comes and goes without a trace, whatever ended it. These go before all others of this folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devcluster import api, cgroups, images, network, node, processes, production, resources
from devcluster.api import RunningCluster
from devcluster.paths import Cluster
from tests.cluster.conftest import NAME
from tests.cluster.pods import Namespace, claim, restricted_pod, wait_for
from tests.machine import kept_as_it_is

# What the node's programs would set for the whole machine if they were let.
SYSCTLS = ("kernel/unprivileged_bpf_disabled", "kernel/timer_migration", "kernel/panic", "vm/overcommit_memory")


def machine() -> dict[str, object]:
    """What a cluster could leave behind on the machine, besides processes."""
    named = Path("/run/netns")
    interesting = ("bulkhead", "/run/netns")
    return {
        "mounts": sorted(
            line.split(" ")[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if any(word in line for word in interesting)
        ),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "network namespaces": sorted(path.name for path in named.iterdir()) if named.exists() else [],
        "cgroups": [str(path) for path in resources.cgroup_paths(cgroups.name(places()))],
        "state": places().state_dir.exists(),
        "bpf": sorted(path.name for path in Path("/sys/fs/bpf").iterdir()),
        "sysctls": {name: Path("/proc/sys", name).read_text() for name in SYSCTLS},
    }


def places() -> Cluster:
    """The cluster of these tests, up or not."""
    return Cluster.named(NAME, tier="cluster")


def inhabitants(cluster: Cluster) -> set[tuple[int, int]]:
    """Pid and start time of all that runs for a cluster: by marker, by cgroup, and by the namespaces it is in."""
    pids = set(processes.find_marked(cluster.state_dir)) | resources.cgroup_processes(cgroups.name(cluster))
    foreign = {namespace_of(pid, kind) for pid in pids for kind in ("net", "mnt")}
    foreign -= {namespace_of(os.getpid(), kind) for kind in ("net", "mnt")} | {None}
    for entry in Path("/proc").glob("[0-9]*"):
        if any(namespace_of(int(entry.name), kind) in foreign for kind in ("net", "mnt")):
            pids.add(int(entry.name))
    return {(pid, begun) for pid in pids if (begun := processes.start_time(pid)) is not None}


def namespace_of(pid: int, kind: str) -> str | None:
    """The identity of a namespace a process is in; None where the process is gone."""
    try:
        return f"{kind}:{os.readlink(f'/proc/{pid}/ns/{kind}')}"
    except OSError:
        return None


def alive(who: set[tuple[int, int]]) -> set[int]:
    """Those that still run."""
    return {pid for pid, begun in who if processes.start_time(pid) == begun}


def check_that_it_works(cluster: RunningCluster) -> None:
    """Run a restricted pod that has a volume and reaches production."""
    with Namespace.created(cluster) as namespace:
        namespace.create(claim("workspace"))
        namespace.run(restricted_pod("works", image=images.BASE, claim="workspace"))
        # Cilium may not have connected a pod that has only just started.
        reached = (
            "import socket, time\n"
            "until = time.monotonic() + 60\n"
            "while True:\n"
            "    try:\n"
            f"        socket.create_connection(('{network.PRODUCTION_ADDRESS}', {production.PORT}), 2)\n"
            "        break\n"
            "    except OSError:\n"
            "        if time.monotonic() > until:\n"
            "            raise\n"
            "        time.sleep(0.2)\n"
            "print('reached')"
        )
        assert namespace.inside("works", "python3", "-c", reached).strip() == "reached"


@pytest.fixture(scope="module", autouse=True)
def nothing_is_there_yet() -> Iterator[None]:
    """Begin without a cluster; leave the last one up for the tests that follow, if all went well."""
    RunningCluster(name=NAME, tier="cluster", state_dir=places().state_dir).stop()
    yield


@pytest.fixture
def nobody_else_changes_the_machine() -> Iterator[None]:
    with kept_as_it_is():
        yield


def test_down_leaves_nothing(nobody_else_changes_the_machine: None) -> None:
    before = machine()
    cluster = api.up("cluster", NAME)
    check_that_it_works(cluster)
    assert machine() != before, "this test can see a cluster"
    assert machine()["sysctls"] == before["sysctls"], "the machine's kernel variables are not the node's to set"
    assert machine()["bpf"] == before["bpf"]
    there = inhabitants(cluster)
    assert len(there) > 15, "this test can see what runs"
    cluster.stop()
    assert alive(there) == set()
    assert machine() == before


def test_up_works_after_an_up_that_was_killed_half_way() -> None:
    before = machine()
    half = subprocess.Popen(
        [sys.executable, "-m", "devcluster", "up", "--tier=cluster", f"--name={NAME}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(node.containerd_socket(places()).exists, seconds=180, what="containerd is there")
    finally:
        half.send_signal(signal.SIGKILL)
        half.wait()
    left = inhabitants(places())
    assert left, "what was started so far runs on"
    cluster = api.up("cluster", NAME)
    assert alive(left) == set()
    check_that_it_works(cluster)
    assert machine()["sysctls"] == before["sysctls"]


def test_up_works_after_everything_was_killed_and_leaves_nothing_of_the_old() -> None:
    cluster = api.up("cluster", NAME)
    cluster.kubectl("create", "namespace", "victims")
    Namespace(cluster, "victims").run(restricted_pod("victim", image=images.BASE))
    old = inhabitants(cluster)
    for pid in alive(old):
        with suppress(ProcessLookupError):  # it went with another: a database's processes do
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(old), seconds=30, what="all are dead")
    again = api.up("cluster", NAME)
    assert inhabitants(again).isdisjoint(old)
    assert "victim" not in again.kubectl("get", "pods", "--all-namespaces", "--output=name")
    check_that_it_works(again)
