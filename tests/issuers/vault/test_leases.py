"""Leases of a real Vault's database engine, from a login by the operator's own token to the end of every session."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from bulkhead.issuers.base import NotRenewable, Refused
from bulkhead.issuers.vault import ACCESSOR, LEASE, MARGIN, Vault
from devcluster import vault
from tests.issuers.vault.world import Database, Doors, asked, learned, lease, texts

SLACK = timedelta(seconds=5)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what Vault does of itself: where its first try fails, as on a busy machine, the next comes later."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, f"not within 300 s: {what}"
        await asyncio.sleep(0.01)


def lives(server: vault.Server, lease_id: str) -> timedelta | None:
    """What Vault says a lease has left; None where it has none of that name."""
    status, answer = server.ask("PUT", "sys/leases/lookup", {"lease_id": lease_id})
    return timedelta(seconds=answer["data"]["ttl"]) if status == 200 else None


def token_lives(server: vault.Server, accessor: str) -> timedelta | None:
    status, answer = server.ask("POST", "auth/token/lookup-accessor", {"accessor": accessor})
    return timedelta(seconds=answer["data"]["ttl"]) if status == 200 else None


def valid_until(database: Database, username: str) -> datetime:
    text = database.ask(f"SELECT extract(epoch FROM rolvaliduntil) FROM pg_roles WHERE rolname = '{username}'")  # noqa: S608
    return datetime.fromtimestamp(float(text), UTC)


async def test_a_lease_reads_and_writes_rows_and_the_database_refuses_it_the_schema(
    issuer: Vault, database: Database
) -> None:
    credential = await lease(issuer)
    with database.connect(texts(credential)) as session:
        session.execute("UPDATE orders SET pieces = pieces + 1")
        assert session.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        for statement in ("DROP TABLE orders", "CREATE TABLE mine (id integer)", "ALTER TABLE orders ADD mine integer"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
    assert set(credential.values) == {"username", "password"}


async def test_a_lease_is_as_short_as_asked_in_vault_in_the_database_and_in_its_token(
    issuer: Vault, database: Database, real: vault.Server
) -> None:
    before = datetime.now(UTC)
    credential = await lease(issuer, ttl=300)
    assert before + timedelta(seconds=299) <= credential.expires_at <= datetime.now(UTC) + timedelta(seconds=300)
    in_vault = lives(real, credential.handle[LEASE])
    assert in_vault is not None
    assert in_vault <= timedelta(seconds=300)
    assert abs(valid_until(database, texts(credential)["username"]) - credential.expires_at) < 2 * SLACK
    of_token = token_lives(real, credential.handle[ACCESSOR])
    assert of_token is not None
    assert of_token <= timedelta(seconds=300) + MARGIN


async def test_a_lease_that_the_engine_keeps_shorter_than_asked_ends_when_it_says(issuer: Vault) -> None:
    credential = await lease(issuer, "database/creds/bounded", ttl=900)
    assert credential.expires_at - datetime.now(UTC) <= timedelta(minutes=2)


async def test_a_lease_ends_with_its_token_where_that_lives_shorter(real: vault.Server, doors: Doors) -> None:
    real.admit(
        "short",
        namespace="bulkhead-system",
        service_account="bulkhead",
        policies=["bulkhead"],
        token_ttl="2m",
        token_max_ttl="2m",
    )
    issuer = doors.open(role="short")
    credential = await lease(issuer, ttl=900)
    assert credential.expires_at - datetime.now(UTC) <= timedelta(minutes=2)


async def test_a_lease_that_would_end_before_it_was_of_use_is_refused_by_what_decides_it(issuer: Vault) -> None:
    with pytest.raises(Refused, match=r"lives 20 s: accepted is at least 60 s; see max_ttl .* token_max_ttl"):
        await lease(issuer, "database/creds/brief")


async def test_renewing_extends_the_lease_its_token_and_the_role_of_the_database(
    issuer: Vault, database: Database, real: vault.Server
) -> None:
    credential = await lease(issuer, ttl=120)
    wanted = datetime.now(UTC) + timedelta(seconds=600)
    ends = await issuer.renew(credential.handle, until=wanted)
    assert abs(ends - wanted) < SLACK
    in_vault, of_token = lives(real, credential.handle[LEASE]), token_lives(real, credential.handle[ACCESSOR])
    assert in_vault is not None
    assert of_token is not None
    assert in_vault > timedelta(seconds=590)
    assert of_token > in_vault
    assert abs(valid_until(database, texts(credential)["username"]) - wanted) < 2 * SLACK


async def test_renewing_beyond_the_engines_longest_life_gives_what_is_left_of_it(issuer: Vault) -> None:
    credential = await lease(issuer, "database/creds/bounded", ttl=60)
    ends = await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(hours=1))
    assert ends - datetime.now(UTC) <= timedelta(minutes=3)


@pytest.mark.parametrize("gone", ["lease", "token", "nothing was issued"])
async def test_what_has_ended_cannot_be_renewed(issuer: Vault, real: vault.Server, gone: str) -> None:
    handle = dict((await lease(issuer)).handle)
    if gone == "lease":
        real.do("PUT", "sys/leases/revoke", {"lease_id": handle[LEASE], "sync": True})
    elif gone == "token":
        real.do("POST", "auth/token/revoke-accessor", {"accessor": handle[ACCESSOR]})
    else:
        del handle[LEASE]
    with pytest.raises(NotRenewable):
        await issuer.renew(handle, until=datetime.now(UTC) + timedelta(seconds=600))


async def test_once_revoked_the_open_session_is_ended_the_password_refused_and_nothing_is_left(
    issuer: Vault, database: Database, real: vault.Server
) -> None:
    credential = await lease(issuer)
    session = database.connect(texts(credential))
    session.execute("SELECT 1")
    await issuer.revoke(credential.handle)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        database.connect(texts(credential))
    assert texts(credential)["username"] not in database.roles()
    assert lives(real, credential.handle[LEASE]) is None
    assert token_lives(real, credential.handle[ACCESSOR]) is None


async def test_without_statements_of_its_own_vault_leaves_the_session_open(issuer: Vault, database: Database) -> None:
    """Why docs/vault.md asks for revocation_statements."""
    credential = await lease(issuer, "database/creds/lingering")
    with database.connect(texts(credential)) as session:
        await issuer.revoke(credential.handle)
        assert session.execute("SELECT 1").fetchone() == (1,)


async def test_revoking_twice_and_by_another_replica_is_the_same_as_once(issuer: Vault, doors: Doors) -> None:
    credential = await lease(issuer)
    another = doors.open()
    await asyncio.gather(issuer.revoke(credential.handle), another.revoke(credential.handle))
    await another.revoke(credential.handle)


async def test_after_a_crash_between_issue_and_record_the_accessor_alone_ends_everything(
    issuer: Vault, doors: Doors, database: Database, real: vault.Server
) -> None:
    prepared = await issuer.prepare(asked())
    credential = learned(await issuer.issue(asked(), prepared))
    session = database.connect(texts(credential))
    await doors.open().revoke(prepared)
    assert token_lives(real, prepared[ACCESSOR]) is None
    await until(lambda: texts(credential)["username"] not in database.roles(), "the role is dropped")
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


async def test_a_login_that_nothing_was_issued_under_can_be_revoked(issuer: Vault, real: vault.Server) -> None:
    prepared = await issuer.prepare(asked())
    assert token_lives(real, prepared[ACCESSOR]) is not None
    await issuer.revoke(prepared)
    assert token_lives(real, prepared[ACCESSOR]) is None


@pytest.mark.parametrize(
    "handle",
    [
        {},
        {ACCESSOR: "nobodysaccessor0000000000"},
        {ACCESSOR: "nobodysaccessor0000000000", LEASE: "database/creds/reader/nobodyslease000000000000"},
        {ACCESSOR: "nobodysaccessor0000000000", LEASE: "unmounted/creds/reader/nobodyslease00000000000"},
    ],
)
async def test_revoking_what_vault_does_not_know_is_done(issuer: Vault, handle: dict[str, str]) -> None:
    await issuer.revoke(handle)


async def test_revoking_one_lease_leaves_the_others(issuer: Vault, database: Database) -> None:
    first, second = [await lease(issuer) for _ in range(2)]
    await issuer.revoke(first.handle)
    with database.connect(texts(second)) as session:
        assert session.execute("SELECT count(*) FROM orders").fetchone() == (1,)


async def test_the_operators_own_login_is_one_for_all_and_is_entered_anew_when_vault_forgot_it(
    issuer: Vault, real: vault.Server
) -> None:
    leases = [await lease(issuer) for _ in range(4)]
    before = set(real.do("LIST", "auth/token/accessors")["data"]["keys"])
    await asyncio.gather(*(issuer.revoke(one.handle) for one in leases[:3]))
    mine = set(real.do("LIST", "auth/token/accessors")["data"]["keys"]) - before
    assert len(mine) == 1
    real.do("POST", "auth/token/revoke-accessor", {"accessor": mine.pop()})
    await issuer.revoke(leases[3].handle)
    assert lives(real, leases[3].handle[LEASE]) is None


async def test_who_closes_gives_the_operators_login_back(doors: Doors, real: vault.Server) -> None:
    issuer = doors.open()
    credential = await lease(issuer)
    before = set(real.do("LIST", "auth/token/accessors")["data"]["keys"])
    await issuer.revoke(credential.handle)
    await issuer.close()
    assert set(real.do("LIST", "auth/token/accessors")["data"]["keys"]) < before


async def test_a_prepared_login_that_this_process_does_not_know_has_to_be_prepared_anew(
    issuer: Vault, doors: Doors
) -> None:
    prepared = await issuer.prepare(asked())
    with pytest.raises(Exception, match="a new one has to be prepared"):
        await doors.open().issue(asked(), prepared)


async def test_a_prepared_login_that_has_ended_has_to_be_prepared_anew(issuer: Vault, real: vault.Server) -> None:
    prepared = await issuer.prepare(asked())
    real.do("POST", "auth/token/revoke-accessor", {"accessor": prepared[ACCESSOR]})
    with pytest.raises(Exception, match="a new one has to be prepared"):
        await issuer.issue(asked(), prepared)


async def test_nothing_that_can_be_printed_holds_a_value_or_a_token(
    issuer: Vault, real: vault.Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    prepared = await issuer.prepare(asked())
    credential = learned(await issuer.issue(asked(), prepared))
    ends = await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=900))
    seen = " ".join([repr(credential), repr(credential.handle), repr(vars(issuer)), str(ends), caplog.text])
    await issuer.revoke(credential.handle)
    assert texts(credential)["password"] not in seen
    assert "hvs." not in seen


async def test_vault_knows_for_each_lease_which_service_account_logged_in(issuer: Vault, real: vault.Server) -> None:
    prepared = await issuer.prepare(asked())
    found = real.do("POST", "auth/token/lookup-accessor", {"accessor": prepared[ACCESSOR]})["data"]
    assert found["meta"]["service_account_name"] == "bulkhead"
    assert found["meta"]["service_account_namespace"] == "bulkhead-system"


async def test_it_says_which_vault_it_is_and_that_what_it_issues_lives_outside(issuer: Vault, doors: Doors) -> None:
    assert issuer.external
    assert issuer.describe() == f"Vault at {doors.server.url}"
    assert doors.open(namespace="team/a").describe() == f"Vault at {doors.server.url}, namespace team/a"
    assert await issuer.outstanding("abcd1234") == ()
