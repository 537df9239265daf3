"""Container images without a registry.

They are made from Debian packages and Containerfiles, kept as archives and loaded into containerd. The base stands
in for `python:3-slim`: a Debian with python3, python3-venv and a shell. A Containerfile with `ARG BASE_IMAGE` and
`FROM ${BASE_IMAGE}` builds on it here and on anything else elsewhere. Building needs no network: wheels are downloaded
before, by pip.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from devcluster import view
from devcluster.commands import run
from devcluster.locks import locked
from devcluster.paths import Cluster, cache_dir
from devcluster.progress import Progress

SUITE = "bookworm"
PYTHON = "3.11"
"""Python of that Debian: what wheels are chosen for."""

BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
"""Debian packages of the base, besides the essential ones."""

TOOLBOX_PACKAGES = (*BASE_PACKAGES, "bind9-dnsutils", "curl", "iputils-ping", "netcat-openbsd", "postgresql-client")
"""Those of the toolbox: what somebody who looks for a way out would want to have."""

PAUSE = "localhost/bulkhead/pause:1.0.0"
"""The image of the process that holds a pod's namespaces."""

BASE = "localhost/bulkhead/base:dev"
"""The base's name in the cluster. Containerfiles get, as `BASE_IMAGE`, a name that changes with its content."""

TOOLBOX = "localhost/bulkhead/toolbox:dev"

_CONTAINERFILES = Path(__file__).with_name("containerfiles")
_LEFT_OUT = ("doc", "info", "locale", "man")  # below /usr/share, as in Debian's slim images


def build(
    containerfile: Path,
    context: Path,
    tag: str,
    build_args: Mapping[str, str] | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Build an image.

    Args:
        containerfile: the Containerfile.
        context: folder its COPY instructions refer to.
        tag: name and tag the image gets, such as `localhost/bulkhead/operator:dev`.
        build_args: values of its ARGs. `BASE_IMAGE` is the Debian base unless given.
        progress: told about it.

    Returns:
        An archive for `load`, in the cache; another build with that tag replaces it.

    Raises:
        DevclusterError: the build failed; the text has the end of its output.
    """
    said = progress or Progress()
    arguments = dict(build_args or {})
    if "BASE_IMAGE" not in arguments:
        arguments["BASE_IMAGE"] = _debian(BASE_PACKAGES, said)
    archive = _folder() / f"{_file_name(tag)}.tar"
    with said.step(f"building image {tag}"), _store_lock(said):
        _buildah("rm", "--all")  # what a build that was killed left
        _buildah(
            *("build-using-dockerfile", "--isolation=chroot", "--pull-never", "--quiet", f"--tag={tag}"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--file={containerfile.absolute()}", context.absolute()),
        )
        _push(tag, archive, tag)
        _buildah("rmi", "--prune")  # what had the tag before
    return archive


def base(*, progress: Progress) -> Path:
    """Give the archive of the Debian base under the name `BASE`, making it where it is not in the cache."""
    return _debian_archive(BASE_PACKAGES, BASE, progress)


def toolbox(*, progress: Progress) -> Path:
    """Give the archive of the image `TOOLBOX`: the base with curl, nc, dig, ping and psql."""
    return _debian_archive(TOOLBOX_PACKAGES, TOOLBOX, progress)


def pause(program: Path, *, progress: Progress) -> Path:
    """Give the archive of the image `PAUSE`, made from the program built from devcluster/modules/pause."""
    return of_program(program, PAUSE, progress=progress)


def of_program(program: Path, name: str, *, progress: Progress) -> Path:
    """Give the archive of an image that holds one static program and nothing else.

    Args:
        program: the program. There must be a Containerfile of its name beside the others.
        name: what the image is called in the cluster.
        progress: told about it.
    """
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:12]
    archive = _folder() / f"{program.name}-{digest}.tar"
    if not archive.exists():
        with _store_lock(progress), _context() as context:
            shutil.copy(program, context / program.name)
            _buildah(
                *("build-using-dockerfile", "--isolation=chroot", "--quiet", f"--tag={name}"),
                *(f"--file={_CONTAINERFILES / program.name}", context),
            )
            _push(name, archive, name)
    return archive


def download_wheels(lock: Path, folder: Path, *, progress: Progress) -> None:
    """Download what a lock file names as wheels for the base's Python, with pip. Once done it is not done again.

    Args:
        lock: requirements with hashes.
        folder: where to; made where it does not exist.
        progress: told about it.

    Raises:
        DevclusterError: pip failed.
    """
    stamp = folder / ".complete"
    digest = hashlib.sha256(lock.read_bytes() + PYTHON.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    with progress.step(f"downloading the wheels of {lock.name}"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.whl"), stamp):
            old.unlink(missing_ok=True)
        platforms = [f"--platform={name}_{os.uname().machine}" for name in ("manylinux2014", "manylinux_2_28", "linux")]
        pip = (sys.executable, "-m", "pip", "download", "--quiet")
        run(
            *(*pip, "--require-hashes", "--only-binary=:all:", "--no-deps", f"--requirement={lock.absolute()}"),
            *(f"--python-version={PYTHON}", "--implementation=cp", *platforms, f"--dest={folder.absolute()}"),
            name="pip",
        )
        stamp.write_text(digest)


def load(cluster: Cluster, archive: Path) -> None:
    """Import an image into the cluster's containerd, ready to run.

    Args:
        cluster: whose containerd.
        archive: what `build` and its like give, or any OCI or Docker archive.

    Raises:
        DevclusterError: containerd refuses it or does not run.
    """
    control = Path(cluster.read_facts()["programs"]["ctr"])
    run(
        *(control, f"--address={_socket(cluster)}", "--namespace=k8s.io"),
        *("images", "import", "--local", archive.absolute()),
    )


def containerd_answers(cluster: Cluster, control: Path) -> bool:
    """Tell whether the cluster's containerd serves.

    Args:
        cluster: whose.
        control: the program `ctr`.
    """
    if not _socket(cluster).exists():
        return False
    asked: list[str | Path] = [control, f"--address={_socket(cluster)}", "--connect-timeout=2s", "version"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _socket(cluster: Cluster) -> Path:
    return view.on_host(cluster, "/run/containerd/containerd.sock")


def _debian_archive(packages: Sequence[str], name: str, progress: Progress) -> Path:
    reference = _debian(packages, progress)
    archive = _folder() / f"{_file_name(name)}-{reference.rpartition(':')[2]}.tar"
    with _store_lock(progress):
        if not archive.exists():
            _push(reference, archive, name)
    return archive


def _debian(packages: Sequence[str], progress: Progress) -> str:
    """Give the name in the store of an image with these Debian packages, making it where it is not there."""
    containerfile = _CONTAINERFILES / "debian"
    recipe = {
        "suite": SUITE,
        "packages": sorted(packages),
        "out": _LEFT_OUT,
        "containerfile": containerfile.read_text(),
    }
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    reference = f"localhost/bulkhead/debian:{key}"
    with _store_lock(progress):
        if _in_store(reference):
            return reference
        with (
            progress.step(f"making an image of Debian {SUITE} with {', '.join(packages)}"),
            _context() as context,
        ):
            _bootstrap(packages, context / "rootfs.tar")
            _buildah(
                *("build-using-dockerfile", "--isolation=chroot", "--quiet", f"--tag={reference}"),
                *(f"--file={containerfile}", context),
            )
    return reference


def _bootstrap(packages: Sequence[str], target: Path) -> None:
    run(
        *("nice", "-n", "10", "mmdebstrap", "--quiet", "--mode=root", "--variant=essential"),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
        # As in the images it stands in for; Debian itself has only `python3`.
        *("--customize-hook=ln -s python3 $1/usr/bin/python", f"--include={','.join(packages)}", SUITE, target),
        name="mmdebstrap",
    )


def _in_store(reference: str) -> bool:
    asked: list[str | Path] = [*_buildah_command(), "inspect", "--type=image", reference]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _push(reference: str, archive: Path, name: str) -> None:
    """Write an image of the store as an archive that is complete when it is there.

    As a Docker archive, whose layers are not compressed: on two cores that took 1.7 s where an OCI archive took 8.7 s,
    and containerd is done with it sooner too.
    """
    temporary = archive.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    _buildah("push", "--quiet", reference, f"docker-archive:{temporary}:{name}")
    os.rename(temporary, archive)


def _store_lock(progress: Progress) -> AbstractContextManager[None]:
    return locked(cache_dir() / "locks" / "images.lock", progress, "another build of an image")


@contextmanager
def _context() -> Iterator[Path]:
    """Give an empty folder to build from. The store's lock is held: others like it are of builds that were killed."""
    for abandoned in _folder().glob("context-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="context-", dir=_folder()) as folder:
        yield Path(folder)


def _buildah(*arguments: str | Path) -> None:
    run(*_buildah_command(), *arguments)


def _buildah_command() -> list[str]:
    store = _folder() / "store"
    # vfs copies whole layers, but it works on every file system and inside containers, and leaves no mount behind.
    return ["buildah", f"--root={store / 'root'}", f"--runroot={store / 'run'}", "--storage-driver=vfs"]


def _file_name(reference: str) -> str:
    return reference.replace("/", "_").replace(":", "_")


def _folder() -> Path:
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
