"""What is asked about agents for their breakers, and whom its answers make urgent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from bulkhead.cluster.client import Client
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.evidence import Evidence
from bulkhead.engine.queue import Key
from bulkhead.engine.view import agent_key
from bulkhead.plan.signals import AgentKey, Limit, Query
from bulkhead.signals import fleet
from bulkhead.signals.prometheus import Answer, Pick, QueryError
from bulkhead.signals.settings import PrometheusSettings, SignalsSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A: AgentKey = ("research", "a")
CALLS = Query(policy="default", name="calls", expression="calls", interval=timedelta(seconds=1), limit=Limit(above=10))


class Scene:
    """Evidence of a leader that has one agent."""

    def __init__(self, settings: SignalsSettings) -> None:
        self.now = NOW
        self.alarmed: list[Key] = []
        self.notified: list[Key] = []
        self.agents = AgentStore(clock=lambda: 0.0, on_change=lambda old, new: None)
        self.evidence = Evidence(
            settings,
            watching=cast("Client", None),
            client=cast("Client", None),
            namespace="bulkhead-system",
            host="127.0.0.1",
            agents=self.agents,
            is_leader=lambda: True,
            alarm=self.alarmed.append,
            notify=self.notified.append,
            now=lambda: self.now,
        )
        self.agent = agent("u1")
        self.agents.observe(self.agent)


def agent(uid: str) -> dict[str, Any]:
    return {"metadata": {"namespace": A[0], "name": A[1], "uid": uid, "resourceVersion": "1"}, "spec": {}}


@pytest.fixture
def scene() -> Iterator[Scene]:
    yield Scene(SignalsSettings())


def test_nothing_is_asked_for_an_agent_that_is_gone(scene: Scene) -> None:
    assert scene.evidence.ask(scene.agent, [CALLS]) is not None
    scene.agents.remove(*A, uid="u1")
    scene.evidence.forget(scene.agent)
    # What it had is taken away, for which it is gathered once more.
    assert scene.evidence.ask(scene.agent, [CALLS]) is None
    assert scene.evidence.readings() == {}


def test_one_that_is_gone_changes_nothing_of_what_is_asked_for_its_successor(scene: Scene) -> None:
    scene.agents.remove(*A, uid="u1")
    successor = agent("u2")
    scene.agents.observe(successor)
    assert scene.evidence.ask(successor, [CALLS]) is not None
    assert scene.evidence.ask(scene.agent, []) is None
    assert set(scene.evidence.readings()) == {CALLS.key}


async def test_only_who_exceeds_a_limit_is_urgent_and_not_the_whole_fleet_that_nobody_can_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[float | None] = [1.0, None, None, 99.0]

    class Scripted:
        """A Prometheus that answers, fails twice and answers again."""

        def __init__(self, settings: PrometheusSettings) -> None:
            del settings

        async def query(self, expression: str, *, at: datetime, pick: Pick) -> Answer:
            del expression, at, pick
            value = answers.pop(0)
            if value is None:
                raise QueryError("it is away")
            return Answer(values={A: value})

    monkeypatch.setattr("bulkhead.engine.evidence.Prometheus", Scripted)
    scene = Scene(SignalsSettings(prometheus=PrometheusSettings(url="http://127.0.0.1:9")))
    queries: fleet.FleetQueries = scene.evidence._queries
    scene.evidence.ask(scene.agent, [CALLS])
    (track,) = queries._tracks.values()
    told = []
    while answers:
        scene.now += timedelta(seconds=2)
        scene.evidence._verdicts_changed(await queries._evaluated(track))
        told.append((len(scene.notified), list(scene.alarmed)))
    key = agent_key(*A)
    assert [alarmed for _, alarmed in told] == [[], [], [], [key]]
    assert scene.notified.count(key) == 3, "seen, unseen, and too much"
