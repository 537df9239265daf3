"""The ledger of what was made on the machine besides processes, and undoing it.

A line is on disk before the thing is made, so that a crash between the two leaves at most a line about something that
does not exist; undoing is therefore written to succeed where there is nothing to undo. Things are undone in the
reverse of the order of making.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster import processes
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Resource:
    """One thing made on the machine.

    Attributes:
        kind: a key of `UNDO`.
        name: what identifies it within its kind.
        detail: more that undoing needs, such as a sysctl's former value.
    """

    kind: str
    name: str
    detail: str = ""


def record(cluster: Cluster, kind: str, name: str | Path, *, detail: str = "") -> None:
    """Note a thing on disk; call it right before making the thing.

    Args:
        cluster: whose thing it is.
        kind: one of
            `netns` (a name below /run/netns; its interfaces vanish with it),
            `link` (a network interface in the host's namespace; one end of a veth pair is enough),
            `mount` (a target path; everything mounted below it goes too),
            `cgroup` (a path relative to each hierarchy's root, e.g. `bulkhead/NAME`; the processes in it are ended),
            `path` (a file or folder outside the state folder),
            `sysctl` (a path below /proc/sys, its present value as `detail`).
        name: what identifies it within its kind.
        detail: see `kind`.

    Raises:
        DevclusterError: the kind is not known.
    """
    if kind not in UNDO:
        raise DevclusterError(f"no way to undo a {kind!r}; there are: {', '.join(UNDO)}")
    cluster.state_dir.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"kind": kind, "name": str(name), "detail": detail}) + "\n"
    with _ledger(cluster).open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def recorded(cluster: Cluster) -> list[Resource]:
    """What the ledger tells of, in the order of making.

    A line cut short by a crash is passed over: its thing was not made yet.
    """
    try:
        lines = _ledger(cluster).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Resource(**json.loads(line)))
        except ValueError:
            continue
    return found


def undo_all(cluster: Cluster) -> None:
    """Undo everything recorded, then unmount what is mounted below the state folder. The ledger is empty afterwards.

    Raises:
        DevclusterError: something resists; the text names everything that does, and the ledger is kept for another try.
    """
    problems = []
    for resource in dict.fromkeys(reversed(recorded(cluster))):
        try:
            UNDO[resource.kind](resource)
        except (DevclusterError, OSError) as error:
            problems.append(f"{resource.kind} {resource.name}: {error}")
    try:
        unmount_below(cluster.state_dir)
    except DevclusterError as error:
        problems.append(str(error))
    if problems:
        raise DevclusterError("could not be undone:\n" + "\n".join(problems))
    _ledger(cluster).unlink(missing_ok=True)


def unmount_below(path: Path) -> None:
    """Unmount what is mounted at a path and below it, the deepest and latest first.

    Raises:
        DevclusterError: a mount stays.
    """
    for _ in range(3):  # shared mounts come as several; another look tells whether all are gone
        targets = mounts_below(path)
        if not targets:
            return
        for target in reversed(targets):
            # Lazy, because a dying process may still have a file open there: the mount leaves the tree at once and is
            # freed with it.
            _run("umount", "--lazy", str(target), check=False)
    raise DevclusterError(f"still mounted: {', '.join(map(str, mounts_below(path)))}")


def mounts_below(path: Path) -> list[Path]:
    """Mount points at a path and below it, in the order of mounting (proc_pid_mountinfo(5))."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]))
        if target == path or path in target.parents:
            found.append(target)
    return found


def cgroup_paths(name: str) -> list[Path]:
    """Where a cgroup of that name exists.

    Once on a v2 host, in each controller's hierarchy on v1, in both on hybrid ones.
    """
    roots = [CGROUPS, *(entry for entry in CGROUPS.iterdir() if entry.is_dir() and (entry / "cgroup.procs").exists())]
    return [root / name for root in roots if (root / name / "cgroup.procs").exists()]


def cgroup_processes(name: str) -> set[int]:
    """Pids in a cgroup and the cgroups below it, in every hierarchy."""
    return {pid for top in cgroup_paths(name) for folder in _cgroups_below(top) for pid in _members(folder)}


def _undo_netns(resource: Resource) -> None:
    if Path("/run/netns", resource.name).exists():
        _run("ip", "netns", "delete", resource.name)


def _undo_link(resource: Resource) -> None:
    if Path("/sys/class/net", resource.name).exists():
        # Gone by itself in the meantime is fine: the namespace with its other end may just have ended.
        _run("ip", "link", "delete", "dev", resource.name, check=False)
        if Path("/sys/class/net", resource.name).exists():
            raise DevclusterError("the interface stays")


def _undo_mount(resource: Resource) -> None:
    unmount_below(Path(resource.name))


def _undo_cgroup(resource: Resource) -> None:
    deadline = time.monotonic() + 10
    while pids := cgroup_processes(resource.name):
        processes.end_all(pids, grace=0)
        if time.monotonic() > deadline:
            raise DevclusterError(f"processes keep appearing in it: {sorted(pids)}")
    for top in cgroup_paths(resource.name):
        for folder in sorted(_cgroups_below(top), key=lambda path: len(path.parts), reverse=True):
            _remove_cgroup(folder, deadline=deadline)


def _remove_cgroup(folder: Path, *, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # busy for a moment after its last process ended
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _undo_path(resource: Resource) -> None:
    path = Path(resource.name)
    unmount_below(path)  # never delete through a mount
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _undo_sysctl(resource: Resource) -> None:
    Path("/proc/sys", resource.name).write_text(resource.detail)


UNDO: dict[str, Callable[[Resource], None]] = {
    "netns": _undo_netns,
    "link": _undo_link,
    "mount": _undo_mount,
    "cgroup": _undo_cgroup,
    "path": _undo_path,
    "sysctl": _undo_sysctl,
}
"""How each kind of thing is undone. Each succeeds where the thing does not exist."""


def _cgroups_below(top: Path) -> Iterator[Path]:
    yield top
    for folder, names, _ in os.walk(top):
        yield from (Path(folder, name) for name in names)


def _members(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def _run(*command: str, check: bool = True) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and finished.returncode != 0:
        raise DevclusterError(f"{' '.join(command)}: {finished.stderr.strip()}")


def _ledger(cluster: Cluster) -> Path:
    return cluster.state_dir / "ledger.jsonl"
