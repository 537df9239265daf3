"""Instant queries to Prometheus' HTTP API, whose answers are values by agent."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bulkhead.api.conditions import shorten
from bulkhead.plan.redaction import redacted
from bulkhead.plan.signals import AgentKey
from bulkhead.signals import answers
from bulkhead.signals.answers import Document, Malformed
from bulkhead.signals.http import HttpClient, HttpError
from bulkhead.signals.settings import PrometheusSettings

LARGEST_ANSWER = 32 << 20
"""Bytes: twice what 100,000 series take."""

SMALL_ANSWER = 1 << 20
"""Bytes up to which several answers are read at once; that of 5,000 agents has less."""

MOST_SERIES = 100_000

SLICE_SECONDS = 0.002
"""How long an answer is read at a stretch, before all else has its turn."""

LABELS = ("namespace", "agent")

LONGEST_PROBLEM = 512

Pick = Callable[[float, float], float]
"""Which of two values of one agent counts."""

_ACCEPTED = "accepted is one value for each agent: sum by (namespace, agent) (rate(METRIC[5m]))"


class QueryError(Exception):
    """A query gave no answer that could be used. Its text is for people, bounded, and holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query gave.

    Attributes:
        values: by agent. NaN where it has a series and no number, which no limit is compared with.
        series: how many there were.
        unlabelled: those without a label `namespace` or `agent`.
        unusable: those of an agent whose value is NaN.
    """

    values: Mapping[AgentKey, float]
    series: int = 0
    unlabelled: int = 0
    unusable: int = 0


class Prometheus:
    """A client of one Prometheus, or of whatever speaks its API."""

    def __init__(self, settings: PrometheusSettings) -> None:
        """Prepares; connections are opened when they are needed.

        Args:
            settings: where it is, and how long a query may take.
        """
        self._settings = settings
        self._http = HttpClient(settings, seconds=settings.timeout_seconds)
        self._large = asyncio.Semaphore(1)

    def describe(self) -> str:
        """Says which Prometheus this is."""
        return f"Prometheus at {self._settings.url}"

    async def query(self, expression: str, *, at: datetime, pick: Pick) -> Answer:
        """Evaluates an expression at one time.

        Args:
            expression: PromQL.
            at: the time it is evaluated for.
            pick: which of two values counts where an agent has two series: `max`, or `min`.

        Raises:
            QueryError: there is no answer that could be used.
        """
        form = {
            "query": expression,
            "time": f"{at.timestamp():.3f}",
            # Prometheus takes whole numbers of a unit alone (model.ParseDuration): 2.5s it refuses.
            "timeout": f"{math.ceil(self._settings.timeout_seconds * 1000)}ms",
            # Thanos and VictoriaMetrics would answer with what they have while a store is away. Prometheus has neither.
            "partial_response": "false",
            "deny_partial_response": "1",
        }
        # Of large answers there is one at a time: eight at once would take more than the operator may have.
        async with contextlib.AsyncExitStack() as alone:
            try:
                response = await self._http.post(
                    f"{self._settings.url}/api/v1/query",
                    data=form,
                    largest=LARGEST_ANSWER,
                    small=SMALL_ANSWER,
                    before_large=lambda: alone.enter_async_context(self._large),
                )
            except HttpError as error:
                raise QueryError(f"{self.describe()} {error}") from None
            status, body = response.status, response.body
            if body is None:
                raise QueryError(f"the query gives more than {LARGEST_ANSWER >> 20} MiB; {_ACCEPTED}")
            text = _text(body)
            del response, body
            return await self._read(status, text, pick)

    async def close(self) -> None:
        """Lets go of connections."""
        await self._http.close()

    async def _read(self, status: int, text: str, pick: Pick) -> Answer:
        document = Document()
        gathered = _Gathered(pick)
        try:
            turn = time.perf_counter() + SLICE_SECONDS
            for series in answers.walk(text, document):
                gathered.add(series)
                if time.perf_counter() > turn:
                    await asyncio.sleep(0)
                    turn = time.perf_counter() + SLICE_SECONDS
        except Malformed:
            document = Document()
        if problem := _problem(status, document) or gathered.problem(document):
            raise QueryError(f"{self.describe()} {problem}")
        return gathered.answer()


class _Gathered:
    """What the series of one answer come to."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._values: dict[AgentKey, float] = {}
        self._series = self._unlabelled = self._unusable = self._broken = 0

    def add(self, series: Mapping[str, Any]) -> None:
        self._series += 1
        if self._series > MOST_SERIES:
            raise QueryError(f"the query gives more than {MOST_SERIES} series; {_ACCEPTED}")
        agent = _agent_of(series.get("metric"))
        value = _number(series.get("value"))
        if value is None:
            self._broken += 1
        elif agent is None:
            self._unlabelled += 1
        elif math.isnan(value):
            # Of a division by nothing: an agent that does nothing is seen all the same, and is not one gone.
            self._unusable += 1
            self._values.setdefault(agent, value)
        else:
            known = self._values.get(agent, math.nan)
            self._values[agent] = value if math.isnan(known) else self._pick(known, value)

    def problem(self, document: Document) -> str:
        kind = document.data.get("resultType")
        if kind != "vector":
            return f"answers the query with a {shorten(str(kind), 20)}; {_ACCEPTED}"
        if self._broken:
            return "answers the query with series that have no value"
        if self._series and self._unlabelled == self._series:
            return f"answers the query with series of which none has the labels namespace and agent; {_ACCEPTED}"
        return ""

    def answer(self) -> Answer:
        return Answer(values=self._values, series=self._series, unlabelled=self._unlabelled, unusable=self._unusable)


def _problem(status: int, document: Document) -> str:
    """Says what is wrong with an answer as a whole; empty when it is one to a query."""
    if status in (401, 403):
        return f"refuses the operator (HTTP status {status}); accepted is a tokenFile whose token may query"
    if 300 <= status < 400:
        return "sends its callers to another address, where no token is sent; accepted as url is that address"
    told = document.top.get("status")
    if status == 200 and told == "success":
        return "answers with a part of the series only: one of its stores is away" if _is_partial(document) else ""
    if told == "error":
        kind, text = (str(document.top.get(key) or "no reason given") for key in ("errorType", "error"))
        return shorten(redacted(f"does not answer the query: {kind}: {text}"), LONGEST_PROBLEM)
    return f"answered HTTP status {status} with something that is not its API's JSON"


def _is_partial(document: Document) -> bool:
    """Says whether VictoriaMetrics answered with less than there is."""
    return document.top.get("isPartial") is True


def _text(body: bytearray) -> str:
    """Decodes an answer; one that is no text is no JSON either, and empty text says so."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return ""


def _agent_of(metric: Any) -> AgentKey | None:
    if not isinstance(metric, dict):
        return None
    namespace, agent = (metric.get(label) for label in LABELS)
    if not isinstance(namespace, str) or not isinstance(agent, str) or not namespace or not agent:
        return None
    return namespace, agent


def _number(sample: Any) -> float | None:
    """Reads `[TIME, "VALUE"]`."""
    if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[1], str):
        return None
    try:
        return float(sample[1])
    except ValueError:
        return None
