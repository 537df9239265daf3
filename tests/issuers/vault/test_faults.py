"""Vault, or its database, sealed, stopped, slow, gone or answering nonsense; and certificates that nobody signed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web

from bulkhead.issuers import vault as issuers_vault
from bulkhead.issuers.base import Refused, Unavailable
from bulkhead.issuers.vault import Vault
from devcluster import processes, vault
from devcluster.api import RunningCluster
from devcluster.pki import Authority
from devcluster.ports import PortReservation
from tests import leaks
from tests.canned import answering
from tests.issuers.vault.world import Database, Doors, asked, lease, texts
from tests.machine import halt

BRIEF = "database/creds/brief"
BRIEF_SECONDS = 20
"""How long a lease of it lives by itself."""
HANDLE = {issuers_vault.ACCESSOR: "nobodysaccessor0000000000", issuers_vault.LEASE: "database/creds/reader/nobody"}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> float:
    """Issuers made in the test wait this many seconds for an answer."""
    monkeypatch.setattr(issuers_vault, "SECONDS", 0.5)
    return 0.5


@pytest.fixture
def sealed(real: vault.Server) -> Iterator[None]:
    real.seal()
    yield
    real.unseal()
    deadline = time.monotonic() + 30
    while real.ask("GET", "sys/health")[0] != 200:
        assert time.monotonic() < deadline, "not unsealed within 30 s"
        time.sleep(0.02)


@pytest.fixture
def stopped(real: vault.Server, cluster: RunningCluster) -> Iterator[Callable[[], None]]:
    """Vault's process is stopped: connections are taken by the kernel and nobody answers. Called, it goes on."""
    pid = next(record.pid for record in processes.records(cluster) if record.component == vault.COMPONENT)
    try:
        halt(pid)
        yield lambda: os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("sealed")
async def test_a_sealed_vault_is_unavailable_and_says_what_to_do(issuer: Vault) -> None:
    for call in (issuer.prepare(asked()), issuer.revoke(HANDLE)):
        with pytest.raises(Unavailable, match="is sealed: somebody has to unseal it"):
            await call


async def test_leases_outlive_a_seal_and_can_be_revoked_after_it(
    issuer: Vault, real: vault.Server, database: Database, request: pytest.FixtureRequest
) -> None:
    credential = await lease(issuer)
    request.getfixturevalue("sealed")
    with pytest.raises(Unavailable):
        await issuer.revoke(credential.handle)
    real.unseal()
    deadline = time.monotonic() + 30
    while real.ask("GET", "sys/health")[0] != 200:
        assert time.monotonic() < deadline, "not unsealed within 30 s"
        await asyncio.sleep(0.02)
    await issuer.revoke(credential.handle)
    assert texts(credential)["username"] not in database.roles()


async def test_a_vault_that_does_not_answer_is_given_up_in_time_and_used_again_when_it_does(
    brief: float, doors: Doors, stopped: Callable[[], None]
) -> None:
    issuer = doors.open()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not answer within 0\.5 s"):
        await issuer.prepare(asked())
    assert time.monotonic() - began < brief + 5, "what is beyond is the machine's"
    stopped()
    await doors.open().revoke({})


async def test_a_vault_that_is_gone_is_unavailable_with_the_reason(doors: Doors) -> None:
    with PortReservation() as ports:
        issuer = doors.open(address=f"https://127.0.0.1:{ports.take()}")
        with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
            await issuer.prepare(asked())


@pytest.fixture
def database_closed(database: Database) -> Iterator[Callable[[], None]]:
    """Vault can open no session in the database, until it is called."""

    def reopen() -> None:
        database.ask("ALTER ROLE vault_issuer LOGIN")

    database.ask("ALTER ROLE vault_issuer NOLOGIN")
    database.ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'vault_issuer'")
    yield reopen
    reopen()


@pytest.mark.usefixtures("database_closed")
async def test_a_database_that_vault_cannot_enter_makes_issuing_unavailable(issuer: Vault) -> None:
    with pytest.raises(Unavailable, match="its own log"):
        await lease(issuer)


async def test_what_vault_could_not_revoke_is_not_called_revoked_and_is_when_the_database_is_back(
    issuer: Vault, database: Database, request: pytest.FixtureRequest
) -> None:
    credential = await lease(issuer)
    reopen: Callable[[], None] = request.getfixturevalue("database_closed")
    with database.connect(texts(credential)) as session:
        with pytest.raises(Unavailable):
            await issuer.revoke(credential.handle)
        assert session.execute("SELECT 1").fetchone() == (1,)
        reopen()
        await issuer.revoke(credential.handle)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


async def test_a_call_that_is_cancelled_leaves_nothing_that_lives_beyond_its_ttl(
    issuer: Vault, database: Database
) -> None:
    """Its handle ends it, but for what Vault writes down in the very moment in which its token is revoked.

    Of that the password, which nobody was told, is dead when its time is over. When Vault drops the role is its affair:
    once, on a busy machine, one was still there after five times as long.
    """
    before = database.roles()
    for patience in (0.001, 0.005, 0.01, 0.02, 0.04, 0.08):
        prepared = await issuer.prepare(asked(BRIEF))
        # Given the time, it is refused for being too short.
        with suppress(TimeoutError, Refused):
            async with asyncio.timeout(patience):
                await issuer.issue(asked(BRIEF), prepared)
        await issuer.revoke(prepared)
    deadline = time.monotonic() + 5 * BRIEF_SECONDS
    while not database.valid() <= before:
        assert time.monotonic() < deadline, "not dead when its time was over"
        await asyncio.sleep(0.05)


async def test_a_certificate_that_nobody_vouches_for_is_refused_and_a_new_bundle_is_taken_as_it_comes(
    doors: Doors, real: vault.Server, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.crt"
    shutil.copy(Authority(tmp_path, "stranger").files.certificate, bundle)
    issuer = doors.open(caFile=str(bundle))
    with pytest.raises(Unavailable, match="a certificate that caFile does not vouch for"):
        await issuer.prepare(asked())
    shutil.copy(real.ca_file, bundle)
    await issuer.revoke(await issuer.prepare(asked()))


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bundle_that_cannot_be_read_is_named(doors: Doors, tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.crt"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(Unavailable, match=r"caFile .*ca\.crt cannot be used: .*; accepted is a file of PEM"):
        await doors.open(caFile=str(bundle)).prepare(asked())


TOKEN = "hvs.CAESIJ" + os.urandom(12).hex()
NONSENSE = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "a nest": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"[" * 100_000,
    "another object": b'HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"request_id": "a", "auth": "a"}',
    "a login without an accessor": (
        f"HTTP/1.1 200 OK\r\nContent-Length: {46 + len(TOKEN) + 4}\r\n\r\n"
        f'{{"request_id": "a", "auth": {{"client_token": "{TOKEN}"}} }}'
    ).encode(),
    "no end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"a" * (2 << 20),
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 50_000,
    "an error that quotes a token": (
        "HTTP/1.1 500 no\r\nConnection: close\r\n\r\n" + f'{{"errors": ["cannot parse {TOKEN}"]}}'
    ).encode(),
    "an error of a proxy": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n",
    "a page not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
    "a gateway without a route": b'HTTP/1.1 404 Not Found\r\nContent-Length: 23\r\n\r\n{"message": "no route"}',
    "a gateway with errors of its own": b'HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{"errors": "no"}',
    "a gateway that says no": b'HTTP/1.1 403 Forbidden\r\nContent-Length: 29\r\n\r\n{"data": {"error": "denied"}}',
    "a page of maintenance": b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{"status": "maintenance"}',
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_unavailable_and_is_not_repeated(doors: Doors, content: bytes) -> None:
    leaks.learn("a token in an answer", TOKEN)
    async with answering(content) as (address, _):
        issuer = doors.open(address=address)
        for call in (issuer.prepare(asked()), issuer.revoke(HANDLE)):
            with pytest.raises(Exception) as caught:
                await call
            assert type(caught.value) is Unavailable
            assert TOKEN not in repr(caught.value)
            assert caught.value.__cause__ is None


async def test_an_answer_that_trickles_in_is_given_up_as_a_whole(brief: float, doors: Doors) -> None:
    """Each byte comes in time; a limit from byte to byte, as other clients have, would wait for all of them."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b" " * 100_000
    async with answering(endless, pause=0.01) as (address, _):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer within"):
            await doors.open(address=address).prepare(asked())
        assert time.monotonic() - began < brief + 5, "what is beyond is the machine's"


async def test_no_token_follows_a_redirect(doors: Doors) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (elsewhere, seen):
        redirect = f"HTTP/1.1 307 elsewhere\r\nLocation: {elsewhere}/v1/\r\nContent-Length: 0\r\n\r\n".encode()
        async with answering(redirect) as (address, _):
            with pytest.raises(Unavailable, match="accepted as address is that of the active node"):
                await doors.open(address=address).prepare(asked())
    assert seen == []


async def test_a_namespace_is_named_in_every_request(doors: Doors) -> None:
    async with answering(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n") as (address, seen):
        with pytest.raises(Unavailable):
            await doors.open(address=address, namespace="team/a").prepare(asked())
    assert b"\r\nX-Vault-Namespace: team/a\r\n" in seen[0]


async def test_a_vault_that_asks_to_be_left_alone_is_taken_at_its_word(doors: Doors) -> None:
    busy = b'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 14\r\n\r\n{"errors": []}'
    async with answering(busy) as (address, _):
        with pytest.raises(Unavailable, match="takes no more requests for now") as caught:
            await doors.open(address=address).prepare(asked())
    assert caught.value.retry_after == 7


async def test_renewing_at_a_vault_that_fails_says_nothing_about_the_lease(doors: Doors) -> None:
    async with answering(b'HTTP/1.1 500 no\r\nContent-Length: 14\r\n\r\n{"errors": []}') as (address, _):
        with pytest.raises(Unavailable):
            await doors.open(address=address).renew(HANDLE, until=datetime.now(UTC) + timedelta(seconds=600))


LOGIN = {
    "request_id": "one",
    "auth": {"client_token": TOKEN, "accessor": "anaccessor", "lease_duration": 1800, "renewable": True},
}
GOOD = {
    "request_id": "another",
    "lease_id": "database/creds/reader/a",
    "lease_duration": 900,
    "renewable": True,
    "data": {"username": "u", "password": TOKEN},
}
ODD = {
    "no lease": ({"lease_id": ""}, Refused, "gives no lease"),
    "a lease that is no text": ({"lease_id": ["a"]}, Refused, "gives no lease"),
    "a life that is no number": ({"lease_duration": "900"}, Refused, "gives no lease"),
    "a life that is true": ({"lease_duration": True}, Refused, "gives no lease"),
    "a life before now": ({"lease_duration": -900}, Refused, "gives no lease"),
    "a life beyond all time": ({"lease_duration": 10**30}, Refused, "gives no lease"),
    "a life without end": ({"lease_duration": float("inf")}, Refused, "gives no lease"),
    "no data": ({"data": None}, Unavailable, "has no data"),
    "empty data": ({"data": {}}, Unavailable, "has no data"),
    "a list of data": ({"data": [TOKEN]}, Unavailable, "has no data"),
    "a key that leads out of the folder": ({"data": {"../../etc/passwd": TOKEN}}, Refused, "cannot be a file's name"),
    "a key that is the folder above": ({"data": {"..": TOKEN}}, Refused, "cannot be a file's name"),
    "a key that is nothing": ({"data": {"": TOKEN}}, Refused, "cannot be a file's name"),
}


@asynccontextmanager
async def pretending(
    read: Mapping[str, Any] = GOOD, *, revoked: tuple[int, Mapping[str, Any]] = (200, LOGIN)
) -> AsyncIterator[str]:
    """A server that lets everybody in; its address.

    Args:
        read: the object that it answers reads with.
        revoked: status and object that it answers revocations with.
    """

    async def answer(request: web.Request) -> web.Response:
        if "revoke" in request.path:
            return web.json_response(revoked[1], status=revoked[0])
        return web.json_response(read if request.method == "GET" else LOGIN)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("changed", "kind", "message"), ODD.values(), ids=ODD)
async def test_an_answer_that_cannot_be_a_lease_is_not_taken_for_one(
    doors: Doors, changed: dict[str, Any], kind: type[Exception], message: str
) -> None:
    leaks.learn("a token in an answer", TOKEN)
    async with pretending({**GOOD, **changed}) as address:
        with pytest.raises(kind, match=message) as caught:
            await lease(doors.open(address=address))
    assert TOKEN not in repr(caught.value)


FOREIGN: dict[str, tuple[int, Mapping[str, Any]]] = {
    "no route": (404, {"message": "no route"}),
    "errors that are no list": (404, {"errors": "no such lease not found"}),
    "a word of Vault's": (400, {"message": "lease not found"}),
    "maintenance": (200, {"status": "maintenance"}),
    "nothing": (200, {}),
}


@pytest.mark.parametrize("revoked", FOREIGN.values(), ids=FOREIGN)
async def test_what_stands_in_front_of_vault_cannot_say_that_a_lease_is_revoked(
    doors: Doors, revoked: tuple[int, Mapping[str, Any]]
) -> None:
    async with pretending(revoked=revoked) as address:
        with pytest.raises(Unavailable, match="something that is not Vault's JSON"):
            await doors.open(address=address).revoke(HANDLE)


@pytest.mark.parametrize("revoked", [(404, {"errors": []}), (400, {"errors": ["lease not found"]})])
async def test_a_lease_that_vault_does_not_know_is_revoked(
    doors: Doors, revoked: tuple[int, Mapping[str, Any]]
) -> None:
    async with pretending(revoked=revoked) as address:
        await doors.open(address=address).revoke(HANDLE)


async def test_data_that_is_no_text_is_delivered_as_json(doors: Doors) -> None:
    data = {"password": TOKEN, "port": 5432, "hosts": ["a", "b"], "umlaut": "ü"}
    async with pretending({**GOOD, "data": data}) as address:
        credential = await lease(doors.open(address=address))
    assert {key: value for key, value in texts(credential).items() if key != "password"} == {
        "port": "5432",
        "hosts": '["a", "b"]',
        "umlaut": "ü",
    }
