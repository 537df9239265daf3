"""The SQL that docs/credentials.md gives a database administrator is enough, and nothing in it is too much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead.issuers.postgres import Postgres
from tests import leaks
from tests.issuers.postgres.leases import entered, issued, request
from tests.issuers.postgres.server import Server, configured, programs, started

DOCUMENT = Path(__file__).parents[3] / "docs" / "credentials.md"
PASSWORD = "chosen by you"


@pytest.fixture(params=programs(), ids=str)
def fresh(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on which nobody has run anything for Bulkhead yet."""
    with started(request.param) as server:
        server.ask("DROP ROLE bulkhead", database="postgres")
        server.ask("CREATE DATABASE warehouse", database="postgres")
        server.ask("CREATE TABLE stock (item integer, pieces integer)", database="warehouse")
        yield server


async def test_the_documented_statements_are_all_that_it_takes(fresh: Server, tmp_path: Path) -> None:
    once, template, from_16_on, recommended = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    leaks.learn("the password of a freshly set up issuer", password := "a long one for these tests")
    fresh.ask(once.replace(PASSWORD, password), database="warehouse", quietly=True)
    fresh.ask(template, database="warehouse")
    if fresh.version >= 16:
        fresh.ask(from_16_on, database="warehouse")
    fresh.ask(recommended, database="warehouse")
    (tmp_path / "chosen").write_text(password)
    issuer = Postgres(configured(fresh, tmp_path / "chosen", database="warehouse"))
    credential = await issued(issuer, request("stock_keeper"))
    async with await entered(credential) as session:
        await session.execute("INSERT INTO stock VALUES (1, 1)")
        await session.execute("SELECT lo_create(0)")
        await issuer.revoke(credential.handle)
    assert fresh.valid_until(credential.handle["role"]) is None
