"""Revoking ends every session, lets nobody in any more, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial

import psycopg
import pytest
from psycopg import AsyncConnection

from bulkhead.issuers.base import Credential, IssuerError
from bulkhead.issuers.postgres import Postgres
from tests.issuers.postgres.leases import entered, eventually, issued, refused, request
from tests.issuers.postgres.server import Server

DOINGS = {
    "nothing": ["SELECT 1"],
    "a transaction": ["BEGIN", "UPDATE orders SET pieces = 9 WHERE id = 1"],
    "a failed transaction": ["BEGIN", "UPDATE orders SET pieces = 9 WHERE id = 1", "SELECT 1/0"],
    "an open cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT * FROM orders", "FETCH 1 FROM c"],
    "a cursor that outlives its transaction": ["DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders", "FETCH 1 FROM c"],
    "a temporary table": ["CREATE TEMP TABLE t AS SELECT * FROM orders"],
    "a temporary function": ["CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'"],
    "a large object": ["SELECT lo_create(0)"],
    "a lock on a table": ["BEGIN", "LOCK TABLE orders IN ROW EXCLUSIVE MODE"],
    "locks of its own choice": ["SELECT pg_advisory_lock(1), pg_advisory_lock(2)"],
    "listening": ["LISTEN something"],
    "settings of its own": [
        "ALTER ROLE CURRENT_USER SET work_mem TO '8MB'",
        "ALTER ROLE CURRENT_USER PASSWORD 'other'",
    ],
    "the name of the session that made it": ["SELECT set_config('application_name', 'bulkhead makes ' || user, false)"],
    "rights to come": ["ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"],
    "another name": ["SET SESSION AUTHORIZATION DEFAULT", "SET ROLE NONE"],
}


SESSIONS = "SELECT state FROM pg_stat_activity WHERE usename = %s"

MEMBERSHIPS = "SELECT m.* FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = %s ORDER BY m"

UNSEEN = (
    "SELECT l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'virtualxid' "
    "AND (a.pid IS NULL OR a.usesysid IS NULL AND a.backend_type = 'client backend')"
)


@contextlib.asynccontextmanager
async def doing(credential: Credential, statements: list[str]) -> AsyncIterator[AsyncConnection]:
    session = await entered(credential)
    try:
        for statement in statements:
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                await session.execute(statement.encode())
        yield session
    finally:
        await session.close()


def gone(server: Server, credential: Credential) -> bool:
    role = credential.handle["role"]
    return server.ask(SESSIONS, role) == [] and server.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", role) == []


async def ended(session: AsyncConnection) -> bool:
    try:
        await session.execute("SELECT 1")
    except psycopg.Error:
        return session.closed
    return False


@pytest.mark.parametrize("statements", DOINGS.values(), ids=DOINGS)
async def test_a_session_is_ended_whatever_it_is_doing(statements: list[str], issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    async with doing(credential, statements) as session:
        await issuer.revoke(credential.handle)
        assert gone(server, credential)
        assert await ended(session)
    assert server.ask("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
    assert "failed" in await refused(credential)


async def test_a_statement_that_runs_is_ended(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential) as session:
        running = asyncio.create_task(session.execute("SELECT pg_sleep(600)"))
        role = credential.handle["role"]
        await eventually(
            lambda: ("active",) in server.ask(SESSIONS, role),
            "the statement runs",
        )
        await issuer.revoke(credential.handle)
        with pytest.raises(psycopg.OperationalError):
            await running
    assert gone(server, credential)


async def test_what_was_not_committed_is_not_there(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    async with doing(credential, ["BEGIN", "UPDATE orders SET pieces = 77 WHERE id = 2"]):
        await issuer.revoke(credential.handle)
    assert server.ask("SELECT pieces FROM orders WHERE id = 2") == [(10,)]


async def test_a_transaction_prepared_for_two_phases_is_rolled_back(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    statements = ["BEGIN", "UPDATE orders SET pieces = 78 WHERE id = 3", "PREPARE TRANSACTION 'it''s mine'"]
    async with doing(credential, statements):
        pass
    await issuer.revoke(credential.handle)
    assert gone(server, credential)
    assert server.ask("SELECT gid FROM pg_prepared_xacts") == []
    assert server.ask("SELECT pieces FROM orders WHERE id = 3") == [(10,)]


@pytest.mark.parametrize("database", ["shop", "postgres"])
async def test_more_large_objects_than_the_server_has_locks_for_are_removed(
    database: str, issuer: Postgres, server: Server
) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential, dbname=database) as session:
        await session.execute("SELECT count(lo_create(0)) FROM generate_series(1, 30000)")
    await asyncio.gather(*(issuer.revoke(credential.handle) for _ in range(2)))
    assert gone(server, credential)
    assert server.ask("SELECT count(*) FROM pg_largeobject_metadata", database=database) == [(0,)]


async def test_what_it_made_in_another_database_is_removed(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    elsewhere = await entered(credential, dbname="postgres")
    await elsewhere.execute("SELECT lo_create(0)")
    await issuer.revoke(credential.handle)
    assert await ended(elsewhere)
    assert gone(server, credential)
    assert server.ask("SELECT count(*) FROM pg_largeobject_metadata", database="postgres") == [(0,)]


GIFTS = {
    "a large object": "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO {0}",
    "to pass on": "SELECT lo_create(4711); GRANT ALL ON LARGE OBJECT 4711 TO {0} WITH GRANT OPTION",
    "a temporary table": "CREATE TEMP TABLE t (n integer); GRANT SELECT ON t TO {0}",
    "a column": "CREATE TEMP TABLE t (n integer); GRANT SELECT (n) ON t TO {0}",
    "tables to come": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {0}",
}


@pytest.mark.parametrize("database", ["shop", "postgres"])
@pytest.mark.parametrize("gift", GIFTS.values(), ids=GIFTS)
async def test_what_another_lease_gave_it_does_not_keep_it(
    gift: str, database: str, issuer: Postgres, server: Server
) -> None:
    giver, credential = [await issued(issuer, request(server.template())) for _ in range(2)]
    async with await entered(giver, dbname=database) as session:
        for statement in gift.format(credential.handle["role"]).split("; "):
            await session.execute(statement.encode())
        before = server.ask(MEMBERSHIPS, giver.handle["role"])
        await issuer.revoke(credential.handle)
        assert gone(server, credential)
        assert server.ask(MEMBERSHIPS, giver.handle["role"]) == before
        await session.execute("SELECT 1")
    await (await entered(giver)).close()
    await issuer.revoke(giver.handle)
    assert gone(server, giver)


async def test_two_leases_that_gave_each_other_rights_can_be_revoked_at_once(issuer: Postgres, server: Server) -> None:
    one, other = pair = [await issued(issuer, request(server.template())) for _ in range(2)]
    for giver, taker in ((one, other), (other, one)):
        async with await entered(giver) as session:
            [(made,)] = await (await session.execute("SELECT lo_create(0)")).fetchall()
            role = taker.handle["role"]
            await session.execute(f"GRANT SELECT ON LARGE OBJECT {made} TO {role}".encode())
    await asyncio.gather(*(issuer.revoke(credential.handle) for credential in pair * 3))
    assert [gone(server, credential) for credential in pair] == [True, True]


async def test_a_role_that_was_made_a_member_of_it_keeps_nothing(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    role = credential.handle["role"]
    server.ask(f"CREATE ROLE friend_of_{role}; GRANT {role} TO friend_of_{role}")
    await issuer.revoke(credential.handle)
    assert gone(server, credential)


async def test_a_membership_that_only_others_can_take_away_goes_with_the_role(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    role = credential.handle["role"]
    # Before 16 whoever has CREATEROLE may take away any membership but that of a superuser.
    attribute = "NOSUPERUSER" if server.version >= 16 else "SUPERUSER"
    server.ask(f"CREATE ROLE reporting {attribute}; GRANT reporting TO {role}")
    try:
        async with await entered(credential) as session:
            await issuer.revoke(credential.handle)
            assert await ended(session)
        assert "failed" in await refused(credential)
        assert gone(server, credential)
    finally:
        server.ask("DROP ROLE reporting")


async def test_what_others_granted_it_is_named_and_it_is_shut_all_the_same(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    role = credential.handle["role"]
    server.ask(f"GRANT SELECT ON salaries TO {role}")
    async with await entered(credential) as session:
        with pytest.raises(
            IssuerError, match=r"privileges for table public\.salaries; .* revoke what others granted to it"
        ):
            await issuer.revoke(credential.handle)
        assert await ended(session)
    assert "failed" in await refused(credential)
    server.ask(f"REVOKE ALL ON salaries FROM {role}")
    await issuer.revoke(credential.handle)
    assert gone(server, credential)


async def test_nobody_gets_in_while_it_storms_the_door(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    held: list[AsyncConnection] = []
    stop = asyncio.Event()
    entries = 0

    async def storm() -> None:
        nonlocal entries
        while not stop.is_set():
            try:
                held.append(await entered(credential))
                entries += 1
            except psycopg.OperationalError:
                await asyncio.sleep(0)

    storming = [asyncio.create_task(storm()) for _ in range(6)]
    await eventually(lambda: entries >= 4, "some get in")
    await issuer.revoke(credential.handle)
    assert gone(server, credential)
    before = entries
    for _ in range(50):
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*storming)
    assert entries == before
    assert gone(server, credential)
    assert all([await ended(session) for session in held])
    for session in held:
        await session.close()


async def test_others_who_knock_without_end_hold_up_no_revocation(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    uri = credential.values["uri"].decode().replace("postgresql://", "postgresql://nobody-", 1)
    stop = asyncio.Event()

    async def knock() -> None:
        while not stop.is_set():
            with contextlib.suppress(psycopg.OperationalError):
                await (await AsyncConnection.connect(uri)).close()

    knocking = [asyncio.create_task(knock()) for _ in range(12)]
    await eventually(lambda: server.ask(UNSEEN) != [], "somebody is at the door")
    await issuer.revoke(credential.handle)
    stop.set()
    await asyncio.gather(*knocking)
    assert gone(server, credential)


async def test_a_session_that_hides_while_it_is_opened_is_ended(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    opening = asyncio.create_task(entered(credential, options="-c post_auth_delay=60"))
    await eventually(lambda: server.ask(UNSEEN) != [], "a session is being opened that nobody sees")
    started_at = time.monotonic()
    await issuer.revoke(credential.handle)
    assert time.monotonic() - started_at < 30
    with contextlib.suppress(psycopg.OperationalError):  # the server may get as far as to say that it is ready
        session = await opening
        assert await ended(session)
        await session.close()
    assert time.monotonic() - started_at < 50
    assert server.ask(UNSEEN) == []
    assert gone(server, credential)


def _is_opening(opening: asyncio.Task[AsyncConnection], server: Server) -> bool:
    return opening.done() or server.ask(UNSEEN) != []


async def _unseen(credential: Credential, server: Server) -> asyncio.Task[AsyncConnection]:
    """Begin to open a session, and wait until it is in the two seconds in which nobody sees whose it is."""
    while True:
        opening = asyncio.create_task(entered(credential, options="-c post_auth_delay=2"))
        await eventually(partial(_is_opening, opening, server), "a session is being opened that nobody sees")
        if not opening.done():
            return opening
        await (await opening).close()  # it was open before anybody had looked


@pytest.mark.parametrize("attribute", ["LOGIN", "SUPERUSER", "IN ROLE pg_signal_backend"])
async def test_a_session_of_others_that_is_being_opened_is_left_alone(
    attribute: str, issuer: Postgres, server: Server
) -> None:
    """Also by an issuer's role that could end it: superuser, or member of pg_signal_backend."""
    other, credential = [await issued(issuer, request(server.template())) for _ in range(2)]
    if attribute == "SUPERUSER":
        server.ask("ALTER ROLE bulkhead SUPERUSER")
    elif attribute != "LOGIN":
        server.ask("GRANT pg_signal_backend TO bulkhead")
    try:
        opening = await _unseen(other, server)
        await issuer.revoke(credential.handle)
        async with await opening as session:
            await session.execute("SELECT * FROM orders")
    finally:
        server.ask("ALTER ROLE bulkhead NOSUPERUSER; REVOKE pg_signal_backend FROM bulkhead")
    await issuer.revoke(other.handle)


async def test_revoking_again_and_by_many_at_once_is_fine(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential) as session:
        await asyncio.gather(*(issuer.revoke(credential.handle) for _ in range(6)))
        assert await ended(session)
    await issuer.revoke(credential.handle)
    assert gone(server, credential)


async def test_revoking_what_was_only_prepared_is_done(issuer: Postgres, server: Server) -> None:
    await issuer.revoke(await issuer.prepare(request(server.template())))


@pytest.mark.parametrize(
    "handle", [{}, {"role": "postgres"}, {"role": "reader"}, {"role": ""}, {"other": "x"}], ids=str
)
async def test_no_role_is_touched_that_is_no_lease(handle: dict[str, str], issuer: Postgres, server: Server) -> None:
    before = server.ask("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1")
    await issuer.revoke(handle)
    assert server.ask("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1") == before


async def test_other_leases_of_the_same_template_do_not_notice(issuer: Postgres, server: Server) -> None:
    template = server.template()
    one, other = await issued(issuer, request(template)), await issued(issuer, request(template))
    async with await entered(other) as session:
        await issuer.revoke(one.handle)
        await session.execute("SELECT * FROM orders")
    await (await entered(other)).close()
    await issuer.revoke(other.handle)


async def test_the_issuer_keeps_no_right_of_what_it_revoked(issuer: Postgres, server: Server) -> None:
    template = server.template()
    before = server.ask(
        "SELECT roleid, admin_option FROM pg_auth_members WHERE member = 'bulkhead'::regrole ORDER BY 1"
    )
    credential = await issued(issuer, request(template))
    await issuer.revoke(credential.handle)
    after = server.ask("SELECT roleid, admin_option FROM pg_auth_members WHERE member = 'bulkhead'::regrole ORDER BY 1")
    assert after == before
