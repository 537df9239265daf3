"""Something at Prometheus' address that is not Prometheus, or not itself: a query fails in words and in time."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from bulkhead.signals.prometheus import LARGEST_ANSWER, SMALL_ANSWER, Prometheus, QueryError
from bulkhead.signals.settings import PrometheusSettings
from tests.signals.conftest import asking
from tests.signals.misbehaving import Answer, gives, misbehaving

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "hunter2-Ab12Cd34Ef56"


def vector(*series: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}})


def one(value: object, **labels: object) -> dict[str, object]:
    return {"metric": {"namespace": "research", "agent": "a", **labels}, "value": [1, value]}


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def trickles(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"status":')
    assert request.transport is not None
    request.transport.abort()
    return response


async def test_of_several_series_of_an_agent_those_that_are_numbers_count() -> None:
    series = vector(one("NaN", tool="web"), one("3", tool="files"), one("NaN", tool="shell"))
    async with misbehaving(gives(series)) as server, asking(PrometheusSettings(url=server.url)) as client:
        found = await client.query("calls", at=NOW, pick=max)
    assert (found.values, found.unusable) == ({("research", "a"): 3.0}, 2)


FAILS: dict[str, tuple[Answer, str]] = {
    "one that takes 60 s": (hangs, r"did not answer within 1 s"),
    "one that sends a byte now and then": (trickles, r"did not answer within 1 s"),
    "one that never ends": (never_ends, rf"gives more than {LARGEST_ANSWER >> 20} MiB"),
    "one that breaks off": (breaks_off, "broke the connection off"),
    "a page for people": (gives("<html>log in</html>"), "HTTP status 200 with something that is not its API's JSON"),
    "nothing": (gives(""), "HTTP status 200 with something that is not its API's JSON"),
    "half an answer": (gives(vector(one("1"))[:-5]), "not its API's JSON"),
    "no text at all": (gives(b"\xff\xfe\x00"), "not its API's JSON"),
    "JSON of somebody else": (gives('{"ok": true}'), "not its API's JSON"),
    "an error of a proxy": (gives("bad gateway", status=502), "HTTP status 502 with something that is not"),
    "a way elsewhere": (gives("", status=302, headers={"Location": "http://198.51.100.1/"}), "to another address"),
    "a refusal": (gives("no", status=401), r"refuses the operator \(HTTP status 401\); accepted is a tokenFile"),
    "a ban": (gives("no", status=403), "HTTP status 403"),
    "a success that is an error": (gives('{"status":"error","errorType":"internal","error":"oops"}'), "internal: oops"),
    "an error without a reason": (gives('{"status":"error"}', status=500), "no reason given"),
    "an answer without a kind": (gives('{"status":"success","data":{"result":[]}}'), "with a None; accepted is"),
    "an answer without series": (gives('{"status":"success","data":null}'), "with a None; accepted is"),
    "a part of the series": (gives('{"isPartial":true,' + vector(one("1"))[1:]), "with a part of the series only"),
    "series without a value": (gives(vector({"metric": {"namespace": "r", "agent": "a"}})), "have no value"),
    "a value that is none": (gives(vector(one("many"))), "have no value"),
    "a value that is a number": (gives(vector(one(1))), "have no value"),
    "a series that is a histogram": (gives(vector({"metric": {}, "histogram": [1, {}]})), "have no value"),
    "labels that are numbers": (gives(vector(one("1", agent=7))), "none has the labels"),
    "labels that are empty": (gives(vector(one("1", agent=""))), "none has the labels"),
}


@pytest.mark.parametrize(("answer", "told"), FAILS.values(), ids=FAILS)
async def test_an_answer_that_is_none_is_a_failure_in_words(answer: Answer, told: str) -> None:
    async with misbehaving(answer) as server:
        # Only those who are late by far are asked by one in a hurry: any other may be late on a busy machine, and
        # 32 MiB are read by one process from itself.
        seconds = 1 if "did not answer" in told else 60
        client = Prometheus(PrometheusSettings(url=server.url, timeout_seconds=seconds))
        began = time.monotonic()
        with pytest.raises(QueryError, match=told) as caught:
            await client.query("calls", at=NOW, pick=max)
        assert time.monotonic() - began < seconds + 10
        assert len(str(caught.value)) < 700
        await client.close()


async def test_large_answers_come_one_at_a_time_and_hold_up_no_small_one() -> None:
    at_once, most = 0, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        if "small" in await request.text():
            return await gives(vector(one("1")))(request)
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(16):  # more than lies in the buffers of a connection that nobody reads from
            await response.write(b" " * SMALL_ANSWER)
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.1)
        at_once -= 1
        await response.write(vector(one("2")).encode())
        return response

    async with misbehaving(answer) as server:
        # The time that the others take counts as the server's.
        client = Prometheus(PrometheusSettings(url=server.url, timeout_seconds=60))
        large = [asyncio.create_task(client.query("large", at=NOW, pick=max)) for _ in range(4)]
        assert (await client.query("small", at=NOW, pick=max)).values == {("research", "a"): 1.0}
        assert [(await each).values for each in large] == [{("research", "a"): 2.0}] * 4
        assert most == 1
        await client.close()


@pytest.mark.parametrize(
    "text", [f"password={SECRET}", f"upstream said: {SECRET}", f"https://user:{SECRET}@db/x", "x" * 100_000]
)
async def test_an_errors_own_words_are_short_and_hold_no_secret(text: str) -> None:
    error = json.dumps({"status": "error", "errorType": "internal", "error": text[:60_000]})
    async with misbehaving(gives(error, status=500)) as server:
        client = Prometheus(PrometheusSettings(url=server.url))
        with pytest.raises(QueryError) as caught:
            await client.query("calls", at=NOW, pick=max)
        assert SECRET not in str(caught.value)
        assert len(str(caught.value)) < 700
        await client.close()


async def test_a_token_is_sent_as_it_is_now_and_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with misbehaving(gives(vector(one("1")))) as server:
        client = Prometheus(PrometheusSettings(url=server.url, token_file=token))
        for value in ("first-token", "second-token"):
            token.write_text(f"{value}\n")
            assert (await client.query("calls", at=NOW, pick=max)).values == {("research", "a"): 1.0}
        sent = [headers["Authorization"] for headers, _ in server.seen]
        assert sent == ["Bearer first-token", "Bearer second-token"]
        assert "query=calls" in server.seen[0][1].decode()
        token.write_text("two words\n")
        with pytest.raises(QueryError, match=r"tokenFile .* holds no token") as caught:
            await client.query("calls", at=NOW, pick=max)
        assert "two words" not in str(caught.value)
        token.unlink()
        with pytest.raises(QueryError, match=r"tokenFile .* cannot be read: FileNotFoundError"):
            await client.query("calls", at=NOW, pick=max)
        assert len(server.seen) == 2, "without its token it asks nobody"
        await client.close()


async def test_warnings_and_what_else_newer_ones_add_change_nothing() -> None:
    answer = {
        "status": "success",
        "warnings": ["a store did not answer"],
        "data": {"stats": {"x": [1, {"y": 2}]}, "result": [one("4.5")], "resultType": "vector"},
        "infos": [],
    }
    async with misbehaving(gives(json.dumps(answer))) as server:
        client = Prometheus(PrometheusSettings(url=server.url))
        assert (await client.query("calls", at=NOW, pick=max)).values == {("research", "a"): 4.5}
        await client.close()
