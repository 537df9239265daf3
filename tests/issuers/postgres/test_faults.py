"""A server that is down, slow, strange or far, and calls that are given up in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bulkhead.issuers.base import IssuerError, Unavailable
from bulkhead.issuers.guard import Guarded
from bulkhead.issuers.postgres import Postgres, maker
from bulkhead.issuers.postgressettings import PostgresSettings
from devcluster.pki import Authority
from devcluster.ports import PortReservation
from tests.issuers.postgres.leases import entered, eventually, issued, request
from tests.issuers.postgres.server import Server, programs, started
from tests.issuers.postgres.wire import wire

STRANGE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "noise": bytes(range(256)) * 40,
    "an endless message": b"R\xff\xff\xff\xff" + b"x" * 100_000,
    "an authentication nobody knows": b"R\x00\x00\x00\x08\x00\x00\x00\x63",
    "a wish for the password itself": b"R\x00\x00\x00\x08\x00\x00\x00\x03",
    "a wish for an MD5 of it": b"R\x00\x00\x00\x0c\x00\x00\x00\x05abcd",
    "entry without a question": b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I",
    "nothing": b"",
}


def elsewhere(settings: PostgresSettings, **changes: object) -> PostgresSettings:
    return settings.model_copy(update=changes)


def guarded(issuer: Postgres, *, deadline: float = 1.0) -> Guarded:
    return Guarded(issuer, name="warehouse", deadline=deadline)


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
async def test_an_answer_that_makes_no_sense_is_an_unavailable_issuer(
    answer: bytes, settings: PostgresSettings, server: Server
) -> None:
    async with wire(server.port) as line:
        line.answer = answer
        issuer = guarded(Postgres(elsewhere(settings, port=line.port)))
        asked = request("reader")
        handle = await issuer.prepare(asked)
        for call in (
            issuer.issue(asked, handle),
            issuer.renew(handle, until=datetime.now(UTC)),
            issuer.revoke(handle),
            issuer.outstanding("test1234"),
        ):
            with pytest.raises(Unavailable, match="issuer warehouse") as caught:
                await call
            assert len(caught.value.message) < 400
            assert caught.value.__context__ is None
            assert (server.password in caught.value.message) is False


async def test_a_server_that_is_down_is_told_and_comes_back(settings: PostgresSettings, server: Server) -> None:
    with PortReservation() as ports:
        port = ports.take()
        # Not in a hurry: who refuses does so at once, but this process may have to wait for its turn to hear of it.
        down = guarded(Postgres(elsewhere(settings, port=port)), deadline=30)
        asked = request(server.template())
        handle = await down.prepare(asked)
        with pytest.raises(Unavailable, match=f"no session at 127.0.0.1:{port}: .*refused"):
            await down.issue(asked, handle)
        with pytest.raises(Unavailable):
            await down.revoke(handle)
    up = guarded(Postgres(settings), deadline=30)
    credential = await up.issue(asked, handle)
    await up.revoke(credential.handle)


async def test_a_server_that_stands_still_holds_no_call_longer_than_its_deadline(
    settings: PostgresSettings, server: Server
) -> None:
    issuer = guarded(Postgres(settings), deadline=0.5)
    asked = request(server.template())
    handle = await issuer.prepare(asked)
    with server.halted():
        started_at = time.monotonic()
        with pytest.raises(Unavailable, match=r"gave no answer within 0\.5 s"):
            await issuer.issue(asked, handle)
        with pytest.raises(Unavailable, match=r"gave no answer within 0\.5 s"):
            await issuer.revoke(handle)
        assert time.monotonic() - started_at < 10
    await guarded(Postgres(settings), deadline=30).revoke(handle)
    assert server.valid_until(handle["role"]) is None


@pytest.mark.parametrize(
    "at", [b"user\x00", b"CREATE ROLE", b"GRANT", b"COMMENT", b"has_database_privilege", b"COMMIT"]
)
async def test_an_answer_that_is_lost_leaves_what_the_handle_revokes(
    at: bytes, settings: PostgresSettings, server: Server
) -> None:
    async with wire(server.port) as line:
        line.silent_at = at
        issuer = guarded(Postgres(elsewhere(settings, port=line.port)), deadline=30)
        asked = request(server.template())
        handle = await issuer.prepare(asked)
        call = asyncio.create_task(issuer.issue(asked, handle))
        await line.lost.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        line.silent_at = b""
        await issuer.revoke(handle)
        assert await nothing_left(server, handle["role"])


@pytest.mark.parametrize("at", [b"user\x00", b"CREATE ROLE", b"GRANT", b"COMMENT", b"COMMIT"])
async def test_what_arrives_after_the_revocation_has_no_effect(
    at: bytes, settings: PostgresSettings, server: Server
) -> None:
    async with wire(server.port) as line:
        line.held_at = at
        issuer = guarded(Postgres(elsewhere(settings, port=line.port)), deadline=30)
        asked = request(server.template())
        handle = await issuer.prepare(asked)
        call = asyncio.create_task(issuer.issue(asked, handle))
        await line.lost.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        line.held_at = b""
        await issuer.revoke(handle)
        await line.release()
        assert await nothing_left(server, handle["role"])


@pytest.mark.parametrize("milliseconds", [*range(0, 40, 4), *range(40, 200, 20)])
async def test_a_call_that_is_cancelled_at_any_moment_leaves_nothing_after_its_revocation(
    milliseconds: int, issuer: Postgres, server: Server
) -> None:
    asked = request(server.template())
    handle = await issuer.prepare(asked)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(milliseconds / 1000):
            await issued(issuer, asked)
    await issuer.revoke(handle)
    assert await nothing_left(server, handle["role"])


@pytest.mark.parametrize("milliseconds", range(0, 100, 10))
async def test_a_revocation_that_is_cancelled_is_finished_by_the_next(
    milliseconds: int, issuer: Postgres, server: Server
) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                await issuer.revoke(credential.handle)
        await issuer.revoke(credential.handle)
    assert await nothing_left(server, credential.handle["role"])


async def test_a_lock_that_somebody_holds_delays_and_does_not_hang(issuer: Postgres, server: Server) -> None:
    credential = await issued(issuer, request(server.template()))
    async with await entered(credential) as session:
        await session.execute("SELECT pg_advisory_lock(1)")
        other = await issued(issuer, request(server.template()))
        await issuer.revoke(other.handle)
    await issuer.revoke(credential.handle)


async def test_a_wrong_password_is_told_without_it(settings: PostgresSettings, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password-9d1c\n")
    issuer = guarded(Postgres(elsewhere(settings, password_file=wrong)), deadline=30)
    with pytest.raises(Unavailable, match='password authentication failed for user "bulkhead"') as caught:
        await issuer.outstanding("test1234")
    assert "9d1c" not in caught.value.message


async def test_a_password_that_changes_is_read_anew(settings: PostgresSettings, tmp_path: Path) -> None:
    file = tmp_path / "changing"
    issuer = Postgres(elsewhere(settings, password_file=file))
    with pytest.raises(Unavailable, match=r"the password file .*changing cannot be read \(FileNotFoundError\)"):
        await issuer.outstanding("test1234")
    file.write_bytes(settings.password_file.read_bytes())
    await issuer.outstanding("test1234")


async def test_a_server_whose_certificate_is_another_authoritys_gets_no_word(
    settings: PostgresSettings, tmp_path: Path
) -> None:
    ours, other = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "other", "other")
    with started(programs()[0], serving=ours.server("postgres", ["127.0.0.1"])) as server:
        (tmp_path / "tls-password").write_text(server.password)
        tls = elsewhere(
            settings,
            port=server.port,
            password_file=tmp_path / "tls-password",
            sslmode="verify-full",
            ca_file=ours.files.certificate,
        )
        issuer = Postgres(tls)
        credential = await issued(issuer, request(server.template()))
        assert credential.values["ca.crt"] == ours.files.certificate.read_bytes()
        assert credential.values["uri"].endswith(
            b"?sslmode=verify-full&sslrootcert=/var/run/bulkhead/credentials/warehouse/ca.crt"
        )
        async with await entered(credential, sslrootcert=str(ours.files.certificate)) as session:
            assert session.pgconn.ssl_in_use
        await issuer.revoke(credential.handle)
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await Postgres(elsewhere(tls, ca_file=other.files.certificate)).outstanding("test1234")
        with pytest.raises(Unavailable, match="localhost"):
            await Postgres(elsewhere(tls, host="localhost")).outstanding("test1234")


async def test_a_thousand_roles_of_others_do_not_hide_ours(issuer: Postgres, server: Server) -> None:
    server.ask("DO $$BEGIN FOR n IN 1..1000 LOOP EXECUTE 'CREATE ROLE other_' || n; END LOOP; END$$")
    credential = await issued(issuer, request(server.template(), installation="dddd4444"))
    assert await issuer.outstanding("dddd4444") == [credential.handle]
    await issuer.revoke(credential.handle)


@pytest.mark.parametrize("searched", ["public", "public, pg_catalog"])
async def test_functions_and_operators_of_others_are_not_called(
    searched: str, issuer: Postgres, server: Server
) -> None:
    """As somebody would make them who may create in the schema `public`: a better match than the server's own."""
    body = "LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'called as %', current_user; END$$"
    server.ask(
        f"CREATE FUNCTION public.starts_with(name, text) RETURNS boolean {body};"
        f"CREATE FUNCTION public.equal(name, name) RETURNS boolean {body};"
        f"CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.equal);"
        f"ALTER ROLE bulkhead SET search_path TO {searched}"
    )
    try:
        credential = await issued(issuer, request(server.template(), installation="eeee5555"))
        await issuer.renew(credential.handle, until=datetime.now(UTC))
        assert await issuer.outstanding("eeee5555") == [credential.handle]
        await issuer.revoke(credential.handle)
    finally:
        server.ask(
            "ALTER ROLE bulkhead RESET search_path; DROP FUNCTION public.starts_with(name, text);"
            "DROP OPERATOR public.= (name, name); DROP FUNCTION public.equal(name, name)"
        )


async def test_a_call_that_fails_is_an_issuers_error_and_no_driver_s(issuer: Postgres) -> None:
    with pytest.raises(IssuerError):
        await issuer.outstanding("'; DROP")


async def nothing_left(server: Server, role: str) -> bool:
    """Waits for sessions that are on their way out; says whether the role is not there, now and when all are gone."""
    there = server.valid_until(role)
    await eventually(
        lambda: server.ask("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", maker(role)) == [],
        "the session that makes the role is gone",
    )
    return (
        there is None
        and server.valid_until(role) is None
        and (server.ask("SELECT 1 FROM pg_stat_activity WHERE usename = %s", role) == [])
    )
