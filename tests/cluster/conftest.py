"""A real cluster for the whole session: kubelet, containerd, Cilium, volumes, production next door.

It is called "test-cluster". Set KEEP=1 to have it stay up after the session; the next session finds it up and is spared
the wait. A machine can have one cluster of this tier.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from demo import installation
from demo.stage import Stage
from devcluster import api, images, lifecycle, warehouse
from devcluster.api import RunningCluster
from devcluster.paths import Cluster
from devcluster.progress import Progress
from tests import leaks, leakwatch
from tests.cluster.agents import Sandbox, install, metrics
from tests.cluster.pods import Namespace

NAME = "test-cluster"

# These take the cluster down and kill it, so they go before all that build something up in it.
FIRST = ("test_demo_command.py", "test_devcluster_lifecycle.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the cluster's life before the others of this folder; all else keeps its place."""
    here = Path(__file__).parent
    places = [number for number, item in enumerate(items) if here in item.path.parents]
    ordered = sorted((items[number] for number in places), key=lambda item: item.path.name not in FIRST)
    for number, item in zip(places, ordered, strict=True):
        items[number] = item


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """The cluster, with the images `images.BASE` and `images.TOOLBOX` in it."""
    progress = Progress()
    archive = images.toolbox(progress=progress)
    with lifecycle.in_use(Cluster.named(NAME, tier="cluster")):
        running = api.up("cluster", NAME, progress=progress)
        try:
            images.load(running, archive)
            with leakwatch.watching(running):
                yield running
        finally:
            if not os.environ.get("KEEP"):
                running.stop()


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[Namespace]:
    """A fresh namespace that admits restricted pods only and has no network policies; it is deleted after the test."""
    with Namespace.created(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def operator(cluster: RunningCluster) -> Iterator[Stage]:
    """The operator, installed from the chart as the demo does it; nobody sees what the demo would show."""
    stage = Stage(cluster, Console(file=io.StringIO(), soft_wrap=True))
    for archive in installation.archives(progress=Progress()):
        images.load(cluster, archive)
    warehouse.start(cluster)
    install(stage)
    yield stage
    leaks.note("the operator's metrics", metrics(cluster))


@pytest.fixture
def sandbox(operator: Stage) -> Iterator[Sandbox]:
    """A fresh sandbox namespace under the operator's care; it is deleted after the test."""
    with Sandbox.opened(operator.cluster) as opened:
        yield opened
