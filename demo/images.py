"""The two images the demo needs, built again only when something they are made of has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devcluster import images
from devcluster.locks import locked
from devcluster.paths import cache_dir, write_atomically
from devcluster.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

OPERATOR = "docker.io/bulkhead/operator:0.1.0"
"""What the chart's default image is called once a container runtime has completed its name."""

AGENT = "docker.io/bulkhead/demo-agent:0.1.0"
"""The image of demo/agent.yaml, completed likewise."""


def operator(*, progress: Progress) -> Path:
    """Give an archive of the operator's image, for `devcluster.images.load`.

    Packages are downloaded by pip before the build, which has no network then.

    Raises:
        DevclusterError: the build or the download failed.
    """
    lock = ROOT / "requirements.lock"
    sources = {"requirements.lock": lock, **_tree(ROOT / "operator" / "bulkhead", "operator/bulkhead")}

    def build() -> Path:
        wheels = cache_dir() / "wheels"
        images.download_wheels(lock, wheels, progress=progress)
        packages = {f"wheels/{wheel.name}": wheel for wheel in wheels.glob("*.whl")}
        with _context("operator", {**sources, **packages}) as context:
            return images.build(ROOT / "Containerfile", context, OPERATOR, progress=progress)

    return _cached(OPERATOR, {"Containerfile": ROOT / "Containerfile", **sources}, build, progress=progress)


def agent(*, progress: Progress) -> Path:
    """Give an archive of the image of the demo's agent.

    Raises:
        DevclusterError: the build failed.
    """
    folder = ROOT / "demo" / "agent"

    def build() -> Path:
        return images.build(folder / "Containerfile", folder, AGENT, progress=progress)

    return _cached(AGENT, _tree(folder, "."), build, progress=progress)


def _cached(tag: str, sources: Mapping[str, Path], build: Callable[[], Path], *, progress: Progress) -> Path:
    """Build unless the last build of that tag, in any process, was of the same sources on the same base."""
    note = cache_dir() / "demo" / f"{hashlib.sha256(tag.encode()).hexdigest()[:12]}.built"
    digest = _digest(sources)
    with locked(note.with_suffix(".lock"), progress, f"another build of {tag}"):
        if note.exists():
            built_of, _, archive = note.read_text().partition(" ")
            if built_of == digest and Path(archive).exists():
                return Path(archive)
            note.unlink()
        made = build()
        write_atomically(note, f"{digest} {made}")
        return made


def _digest(sources: Mapping[str, Path]) -> str:
    content = hashlib.sha256(repr((images.SUITE, images.BASE_PACKAGES)).encode())
    for name in sorted(sources):
        content.update(f"\0{name}\0".encode())
        content.update(hashlib.sha256(sources[name].read_bytes()).digest())
    return content.hexdigest()


def _tree(folder: Path, prefix: str) -> dict[str, Path]:
    """The files below a folder by the name they get in the context, without bytecode."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{prefix}/{path.relative_to(folder)}": path for path in found}


@contextmanager
def _context(name: str, files: Mapping[str, Path]) -> Iterator[Path]:
    """Put a build context together. The caller holds a lock, so what is there already is of a build that was killed."""
    folder = cache_dir() / "demo" / f"{name}-context"
    shutil.rmtree(folder, ignore_errors=True)
    for target, source in files.items():
        place = folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, place)
        except OSError:  # another file system
            shutil.copy(source, place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
