"""Which Go builds: the one on PATH where it will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster import golang
from devcluster.errors import DevclusterError
from devcluster.progress import Progress


def go(folder: Path, answer: str) -> Path:
    """Put a `go` that gives this answer to `go env` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "go"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """The Go that an earlier command put into the cache."""
    return go(tmp_path / "cache" / "go" / golang.FETCHED / "go" / "bin", f"echo go{golang.FETCHED}")


CASES = {
    "the version needed": ("printf 'go1.26.0\\nlocal\\n'", True),
    "a newer one": ("printf 'go1.27.3\\nauto\\n'", True),
    "an older one that fetches newer toolchains": ("printf 'go1.24.4\\nauto\\n'", True),
    "an older one that is told not to": ("printf 'go1.24.4\\nlocal\\n'", False),
    "one from before toolchains": ("printf 'go1.19.8\\n\\n'", False),
    "one that says nothing to the point": ("echo devel", False),
    "one that fails": ("exit 1", False),
}


@pytest.mark.parametrize(("answer", "suits"), CASES.values(), ids=CASES.keys())
def test_the_go_on_the_path_is_used_if_it_can_build(
    tmp_path: Path, progress: Progress, fetched: Path, monkeypatch: pytest.MonkeyPatch, answer: str, suits: bool
) -> None:
    on_path = go(tmp_path / "bin", answer)
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")

    assert golang.command(cache=tmp_path / "cache", progress=progress) == (on_path if suits else fetched)


def test_without_one_on_the_path_that_in_the_cache_is_used(
    tmp_path: Path, progress: Progress, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert golang.command(cache=tmp_path / "cache", progress=progress) == fetched


def test_the_version_is_that_of_the_toolchain_that_builds_the_module(tmp_path: Path) -> None:
    program = go(tmp_path, "printf 'go1.26.8\\nlinux\\namd64\\nv1\\n'")

    assert golang.version(program, tmp_path) == "go1.26.8 linux amd64 v1"


def test_a_toolchain_that_cannot_be_had_is_an_error_with_gos_words(tmp_path: Path) -> None:
    program = go(tmp_path, "echo 'go: download go1.99: not found' >&2; exit 1")

    with pytest.raises(DevclusterError, match=r"download go1\.99: not found"):
        golang.version(program, tmp_path)
