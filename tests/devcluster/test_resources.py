"""The ledger: what was made on the machine is undone, half made or not made at all. Needs root."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devcluster import resources
from devcluster.errors import DevclusterError
from devcluster.network import make_namespace
from devcluster.paths import Cluster
from tests import machine


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def link_exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


@pytest.fixture(autouse=True)
def changing() -> Iterator[None]:
    with machine.changed():
        yield


@pytest.fixture
def tag() -> str:
    """Makes names on the machine unique; short enough for an interface."""
    return f"bh{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Kind:
    """How a test makes a thing of a kind and sees whether it is there. `name` is made from the tag and a folder."""

    name: Callable[[str, Path], str]
    make: Callable[[str], object]
    exists: Callable[[str], bool]


def make_mount(name: str) -> None:
    Path(name).mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", name)
    Path(name, "inner").mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", f"{name}/inner")


def make_cgroup(name: str) -> None:
    unified = (resources.CGROUPS / "cgroup.procs").exists()
    hierarchies = [resources.CGROUPS] if unified else list(resources.CGROUPS.iterdir())
    for root in hierarchies:
        (root / name / "pod" / "container").mkdir(parents=True)


def make_folder(name: str) -> None:
    Path(name, "deep").mkdir(parents=True)
    Path(name, "deep", "file").write_text("content")


KINDS = {
    "netns": Kind(
        name=lambda tag, _: tag,
        make=make_namespace,
        exists=lambda name: Path("/run/netns", name).exists(),
    ),
    "link": Kind(
        name=lambda tag, _: f"{tag}a",
        make=lambda name: run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}b"),
        exists=lambda name: link_exists(name) or link_exists(f"{name}b"),
    ),
    "mount": Kind(
        name=lambda tag, folder: str(folder / tag),
        make=make_mount,
        exists=lambda name: bool(resources.mounts_below(Path(name))),
    ),
    "cgroup": Kind(
        name=lambda tag, _: f"bulkhead-test-{tag}",
        make=make_cgroup,
        exists=lambda name: bool(resources.cgroup_paths(name)),
    ),
    "path": Kind(
        name=lambda tag, folder: str(folder / tag),
        make=make_folder,
        exists=lambda name: Path(name).exists(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_recorded_and_made_is_undone(cluster: Cluster, tmp_path: Path, tag: str, kind: str) -> None:
    name = KINDS[kind].name(tag, tmp_path)
    resources.record(cluster, kind, name)
    KINDS[kind].make(name)
    assert KINDS[kind].exists(name)

    resources.undo_all(cluster)

    assert not KINDS[kind].exists(name)
    assert resources.recorded(cluster) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_recorded_and_never_made_does_no_harm(cluster: Cluster, tmp_path: Path, tag: str, kind: str) -> None:
    resources.record(cluster, kind, KINDS[kind].name(tag, tmp_path))

    resources.undo_all(cluster)

    assert resources.recorded(cluster) == []


def test_a_sysctl_gets_its_former_value_back(cluster: Cluster, tag: str) -> None:
    # In a namespace of the test's own: no setting of the machine is touched.
    resources.record(cluster, "netns", tag)
    make_namespace(tag)
    inside = ["nsenter", f"--net=/run/netns/{tag}"]
    setting = "net/ipv4/ip_default_ttl"
    before = run(*inside, "cat", f"/proc/sys/{setting}").strip()
    run(*inside, "sh", "-c", f"echo 33 > /proc/sys/{setting}")
    undo = f"from devcluster.resources import *; UNDO['sysctl'](Resource('sysctl', {setting!r}, {before!r}))"

    run(*inside, "env", "PYTHONPATH=.", sys.executable, "-c", undo)

    assert run(*inside, "cat", f"/proc/sys/{setting}").strip() == before
    resources.undo_all(cluster)


def test_things_are_undone_in_the_reverse_order_of_making(cluster: Cluster, tmp_path: Path, tag: str) -> None:
    outer, mounted = tmp_path / tag, tmp_path / tag / "mounted"
    resources.record(cluster, "path", outer)
    outer.mkdir()
    resources.record(cluster, "mount", mounted)
    make_mount(str(mounted))

    resources.undo_all(cluster)

    assert not outer.exists()


def test_a_folder_is_not_deleted_through_a_mount_that_nobody_recorded(
    cluster: Cluster, tmp_path: Path, tag: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("worth keeping")
    folder = tmp_path / tag
    resources.record(cluster, "path", folder)
    (folder / "bound").mkdir(parents=True)
    run("mount", "--bind", str(precious), str(folder / "bound"))

    resources.undo_all(cluster)

    assert not folder.exists()
    assert (precious / "data").read_text() == "worth keeping"


def test_what_is_mounted_below_the_state_folder_goes_without_being_recorded(cluster: Cluster) -> None:
    cluster.state_dir.mkdir()
    make_mount(str(cluster.state_dir / "run with space"))

    resources.undo_all(cluster)

    assert resources.mounts_below(cluster.state_dir) == []


def unified_hierarchy() -> Path:
    """Where cgroup v2 is mounted on this host: at the top, or beside v1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(target) for _, target, kind, *_ in mounts if kind == "cgroup2")


@pytest.mark.parametrize("host", ["as it is", "with cgroup v2 alone"])
def test_processes_in_a_cgroup_are_ended_whatever_their_environment_says(
    cluster: Cluster, tag: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "with cgroup v2 alone":
        monkeypatch.setattr(resources, "CGROUPS", unified_hierarchy())
    name = f"bulkhead-test-{tag}"
    resources.record(cluster, "cgroup", name)
    make_cgroup(name)
    process = subprocess.Popen(["sleep", "600"], env={})
    inner = resources.cgroup_paths(name)[0] / "pod" / "container" / "cgroup.procs"
    inner.write_text(str(process.pid))
    assert resources.cgroup_processes(name) == {process.pid}

    resources.undo_all(cluster)

    assert not Path(f"/proc/{process.pid}").exists()
    process.wait()
    assert resources.cgroup_paths(name) == []


def test_a_kind_that_cannot_be_undone_is_refused(cluster: Cluster) -> None:
    with pytest.raises(DevclusterError, match="no way to undo a 'bridge'; there are: netns, link, mount"):
        resources.record(cluster, "bridge", "br0")


def test_a_line_cut_short_by_a_crash_is_passed_over_and_the_others_count(cluster: Cluster, tmp_path: Path) -> None:
    resources.record(cluster, "path", tmp_path / "made")
    (tmp_path / "made").mkdir()
    with (cluster.state_dir / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"kind": "netns", "na')

    resources.undo_all(cluster)

    assert not (tmp_path / "made").exists()


def test_what_resists_is_named_and_stays_on_record_for_another_try(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resist(resource: resources.Resource) -> None:
        raise OSError("busy")

    resources.record(cluster, "path", tmp_path / "goes")
    (tmp_path / "goes").mkdir()
    resources.record(cluster, "link", "bhstubborn")

    with monkeypatch.context() as patched:
        patched.setitem(resources.UNDO, "link", resist)
        with pytest.raises(DevclusterError, match=r"could not be undone:\nlink bhstubborn: busy"):
            resources.undo_all(cluster)

    assert not (tmp_path / "goes").exists(), "one that resists does not keep the others"
    assert len(resources.recorded(cluster)) == 2
