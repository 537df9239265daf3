"""Background processes: recorded, found and ended, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import processes
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster
from tests.devcluster.support import wait_for

SLEEP = ["/bin/sleep", "600"]
# Ignores SIGTERM, and says so once that holds.
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
]


def test_a_started_process_runs_in_a_session_of_its_own_and_is_on_record(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)

    assert processes.is_alive(record)
    assert processes.records(cluster) == [record]
    assert os.getsid(record.pid) == record.pid


def test_it_gets_only_the_environment_meant_for_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DEVELOPER", "do not hand on")

    record = processes.start(cluster, "printer", ["/usr/bin/env"], env={"K8S_NODE_NAME": "node"})
    wait_for(lambda: not processes.is_alive(record))

    printed = dict(line.split("=", 1) for line in processes.log_file(cluster, "printer").read_text().splitlines())
    assert printed.keys() == {"PATH", "HOME", "LANG", "K8S_NODE_NAME", "BULKHEAD_DEV"}
    assert printed["BULKHEAD_DEV"] == f"{cluster.state_dir}:printer"


def test_its_output_and_errors_go_to_its_log(cluster: Cluster) -> None:
    record = processes.start(cluster, "talker", ["/bin/sh", "-c", "echo out; echo err >&2"])
    wait_for(lambda: not processes.is_alive(record))

    assert processes.log_tail(cluster, "talker") == "out\nerr"
    assert processes.log_tail(cluster, "silent") == "(no log)"


def test_a_component_that_runs_is_not_started_twice(cluster: Cluster) -> None:
    processes.start(cluster, "sleeper", SLEEP)

    with pytest.raises(DevclusterError, match="sleeper of cluster scratch runs already"):
        processes.start(cluster, "sleeper", SLEEP)


def test_a_component_that_ended_can_be_started_again(cluster: Cluster) -> None:
    first = processes.start(cluster, "sleeper", SLEEP)
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(first))

    second = processes.start(cluster, "sleeper", SLEEP)

    assert processes.records(cluster) == [second]


def test_a_program_that_does_not_exist_is_refused_before_anything_starts(cluster: Cluster) -> None:
    with pytest.raises(DevclusterError, match="nothing cannot be started: /no/such/program is not an executable file"):
        processes.start(cluster, "nothing", ["/no/such/program"])

    assert processes.records(cluster) == []


def test_stopping_ends_the_process_and_forgets_it(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)

    processes.stop(cluster, "sleeper")

    assert not Path(f"/proc/{record.pid}").exists(), "not even a zombie is left"
    assert processes.records(cluster) == []


def test_stopping_one_leaves_the_others(cluster: Cluster) -> None:
    processes.start(cluster, "one", SLEEP)
    two = processes.start(cluster, "two", SLEEP)

    processes.stop(cluster, "one")

    assert processes.records(cluster) == [two]
    assert processes.is_alive(two)


def test_one_that_ignores_sigterm_is_killed_after_its_grace(cluster: Cluster) -> None:
    record = processes.start(cluster, "stubborn", STUBBORN)
    wait_for(lambda: processes.log_tail(cluster, "stubborn") == "deaf")

    processes.stop(cluster, "stubborn", grace=0.1)

    assert not Path(f"/proc/{record.pid}").exists()


def test_one_that_heeds_sigterm_is_given_the_time_to(cluster: Cluster) -> None:
    tidy = "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    processes.start(cluster, "tidy", ["/bin/sh", "-c", tidy])
    wait_for(lambda: processes.log_tail(cluster, "tidy") == "ready")

    processes.stop(cluster, "tidy", grace=10)

    assert processes.log_tail(cluster, "tidy") == "ready\ntidied"


def test_a_reused_pid_is_not_taken_for_the_process(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)
    recorded = next((cluster.state_dir / "processes").iterdir())
    recorded.write_text(recorded.read_text().replace(str(record.start_time), str(record.start_time - 1)))

    [stale] = processes.records(cluster)
    assert not processes.is_alive(stale)
    processes.stop(cluster, "sleeper")
    assert processes.is_alive(record), "a process that merely has the pid is left alone"


def test_a_record_of_an_earlier_boot_is_not_taken_for_a_process_of_this_one(cluster: Cluster) -> None:
    record = processes.start(cluster, "sleeper", SLEEP)
    recorded = next((cluster.state_dir / "processes").iterdir())
    recorded.write_text(recorded.read_text().replace(record.boot_id, "11111111-2222-3333-4444-555555555555"))

    [stale] = processes.records(cluster)
    assert not processes.is_alive(stale)


def test_stopping_all_finds_orphans_that_no_record_tells_of(cluster: Cluster) -> None:
    parent = processes.start(cluster, "parent", ["/bin/sh", "-c", "setsid sleep 600 & setsid sleep 600 & wait"])
    wait_for(lambda: len(processes.find_marked(cluster.state_dir)) == 3)
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(parent))

    processes.stop_all(cluster, grace=1)

    assert processes.find_marked(cluster.state_dir) == []
    assert processes.records(cluster) == []


def test_a_process_that_executes_another_program_is_found_in_that_moment_too(cluster: Cluster) -> None:
    # Each env replaces itself by the next. 30,000 variables make the kernel's moment without an environment so long
    # that one look in five fell into it.
    cluster.state_dir.mkdir(exist_ok=True)
    restless = ["/usr/bin/env"] * 1500
    variables = {f"V{number}": "" for number in range(30_000)}
    record = processes.start(cluster, "restless", [*restless, *SLEEP], env=variables)

    looks = [processes.find_marked(cluster.state_dir) for _ in range(1000)]

    assert [found for found in looks if found != [record.pid]] == []


def test_stopping_all_finds_what_was_started_by_one_killed_before_it_could_record(cluster: Cluster) -> None:
    environment = {"PATH": os.environ["PATH"], processes.MARKER: f"{cluster.state_dir}:unrecorded"}
    unrecorded = subprocess.Popen(SLEEP, env=environment, start_new_session=True)

    processes.stop_all(cluster, grace=1)

    assert not Path(f"/proc/{unrecorded.pid}").exists()
    unrecorded.wait()


def test_stopping_all_also_ends_what_its_processes_start_while_they_end(cluster: Cluster) -> None:
    spiteful = "trap 'setsid sleep 600 & exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    processes.start(cluster, "spiteful", ["/bin/sh", "-c", spiteful])
    wait_for(lambda: processes.log_tail(cluster, "spiteful") == "ready")

    processes.stop_all(cluster, grace=1)

    assert processes.find_marked(cluster.state_dir) == []


def test_the_marker_of_one_cluster_does_not_find_anothers(state_root: Path) -> None:
    one, longer = Cluster.named("one", tier="apiserver"), Cluster.named("one-more", tier="apiserver")
    record = processes.start(longer, "sleeper", SLEEP)

    processes.stop_all(one)

    assert processes.is_alive(record)
    assert processes.find_marked(longer.state_dir) == [record.pid]
    assert processes.find_marked(state_root) == [record.pid]


def test_the_processes_of_one_component_are_found_with_what_they_started(cluster: Cluster) -> None:
    processes.start(cluster, "containerd", ["/bin/sh", "-c", "setsid sleep 600 & wait"])
    processes.start(cluster, "containerd-proxy", SLEEP)

    wait_for(lambda: len(processes.find_marked_component(cluster, "containerd")) == 2)
    assert len(processes.find_marked_component(cluster, "containerd-proxy")) == 1


def test_waiting_for_a_process_that_ended_says_so_with_the_end_of_its_log(cluster: Cluster) -> None:
    record = processes.start(cluster, "failing", ["/bin/sh", "-c", "echo no such flag; exit 2"])

    with pytest.raises(DevclusterError, match=r"(?s)failing ended and did not serve.*failing\.log:\nno such flag"):
        processes.wait_until(lambda: False, cluster=cluster, record=record, seconds=30, what="serve")


def test_waiting_for_a_process_that_is_too_slow_ends_at_its_deadline(cluster: Cluster) -> None:
    record = processes.start(cluster, "slow", SLEEP)

    with pytest.raises(DevclusterError, match=r"slow did not serve within 0\.1 s"):
        processes.wait_until(lambda: False, cluster=cluster, record=record, seconds=0.1, what="serve")


@pytest.mark.parametrize("name", ["plain", "with space", "paren)thesis", "(a) b (c"])
def test_the_start_time_is_read_whatever_the_programs_name(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name)
        ticks = processes.start_time(process.pid)
        assert ticks is not None
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert 0 <= uptime - ticks / os.sysconf("SC_CLK_TCK") < 60
    finally:
        process.kill()
        process.wait()
    assert processes.start_time(process.pid) is None


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["/bin/true"])
    wait_for(lambda: processes.start_time(process.pid) is None)

    assert Path(f"/proc/{process.pid}").exists()
    process.wait()
