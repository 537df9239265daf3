"""Template roles with more rights than a lease may have are refused, and the message names what they have."""

from __future__ import annotations

import pytest

from bulkhead.issuers.base import Refused
from bulkhead.issuers.postgres import Postgres
from tests.issuers.postgres.leases import INSTALLATION, entered, issued, request
from tests.issuers.postgres.server import Server

ACCEPTED = {
    "reading": "GRANT SELECT ON orders TO {0}",
    "all that is data": "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON orders, salaries TO {0}",
    "one column": "GRANT SELECT (pieces), UPDATE (pieces) ON orders TO {0}",
    "a sequence": "GRANT ALL ON SEQUENCE numbers TO {0}",
    "a schema's use": "GRANT USAGE ON SCHEMA public TO {0}",
    "a function": "GRANT EXECUTE ON FUNCTION harmless() TO {0}",
    "tables to come": "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {0}",
    "temporary tables": "GRANT TEMPORARY ON DATABASE shop TO {0}",
    "a role that it is a member of": "CREATE ROLE base_{0}; GRANT SELECT ON orders TO base_{0}; GRANT base_{0} TO {0}",
    "row level security": "CREATE POLICY p_{0} ON guarded TO {0} USING (true); GRANT SELECT ON guarded TO {0}",
    "a login of its own": "ALTER ROLE {0} LOGIN",
    "nothing": "SELECT",
}

REFUSED = {
    "superuser": ("ALTER ROLE {0} SUPERUSER", "is SUPERUSER"),
    "createrole": ("ALTER ROLE {0} CREATEROLE", "has CREATEROLE"),
    "createdb": ("ALTER ROLE {0} CREATEDB", "has CREATEDB"),
    "replication": ("ALTER ROLE {0} REPLICATION", "has REPLICATION"),
    "bypassrls": ("ALTER ROLE {0} BYPASSRLS", "has BYPASSRLS"),
    "owns a table": ("CREATE TABLE t_{0} (); ALTER TABLE t_{0} OWNER TO {0}", "owns table public.t_{0}"),
    "owns a schema": ("CREATE SCHEMA s_{0} AUTHORIZATION {0}", "owns schema s_{0}"),
    "owns a database": ("ALTER DATABASE spare OWNER TO {0}", "owns database spare"),
    "creates in a schema": ("GRANT CREATE ON SCHEMA public TO {0}", "has CREATE on schema public"),
    "creates schemas": ("GRANT CREATE ON DATABASE shop TO {0}", "has CREATE on database shop"),
    "creates in another database": ("GRANT CREATE ON DATABASE spare TO {0}", "has CREATE on database spare"),
    "uses a tablespace": ("GRANT CREATE ON TABLESPACE pg_default TO {0}", "has CREATE on tablespace pg_default"),
    "all on a table": ("GRANT ALL ON orders TO {0}", "has TRIGGER on table public.orders"),
    "triggers": ("GRANT TRIGGER ON orders TO {0}", "has TRIGGER on table public.orders"),
    "foreign keys": ("GRANT REFERENCES ON orders TO {0}", "has REFERENCES on table public.orders"),
    "foreign keys to a column": ("GRANT REFERENCES (id) ON orders TO {0}", "has REFERENCES on column public.orders.id"),
    "passes on": (
        "GRANT SELECT ON orders TO {0} WITH GRANT OPTION",
        "has SELECT on table public.orders and may pass it on",
    ),
    "takes members": (
        "CREATE ROLE base_{0}; GRANT base_{0} TO {0} WITH ADMIN OPTION",
        "may make others members of base_{0}",
    ),
    "tables to come": (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {0}",
        "has TRIGGER on table to come (default privileges)",
    ),
    "schemas to come": (
        "ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO {0}",
        "has CREATE on schema to come (default privileges)",
    ),
    "foreign data": (
        "CREATE FOREIGN DATA WRAPPER w_{0}; GRANT USAGE ON FOREIGN DATA WRAPPER w_{0} TO {0}",
        "has privileges on foreign-data wrapper w_{0}",
    ),
    "foreign servers": (
        "CREATE FOREIGN DATA WRAPPER w_{0}; CREATE SERVER v_{0} FOREIGN DATA WRAPPER w_{0}; "
        "GRANT USAGE ON FOREIGN SERVER v_{0} TO {0}",
        "has privileges on server v_{0}",
    ),
    "verifiers": ("GRANT SELECT ON pg_authid TO {0}", "has SELECT on table pg_authid, which is the server's own"),
    "a column of verifiers": (
        "GRANT SELECT (rolpassword) ON pg_authid TO {0}",
        "has SELECT on column pg_authid.rolpassword, which is the server's own",
    ),
    "the server's files": (
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {0}",
        "has EXECUTE on function pg_read_file(text), which is the server's own",
    ),
    **{
        role: (f"GRANT {role} TO {{0}}", f"is a predefined role of the server (as {role})")
        for role in (
            "pg_execute_server_program",
            "pg_read_server_files",
            "pg_write_server_files",
            "pg_write_all_data",
            "pg_read_all_data",
            "pg_signal_backend",
            "pg_monitor",
        )
    },
    "by way of another": (
        "CREATE ROLE base_{0} CREATEDB; GRANT base_{0} TO {0}",
        "has CREATEDB (as base_{0})",
    ),
    "by way of two others, not inherited": (
        "CREATE ROLE top_{0}; CREATE ROLE base_{0} NOINHERIT; ALTER ROLE {0} NOINHERIT; "
        "GRANT CREATE ON SCHEMA public TO top_{0}; GRANT top_{0} TO base_{0}; GRANT base_{0} TO {0}",
        "has CREATE on schema public (as top_{0})",
    ),
    "by way of an owner": (
        "CREATE ROLE base_{0}; CREATE TABLE t_{0} (); ALTER TABLE t_{0} OWNER TO base_{0}; GRANT base_{0} TO {0}",
        "owns table public.t_{0} (as base_{0})",
    ),
}

PUBLIC = {
    "creates in a schema": ("GRANT CREATE ON SCHEMA {0} TO PUBLIC", "has CREATE on schema {0} (as PUBLIC)"),
    "triggers": (
        "CREATE TABLE {0}.t (); GRANT TRIGGER ON {0}.t TO PUBLIC",
        "has TRIGGER on table {0}.t (as PUBLIC)",
    ),
}

BY_LEASES = {
    "a temporary table for everybody": "CREATE TEMP TABLE t (n integer); GRANT ALL ON t TO PUBLIC",
    "a temporary table": "CREATE TEMP TABLE t (n integer); GRANT ALL ON t TO {other}",
    "a temporary table's column": "CREATE TEMP TABLE t (n integer); GRANT REFERENCES (n) ON t TO {other}",
    "a temporary sequence": "CREATE TEMP SEQUENCE t; GRANT ALL ON SEQUENCE t TO {other} WITH GRANT OPTION",
    "a temporary function": (
        "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'; "
        "GRANT EXECUTE ON FUNCTION pg_temp.f() TO {other} WITH GRANT OPTION"
    ),
    "a large object": "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO {other} WITH GRANT OPTION",
    "a large object for everybody": "SELECT lo_create(4711); GRANT ALL ON LARGE OBJECT 4711 TO PUBLIC",
    "tables to come": "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {other}",
    "its template's tables to come": "ALTER DEFAULT PRIVILEGES FOR ROLE {own} GRANT ALL ON TABLES TO {other}, PUBLIC",
}
"""What any lease can do about another template, and about its own."""

BEFORE_16 = {
    "a large object of its template": (
        "SET ROLE {own}; SELECT lo_create(4712); GRANT SELECT ON LARGE OBJECT 4712 TO {other} WITH GRANT OPTION"
    ),
    "a temporary table of its template": "SET ROLE {own}; CREATE TEMP TABLE t (n integer); GRANT ALL ON t TO {other}",
}
"""Likewise, where a member can always become what it is a member of."""

ELSEWHERE = ("spare", BEFORE_16["a temporary table of its template"])
"""In another database it cannot be told from a table that stays."""


@pytest.fixture(scope="module", autouse=True)
def things(server: Server) -> None:
    """Objects to have rights on."""
    server.ask("CREATE DATABASE spare", database="postgres")
    server.ask("CREATE FUNCTION harmless() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    server.ask("CREATE TABLE guarded (n integer); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")


@pytest.mark.parametrize("grants", ACCEPTED.values(), ids=ACCEPTED)
async def test_rights_on_data_are_accepted(grants: str, issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template(grants)))
    await issuer.revoke(credential.handle)


@pytest.mark.parametrize(("grants", "has"), REFUSED.values(), ids=REFUSED)
async def test_more_rights_are_refused_and_named(grants: str, has: str, issuer: Postgres, server: Server) -> None:
    template = server.template(grants)
    asked = request(template)
    with pytest.raises(Refused) as refused:
        await issuer.issue(asked, await issuer.prepare(asked))
    assert has.format(template) in refused.value.message
    assert f"the template role {template} may do more than read and write data" in refused.value.message
    assert "Accepted is a role that owns nothing" in refused.value.message
    assert server.valid_until(f"bulkhead_{INSTALLATION}_{asked.lease}") is None


@pytest.mark.parametrize(("grants", "has"), PUBLIC.values(), ids=PUBLIC)
async def test_rights_that_everybody_has_count(grants: str, has: str, issuer: Postgres, server: Server) -> None:
    template = server.template()
    server.ask(f"CREATE SCHEMA open_{template}; {grants.format(f'open_{template}')}")
    try:
        with pytest.raises(Refused) as refused:
            await issued(issuer, request(template))
        assert has.format(f"open_{template}") in refused.value.message
    finally:
        server.ask(f"DROP SCHEMA open_{template} CASCADE")


async def test_a_parameter_that_may_be_set_is_refused(issuer: Postgres, server: Server) -> None:
    if server.version < 15:
        return  # there were no privileges on parameters
    template = server.template("GRANT SET ON PARAMETER session_preload_libraries TO {0}")
    with pytest.raises(Refused, match="has privileges on parameter session_preload_libraries"):
        await issued(issuer, request(template))


async def test_maintaining_tables_is_refused(issuer: Postgres, server: Server) -> None:
    if server.version < 17:
        return  # there was no such privilege
    template = server.template("GRANT MAINTAIN ON orders TO {0}")
    with pytest.raises(Refused, match=r"has MAINTAIN on table public\.orders"):
        await issued(issuer, request(template))


async def test_rights_in_another_database_are_refused_because_they_cannot_be_seen(
    issuer: Postgres, server: Server
) -> None:
    template = server.template()
    server.ask(f"CREATE TABLE t_{template} (); GRANT SELECT ON t_{template} TO {template}", database="spare")
    with pytest.raises(Refused, match="has privileges in database spare, which cannot be checked from here"):
        await issued(issuer, request(template))


@pytest.mark.parametrize("database", ["shop", "spare"])
@pytest.mark.parametrize("statements", (BY_LEASES | BEFORE_16).values(), ids=BY_LEASES | BEFORE_16)
async def test_no_lease_can_have_templates_refused(
    statements: str, database: str, issuer: Postgres, server: Server
) -> None:
    if statements in BEFORE_16.values() and (server.version >= 16 or (database, statements) == ELSEWHERE):
        return
    if database != "shop" and "FOR ROLE" in statements:
        return
    own, other = server.template(), server.template()
    lease = await issued(issuer, request(own))
    async with await entered(lease, dbname=database) as session:
        for statement in statements.format(own=own, other=other).split("; "):
            await session.execute(statement.encode())
        for template in (own, other):
            await issuer.revoke((await issued(issuer, request(template))).handle)
    await issuer.revoke(lease.handle)
    for template in (own, other):
        await issuer.revoke((await issued(issuer, request(template))).handle)
    server.ask("SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata", database=database)


async def test_a_template_that_does_not_exist_is_refused(issuer: Postgres) -> None:
    with pytest.raises(Refused, match="there is no template role nobody_made_it; accepted is a role that"):
        await issued(issuer, request("nobody_made_it"))


async def test_a_lease_is_no_template(issuer: Postgres, server: Server) -> None:
    lease = await issued(issuer, request(server.template()))
    with pytest.raises(Refused, match="there is no template role bulkhead_"):
        await issued(issuer, request(lease.handle["role"]))
    await issuer.revoke(lease.handle)


async def test_the_role_of_the_issuer_is_no_template(issuer: Postgres) -> None:
    with pytest.raises(Refused, match="the template role bulkhead may do more than read and write data"):
        await issued(issuer, request("bulkhead"))


async def test_a_template_that_may_not_connect_is_refused(issuer: Postgres, server: Server) -> None:
    template = server.template()
    server.ask("REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO bulkhead")
    try:
        with pytest.raises(Refused, match=f"members of {template} may not connect to database shop; accepted is"):
            await issued(issuer, request(template))
    finally:
        server.ask("GRANT CONNECT ON DATABASE shop TO PUBLIC; REVOKE CONNECT ON DATABASE shop FROM bulkhead")


async def test_without_the_admin_option_the_message_says_what_is_missing(issuer: Postgres, server: Server) -> None:
    template = server.template()
    server.ask(f"REVOKE {template} FROM bulkhead")
    if server.version < 16:  # CREATEROLE was enough
        await issued(issuer, request(template))
        return
    with pytest.raises(Refused, match="from PostgreSQL 16 on ADMIN OPTION on every template"):
        await issued(issuer, request(template))
