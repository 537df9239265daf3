"""Tier apiserver from up to down, with the real programs."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devcluster import api, lifecycle, processes
from devcluster.build import Binaries
from devcluster.errors import DevclusterError
from devcluster.options import Options
from devcluster.paths import Cluster, known_clusters
from devcluster.progress import Progress
from tests.devcluster.support import leftovers, python_environment, wait_for
from tests.machine import halt

CONTROL_PLANE = {"etcd", "kube-apiserver", "kube-controller-manager"}


def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = python_environment()
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def can_connect(server: str) -> bool:
    host, _, port = server.removeprefix("https://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def test_down_leaves_nothing(state_root: Path) -> None:
    cluster = api.up("apiserver")
    server = cluster.server
    assert can_connect(server)

    cluster.stop()

    assert leftovers(cluster) == []
    assert not can_connect(server)
    assert [path.name for path in state_root.iterdir()] == [".apiserver.lock"]


def test_down_twice_and_down_of_what_never_was_are_fine(state_root: Path, progress: Progress) -> None:
    cluster = Cluster.named("never", tier="apiserver")

    lifecycle.down(cluster, progress=progress)
    lifecycle.down(cluster, progress=progress)

    assert leftovers(cluster) == []


def test_two_clusters_side_by_side_do_not_see_each_other(state_root: Path) -> None:
    with api.running("apiserver", "left") as left, api.running("apiserver", "right") as right:
        left.kubectl("create", "namespace", "only-left")

        assert left.server != right.server
        assert "only-left" not in right.kubectl("get", "namespaces", "-o", "name")
        left.stop()
        assert leftovers(left) == []
        wait_for(lambda: lifecycle.status(right).state == "up")


def test_two_clusters_can_come_up_at_the_same_time(state_root: Path) -> None:
    ups = [threading.Thread(target=api.up, args=("apiserver", name)) for name in ("left", "right")]
    for thread in ups:
        thread.start()
    for thread in ups:
        thread.join()

    wait_for(lambda: [status.state for status in map(lifecycle.status, known_clusters())] == ["up", "up"])


def test_up_of_a_cluster_that_is_up_changes_nothing(state_root: Path) -> None:
    with api.running("apiserver") as first:
        first.kubectl("create", "namespace", "kept")
        before = processes.records(first)

        again = api.up("apiserver")

        assert processes.records(again) == before
        assert "kept" in again.kubectl("get", "namespaces", "-o", "name")


def test_up_with_other_options_is_refused_and_says_what_to_do(state_root: Path) -> None:
    with api.running("apiserver"), pytest.raises(DevclusterError, match=r"is up as tier apiserver.*take it down first"):
        api.up("apiserver", audit=True)


def test_two_ups_of_one_name_at_the_same_time_give_one_cluster(state_root: Path) -> None:
    environment = python_environment()
    command = [sys.executable, "-m", "devcluster", "up"]
    ups = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in "ab"
    ]
    outputs = [up.communicate(timeout=300) for up in ups]

    assert [up.returncode for up in ups] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] == f"{state_root}/apiserver/kubeconfig\n"
    [cluster] = known_clusters()
    assert {record.component for record in processes.records(cluster)} == CONTROL_PLANE
    assert len(processes.find_marked(cluster.state_dir)) == len(CONTROL_PLANE)


def test_an_api_server_that_is_slow_to_answer_is_not_replaced(state_root: Path) -> None:
    cluster = api.up("apiserver")
    before = processes.records(cluster)
    [server] = [record for record in before if record.component == "kube-apiserver"]
    told = io.StringIO()
    again = threading.Thread(target=api.up, args=("apiserver",), kwargs={"progress": Progress(told)})
    try:
        halt(server.pid)
        again.start()
        wait_for(lambda: "waiting for the API server of cluster apiserver to answer" in told.getvalue())
    finally:
        os.kill(server.pid, signal.SIGCONT)
        again.join()

    assert processes.records(cluster) == before
    wait_for(lambda: lifecycle.status(cluster).state == "up")


def test_a_cluster_that_another_run_uses_is_not_taken_from_it(state_root: Path) -> None:
    program = (
        "from devcluster.api import running\nwith running('apiserver', 'shared') as cluster: print(cluster.server)"
    )
    with api.running("apiserver", "shared") as mine:
        other = subprocess.run(
            [sys.executable, "-c", program], env=python_environment(), capture_output=True, text=True, check=False
        )

        assert f"cluster shared is in use by process {os.getpid()}" in other.stderr
        assert mine.kubectl("get", "namespaces", "-o", "name")
    taken = subprocess.run(
        [sys.executable, "-c", program], env=python_environment(), capture_output=True, text=True, check=True
    )

    assert taken.stdout.startswith("https://127.0.0.1:"), "it is free again"


@pytest.mark.parametrize("killed", sorted(CONTROL_PLANE))
def test_a_cluster_that_lost_a_process_is_broken_and_up_replaces_it(state_root: Path, killed: str) -> None:
    cluster = api.up("apiserver")
    [record] = [record for record in processes.records(cluster) if record.component == killed]
    os.kill(record.pid, signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(record))
    status = lifecycle.status(cluster)
    assert (status.state, status.dead) == ("broken", (killed,))

    api.up("apiserver")

    wait_for(lambda: lifecycle.status(cluster).state == "up")
    assert len(processes.find_marked(cluster.state_dir)) == len(CONTROL_PLANE)


def test_down_after_everything_was_killed_leaves_nothing(state_root: Path, progress: Progress) -> None:
    cluster = api.up("apiserver")
    for pid in processes.find_marked(cluster.state_dir):
        os.kill(pid, signal.SIGKILL)

    lifecycle.down(cluster, progress=progress)

    assert leftovers(cluster) == []


# From before the first process to after the last: whatever moment it is, the next up must cope.
MOMENTS = [
    "cluster.json",
    "pki/ca.key",
    "processes/etcd.json",
    "processes/kube-apiserver.json",
    "logs/kube-apiserver.log",
    "processes/kube-controller-manager.json",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_up_that_is_killed_leaves_nothing_that_the_next_does_not_take_away(state_root: Path, moment: str) -> None:
    environment = python_environment()
    interrupted = subprocess.Popen(
        [sys.executable, "-m", "devcluster", "up"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cluster = Cluster.named("apiserver", tier="apiserver")
    wait_for(lambda: (cluster.state_dir / moment).exists())
    interrupted.kill()
    interrupted.wait()
    left = set(processes.find_marked(cluster.state_dir))

    api.up("apiserver")

    wait_for(lambda: lifecycle.status(cluster).state == "up")
    now = set(processes.find_marked(cluster.state_dir))
    assert len(now) == len(CONTROL_PLANE)
    assert not now & left


def test_down_of_all_also_ends_processes_whose_state_folder_was_deleted(state_root: Path) -> None:
    cluster = api.up("apiserver")
    subprocess.run(["rm", "-rf", cluster.state_dir], check=True)

    finished = devcluster("down", "--all")

    assert finished.returncode == 0, finished.stderr
    assert leftovers(cluster) == []


def test_a_start_that_fails_says_why_keeps_the_logs_and_leaves_nothing_else(state_root: Path) -> None:
    with pytest.raises(
        DevclusterError, match=r"(?s)kube-apiserver ended.*unknown flag: --no-such-flag.*logs are kept in"
    ) as caught:
        api.up("apiserver", extra_apiserver_args=["--no-such-flag"])

    cluster = Cluster.named("apiserver", tier="apiserver")
    assert leftovers(cluster) == []
    kept = Path(str(caught.value).rpartition(" ")[2])
    assert "--no-such-flag" in (kept / "kube-apiserver.log").read_text()


def test_programs_are_those_the_cluster_was_made_with_and_others_from_the_cache(
    state_root: Path, progress: Progress, tmp_path: Path
) -> None:
    given = tmp_path / "etcd"
    given.symlink_to(Binaries(progress=progress).program("etcd"))
    cluster = Cluster.named("given", tier="apiserver")
    lifecycle.up(cluster, Options(), binaries=Binaries(progress=progress, ready=tmp_path), progress=progress)

    found = api.find("given")

    assert found.binary("etcd") == given
    assert found.binary("kube-scheduler") == Binaries(progress=progress).program("kube-scheduler")


def test_status_of_a_cluster_that_never_was_is_down(state_root: Path) -> None:
    assert lifecycle.status(Cluster.named("never", tier="apiserver")).state == "down"


def test_the_options_are_part_of_what_is_noted_and_further_images_are_not() -> None:
    assert Options(audit=True, apiserver_args=("--v=2",), images=(Path("image.tar"),)).as_facts() == {
        "audit": True,
        "apiserver_args": ["--v=2"],
        "nodes": 50,
    }
