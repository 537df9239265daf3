"""Paths, ports, and telling people: the small things every command uses."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from devcluster import lifecycle, packages, paths
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster, cache_dir, known_clusters, write_atomically
from devcluster.paths import state_root as configured_state_root
from devcluster.ports import PortReservation
from devcluster.progress import Progress
from tests.devcluster.support import python_environment


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("BULKHEAD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/bulkhead")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/bulkhead")
    monkeypatch.setenv("BULKHEAD_CACHE", "/elsewhere")
    assert cache_dir() == Path("/elsewhere")


def test_the_state_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_STATE", "/somewhere")
    assert configured_state_root() == Path("/somewhere")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param(paths.ENOUGH_MEMORY, paths.SHARED_MEMORY, id="enough memory"),
        pytest.param(paths.ENOUGH_MEMORY - 4096, Path("/run"), id="too little memory"),
        pytest.param(None, Path("/run"), id="no such file system"),
    ],
)
def test_the_state_is_in_memory_where_that_is_large_enough(
    monkeypatch: pytest.MonkeyPatch, size: int | None, expected: Path
) -> None:
    def statvfs(path: Path) -> SimpleNamespace:
        if size is None:
            raise FileNotFoundError(path)
        return SimpleNamespace(f_frsize=4096, f_blocks=size // 4096)

    monkeypatch.delenv("BULKHEAD_STATE", raising=False)
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert configured_state_root() == expected / "bulkhead-dev"


@pytest.mark.parametrize("kind", ["a folder of another user", "a link"])
def test_a_state_root_that_another_user_made_where_all_may_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, progress: Progress, kind: str
) -> None:
    everybodys = tmp_path / "everybodys"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    root = everybodys / "bulkhead-dev"
    if kind == "a link":
        root.symlink_to(tmp_path)
    else:
        root.mkdir()
        os.chown(root, 65534, 65534)
    monkeypatch.setenv("BULKHEAD_STATE", str(root))
    with pytest.raises(DevclusterError, match="made by another user"):
        lifecycle.down(Cluster.named("scratch", tier="apiserver"), progress=progress)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "1a", "a" * 33])
def test_a_name_that_could_not_be_used_everywhere_is_refused(name: str) -> None:
    with pytest.raises(DevclusterError, match="up to 32 lower-case letters, digits and dashes are accepted"):
        Cluster.named(name, tier="apiserver")


@pytest.mark.parametrize("name", ["a", "apiserver", "test-1", "a" * 32])
def test_a_usable_name_is_accepted(state_root: Path, name: str) -> None:
    assert Cluster.named(name, tier="apiserver").state_dir == state_root / name


def test_facts_are_added_to_and_replaced(cluster: Cluster) -> None:
    assert cluster.read_facts() == {}
    cluster.note_facts({"ready": False, "tier": "apiserver"})
    cluster.note_facts({"ready": True})

    assert cluster.read_facts() == {"ready": True, "tier": "apiserver"}


def test_facts_noted_by_threads_at_the_same_time_are_all_kept(cluster: Cluster) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda number: cluster.note_facts({f"fact-{number}": number}), range(40)))

    assert len(cluster.read_facts()) == 40


def test_known_clusters_are_those_with_a_state_folder(state_root: Path) -> None:
    Cluster.named("two", tier="scale").note_facts({"tier": "scale"})
    (state_root / "one").mkdir()
    (state_root / "three.failed").mkdir()
    (state_root / ".two.lock").touch()

    assert [(cluster.name, cluster.tier) for cluster in known_clusters()] == [("one", ""), ("two", "scale")]


def test_a_file_is_replaced_whole_with_its_mode_and_no_other_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, "old", mode=0o600)
    write_atomically(path, "new", mode=0o600)

    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udcff")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_reserved_ports_differ_and_nobody_else_can_reserve_them() -> None:
    with PortReservation() as ours, PortReservation() as others:
        taken = [ours.take() for _ in range(20)] + [others.take() for _ in range(20)]

    assert len(set(taken)) == 40
    assert all(20000 <= port < 32000 for port in taken)


def test_a_server_that_reuses_addresses_can_listen_on_a_reserved_port() -> None:
    with PortReservation() as ports:
        port = ports.take()
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Go's servers do
            server.bind(("127.0.0.1", port))
            server.listen()
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_port_that_somebody_listens_on_is_not_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda _range, _count: [taken])
        with PortReservation() as ports, pytest.raises(DevclusterError, match="no free port"):
            ports.take()


def test_without_a_terminal_steps_are_lines_with_their_time() -> None:
    written = io.StringIO()
    times = iter([100.0, 102.5])
    progress = Progress(written, clock=lambda: next(times))

    with progress.step("building etcd 3.6.8 [linux]"):
        pass

    assert written.getvalue() == "… building etcd 3.6.8 [linux]\n✓ building etcd 3.6.8 [linux] (2.5 s)\n"


def test_a_step_that_fails_says_so_and_lets_the_error_through() -> None:
    written = io.StringIO()
    times = iter([0.0, 1.0])

    with pytest.raises(ValueError, match="reason"), Progress(written, clock=lambda: next(times)).step("working"):
        raise ValueError("reason")

    assert written.getvalue().endswith("✗ working (1.0 s)\n")


def on_a_terminal(script: str) -> str:
    """Run a Python script with a pseudo-terminal as standard error; give what appears there."""
    parent, child = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**python_environment(), "TERM": "xterm"}, stderr=child
    )
    os.close(child)
    shown = b""
    # One read gives what the kernel has brought over by then, which on a busy machine is less than all. When nobody has
    # the other end any more and all of it was read, it is an error.
    with contextlib.suppress(OSError):
        while more := os.read(parent, 65536):
            shown += more
    os.close(parent)
    assert process.wait() == 0
    return shown.decode()


def test_on_a_terminal_steps_may_be_inside_steps() -> None:
    shown = on_a_terminal(
        "from devcluster.progress import Progress\n"
        "p = Progress()\n"
        "with p.step('outer'):\n"
        "    with p.step('inner'):\n"
        "        p.say('said in between')\n"
    )

    assert shown.index("said in between") < shown.index("✓ inner") < shown.index("✓ outer")


def test_on_a_terminal_threads_may_report_at_the_same_time_whoever_ends_first() -> None:
    shown = on_a_terminal(
        "import threading\n"
        "from devcluster.progress import Progress\n"
        "p, both = Progress(), threading.Barrier(2)\n"
        "def work(name, others):\n"
        "    with p.step(name):\n"
        "        both.wait()\n"
        "        for other in others: other.join()\n"
        "first = threading.Thread(target=work, args=('first', []))\n"
        "last = threading.Thread(target=work, args=('last', [first]))\n"
        "for thread in (first, last): thread.start()\n"
        "for thread in (first, last): thread.join()\n"
        "with p.step('afterwards'): pass\n"
    )

    assert shown.index("✓ first") < shown.index("✓ last") < shown.index("✓ afterwards")
    assert "Error" not in shown


def test_packages_that_dpkg_has_are_not_missing() -> None:
    assert packages.missing(["dpkg", "no-such-package-anywhere", "dpkg"]) == ["no-such-package-anywhere"]
    assert packages.missing([]) == []


def test_nothing_is_installed_where_nothing_is_missing() -> None:
    written = io.StringIO()

    packages.ensure(["dpkg"], progress=Progress(written))

    assert written.getvalue() == ""


def test_who_is_not_root_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(DevclusterError, match="apt-get install no-such-package-anywhere"):
        packages.ensure(["dpkg", "no-such-package-anywhere"], progress=progress)
