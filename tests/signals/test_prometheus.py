"""Queries, put to a real Prometheus: what they give, and what people are told of those that give nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bulkhead.signals.prometheus import MOST_SERIES, Prometheus, QueryError
from bulkhead.signals.settings import PrometheusSettings
from devcluster.pki import Authority
from tests.signals import servers
from tests.signals.conftest import asking
from tests.signals.servers import Exporter, Server, wait_until, when_scraped

A, B = ("research", "a"), ("research", "b")
LONGEST_TURN = 0.4
"""CPU time between two turns of the event loop while much is read, beside that of `json.loads` of as much. On a quiet
machine the longest was 0.017 to 0.025 s, a twentieth of it."""


@pytest.fixture(scope="module", autouse=True)
def shown(exporter: Exporter, server: Server) -> datetime:
    """Two agents that call, and a series that is nobody's; a time for which Prometheus has them."""
    exporter.text = (
        'calls{namespace="research",agent="a",tool="web"} 100\n'
        'calls{namespace="research",agent="a",tool="files"} 50\n'
        'calls{namespace="research",agent="b",tool="web"} 0\n'
        'calls{job="other"} 7\n'
    )
    return when_scraped(server, "calls", series=4)


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_query_gives_a_value_for_each_agent(client: Prometheus, shown: datetime) -> None:
    found = await client.query("sum by (namespace, agent) (calls)", at=shown, pick=max)
    assert found.values == {A: 150.0, B: 0.0}
    assert (found.series, found.unlabelled, found.unusable) == (3, 1, 0)


@pytest.mark.parametrize(("pick", "value"), [(max, 100.0), (min, 50.0)], ids=["the greatest", "the least"])
async def test_of_several_series_of_an_agent_the_worse_counts(
    client: Prometheus, shown: datetime, pick: object, value: float
) -> None:
    found = await client.query("calls", at=shown, pick=max if pick is max else min)
    assert found.values[A] == value


async def test_it_is_evaluated_for_the_time_that_was_asked_for(client: Prometheus, shown: datetime) -> None:
    found = await client.query("calls", at=shown - timedelta(days=1), pick=max)
    assert found.values == {}


@pytest.mark.parametrize("value", ["Inf", "-Inf"])
async def test_an_infinite_value_is_a_value(client: Prometheus, shown: datetime, value: str) -> None:
    expression = f'sum by (namespace, agent) (calls{{agent="a"}}) * {value} or sum by (namespace, agent) (calls)'
    found = await client.query(expression, at=shown, pick=max)
    assert found.values == {A: float(value), B: 0.0}
    assert found.unusable == 0


async def test_who_does_nothing_is_seen_though_a_division_by_nothing_gives_no_number(
    client: Prometheus, shown: datetime
) -> None:
    calls = "sum by (namespace, agent) (calls)"
    found = await client.query(f"{calls} / {calls}", at=shown, pick=max)
    assert found.values[A] == 1.0
    assert math.isnan(found.values[B])
    assert found.unusable == 1


async def test_a_query_that_gives_nothing_gives_nothing(client: Prometheus, shown: datetime) -> None:
    found = await client.query("nobody_has_this", at=shown, pick=max)
    assert (found.values, found.series) == ({}, 0)


REFUSED = {
    "one that does not parse": ("sum by (agent (calls)", "bad_data: .*parse error"),
    "one of another language": ("SELECT * FROM calls", "bad_data: .*parse error"),
    "an unknown function": ("average(calls)", "unknown function"),
    "nothing at all": ("", "bad_data"),
    "a number": ("1", "answers the query with a scalar; accepted is one value for each agent"),
    "a text": ('"calls"', "answers the query with a string; accepted is one value for each agent"),
    "a range": ("calls[5m]", "answers the query with a matrix; accepted is one value for each agent"),
    "one whose labels are lost": ("sum(calls)", "none has the labels namespace and agent; accepted is"),
    "one whose agent is lost": ("sum by (namespace) (calls)", "none has the labels namespace and agent"),
    "one that Prometheus cannot carry out": ("calls + on() calls", "execution: .*many"),
}


@pytest.mark.parametrize(("expression", "told"), REFUSED.values(), ids=REFUSED)
async def test_a_query_that_cannot_be_used_is_refused_in_words(
    client: Prometheus, shown: datetime, expression: str, told: str
) -> None:
    with pytest.raises(QueryError, match=told) as caught:
        await client.query(expression, at=shown, pick=max)
    again = None
    try:
        await client.query(expression, at=shown, pick=max)
    except QueryError as error:
        again = str(error)
    assert again == str(caught.value), "the words are in every agent's status: the same cause has the same"


async def test_words_of_prometheus_that_could_be_a_secret_are_taken_out(client: Prometheus) -> None:
    secret = "hunter2-Ab12Cd34Ef56"
    with pytest.raises(QueryError) as caught:
        await client.query(f'calls{{token="{secret}"}} password={secret} (', at=now(), pick=max)
    assert secret not in str(caught.value)


async def test_a_prometheus_that_stands_still_is_waited_for_no_longer_than_was_said(server: Server) -> None:
    async with asking(PrometheusSettings(url=server.url, timeout_seconds=0.3)) as client:
        with server.halted():
            began = time.monotonic()
            with pytest.raises(QueryError, match=r"did not answer within 0\.3 s"):
                await client.query("calls", at=now(), pick=max)
            assert time.monotonic() - began < 0.3 + 30, "what is beyond is the machine's"


async def test_a_time_that_is_no_whole_number_of_seconds_is_one_that_prometheus_takes(
    server: Server, shown: datetime
) -> None:
    async with asking(PrometheusSettings(url=server.url, timeout_seconds=9.75)) as client:
        assert (await client.query("calls", at=shown, pick=max)).values == {A: 100.0, B: 0.0}


async def test_a_prometheus_that_is_not_there_is_told_from_one_that_refuses() -> None:
    with servers.prometheus({}) as gone:
        client = Prometheus(PrometheusSettings(url=gone.url))
    with pytest.raises(QueryError, match=r"Prometheus at http://127.0.0.1:\d+ cannot be reached: Connection refused"):
        await client.query("calls", at=now(), pick=max)
    await client.close()


async def test_a_certificate_is_verified_with_the_bundle_that_was_given(tmp_path: Path) -> None:
    ours, others = (Authority(tmp_path / name, name) for name in ("ours", "others"))
    bundle = tmp_path / "ca.crt"
    shutil.copy(others.files.certificate, bundle)
    with servers.prometheus({}, serving=ours.server("prometheus", ["127.0.0.1"])) as server:
        client = Prometheus(PrometheusSettings(url=server.url, ca_file=bundle))
        with pytest.raises(QueryError, match="shows a certificate that caFile does not vouch for; accepted is"):
            await client.query("up", at=now(), pick=max)
        bundle.write_text("no certificate")
        with pytest.raises(QueryError, match=r"caFile .*ca.crt: .*; accepted is a file of PEM certificates"):
            await client.query("up", at=now(), pick=max)
        shutil.copy(ours.files.certificate, bundle)  # a mounted bundle changes while the operator runs
        assert (await client.query("up", at=now(), pick=max)).values == {}
        await client.close()


@pytest.fixture(scope="module")
def crowded() -> Iterator[Server]:
    """A Prometheus with as many agents as are accepted, and one that is one too many."""
    with Exporter() as crowd:
        crowd.show("crowd", {(f"team-{n % 50}", f"agent-{n}"): n for n in range(MOST_SERIES)})
        crowd.text += 'straggler{namespace="team-0",agent="straggler"} 1\n'
        with servers.prometheus({crowd.address: "3s"}) as running:
            wait_until(lambda: running.get("/api/v1/query?query=straggler")["data"]["result"], "it has scraped")
            yield running


@pytest.fixture(scope="module")
def scraped(crowded: Server) -> datetime:
    """A time for which that has all of them: what one scrape brings is there as a whole."""
    return when_scraped(crowded, "straggler", series=1)


@pytest.fixture
async def of_many(crowded: Server) -> AsyncIterator[Prometheus]:
    """The operator's client of that, with the patience that a busy machine takes."""
    async with asking(PrometheusSettings(url=crowded.url, timeout_seconds=60)) as made:
        yield made


async def test_a_hundred_thousand_series_are_read_while_all_else_has_its_turn(
    of_many: Prometheus, crowded: Server, scraped: datetime
) -> None:
    turns: list[float] = []

    async def others() -> None:
        while True:
            # Of this thread alone: how much others want of the machine says nothing about the code.
            began = time.thread_time()
            await asyncio.sleep(0.001)
            turns.append(time.thread_time() - began)

    # To go through all that the tests before have left takes the garbage collector as long: it is not the query's.
    gc.collect()
    gc.freeze()
    whole = json.dumps(crowded.get(f"/api/v1/query?query=crowd&time={scraped.timestamp():.3f}"))
    began = time.thread_time()
    json.loads(whole)
    at_once = time.thread_time() - began
    waiting = asyncio.create_task(others())
    try:
        found = await of_many.query("crowd", at=scraped, pick=max)
    finally:
        waiting.cancel()
        gc.unfreeze()
    assert found.series == len(found.values) == MOST_SERIES
    assert found.values[("team-7", "agent-99907")] == 99_907.0
    assert len(turns) > 50
    assert max(turns) < LONGEST_TURN * at_once


async def test_more_series_than_that_are_refused(of_many: Prometheus, scraped: datetime) -> None:
    with pytest.raises(QueryError, match="more than 100000 series; accepted is one value for each agent"):
        await of_many.query("crowd or straggler", at=scraped, pick=max)


async def test_a_query_that_takes_for_ever_is_ended_by_prometheus_too(crowded: Server) -> None:
    async with asking(PrometheusSettings(url=crowded.url, timeout_seconds=1)) as client:
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"did not answer within 1 s|timeout: query timed out"):
            await client.query("max by (namespace, agent) (max_over_time(crowd[12h:1s]))", at=now(), pick=max)
        assert time.monotonic() - began < 30
    busy = "/api/v1/query?query=prometheus_engine_queries"
    wait_until(lambda: crowded.get(busy)["status"] == "success", "Prometheus is free for others")
