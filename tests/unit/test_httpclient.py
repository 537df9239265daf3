"""The HTTP client against a server that says whatever a test wants: what it hands on, and its words for the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from yarl import URL

from bulkhead.httpclient import CaFileError, Response, Session, TransportError
from devcluster.pki import Authority
from devcluster.ports import PortReservation
from tests.canned import answering

SECONDS = 0.5
"""Of a client that is to give up."""
PATIENT = 60.0
"""Of one that is to get its answer, however long the machine keeps both ends from their turn."""
LARGEST = 1000
SECRET = b"hunter2-Ab12Cd34Ef56"


def says(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


@asynccontextmanager
async def session(*, ca_file: Path | None = None, seconds: float = PATIENT) -> AsyncIterator[Session]:
    made = Session(ca_file=ca_file, seconds=seconds)
    try:
        yield made
    finally:
        await made.close()


async def get(
    client: Session, url: str | URL, *, small: int | None = None, before: Callable[[], Awaitable[object]] | None = None
) -> Response:
    return await client.request("GET", url, headers={}, largest=LARGEST, small=small, before_large=before)


ANSWERS: dict[str, tuple[bytes, Response]] = {
    "a body": (says(b"text"), Response(200, None, bytearray(b"text"))),
    "no body": (says(b"", status="204 No Content"), Response(204, None, bytearray())),
    "an error": (says(b"no", status="500 no"), Response(500, None, bytearray(b"no"))),
    "a body that is just small enough": (says(b"a" * LARGEST), Response(200, None, bytearray(b"a" * LARGEST))),
    "a body that is too large": (says(b"a" * (LARGEST + 1)), Response(200, None, None)),
    "a body far larger than any buffer": (says(b"a" * (4 << 20)), Response(200, None, None)),
    "a request for patience": (says(b"", "Retry-After: 7", status="429 no"), Response(429, 7.0, bytearray())),
    "one that is a date": (
        says(b"", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", status="503 no"),
        Response(503, None, bytearray()),
    ),
    "one beyond all patience": (says(b"", "Retry-After: 100000", status="503 no"), Response(503, None, bytearray())),
    "one below zero": (says(b"", "Retry-After: -1", status="503 no"), Response(503, None, bytearray())),
}


@pytest.mark.parametrize(("content", "response"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_handed_on(content: bytes, response: Response) -> None:
    async with answering(content) as (address, _), session() as client:
        assert await get(client, address) == response


BROKEN = r"^broke the connection off or answered something that is not HTTP \(\w+\)$"
LATE = r"^did not answer within 0\.5 s$"
FAILURES: dict[str, tuple[bytes, float, float, str]] = {
    "nothing": (b"", 0.0, PATIENT, BROKEN),
    "another protocol": (b"SSH-2.0-" + SECRET + b"\r\n\r\n", 0.0, PATIENT, BROKEN),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + SECRET, 0.0, PATIENT, BROKEN),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X-A: " + SECRET * 50_000, 0.0, PATIENT, BROKEN),
    "headers that trickle in": (b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 1000, 0.02, SECONDS, LATE),
    "a body that trickles in": (says(b"a" * 900), 0.004, SECONDS, LATE),
}
"""What is sent, seconds after each byte, how long the client waits, and what it tells.

Only those who are late by many times what the client waits are asked by one in a hurry: on a busy machine any other
could be late as well. Who is not late is told of before a patient client gives up, or it would tell of that.
"""


@pytest.mark.parametrize(("content", "pause", "seconds", "told"), FAILURES.values(), ids=FAILURES)
async def test_what_is_no_answer_is_told_in_words_and_in_time(
    content: bytes, pause: float, seconds: float, told: str
) -> None:
    async with answering(content, pause=pause) as (address, _), session(seconds=seconds) as client:
        began = time.monotonic()
        with pytest.raises(TransportError, match=told) as caught:
            await get(client, address)
        assert time.monotonic() - began < SECONDS + 10, "what is beyond the client's patience is the machine's"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None), "aiohttp's own words may quote"


async def test_a_server_that_is_gone_is_told_with_the_reason() -> None:
    with PortReservation() as ports:
        async with session() as client:
            with pytest.raises(TransportError, match=r"^cannot be reached: Connection refused$"):
                await get(client, f"http://127.0.0.1:{ports.take()}")


async def test_a_body_is_not_printed() -> None:
    async with answering(says(SECRET)) as (address, _), session() as client:
        response = await get(client, address)
    assert response.body == bytearray(SECRET)
    assert SECRET.decode() not in repr(response)


async def test_no_redirect_is_followed() -> None:
    async with answering(says(b"")) as (elsewhere, asked), session() as client:
        redirect = says(b"", f"Location: {elsewhere}/", status="307 elsewhere")
        async with answering(redirect) as (address, _):
            assert (await get(client, address)).status == 307
    assert asked == []


async def test_no_cookie_is_kept() -> None:
    async with answering(says(b"", "Set-Cookie: who=somebody")) as (address, seen), session() as client:
        for _ in range(2):
            await get(client, f"{address.replace('127.0.0.1', 'localhost')}/")
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


async def test_neither_proxies_nor_passwords_of_the_environment_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "netrc"
    passwords.write_text(f"machine 127.0.0.1 login somebody password {SECRET.decode()}\n")
    monkeypatch.setenv("NETRC", str(passwords))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with answering(says(b"")) as (address, seen), answering(says(b"")) as (proxy, diverted):
        monkeypatch.setenv("http_proxy", proxy)
        async with session() as client:
            await get(client, address)
    assert diverted == []
    assert b"authorization" not in seen[0].lower()


async def test_an_encoded_url_is_sent_as_it_is() -> None:
    async with answering(says(b"")) as (address, seen), session() as client:
        await get(client, URL(f"{address}/v1/a/../b%2Fc", encoded=True))
    assert seen[0].startswith(b"GET /v1/a/../b%2Fc HTTP/1.1\r\n")


@pytest.mark.parametrize(("size", "times"), [(100, 0), (101, 1), (LARGEST, 1)])
async def test_before_a_large_body_somebody_is_asked_once(size: int, times: int) -> None:
    asked = []

    async def before() -> None:
        asked.append(size)

    async with answering(says(b"a" * size), pause=0.0001) as (address, _), session() as client:
        assert (await get(client, address, small=100, before=before)).body == bytearray(b"a" * size)
    assert asked == [size] * times


async def test_a_certificate_is_verified_with_the_bundle_as_it_is_now(tmp_path: Path) -> None:
    ours, others = (Authority(tmp_path / name, name) for name in ("ours", "others"))
    bundle = tmp_path / "ca.crt"
    serving = ours.server("server", ["127.0.0.1"])
    async with answering(says(b""), serving=serving) as (address, _), session(ca_file=bundle) as client:
        with pytest.raises(CaFileError, match=r"^No such file or directory; accepted is a file of PEM certificates$"):
            await get(client, address)
        shutil.copy(others.files.certificate, bundle)
        with pytest.raises(TransportError, match="shows a certificate that caFile does not vouch for; accepted is"):
            await get(client, address)
        bundle.write_text("no certificate")
        with pytest.raises(CaFileError, match=r"; accepted is a file of PEM certificates$"):
            await get(client, address)
        shutil.copy(ours.files.certificate, bundle)
        assert (await get(client, address)).status == 200


async def test_a_closed_session_opens_again() -> None:
    async with answering(says(b"")) as (address, seen), session() as client:
        await client.close()
        for _ in range(2):
            await get(client, address)
            await client.close()
    assert len(seen) == 2
