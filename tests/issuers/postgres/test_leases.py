"""What a lease of a PostgreSQL issuer may do, for how long, and what is left of it afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors

from bulkhead.issuers.base import NotRenewable
from bulkhead.issuers.postgres import Postgres
from bulkhead.issuers.postgressettings import PostgresSettings
from tests.issuers.postgres.leases import INSTALLATION, entered, issued, refused, request
from tests.issuers.postgres.server import DATABASE, Server

DML = {
    "select": "SELECT * FROM orders WHERE id = 1",
    "insert": "INSERT INTO orders VALUES (1001, 1)",
    "update": "UPDATE orders SET pieces = 2 WHERE id = 1001",
    "delete": "DELETE FROM orders WHERE id = 1001",
}

REFUSED = {
    "create table": "CREATE TABLE public.mine (n integer)",
    "create schema": "CREATE SCHEMA mine",
    "create function": "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "drop table": "DROP TABLE orders",
    "alter table": "ALTER TABLE orders ADD COLUMN more integer",
    "add an index": "CREATE INDEX ON orders (pieces)",
    "add a trigger": "CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "truncate what was not granted": "TRUNCATE orders",
    "read another table": "SELECT * FROM salaries",
    "make a role": "CREATE ROLE more",
    "live longer": "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
    "have more connections": "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
    "create a database": "CREATE DATABASE mine",
    "run a program": "COPY orders TO PROGRAM 'true'",
    "read a file of the server": "SELECT pg_read_file('PG_VERSION')",
    "read verifiers": "SELECT rolpassword FROM pg_authid",
}


async def test_the_files_tell_where_as_whom_and_how(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    role, password = credential.values["username"].decode(), credential.values["password"].decode()
    assert set(credential.values) == {"host", "port", "database", "username", "password", "sslmode", "uri"}
    assert credential.values["host"] == b"127.0.0.1"
    assert credential.values["port"] == str(server.port).encode()
    assert credential.values["database"] == DATABASE.encode()
    uri = f"postgresql://{role}:{password}@127.0.0.1:{server.port}/{DATABASE}?sslmode=disable"
    assert credential.values["uri"] == uri.encode()
    assert credential.handle == {"role": role}
    assert role in credential.description
    assert password not in repr(credential)


@pytest.mark.parametrize("statement", DML.values(), ids=DML)
async def test_data_is_read_and_written(statement: str, issuer: Postgres, server: Server) -> None:
    async with await entered(await issued(issuer, request(server.template()))) as session:
        await session.execute(statement.encode())


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
async def test_what_the_template_may_not_do_is_refused_by_the_database(
    statement: str, issuer: Postgres, server: Server
) -> None:
    async with await entered(await issued(issuer, request(server.template()))) as session:
        with pytest.raises(errors.InsufficientPrivilege):
            await session.execute(statement.encode())


async def test_from_16_on_a_lease_cannot_become_its_template(issuer: Postgres, server: Server) -> None:
    template = server.template()
    async with await entered(await issued(issuer, request(template))) as session:
        become = session.execute(f"SET ROLE {template}".encode())
        if server.version >= 16:
            with pytest.raises(errors.InsufficientPrivilege):
                await become
        else:
            await become


async def test_what_the_template_is_granted_later_counts_for_a_lease_that_exists(
    issuer: Postgres, server: Server
) -> None:
    template = server.template()
    async with await entered(await issued(issuer, request(template))) as session:
        server.ask(f"GRANT SELECT ON salaries TO {template}")
        await session.execute("SELECT * FROM salaries")


async def test_a_lease_has_as_many_connections_as_are_configured(settings: PostgresSettings, server: Server) -> None:
    issuer = Postgres(settings.model_copy(update={"connection_limit": 2}))
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential), await entered(credential):
        assert "too many connections for role" in await refused(credential)
    await issuer.revoke(credential.handle)


async def test_logins_end_by_themselves_at_the_expiry(issuer: Postgres, server: Server) -> None:
    before = datetime.now(UTC)
    credential = await issued(issuer, request(server.template(), ttl_seconds=900))
    role = credential.values["username"].decode()
    until = server.valid_until(role)
    assert until is not None
    assert before + timedelta(seconds=900) <= credential.expires_at <= until
    server.ask(f"ALTER ROLE {role} VALID UNTIL '{datetime.now(UTC) - timedelta(seconds=1)}'")
    assert "password authentication failed" in await refused(credential)


async def test_the_expiry_is_counted_by_the_clock_of_the_server(settings: PostgresSettings, server: Server) -> None:
    behind = datetime.now(UTC) - timedelta(hours=3)
    credential = await issued(Postgres(settings, now=lambda: behind), request(server.template(), ttl_seconds=600))
    assert credential.expires_at == behind + timedelta(seconds=600)
    async with await entered(credential):
        pass


async def test_renewing_moves_the_expiry_and_never_nearer(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template(), ttl_seconds=60))
    wanted = datetime.now(UTC) + timedelta(seconds=600)
    assert await issuer.renew(credential.handle, until=wanted) == wanted
    role = credential.values["username"].decode()
    until = server.valid_until(role)
    assert until is not None
    assert abs(until - wanted) < timedelta(seconds=30)
    kept = await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=30))
    assert abs(kept - wanted) < timedelta(seconds=30)
    assert server.valid_until(role) == until


async def test_what_was_revoked_cannot_be_renewed(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    await issuer.revoke(credential.handle)
    with pytest.raises(NotRenewable, match="not there any more"):
        await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=600))


async def test_what_is_half_revoked_cannot_be_renewed(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    server.ask(f"ALTER ROLE {credential.values['username'].decode()} NOLOGIN VALID UNTIL '-infinity'")
    with pytest.raises(NotRenewable):
        await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=600))


async def test_outstanding_are_the_roles_of_this_installation(issuer: Postgres, server: Server) -> None:
    template = server.template()
    ours = [await issued(issuer, request(template, installation="aaaa1111")) for _ in range(3)]
    await issued(issuer, request(template, installation="bbbb2222"))
    server.ask("CREATE ROLE bulkhead_aaaa1111_reports; CREATE ROLE bulkhead_aaaa1111")
    found = await issuer.outstanding("aaaa1111")
    assert sorted(one["role"] for one in found) == sorted(one.handle["role"] for one in ours)
    assert await issuer.outstanding("cccc3333") == []


async def test_no_password_is_in_the_log_of_a_server_that_logs_every_statement(
    issuer: Postgres, server: Server
) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential) as session:
        await session.execute("SELECT 'this statement is logged'")
    await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=1800))
    await issuer.revoke(credential.handle)
    assert "this statement is logged" in server.log
    assert f'CREATE ROLE "{credential.values["username"].decode()}"' in server.log
    assert (credential.values["password"].decode() in server.log) is False


async def test_a_statement_that_fails_shows_no_verifier(issuer: Postgres, server: Server) -> None:
    asked = request(server.template())
    credential = await issued(issuer, asked)
    with pytest.raises(Exception, match="already exists") as caught:
        await issuer.issue(asked, credential.handle)
    assert "SCRAM" not in str(caught.value)
    assert not isinstance(caught.value, psycopg.Error)
    await issuer.revoke(credential.handle)


async def test_the_server_tells_its_administrator_whose_a_role_is(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    [(text,)] = server.ask(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", credential.handle["role"]
    )
    assert text == "Bulkhead: agent team-a/it's an agent, credential warehouse"


async def test_the_id_of_an_installation_names_the_roles(issuer: Postgres, server: Server) -> None:
    asked = request(server.template())
    assert await issuer.prepare(asked) == {"role": f"bulkhead_{INSTALLATION}_{asked.lease}"}
