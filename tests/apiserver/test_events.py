"""Events, as a real API server takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bulkhead.cluster import events
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.resources import EVENTS, Object
from devcluster.api import RunningCluster
from tests.apiserver.rest import Rest
from tests.faults import Answer, DropAfter, DropBefore, FaultProxy, Hang, eventually


@dataclass
class Now:
    time: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    # No deadline that a slow API server misses: what is sent again would be counted again.
    async with Client(connection, deadline=30.0) as client:
        yield client


@asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def agent(namespace: str, name: str = "scout") -> Object:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-of-{name}"},
    }


def stored(rest: Rest, namespace: str) -> list[Object]:
    items: list[Object] = rest.get(EVENTS.path(namespace=namespace)).body["items"]
    return items


SUSPENDED: dict[str, Any] = {"reason": "Suspended", "note": "No pod is left", "action": "Suspend"}


async def test_an_event_says_what_happened_to_which_agent_and_who_reports_it(
    client: Client, rest: Rest, sandbox: str, now: Now, apiserver: RunningCluster
) -> None:
    recorder = Recorder(client, instance="operator-0", now=now)
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED, type="Warning")
        await eventually(lambda: len(stored(rest, sandbox)) == 1, "it is written")
    (event,) = stored(rest, sandbox)
    assert event["regarding"]["name"] == "scout"
    assert event["regarding"]["uid"] == "uid-of-scout"
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "Suspended", "No pod is left")
    assert (event["reportingController"], event["reportingInstance"]) == ("bulkhead.dev/operator", "operator-0")
    assert event["eventTime"] == "2026-03-01T12:00:00.000000Z"
    assert "No pod is left" in apiserver.kubectl("events", "-n", sandbox, "--for=AgentDeployment/scout")


async def test_the_same_again_is_counted_in_one_object(client: Client, rest: Rest, sandbox: str, now: Now) -> None:
    recorder = Recorder(client, instance="operator-0", now=now)
    async with running(recorder):
        for number in range(1, 65):
            recorder.record(agent(sandbox), **SUSPENDED)
            if number == 1:
                await eventually(lambda: len(stored(rest, sandbox)) == 1, "the first is written")
            now.time += timedelta(seconds=1)
        await eventually(lambda: (stored(rest, sandbox)[0].get("series") or {}).get("count") == 64, "it is counted")
    assert len(stored(rest, sandbox)) == 1


async def test_repetitions_cost_writes_that_grow_with_their_logarithm(
    client: Client, proxy: FaultProxy, rest: Rest, sandbox: str
) -> None:
    recorder = Recorder(client, instance="operator-0")
    async with running(recorder):
        for _ in range(1000):
            recorder.record(agent(sandbox), **SUSPENDED)
            await asyncio.sleep(0)
        await eventually(lambda: len(stored(rest, sandbox)) == 1, "it is written")
    assert proxy.seen("POST", "/events") + proxy.seen("PATCH", "/events") <= 11


@pytest.mark.parametrize(
    "change",
    [{"reason": "Resumed"}, {"note": "Another note"}, {"action": "Resume"}, {"type": "Warning"}],
    ids=["reason", "note", "action", "type"],
)
async def test_what_differs_is_another_event(client: Client, rest: Rest, sandbox: str, change: dict[str, Any]) -> None:
    recorder = Recorder(client, instance="operator-0")
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED)
        recorder.record(agent(sandbox), **{**SUSPENDED, **change})
        await eventually(lambda: len(stored(rest, sandbox)) == 2, "both are written")


async def test_the_same_after_the_window_is_another_event(client: Client, rest: Rest, sandbox: str, now: Now) -> None:
    recorder = Recorder(client, instance="operator-0", window=300, now=now)
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED)
        now.time += timedelta(seconds=300)
        recorder.record(agent(sandbox), **SUSPENDED)
        await eventually(lambda: len(stored(rest, sandbox)) == 2, "both are written")


async def test_when_too_many_wait_the_oldest_go_and_are_counted(client: Client, rest: Rest, sandbox: str) -> None:
    recorder = Recorder(client, instance="operator-0", capacity=3)
    for number in range(10):
        recorder.record(agent(sandbox), reason="Suspended", note=f"number {number}", action="Suspend")
    assert recorder.dropped == 7
    async with running(recorder):
        await eventually(lambda: len(stored(rest, sandbox)) == 3, "the rest is written")
    assert sorted(event["note"] for event in stored(rest, sandbox)) == ["number 7", "number 8", "number 9"]


async def test_recording_never_waits_for_an_api_server_that_hangs(
    client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    proxy.on("POST", "/events", Hang(), times=None)
    recorder = Recorder(client, instance="operator-0", capacity=10)
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED)
        await eventually(lambda: proxy.seen("POST", "/events") == 1, "the writer is stuck")
        for number in range(1000):
            recorder.record(agent(sandbox), reason="Suspended", note=str(number), action="Suspend")
        ended = asyncio.get_running_loop().time()
    # The client itself would wait for 30 s, for each try of each event.
    assert asyncio.get_running_loop().time() - ended < 10, "what is left is given up after a second"
    assert recorder.dropped >= 990


@pytest.mark.parametrize(
    "fault",
    [DropBefore(), DropAfter(), Answer(429, retry_after=0.1), Answer(500), Answer(503, body=b"")],
    ids=["dropped before", "dropped after", "429", "500", "503"],
)
async def test_a_passing_fault_loses_and_doubles_nothing(
    client: Client, proxy: FaultProxy, rest: Rest, sandbox: str, fault: Any
) -> None:
    proxy.on("POST", "/events", fault, times=2)
    recorder = Recorder(client, instance="operator-0")
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED)
        recorder.record(agent(sandbox, "other"), **SUSPENDED)
        await eventually(lambda: len(stored(rest, sandbox)) == 2, "both are written")
    assert recorder.dropped == 0


@pytest.mark.parametrize("fault", [Answer(403, "Forbidden"), Answer(404, "NotFound"), Answer(422, "Invalid")])
async def test_an_event_that_will_never_be_taken_does_not_hold_up_the_next(
    client: Client, proxy: FaultProxy, rest: Rest, sandbox: str, fault: Answer
) -> None:
    proxy.on("POST", "/events", fault)
    recorder = Recorder(client, instance="operator-0")
    async with running(recorder):
        recorder.record(agent(sandbox), **SUSPENDED)
        recorder.record(agent(sandbox, "other"), **SUSPENDED)
        await eventually(lambda: len(stored(rest, sandbox)) == 1, "the second is written")
    assert recorder.dropped == 1


async def test_what_waits_at_a_clean_end_is_still_written(
    client: Client, rest: Rest, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second is enough for an API server that does not stall just then.
    monkeypatch.setattr(events, "FLUSH_SECONDS", 30.0)
    recorder = Recorder(client, instance="operator-0")
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    recorder.record(agent(sandbox), **SUSPENDED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert len(stored(rest, sandbox)) == 1


async def test_an_event_about_a_cluster_scoped_object_is_kept_in_default(client: Client, rest: Rest) -> None:
    recorder = Recorder(client, instance="operator-0")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "events-of-a-namespace", "uid": "n-1"}}
    async with running(recorder):
        recorder.record(namespace, **SUSPENDED)
        await eventually(
            lambda: any(event["regarding"]["name"] == "events-of-a-namespace" for event in stored(rest, "default")),
            "it is written",
        )


async def test_texts_of_any_length_and_script_are_taken(client: Client, rest: Rest, sandbox: str) -> None:
    recorder = Recorder(client, instance="operator-" + "0" * 200)
    async with running(recorder):
        recorder.record(agent(sandbox, "n" * 253), reason="R" * 200, note="ä€😀" * 500, action="A" * 200)
        await eventually(lambda: len(stored(rest, sandbox)) == 1, "it is written")
    assert recorder.dropped == 0
    assert len(stored(rest, sandbox)[0]["note"].encode()) <= 1024
