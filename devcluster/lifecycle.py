"""A cluster's life: up, healthy or not, down. Also what comes after a life that ended in SIGKILL."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import packages, processes, resources
from devcluster.build import Binaries
from devcluster.controlplane import READY_SECONDS, ApiClient
from devcluster.errors import DevclusterError
from devcluster.locks import claimed, is_abandoned, locked
from devcluster.options import Options
from devcluster.paths import Cluster, known_clusters, state_root
from devcluster.progress import Progress
from devcluster.tiers import tier


@dataclass(frozen=True)
class Status:
    """How a cluster is.

    Attributes:
        cluster: which.
        state: `up`, `broken` (something of it runs or is left, but not all works) or `down`.
        server: URL of its API server, empty when unknown.
        running: components that run.
        dead: components that were started and do not run.
    """

    cluster: Cluster
    state: str
    server: str
    running: tuple[str, ...]
    dead: tuple[str, ...]


def up(cluster: Cluster, options: Options, *, binaries: Binaries, progress: Progress) -> None:
    """Bring a cluster up. Where it is up already with these options, nothing happens.

    Whatever an earlier one of that name left behind is taken away first; so a cluster that is broken is replaced by a
    new one. One whose processes all run has a minute to answer before it is taken for broken.

    Raises:
        DevclusterError: it is up as another tier or with other options, or it could not be brought up; then nothing
            of it is left but its logs, and the text says where.
    """
    chosen = tier(cluster.tier)
    with _exclusive(cluster, progress):
        if _await_answer(cluster, progress).state == "up":
            _refuse_other_options(cluster, options)
            progress.say(f"cluster {cluster.name} is up already")
            return
        packages.ensure(chosen.packages, progress=progress)
        programs = binaries.all(chosen.components)
        reclaim(cluster, progress=progress)
        cluster.state_dir.mkdir(parents=True)
        paths = {name: str(path) for name, path in programs.items()}
        cluster.note_facts({"tier": cluster.tier, "options": options.as_facts(), "programs": paths, "ready": False})
        began = time.monotonic()
        try:
            chosen.start(cluster, programs, options, progress)
        except DevclusterError as error:
            raise DevclusterError(f"{error}\nAll its logs are kept in {_abandon(cluster)}") from error
        except BaseException:
            _abandon(cluster)
            raise
        cluster.note_facts({"ready": True})
        progress.say(f"cluster {cluster.name} (tier {cluster.tier}) is up after {time.monotonic() - began:.1f} s")


def down(cluster: Cluster, *, progress: Progress) -> None:
    """Take a cluster down and leave nothing of it, whether it is up, broken, half made or not there.

    Raises:
        DevclusterError: something resists; the text names it.
    """
    with _exclusive(cluster, progress):
        if cluster.state_dir.exists() or processes.find_marked(cluster.state_dir):
            with progress.step(f"taking down cluster {cluster.name}"):
                _take_away(cluster)


def down_all(*, progress: Progress) -> None:
    """Take every cluster below the state root down, and what is left of clusters whose state folder is gone."""
    for cluster in known_clusters():
        down(cluster, progress=progress)
    processes.end_all(processes.find_marked(state_root()))


def down_abandoned(*, progress: Progress) -> None:
    """Take down every cluster whose user (see `in_use`) was killed before it could do so.

    Raises:
        DevclusterError: something resists, or another run has just begun to use it.
    """
    for cluster in known_clusters():
        if is_abandoned(_beside(cluster, "user")):
            with in_use(cluster):
                down(cluster, progress=progress)


def reclaim(cluster: Cluster, *, progress: Progress) -> None:
    """Take away what is left of a cluster that was killed. The caller holds its lock."""
    if cluster.state_dir.exists() or processes.find_marked(cluster.state_dir):
        with progress.step(f"taking away what an earlier cluster {cluster.name} left"):
            _take_away(cluster)


def status(cluster: Cluster) -> Status:
    """Look at a cluster."""
    facts = cluster.read_facts()
    records = processes.records(cluster)
    running = tuple(record.component for record in records if processes.is_alive(record))
    dead = tuple(record.component for record in records if record.component not in running)
    if not cluster.state_dir.exists():
        state = "down"
    elif facts.get("ready") and running and not dead and ApiClient(cluster).status("/readyz", seconds=5) == 200:
        state = "up"
    else:
        state = "broken"
    return Status(cluster=cluster, state=state, server=str(facts.get("server", "")), running=running, dead=dead)


@contextmanager
def in_use(cluster: Cluster) -> Iterator[None]:
    """Hold a cluster's name for a `with` block, so that no other run can choose it.

    Two runs of one name would find each other's cluster up, work in it, and at their end take it down under the other,
    whose connections break in the midst of something.

    Raises:
        DevclusterError: another run holds the name; the text says which process.
    """
    with claimed(_beside(cluster, "user"), f"cluster {cluster.name}"):
        yield


def choose(name: str | None) -> Cluster:
    """Give the cluster of a name, or, without one, the only one there is.

    Raises:
        DevclusterError: there is none of that name, or none at all, or several to choose from.
    """
    known = known_clusters()
    chosen = [cluster for cluster in known if name in (None, cluster.name)]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(cluster.name for cluster in known) or "none"
    if chosen:
        raise DevclusterError(f"there are several clusters ({names}): choose one by --name")
    raise DevclusterError(
        f"there is no cluster{f' {name}' if name else ''} (there are: {names}); `python -m devcluster up` makes one"
    )


def require_up(cluster: Cluster) -> None:
    """Check that a cluster can be used.

    Raises:
        DevclusterError: it cannot.
    """
    if not cluster.kubeconfig.exists() or not cluster.read_facts().get("ready"):
        known = ", ".join(other.name for other in known_clusters()) or "none"
        raise DevclusterError(
            f"cluster {cluster.name} is not up (there are: {known}); `python -m devcluster up` brings it up"
        )


def _await_answer(cluster: Cluster, progress: Progress) -> Status:
    """Look at a cluster; where all of it runs and the API server does not answer, look again for a while.

    A machine with too much to do makes an API server slow, not broken, and what replaces it is empty.
    """
    found, deadline = status(cluster), time.monotonic() + READY_SECONDS
    if not _is_silent(cluster, found):
        return found
    with progress.step(f"waiting for the API server of cluster {cluster.name} to answer"):
        while _is_silent(cluster, found) and time.monotonic() < deadline:
            time.sleep(0.1)
            found = status(cluster)
    return found


def _is_silent(cluster: Cluster, found: Status) -> bool:
    complete = bool(cluster.read_facts().get("ready")) and bool(found.running) and not found.dead
    return complete and found.state == "broken"


def _refuse_other_options(cluster: Cluster, options: Options) -> None:
    facts = cluster.read_facts()
    have, want = (facts["tier"], facts["options"]), (cluster.tier, options.as_facts())
    if have != want:
        raise DevclusterError(
            f"cluster {cluster.name} is up as tier {have[0]} with {have[1]}, not as tier {want[0]} with {want[1]}: "
            "take it down first, or give another --name"
        )


def _abandon(cluster: Cluster) -> Path:
    """Take away a cluster that did not come up, but keep its logs for whoever asks why; give their folder."""
    kept = cluster.state_dir.with_name(f"{cluster.name}.failed")
    shutil.rmtree(kept, ignore_errors=True)
    if cluster.logs.exists():
        shutil.copytree(cluster.logs, kept)
    _take_away(cluster)
    return kept


def _take_away(cluster: Cluster) -> None:
    # The data goes too, so nobody needs long to put it in order. kube-apiserver uses all the time it gets.
    processes.stop_all(cluster, grace=1.0)
    resources.undo_all(cluster)
    if cluster.state_dir.exists():
        shutil.rmtree(cluster.state_dir)


@contextmanager
def _exclusive(cluster: Cluster, progress: Progress) -> Iterator[None]:
    lock = _beside(cluster, "lock")
    root = lock.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        _refuse_what_another_made(root)
        lock.touch()
    except OSError as error:
        raise DevclusterError(
            f"state cannot be kept in {root}: {error.strerror}. "
            "Name a folder that you may write to by BULKHEAD_STATE, or be root"
        ) from error
    with locked(lock, progress, f"another command about cluster {cluster.name}"):
        yield


def _refuse_what_another_made(root: Path) -> None:
    """Refuse a folder of another user in a place where everybody may make some: he could replace what is in it."""
    if not root.parent.stat().st_mode & stat.S_ISVTX:
        return
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DevclusterError(f"{root} was made by another user. Remove it, or name another folder by BULKHEAD_STATE")


def _beside(cluster: Cluster, kind: str) -> Path:
    """A file beside the state folder, not in it: taking a cluster away removes the folder."""
    return cluster.state_dir.with_name(f".{cluster.name}.{kind}")
