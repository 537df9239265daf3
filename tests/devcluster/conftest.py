"""What the tests of devcluster share: a state root and a cache of their own, and looking at what is left."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import lifecycle
from devcluster.paths import Cluster
from devcluster.progress import Progress


@pytest.fixture
def progress() -> Progress:
    """A reporter that nobody reads."""
    return Progress(io.StringIO())


@pytest.fixture
def state_root(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> Iterator[Path]:
    """A state root of the test's own, with nothing left of it afterwards whatever the test did."""
    root = Path(tempfile.mkdtemp(prefix="bulkhead-test-", dir="/tmp"))
    monkeypatch.setenv("BULKHEAD_STATE", str(root))
    yield root
    lifecycle.down_all(progress=progress)
    shutil.rmtree(root)


@pytest.fixture
def cluster(state_root: Path) -> Cluster:
    """A cluster's places, with nothing in them yet."""
    return Cluster.named("scratch", tier="apiserver")
