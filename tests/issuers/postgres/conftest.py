"""PostgreSQL in every version that is installed here, and an issuer that is configured for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead.issuers.postgres import Postgres
from bulkhead.issuers.postgressettings import PostgresSettings
from tests.issuers.postgres.server import Server, configured, programs, started


@pytest.fixture(scope="session", params=programs(), ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for the session, for each version."""
    with started(request.param) as running:
        yield running


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> PostgresSettings:
    """What an operator would be configured with."""
    password_file = tmp_path / "password"
    password_file.write_text(f"{server.password}\n")
    return configured(server, password_file)


@pytest.fixture
def issuer(settings: PostgresSettings) -> Postgres:
    """The issuer under test."""
    return Postgres(settings)
