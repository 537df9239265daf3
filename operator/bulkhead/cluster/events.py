"""Events (events.k8s.io/v1) about agents: what `kubectl describe` and `kubectl events` show.

They are for people. Losing one changes nothing that Bulkhead does, so nothing ever waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bulkhead.api import meta
from bulkhead.api.conditions import format_micro_time
from bulkhead.cluster.backoff import Backoff
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.resources import EVENTS, Object, name_of, namespace_of, uid_of

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

CONTROLLER = f"{meta.GROUP}/operator"
NOTE_LIMIT = 1024
"""Bytes of a note, as the API server counts them."""
WORD_LIMIT = 128
"""Characters of a reason, an action and a reporting instance."""
SERIES_LIMIT = 4096
"""Series that are kept in mind; beyond them the same event again makes a new object."""
ATTEMPTS = 5
FLUSH_SECONDS = 1.0


@dataclass(slots=True)
class _Series:
    """The same thing happening again and again, as one Event."""

    event: Object
    started: datetime
    count: int = 1
    queued: bool = True
    written: bool = False


class Recorder:
    """Writes Events in the background. Call `run` in a task; `record` never waits.

    The same event again within a window is counted in the first one's series, which is written when the count reaches
    2, 4, 8 and so on: whatever loops, the writes grow with its logarithm.

    Attributes:
        dropped: Events that were never written: too many waited, or the API server would not take them.
    """

    def __init__(
        self,
        client: Client,
        *,
        instance: str,
        capacity: int = 1000,
        window: float = 300.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares a recorder.

        Args:
            client: How to reach the API server.
            instance: Which replica reports: the pod's name.
            capacity: Events that may wait; when more come, the oldest is dropped and counted in `dropped`.
            window: Seconds in which the same event again is counted in a series and not written as another object.
            now: The time of day.
        """
        self.dropped = 0
        self._client = client
        self._instance = instance[:WORD_LIMIT]
        self._capacity = capacity
        self._window = window
        self._now = now
        self._queue: deque[_Series] = deque()
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._wake = asyncio.Event()
        self._backoff = Backoff(first=0.2, limit=5.0)

    def record(self, regarding: Object, *, reason: str, note: str, action: str, type: EventType = "Normal") -> None:
        """Queues an Event about an object; never waits.

        Args:
            regarding: The object: its head and metadata are read.
            reason: Why, as one CamelCase word.
            note: A sentence for people; cut at 1024 bytes.
            action: What was done or tried, as one CamelCase word.
            type: `Normal` or `Warning`.
        """
        now = self._now()
        note = note.encode()[:NOTE_LIMIT].decode(errors="ignore")
        key = (uid_of(regarding), type, reason, action, note)
        series = self._series.get(key)
        if series is not None and (now - series.started).total_seconds() < self._window:
            series.count += 1
            series.event["series"] = {"count": series.count, "lastObservedTime": format_micro_time(now)}
            if series.count & (series.count - 1) == 0 and not series.queued:
                self._enqueue(series)
            return
        series = _Series(self._event(regarding, now, reason=reason, note=note, action=action, type=type), started=now)
        self._series[key] = series
        self._series.move_to_end(key)
        if len(self._series) > SERIES_LIMIT:
            self._series.popitem(last=False)
        self._enqueue(series)

    async def run(self) -> None:
        """Writes what is queued until the task is cancelled, then what is left, for a second at most."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._drain()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._drain()

    def _enqueue(self, series: _Series) -> None:
        if len(self._queue) >= self._capacity:
            self._queue.popleft().queued = False
            self.dropped += 1
        series.queued = True
        self._queue.append(series)
        self._wake.set()

    async def _drain(self) -> None:
        while self._queue:
            series = self._queue[0]
            count = series.count
            try:
                await self._write(series)
            except ClusterError as error:
                lasting = isinstance(error, ApiError) and not (error.throttled or error.status >= 500)
                if not lasting and self._backoff.failures + 1 < ATTEMPTS:
                    asked = error.retry_after or 0.0 if isinstance(error, ApiError) else 0.0
                    await asyncio.sleep(self._backoff.next(at_least=min(asked, 5.0)))
                    continue
                log.debug("an event was not taken: %s", error)
                self.dropped += 1
            self._backoff.reset()
            if series.written and series.count.bit_length() != count.bit_length():
                continue  # a power of two was reached while it was being written
            if self._queue and self._queue[0] is series:  # it may have been dropped meanwhile
                self._queue.popleft()
                series.queued = False

    async def _write(self, series: _Series) -> None:
        if series.written:
            name, namespace = name_of(series.event), namespace_of(series.event)
            patch = {"series": series.event["series"]}
            await self._client.merge_patch(EVENTS, namespace=namespace, name=name, patch=patch)
            return
        try:
            await self._client.create(series.event)
        except ApiError as error:
            if not error.already_exists:  # it is there: an attempt whose answer was lost had written it
                raise
        series.written = True

    def _event(
        self, regarding: Object, now: datetime, *, reason: str, note: str, action: str, type: EventType
    ) -> Object:
        name = name_of(regarding)[:200].rstrip("-.")
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            # A cluster-scoped object's events live in `default`.
            "metadata": {
                "name": f"{name}.{secrets.token_hex(8)}",
                "namespace": namespace_of(regarding) or "default",
            },
            "eventTime": format_micro_time(now),
            "type": type,
            "reason": reason[:WORD_LIMIT],
            "action": action[:WORD_LIMIT],
            "note": note,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": regarding.get("apiVersion"),
                "kind": regarding.get("kind"),
                "namespace": namespace_of(regarding) or "",
                "name": name_of(regarding),
                "uid": uid_of(regarding),
            },
        }
