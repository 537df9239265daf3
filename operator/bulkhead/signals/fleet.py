"""The queries of all breakers: each distinct one is put to Prometheus once per interval, for the whole fleet."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime

from bulkhead.plan.signals import AgentKey, Query, QueryKey, Reading, Sample, Signals
from bulkhead.signals.prometheus import Answer, Prometheus, QueryError
from bulkhead.signals.track import Source, Track

logger = logging.getLogger(__name__)

NO_PROMETHEUS = (
    "the operator was given no Prometheus to ask; accepted is `prometheus.url` in its file of signals (`--signals`)"
)

AT_ONCE = 8
"""Queries at Prometheus at the same time."""
SPREAD_SECONDS = 1.0
"""The first evaluation of a query comes after a random part of this, so that not all come at once ever after."""
RETRY_SECONDS = 2.0
"""After a first failure; then twice as long each time, up to the query's interval."""


class FleetQueries:
    """Evaluates what agents ask for, and says which agents have to be looked at again. For the leader only."""

    def __init__(
        self,
        prometheus: Prometheus | None,
        *,
        on_change: Callable[[Collection[AgentKey]], None],
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Prepares it; `run` does the work.

        Args:
            prometheus: the client; None where none is configured: then every query is unanswered, and says so.
            on_change: told of agents whose verdict on any query changed: tripped or not, blind or not, with series
                or without. Not told of each sample.
            clock: gives the time.
            sleep: waits for so many seconds.
            rand: gives numbers in [0, 1).
        """
        self._prometheus = prometheus
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._rand = rand
        self._asked: dict[AgentKey, dict[QueryKey, Query]] = {}
        self._uses: Counter[tuple[QueryKey, Source]] = Counter()
        self._tracks: dict[Source, Track] = {}
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._counts: Counter[str] = Counter()
        self._unasked_since: dict[QueryKey, datetime] = {}

    def ask(self, agent: AgentKey, queries: Collection[Query]) -> None:
        """Says which queries hold for an agent from now on, each with its limit. Cheap where nothing changed.

        What is known already by a new limit is told to nobody: who asks reads `signals_of` afterwards.
        """
        wanted = {query.key: query for query in queries}
        had = self._asked.get(agent, {})
        if wanted == had:
            return
        for key, query in had.items():
            if key not in wanted or Source.of(wanted[key]) != Source.of(query):
                self._leave(agent, query)
        self._count_uses(had, wanted)
        if wanted:
            self._asked[agent] = wanted
        else:
            self._asked.pop(agent, None)
        for key, query in wanted.items():
            if had.get(key) != query:
                self._join(agent, query)

    def forget(self, agent: AgentKey) -> None:
        """Ends all queries of an agent: it is gone."""
        self.ask(agent, ())

    def signals_of(self, agent: AgentKey) -> Signals:
        """Returns what is known of an agent now."""
        readings: dict[QueryKey, Reading] = {}
        samples: dict[QueryKey, Sample] = {}
        for key, query in self._asked.get(agent, {}).items():
            if self._prometheus is None:
                readings[key] = self._nobody_to_ask(key)
            elif (track := self._tracks.get(Source.of(query))) is not None:
                if (reading := track.reading(agent, key)) is not None:
                    readings[key] = reading
                if (sample := track.sample(agent, key)) is not None:
                    samples[key] = sample
        return Signals(readings=readings, samples=samples)

    def tripped(self, agent: AgentKey) -> bool:
        """Says whether an agent exceeds one of its limits."""
        asked = self._asked.get(agent, {}).items()
        tracks = ((key, self._tracks.get(Source.of(query))) for key, query in asked)
        return any(track is not None and track.tripped(agent, key) for key, track in tracks)

    async def run(self) -> None:
        """Works until it is cancelled. What was known is forgotten then: it is somebody else's to know."""
        if self._prometheus is None:
            await asyncio.Event().wait()
            return
        try:
            async with asyncio.TaskGroup() as self._group:
                for source in self._tracks:
                    self._start(source)
                # The group would end with the last of its queries.
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._tasks.clear()
            self._tracks = {}
            for agent, queries in self._asked.items():
                for query in queries.values():
                    self._join(agent, query)
            await self._prometheus.close()

    def counts(self) -> Mapping[str, int]:
        """Returns counters for metrics.

        They are `queries` and `failures`; and of the series that came, `series`, `unlabelled`, `unusable` (NaN) and
        `strangers` (of no agent that asked).
        """
        return dict(self._counts)

    def readings(self) -> Mapping[QueryKey, Reading]:
        """Returns how each query fares, by policy and name."""
        found: dict[QueryKey, Reading] = {}
        for key, source in self._uses:
            if self._prometheus is None:
                reading: Reading | None = self._nobody_to_ask(key)
            else:
                track = self._tracks.get(source)
                reading = track.fares(key) if track is not None else None
            if reading is not None:
                found[key] = reading
        return found

    def _count_uses(self, had: Mapping[QueryKey, Query], wanted: Mapping[QueryKey, Query]) -> None:
        for queries, step in ((wanted, 1), (had, -1)):
            for key, query in queries.items():
                use = (key, Source.of(query))
                self._uses[use] += step
                if not self._uses[use]:
                    del self._uses[use]

    def _nobody_to_ask(self, key: QueryKey) -> Reading:
        now = self._clock()
        since = self._unasked_since.setdefault(key, now)
        return Reading(name=key[1], policy=key[0], ok=False, problem=NO_PROMETHEUS, at=now, since=min(since, now))

    def _join(self, agent: AgentKey, query: Query) -> None:
        if self._prometheus is None:
            return
        source = Source.of(query)
        track = self._tracks.get(source)
        if track is None:
            track = self._tracks[source] = Track(source)
            self._start(source)
        track.join(agent, query)

    def _leave(self, agent: AgentKey, query: Query) -> None:
        source = Source.of(query)
        track = self._tracks.get(source)
        if track is None:
            return
        track.leave(agent, query.key)
        if track.empty:
            del self._tracks[source]
            if (task := self._tasks.pop(source, None)) is not None:
                task.cancel()

    def _start(self, source: Source) -> None:
        if self._group is not None:
            self._tasks[source] = self._group.create_task(self._follow(self._tracks[source]))

    async def _follow(self, track: Track) -> None:
        """Evaluates one query for ever."""
        interval = track.source.interval.total_seconds()
        await self._sleep(min(SPREAD_SECONDS, interval) * self._rand())
        while True:
            began = asyncio.get_running_loop().time()
            async with self._places:
                changed = await self._evaluated(track)
            if changed:
                self._on_change(changed)
            wait = interval
            if track.failures:
                wait = min(interval, RETRY_SECONDS * 2.0 ** min(track.failures - 1, 16)) * (0.75 + self._rand() / 2)
            await self._sleep(max(0.0, wait - (asyncio.get_running_loop().time() - began)))

    async def _evaluated(self, track: Track) -> set[AgentKey]:
        at = self._clock()
        try:
            values, normals = await self._asked_for(track.source, at)
        except QueryError as error:
            return self._failed(track, str(error), at)
        except Exception as error:
            # A task that ends would leave its query unanswered for ever, and nobody would be told.
            logger.exception("a query of a circuit breaker could not be evaluated")
            return self._failed(track, f"the operator failed with {type(error).__name__}", at)
        return track.answered(values.values, normals.values if normals is not None else {}, at=at)

    async def _asked_for(self, source: Source, at: datetime) -> tuple[Answer, Answer | None]:
        assert self._prometheus is not None  # noqa: S101 (run ends where there is none)
        values = await self._prometheus.query(source.expression, at=at, pick=min if source.lowest else max)
        self._count(source, values)
        if source.baseline is None:
            return values, None
        normals = await self._prometheus.query(source.baseline, at=at, pick=min)
        self._count(source, normals)
        if values.values and not any(map(math.isfinite, normals.values.values())):
            raise QueryError(
                "the baseline has no value for any agent, although the query has: nothing is known of normal"
            )
        return values, normals

    def _failed(self, track: Track, problem: str, at: datetime) -> set[AgentKey]:
        self._counts["failures"] += 1
        if track.failures == 0:
            logger.warning("a query of circuit breakers has no answer: %s", problem)
        return track.failed(problem, at=at)

    def _count(self, source: Source, answer: Answer) -> None:
        asking = self._tracks[source].agents() if source in self._tracks else set()
        self._counts["queries"] += 1
        self._counts["series"] += answer.series
        self._counts["unlabelled"] += answer.unlabelled
        self._counts["unusable"] += answer.unusable
        self._counts["strangers"] += len(answer.values) - sum(agent in answer.values for agent in asking)
