"""The queries of a fleet against a real Prometheus: who is told what, when, and how often anybody asks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from bulkhead.plan.signals import AgentKey, Limit, Query, Reading, Sample, trips
from bulkhead.signals.fleet import NO_PROMETHEUS, FleetQueries
from bulkhead.signals.prometheus import Prometheus
from bulkhead.signals.settings import PrometheusSettings
from tests.signals import servers
from tests.signals.misbehaving import gives, misbehaving
from tests.signals.servers import Exporter, Server, wait_until

A, B, C = ("research", "a"), ("research", "b"), ("ops", "c")
INTERVAL = 0.4
CALLS = "sum by (namespace, agent) (last_over_time(calls[30s]))"
"""The last of each agent's values, also while a scrape of a busy machine has not come to its end in time.

Such a scrape ends all series until the next, which is news of every agent.
"""
ENDING = "sum by (namespace, agent) (calls)"
"""The same, of which a series ends with the scrape in which it is not."""


def query(name: str = "calls", expression: str = CALLS, *, above: float = 100, policy: str = "default") -> Query:
    return Query(
        policy=policy,
        name=name,
        expression=expression,
        interval=timedelta(seconds=INTERVAL),
        limit=Limit(above=above),
    )


CALLED = query()


class Watched:
    """A fleet's queries, and whom they told of."""

    def __init__(self, client: Prometheus | None) -> None:
        self.told: list[AgentKey] = []
        self.fleet = FleetQueries(client, on_change=self.note, clock=lambda: datetime.now(UTC))

    def note(self, agents: Collection[AgentKey]) -> None:
        self.told.extend(agents)

    def sample(self, agent: AgentKey, asked: Query = CALLED) -> Sample | None:
        return self.fleet.signals_of(agent).samples.get(asked.key)

    def reading(self, agent: AgentKey, asked: Query = CALLED) -> Reading | None:
        return self.fleet.signals_of(agent).readings.get(asked.key)

    def tripped(self, agent: AgentKey, asked: Query = CALLED) -> bool:
        sample = self.sample(agent, asked)
        return sample is not None and trips(asked, sample)

    def blind(self, agent: AgentKey, asked: Query = CALLED) -> bool:
        reading = self.reading(agent, asked)
        return reading is not None and not reading.ok

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.fleet.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(holds: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


def show(server: Server, exporter: Exporter, values: dict[AgentKey, float]) -> None:
    """Let agents show values, and wait until Prometheus has these and no others."""
    exporter.show("calls", values)
    wait_until(lambda: seen(server) == values, "Prometheus has scraped")


def seen(server: Server) -> dict[AgentKey, float]:
    found = server.get("/api/v1/query?query=calls")["data"]["result"]
    return {(one["metric"]["namespace"], one["metric"]["agent"]): float(one["value"][1]) for one in found}


@pytest.fixture
def watched(client: Prometheus, server: Server, exporter: Exporter) -> Watched:
    show(server, exporter, {A: 1, B: 1, C: 1})
    return Watched(client)


async def test_an_agent_that_goes_over_the_limit_is_told_of_and_no_other(watched: Watched, exporter: Exporter) -> None:
    for agent in (A, B):
        watched.fleet.ask(agent, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A) and watched.sample(B), "both have a value")
        await until(lambda: sorted(watched.told) == [A, B], "both were told of")
        watched.told.clear()
        exporter.show("calls", {A: 200, B: 99, C: 200})
        await until(lambda: watched.tripped(A), "the limit is exceeded")
        before = dict(watched.fleet.counts())
        await until(lambda: watched.fleet.counts()["queries"] > before["queries"] + 2, "it was asked again")
        assert watched.told == [A]
        assert watched.sample(C) is None, "nobody asked for it"
        assert watched.fleet.counts()["strangers"] > before["strangers"]
        exporter.show("calls", {A: 1, B: 1})
        await until(lambda: not watched.tripped(A), "it is well again")
        assert watched.told == [A, A]


async def test_it_is_told_of_with_the_next_query_after_the_scrape(
    watched: Watched, server: Server, exporter: Exporter
) -> None:
    watched.fleet.ask(A, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value")
        watched.told.clear()
        exporter.show("calls", {A: 200})
        await until(lambda: seen(server).get(A) == 200, "Prometheus has it")
        asked = watched.fleet.counts()["queries"]
        await until(lambda: watched.told, "it is told of")
        assert watched.fleet.counts()["queries"] <= asked + 2, "one may have been under way"


async def test_an_agent_whose_series_ends_is_told_of(watched: Watched, exporter: Exporter) -> None:
    ending = query(expression=ENDING)
    watched.fleet.ask(A, [ending])
    async with watched.running():
        await until(lambda: watched.sample(A, ending), "it has a value")
        watched.told.clear()
        exporter.show("calls", {B: 1})
        await until(lambda: watched.told == [A], "it is told of")
        reading = watched.reading(A, ending)
        assert reading is not None and reading.ok
        assert watched.sample(A, ending) is None


async def test_a_prometheus_that_stands_still_blinds_and_one_that_comes_back_does_not(
    server: Server, exporter: Exporter
) -> None:
    show(server, exporter, {A: 1})
    client = Prometheus(PrometheusSettings(url=server.url, timeout_seconds=2))
    watched = Watched(client)
    watched.fleet.ask(A, [CALLED])
    watched.fleet.ask(B, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value")
        watched.told.clear()
        with server.halted():
            await until(lambda: watched.blind(A), "it is blind")
            assert sorted(watched.told) == [A, B]
            reading = watched.reading(A)
            assert reading is not None and "did not answer within 2 s" in reading.problem
        await until(lambda: not watched.blind(A), "it sees")
        assert sorted(watched.told) == [A, A, B, B]
    await client.close()


async def test_a_query_that_does_not_parse_blinds_who_asks_it_and_nobody_else(watched: Watched) -> None:
    broken = query("broken", "sum by (")
    watched.fleet.ask(A, [CALLED])
    watched.fleet.ask(B, [broken])
    async with watched.running():
        await until(lambda: watched.blind(B, broken), "it is blind")
        await until(lambda: watched.sample(A), "the other has a value")
        assert not watched.blind(A)
        readings = watched.fleet.readings()
        assert (readings[CALLED.key].ok, readings[broken.key].ok) == (True, False)
        assert "parse error" in readings[broken.key].problem


async def test_what_two_policies_ask_is_asked_once(watched: Watched) -> None:
    strict = query(policy="strict", above=0.5)
    watched.fleet.ask(A, [CALLED, strict])
    watched.fleet.ask(B, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value")
        assert (watched.tripped(A), watched.tripped(A, strict)) == (False, True)
        asked, began = watched.fleet.counts()["queries"], time.monotonic()
        await until(lambda: watched.fleet.counts()["queries"] >= asked + 4, "it was asked four times more")
        assert time.monotonic() - began > 3 * INTERVAL * 0.9


async def test_a_baseline_trips_who_does_ten_times_of_what_it_does(watched: Watched, exporter: Exporter) -> None:
    asked = Query(
        policy="default",
        name="often",
        expression=CALLS,
        baseline="sum by (namespace, agent) (usual)",
        interval=timedelta(seconds=INTERVAL),
        limit=Limit(times=10, at_least=20),
    )
    exporter.text = "".join(
        f'{metric}{{namespace="research",agent="{agent}"}} {value}\n'
        for metric, agent, value in (("calls", "a", 100), ("usual", "a", 5), ("calls", "b", 100), ("usual", "b", 50))
    )
    watched.fleet.ask(A, [asked])
    watched.fleet.ask(B, [asked])
    async with watched.running():
        await until(lambda: watched.tripped(A, asked), "the limit is exceeded")
        sample = watched.sample(B, asked)
        assert sample is not None and sample.normal == 50
        assert not watched.tripped(B, asked)


async def test_a_baseline_that_is_misspelt_is_told_and_does_not_pass_for_peace(watched: Watched) -> None:
    asked = Query(
        policy="default",
        name="often",
        expression=CALLS,
        baseline="usaul",
        interval=timedelta(seconds=INTERVAL),
        limit=Limit(times=10),
    )
    watched.fleet.ask(A, [asked])
    async with watched.running():
        await until(lambda: watched.blind(A, asked), "it is blind")
        reading = watched.reading(A, asked)
        assert reading is not None and "the baseline has no value for any agent" in reading.problem


async def test_who_comes_later_and_who_asks_for_less_are_served(watched: Watched) -> None:
    watched.fleet.ask(A, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value")
        watched.fleet.ask(B, [CALLED])
        assert watched.reading(B) is None, "it has not been asked for this one"
        await until(lambda: watched.sample(B), "it has a value too")
        watched.told.clear()
        tighter = query(above=0.5)
        watched.fleet.ask(B, [tighter])
        assert watched.tripped(B, tighter), "it is over its new limit, and that is known at once"
        assert not watched.tripped(A)
        watched.fleet.forget(A)
        watched.fleet.forget(B)
        asked = watched.fleet.counts()["queries"]
        await asyncio.sleep(3 * INTERVAL)
        assert watched.fleet.counts()["queries"] <= asked + 1, "nobody asks any more"
        assert watched.fleet.readings() == {}


async def test_who_leads_again_knows_nothing_of_the_time_between(watched: Watched) -> None:
    watched.fleet.ask(A, [CALLED])
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value")
    assert watched.fleet.signals_of(A).samples == {}
    assert watched.fleet.signals_of(A).readings == {}
    async with watched.running():
        await until(lambda: watched.sample(A), "it has a value again")


async def test_without_a_prometheus_every_query_says_that_there_is_none() -> None:
    watched = Watched(None)
    watched.fleet.ask(A, [CALLED])
    async with watched.running():
        first = watched.reading(A)
        await asyncio.sleep(0.01)
        second = watched.reading(A)
    assert first is not None and second is not None
    assert (first.ok, first.problem) == (False, NO_PROMETHEUS)
    assert second.since == first.since


async def test_a_query_that_hangs_holds_nobody_up() -> None:
    good = gives('{"status":"success","data":{"resultType":"vector","result":[]}}')

    async def answer(request: web.Request) -> web.StreamResponse:
        if "slow" in (await request.text()):
            await asyncio.sleep(600)
        return await good(request)

    slow = query("slow", "slow")
    async with misbehaving(answer) as server:
        client = Prometheus(PrometheusSettings(url=server.url, timeout_seconds=60))
        watched = Watched(client)
        watched.fleet.ask(A, [CALLED, slow])
        async with watched.running():
            await until(lambda: watched.fleet.counts().get("queries", 0) >= 3, "the other is answered", seconds=30)
            assert watched.reading(A, slow) is None
        await client.close()


async def test_a_prometheus_that_is_gone_is_not_asked_without_pause() -> None:
    with servers.prometheus({}) as gone:
        client = Prometheus(PrometheusSettings(url=gone.url))
    watched = Watched(client)
    watched.fleet.ask(A, [CALLED])
    async with watched.running():
        await until(lambda: watched.blind(A), "it is blind")
        failed, began = watched.fleet.counts()["failures"], time.monotonic()
        await until(lambda: watched.fleet.counts()["failures"] >= failed + 4, "it was tried again")
        assert time.monotonic() - began > 3 * INTERVAL * 0.5
        assert watched.told == [A]
    await client.close()
