"""Programs from Debian's packages without installing these: some start a server, and go on to at every boot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.locks import locked
from devcluster.paths import cache_dir
from devcluster.progress import Progress


def unpacked(packages: Sequence[str], *, progress: Progress) -> Path:
    """Give a folder with the files of packages as they would lie below /, fetching them once.

    What they depend on is not fetched: this is for programs that need the C library alone.

    Args:
        packages: their names.
        progress: told about it.

    Raises:
        DevclusterError: apt-get does not give them.
    """
    entry = cache_dir() / "debs" / "+".join(packages)
    if entry.is_dir():
        return entry
    with locked(cache_dir() / "locks" / f"debs-{entry.name}.lock", progress, f"another download of {entry.name}"):
        if not entry.is_dir():
            with progress.step(f"downloading Debian packages: {' '.join(packages)}"):
                _unpack(packages, entry)
    return entry


def _unpack(packages: Sequence[str], entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in entry.parent.glob(f".{entry.name}.*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        _download(packages, work)
        files = work / "files"
        files.mkdir()
        for package in sorted(work.glob("*.deb")):
            run("dpkg-deb", "--extract", package, files)
        files.rename(entry)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(packages: Sequence[str], folder: Path) -> None:
    # As whoever we are: apt's own account may not write here.
    wanted = ["apt-get", "--quiet", "--option=APT::Sandbox::User=root", "download", *packages]
    finished = subprocess.run(wanted, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode != 0 and os.geteuid() == 0:
        run("apt-get", "--quiet", "update")  # its lists may be old, or there may be none yet
        finished = subprocess.run(wanted, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        tail = "\n".join((finished.stdout + finished.stderr).splitlines()[-15:])
        raise DevclusterError(f"apt-get download failed with exit code {finished.returncode}:\n{tail}")
