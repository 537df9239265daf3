"""One Prometheus for the session, and what it scrapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bulkhead.signals.prometheus import Prometheus
from bulkhead.signals.settings import PrometheusSettings
from tests.signals import servers
from tests.signals.servers import Exporter, Server


@asynccontextmanager
async def asking(settings: PrometheusSettings) -> AsyncIterator[Prometheus]:
    """A client that is closed whatever comes of its questions."""
    made = Prometheus(settings)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(scope="session")
def exporter() -> Iterator[Exporter]:
    """What agents would show."""
    with Exporter() as made:
        yield made


@pytest.fixture(scope="session")
def server(exporter: Exporter) -> Iterator[Server]:
    """Prometheus."""
    with servers.prometheus({exporter.address: servers.SCRAPE}) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Prometheus]:
    """The operator's client of it."""
    async with asking(PrometheusSettings(url=server.url)) as made:
        yield made
