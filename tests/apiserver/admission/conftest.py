"""One cluster with the chart installed, for all tests of admission; see `cluster`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from devcluster.api import running
from tests.apiserver.admission.cluster import Guarded, install, until_in_force
from tests.apiserver.admission.refused import REFUSED


@pytest.fixture(scope="session")
def guarded() -> Iterator[Guarded]:
    """A cluster of its own: the admission policies would refuse what other tests do as administrator."""
    name = os.environ.get("BULKHEAD_TEST_CLUSTER", "test")
    with running("apiserver", f"{name}-guarded", audit=True) as cluster:
        install(cluster)
        connections = Guarded(cluster)
        try:
            until_in_force(connections, REFUSED)
            yield connections
        finally:
            connections.close()


@pytest.fixture
def sandbox(guarded: Guarded) -> Iterator[str]:
    """The name of a fresh sandbox namespace."""
    with guarded.sandbox() as name:
        yield name
