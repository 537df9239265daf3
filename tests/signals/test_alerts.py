"""A real Alertmanager delivers, and others try to: what is recorded, and what is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bulkhead.plan.signals import AgentKey, Alert
from bulkhead.signals import alerts
from bulkhead.signals.alerts import LARGEST_BODY, AlertReceiver
from bulkhead.signals.settings import AlertmanagerSettings
from devcluster.ports import PortReservation
from tests import leaks
from tests.signals import servers
from tests.signals.servers import Exporter, Server

A, B = ("research", "a"), ("research", "b")
TOKEN = "alertmanager-Zm9vYmFyYmF6"
RULE = """
groups:
- name: agents
  rules:
  - alert: ToolErrors
    expr: sum by (namespace, agent) (last_over_time(errors[30s])) > 10
    annotations:
      summary: '{{ $value }} errors of agent {{ $labels.agent }}'
"""


@dataclass
class Books:
    """What stands for the API server: keeps records, or fails to."""

    kept: dict[str, tuple[AgentKey, Alert]] = field(default_factory=dict)
    calls: int = 0
    failures: int = 0
    gate: asyncio.Event | None = None
    away: bool = False

    async def known(self, agent: AgentKey) -> bool:
        if self.away:
            raise ConnectionError("the API server is away")
        await asyncio.sleep(0.001)
        return agent in (A, B)

    def recorded(self, agent: AgentKey, alert: Alert) -> bool:
        return self.kept.get(alert.record, (None, alert))[0] == agent

    async def record(self, agent: AgentKey, alert: Alert) -> None:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the API server is away")
        self.kept[alert.record] = (agent, alert)


@dataclass
class Receiver:
    """The receiver under test.

    Attributes:
        url: where deliveries go.
        books: what it records into.
        served: it.
        token_file: the token that it compares with.
    """

    url: str
    books: Books
    served: AlertReceiver
    token_file: Path
    late: timedelta = timedelta(0)
    """By how much its clock is ahead."""

    def counted(self, what: str) -> int:
        return self.served.counts().get(what, 0)


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    leaks.learn("the token of Alertmanager", TOKEN)
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    books = Books()
    with PortReservation() as ports:
        settings = AlertmanagerSettings(port=ports.take(), token_file=token_file, max_age_seconds=3600)
        served = AlertReceiver(
            settings,
            host="127.0.0.1",
            known=books.known,
            recorded=books.recorded,
            record=books.record,
            clock=lambda: datetime.now(UTC) + made.late,
        )
        made = Receiver(f"http://127.0.0.1:{settings.port}/alerts", books, served, token_file)
        await served.start()
    yield made
    await served.stop()


def configured(url: str, *, token: str = TOKEN, repeat: str = "1h", **route: Any) -> dict[str, Any]:
    hook = {"url": url, "http_config": {"authorization": {"type": "Bearer", "credentials": token}}}
    timing = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": repeat, "group_by": ["..."]}
    return {
        "route": {"receiver": "bulkhead", **timing, **route},
        "receivers": [{"name": "bulkhead", "webhook_configs": [hook]}],
    }


def fire(
    server: Server, agent: AgentKey, *, name: str = "ToolErrors", began: datetime | None = None, **more: str
) -> None:
    """Tell Alertmanager of an alert, as Prometheus does."""
    labels = {"alertname": name, "namespace": agent[0], "agent": agent[1]}
    starts = (began or datetime.now(UTC)).isoformat()
    server.post(
        "/api/v2/alerts", [{"labels": labels, "annotations": {"summary": "too many"}, "startsAt": starts, **more}]
    )


async def until(holds: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


def delivery(*agents: AgentKey, began: datetime | None = None, status: str = "firing") -> bytes:
    """What Alertmanager would send."""
    alerts = [
        {
            "status": status,
            "labels": {"alertname": "ToolErrors", "namespace": namespace, "agent": name},
            "annotations": {},
            "startsAt": (began or datetime.now(UTC)).isoformat(),
            "fingerprint": f"{number:016x}",
        }
        for number, (namespace, name) in enumerate(agents)
    ]
    return json.dumps({"version": "4", "alerts": alerts}).encode()


async def send(receiver: Receiver, body: bytes, *, authorization: str | None = f"Bearer {TOKEN}") -> int:
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    async with (
        aiohttp.ClientSession() as session,
        session.post(receiver.url, data=io.BytesIO(body), headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def test_what_prometheus_finds_is_delivered_and_recorded(receiver: Receiver) -> None:
    with Exporter() as exporter, servers.alertmanager(configured(receiver.url)) as manager:
        exporter.show("errors", {A: 1, B: 1})
        told = manager.url.removeprefix("http://")
        with servers.prometheus({exporter.address: servers.SCRAPE}, rules=RULE, alertmanager=told):
            began = datetime.now(UTC)
            exporter.show("errors", {A: 11, B: 1})
            await until(lambda: receiver.books.kept, "it is recorded")
    ((agent, alert),) = receiver.books.kept.values()
    assert agent == A
    assert (alert.name, alert.message) == ("ToolErrors", "11 errors of agent a")
    assert began - timedelta(seconds=1) <= alert.starts_at <= alert.received_at <= datetime.now(UTC)


async def test_an_alert_that_is_resolved_is_counted_and_nothing_else(receiver: Receiver) -> None:
    with servers.alertmanager(configured(receiver.url)) as manager:
        began = datetime.now(UTC) - timedelta(seconds=5)
        fire(manager, A, began=began)
        await until(lambda: receiver.books.kept, "it is recorded")
        fire(manager, A, began=began, endsAt=datetime.now(UTC).isoformat())
        await until(lambda: receiver.counted("resolved"), "it is told that it is over")
    assert len(receiver.books.kept) == 1
    assert receiver.books.calls == 1


async def test_an_alert_that_is_delivered_again_and_again_is_recorded_once(receiver: Receiver) -> None:
    with servers.alertmanager(configured(receiver.url, repeat="1s")) as manager:
        fire(manager, A)
        await until(lambda: receiver.counted("repeated") >= 2, "it is delivered again")
    assert receiver.books.calls == 1


async def test_what_could_not_be_recorded_is_delivered_again_until_it_is(receiver: Receiver) -> None:
    receiver.books.failures = 3
    with servers.alertmanager(configured(receiver.url)) as manager:
        fire(manager, A)
        await until(lambda: receiver.books.kept, "it is recorded")
    assert receiver.books.calls == 4
    assert receiver.counted("failed") == 3


async def test_alerts_of_nobody_are_acknowledged_and_not_recorded(receiver: Receiver) -> None:
    with servers.alertmanager(configured(receiver.url)) as manager:
        fire(manager, ("research", "nobody"))
        await until(lambda: receiver.counted("unknown"), "it is counted")
        manager.post("/api/v2/alerts", [{"labels": {"alertname": "Watchdog"}}])
        await until(lambda: receiver.counted("unlabelled"), "it is counted")
        fire(manager, B)
        await until(lambda: receiver.books.kept, "another is recorded")
    assert receiver.books.calls == 1
    assert receiver.counted("failed") == 0


async def test_an_alertmanager_with_another_token_gets_nothing_in(receiver: Receiver) -> None:
    with servers.alertmanager(configured(receiver.url, token="somebody-elses")) as manager:
        fire(manager, A)
        await until(lambda: receiver.counted("unauthorized"), "it was turned away")
        assert receiver.books.calls == 0
        receiver.token_file.write_text("somebody-elses")
        fire(manager, B)
        await until(lambda: receiver.books.kept, "the token is read anew")


FORGED = {
    "no token": None,
    "an empty one": "",
    "another": "Bearer alertmanager-guess",
    "a part of it": f"Bearer {TOKEN[:-1]}",
    "more than it": f"Bearer {TOKEN}x",
    "the token without its kind": TOKEN,
    "another kind": f"Basic {TOKEN}",
    "signs that no token has": "Bearer \u00fc\u00e9",
}


@pytest.mark.parametrize("authorization", FORGED.values(), ids=FORGED)
async def test_who_has_not_the_token_is_turned_away_whatever_it_brings(
    receiver: Receiver, authorization: str | None
) -> None:
    for body in (delivery(A), b"{", b"x" * (LARGEST_BODY + 1)):
        with contextlib.suppress(aiohttp.ClientOSError):  # it may be cut off before it has sent all of it
            assert await send(receiver, body, authorization=authorization) == 401
    assert receiver.books.calls == 0
    assert receiver.counted("unauthorized") == 3


async def test_where_the_operators_own_token_is_missing_nothing_is_taken(receiver: Receiver) -> None:
    for content in ("", "\n", "two words"):
        receiver.token_file.write_text(content)
        assert await send(receiver, delivery(A)) == 503
        assert await send(receiver, delivery(A), authorization="Bearer ") == 503
    receiver.token_file.unlink()
    assert await send(receiver, delivery(A)) == 503
    assert receiver.books.calls == 0


async def test_a_delivery_that_was_overheard_does_nothing_when_it_is_sent_again(receiver: Receiver) -> None:
    overheard = delivery(A)
    assert await send(receiver, overheard) == 200
    assert await send(receiver, overheard) == 200
    assert (receiver.books.calls, receiver.counted("repeated")) == (1, 1)
    receiver.late = timedelta(seconds=3601)
    receiver.books.kept.clear()
    assert await send(receiver, overheard) == 200
    assert (receiver.books.calls, receiver.counted("old")) == (1, 1)


async def test_a_replica_that_did_not_see_it_knows_it_by_its_record(receiver: Receiver, tmp_path: Path) -> None:
    overheard = delivery(A)
    assert await send(receiver, overheard) == 200
    with PortReservation() as ports:
        settings = AlertmanagerSettings(port=ports.take(), token_file=receiver.token_file)
        other = AlertReceiver(
            settings,
            host="127.0.0.1",
            known=receiver.books.known,
            recorded=receiver.books.recorded,
            record=receiver.books.record,
            clock=lambda: datetime.now(UTC),
        )
        await other.start()
    try:
        there = Receiver(f"http://127.0.0.1:{settings.port}/alerts", receiver.books, other, receiver.token_file)
        assert await send(there, overheard) == 200
    finally:
        await other.stop()
    assert receiver.books.calls == 1


async def test_an_alert_twice_in_one_delivery_is_recorded_once(receiver: Receiver) -> None:
    began = datetime.now(UTC)
    content = json.loads(delivery(A, began=began))
    content["alerts"] *= 3
    assert await send(receiver, json.dumps(content).encode()) == 200
    assert receiver.books.calls == 1


async def test_of_a_delivery_of_which_a_part_failed_the_rest_stays(receiver: Receiver) -> None:
    receiver.books.failures = 1
    body = delivery(A, B)
    assert await send(receiver, body) == 503
    assert len(receiver.books.kept) == 1
    assert await send(receiver, body) == 200
    assert sorted(agent for agent, _ in receiver.books.kept.values()) == [A, B]


async def test_whom_nobody_can_be_asked_about_is_delivered_again(receiver: Receiver) -> None:
    receiver.books.away = True
    body = delivery(A, ("research", "nobody"))
    assert await send(receiver, body) == 503
    receiver.books.away = False
    assert await send(receiver, body) == 200
    assert [agent for agent, _ in receiver.books.kept.values()] == [A]


async def test_a_delivery_about_thousands_of_strangers_is_answered_in_time(receiver: Receiver) -> None:
    strangers = [("research", f"stranger-{number}") for number in range(3000)]
    assert await send(receiver, delivery(*strangers, A)) == 200
    assert receiver.counted("unknown") == 3000
    assert [agent for agent, _ in receiver.books.kept.values()] == [A]


REFUSED = {
    "no JSON": (b"{", 400),
    "another format": (b'{"version": "3"}', 400),
    "more than a mebibyte": (b" " * (LARGEST_BODY + 1), 413),
}


@pytest.mark.parametrize(("body", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_delivery_is_refused_for_good(receiver: Receiver, body: bytes, status: int) -> None:
    assert await send(receiver, body) == status
    assert receiver.counted("malformed") == 1
    assert await send(receiver, delivery(A)) == 200


async def test_a_body_that_never_comes_is_not_waited_for(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    headers = {"Authorization": f"Bearer {TOKEN}"}
    # The next has the time it takes: on a busy machine its body too may come later than that after its headers.
    with monkeypatch.context() as hurried:
        hurried.setattr(alerts, "READ_SECONDS", 0.2)
        async with aiohttp.ClientSession() as session:
            async with session.post(receiver.url, data=slow(), headers=headers) as answer:
                assert answer.status == 408
    assert await send(receiver, delivery(A)) == 200


async def test_it_is_acknowledged_only_when_it_is_on_record(receiver: Receiver) -> None:
    receiver.books.gate = asyncio.Event()
    sending = asyncio.create_task(send(receiver, delivery(A)))
    await until(lambda: receiver.books.calls, "it is being recorded")
    assert not sending.done()
    receiver.books.gate.set()
    assert await sending == 200


async def test_what_a_client_that_left_had_sent_is_recorded_all_the_same(receiver: Receiver) -> None:
    receiver.books.gate = asyncio.Event()
    sending = asyncio.create_task(send(receiver, delivery(A)))
    await until(lambda: receiver.books.calls, "it is being recorded")
    sending.cancel()
    receiver.books.gate.set()
    await until(lambda: receiver.books.kept, "it is recorded")


async def test_more_deliveries_at_once_than_it_takes_are_asked_to_come_again(receiver: Receiver) -> None:
    receiver.books.gate = asyncio.Event()
    began = datetime.now(UTC)
    bodies = [delivery(A, began=began - timedelta(seconds=number)) for number in range(20)]
    sending = [asyncio.create_task(send(receiver, body)) for body in bodies]
    await until(lambda: receiver.counted("failed") == 4, "four are turned away")
    receiver.books.gate.set()
    assert sorted(await asyncio.gather(*sending)) == [200] * 16 + [503] * 4


async def test_silent_connections_beyond_its_measure_are_closed_and_the_others_are_served(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "CONNECTIONS", 3)
    address = URL(receiver.url)
    async with contextlib.AsyncExitStack() as silent:

        async def connect() -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            silent.callback(writer.close)
            return reader

        for _ in range(3):
            await connect()
        refused = await connect()
        with contextlib.suppress(ConnectionError):
            assert await refused.read() == b"", "it was answered"
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(receiver, delivery(A))
    # The end of the silent ones is seen a moment later.
    async with asyncio.timeout(60):
        while not receiver.books.kept:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await send(receiver, delivery(A))


async def test_other_paths_and_methods_lead_nowhere(receiver: Receiver) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(receiver.url) as answer:
            assert answer.status == 405
        async with session.post(receiver.url.replace("/alerts", "/")) as answer:
            assert answer.status == 404
