"""Network namespaces for the tests of the gate. They need root, iproute2 and nftables, as tier `cluster` does."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from devcluster import packages
from devcluster.progress import Progress
from tests.gate.world import World


@pytest.fixture(scope="session")
def tools() -> None:
    """Puts the programs in place that make namespaces and rules."""
    packages.ensure(("iproute2", "nftables", "procps", "util-linux"), progress=Progress(io.StringIO()))


@pytest.fixture
def world(tools: None) -> Iterator[World]:
    """Three namespaces of the test's own."""
    with World.opened() as opened:
        yield opened
