"""Notifications reach who is there, wait for who is away, and hold nobody up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from bulkhead.signals.notify import MOST_WAITING, TIMEOUT_SECONDS, Notification, Notifier
from bulkhead.signals.settings import NotificationSettings
from tests.signals.misbehaving import Misbehaving, gives, misbehaving

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def opened(number: int = 1) -> Notification:
    return Notification(
        id=f"a1b2-{number}",
        type="dev.bulkhead.circuit.opened",
        subject="research/researcher",
        time=NOW,
        data={"trips": [{"type": "Query", "value": "151", "threshold": "100"}]},
    )


async def shortly(_: float) -> None:
    await asyncio.sleep(0.01)


def notifier(*receivers: NotificationSettings, clock: Callable[[], datetime] = lambda: NOW) -> Notifier:
    return Notifier(receivers, source="urn:bulkhead:test", clock=clock, sleep=shortly)


@contextlib.asynccontextmanager
async def running(made: Notifier) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within 60 s: {what}"
        await asyncio.sleep(0.01)


def ids(server: Misbehaving) -> list[str]:
    return [json.loads(body)["id"] for _, body in server.seen]


async def test_a_notification_is_a_cloud_event(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("events-token")
    async with misbehaving(gives("", status=202)) as server:
        made = notifier(NotificationSettings(url=f"{server.url}/events?team=agents", token_file=token))
        made.send(opened())
        async with running(made):
            await until(lambda: made.counts().get("delivered"), "it is delivered")
        headers, body = server.seen[0]
        assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
        assert headers["Authorization"] == "Bearer events-token"
        assert json.loads(body) == {
            "specversion": "1.0",
            "id": "a1b2-1",
            "source": "urn:bulkhead:test",
            "type": "dev.bulkhead.circuit.opened",
            "subject": "research/researcher",
            "time": "2026-03-01T12:00:00.000000Z",
            "datacontenttype": "application/json",
            "data": {"trips": [{"type": "Query", "value": "151", "threshold": "100"}]},
        }
        assert (made.counts(), made.waiting) == ({"delivered": 1}, 0)


async def test_it_is_tried_again_until_the_receiver_takes_it() -> None:
    async with misbehaving(gives("", status=503, headers={"Retry-After": "1"})) as server:
        made = notifier(NotificationSettings(url=server.url))
        made.send(opened())
        async with running(made):
            await until(lambda: len(server.seen) >= 3, "it was tried three times")
            server.answer = gives("", status=204)
            await until(lambda: made.counts().get("delivered") == 1, "it is delivered")
        assert set(ids(server)) == {"a1b2-1"}
        assert made.waiting == 0


async def test_one_that_the_receiver_chokes_on_holds_up_no_other() -> None:
    async def chokes(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if (await request.json())["id"] == "a1b2-1" else 200)

    async with misbehaving(chokes) as server:
        made = notifier(NotificationSettings(url=server.url))
        for number in (1, 2, 3):
            made.send(opened(number))
        async with running(made):
            await until(lambda: made.counts().get("delivered") == 2, "the others are delivered")
        assert made.waiting == 1


async def test_one_that_is_refused_for_good_is_dropped() -> None:
    async with misbehaving(gives("no", status=400)) as server:
        made = notifier(NotificationSettings(url=server.url))
        made.send(opened())
        async with running(made):
            await until(lambda: made.counts().get("dropped") == 1, "it is dropped")
        assert len(server.seen) == 1


async def test_a_receiver_that_hangs_or_is_gone_holds_up_no_other_and_nobody_who_sends() -> None:
    async def hangs(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with misbehaving(hangs) as slow, misbehaving(gives("")) as quick:
        async with misbehaving(gives("")) as gone:
            pass
        made = notifier(*(NotificationSettings(url=one.url) for one in (slow, gone, quick)))
        async with running(made):
            began = time.perf_counter()
            for number in range(50):
                made.send(opened(number))
            assert time.perf_counter() - began < TIMEOUT_SECONDS / 2, "who hangs is waited for twice as long, each time"
            await until(lambda: made.counts().get("delivered") == 50, "who is there has all of them")
        assert ids(quick) == [f"a1b2-{number}" for number in range(50)]


async def test_what_nobody_took_for_an_hour_is_dropped() -> None:
    clock = Clock()
    async with misbehaving(gives("", status=500)) as server:
        made = notifier(NotificationSettings(url=server.url), clock=clock)
        made.send(opened())
        async with running(made):
            await until(lambda: len(server.seen) >= 2, "it was tried")
            assert "dropped" not in made.counts()
            clock.now += timedelta(hours=1, seconds=1)
            await until(lambda: made.counts().get("dropped") == 1, "it is dropped")
        assert made.waiting == 0


async def test_no_more_than_a_thousand_wait() -> None:
    async with misbehaving(gives("")) as server:
        made = notifier(NotificationSettings(url=server.url))
        for number in range(MOST_WAITING + 5):
            made.send(opened(number))
        assert (made.waiting, made.counts()["dropped"]) == (MOST_WAITING, 5)
        async with running(made):
            await until(lambda: server.seen, "one is delivered")
        assert ids(server)[0] == "a1b2-5"


async def test_what_cannot_be_written_stops_nobody() -> None:
    async with misbehaving(gives("")) as server:
        made = notifier(NotificationSettings(url=server.url))
        made.send(Notification(id="1", type="t", subject="s", time=NOW, data={"x": object()}))
        assert (made.counts(), made.waiting) == ({"dropped": 1}, 0)


async def test_without_receivers_nothing_happens() -> None:
    made = notifier()
    made.send(opened())
    assert (made.counts(), made.waiting) == ({}, 0)


async def test_a_receivers_path_which_may_be_a_secret_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with misbehaving(gives("", status=500)) as server:
        made = notifier(NotificationSettings(url=f"{server.url}/services/T000-secret-path"))
        made.send(opened())
        async with running(made):
            await until(lambda: made.counts().get("failed"), "it failed")
        assert server.url in caplog.text
        assert "secret-path" not in caplog.text
