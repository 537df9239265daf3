"""Tells others what breakers did: CloudEvents 1.0 over HTTP (structured mode, JSON), delivered in the background.

A notification is a courtesy: what happened is in the agent's status and in an event. So nothing waits for a delivery;
a receiver that is away gets what is not older than an hour when it is back, and a restart forgets what waits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from yarl import URL

from bulkhead.api import conditions
from bulkhead.signals.http import HttpClient, HttpError
from bulkhead.signals.settings import NotificationSettings

logger = logging.getLogger(__name__)

MOST_WAITING = 1000
"""For each receiver; then the oldest is dropped."""
KEPT = timedelta(hours=1)
"""How long a delivery is tried."""
TIMEOUT_SECONDS = 10.0
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0

_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_NEVER = frozenset({400, 405, 410, 413, 414, 415, 422})
"""HTTP statuses by which a receiver says that it will not take this one later either."""
_LARGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Something that happened.

    Attributes:
        id: unique; the same thing told twice has the same one.
        type: what, as CloudEvents have it: `dev.bulkhead.circuit.opened`.
        subject: to whom: `NAMESPACE/NAME`.
        time: when.
        data: the evidence, as plain JSON; no secrets.
    """

    id: str
    type: str
    subject: str
    time: datetime
    data: Mapping[str, Any]


def cloud_event(notification: Notification, *, source: str) -> bytes:
    """Returns a notification as a CloudEvent in JSON."""
    content = {
        "specversion": "1.0",
        "id": notification.id,
        "source": source,
        "type": notification.type,
        "subject": notification.subject,
        "time": conditions.format_micro_time(notification.time),
        "datacontenttype": "application/json",
        "data": dict(notification.data),
    }
    return json.dumps(content).encode()


class Notifier:
    """Delivers notifications to every receiver, each with a queue of its own."""

    def __init__(
        self,
        receivers: Sequence[NotificationSettings],
        *,
        source: str,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Prepares it; `run` delivers.

        Args:
            receivers: to whom.
            source: the CloudEvents source: which operator of which cluster this is, a URI reference.
            clock: gives the time.
            sleep: waits for so many seconds.
            rand: gives numbers in [0, 1).
        """
        self._counts: Counter[str] = Counter()
        self._source = source
        self._clock = clock
        self._receivers = tuple(
            _Receiver(one, counts=self._counts, clock=clock, sleep=sleep, rand=rand) for one in receivers
        )

    def send(self, notification: Notification) -> None:
        """Hands one over. Never waits and never raises; without receivers nothing happens."""
        if not self._receivers:
            return
        try:
            body = cloud_event(notification, source=self._source)
        except (TypeError, ValueError, RecursionError):
            # Whoever opens a breaker must not be stopped by whoever would tell of it.
            logger.exception("a notification of type %s cannot be written as JSON", notification.type)
            self._counts["dropped"] += 1
            return
        for receiver in self._receivers:
            receiver.take(body, self._clock())

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for receiver in self._receivers:
                    group.create_task(receiver.run())
                await asyncio.Event().wait()
        finally:
            for receiver in self._receivers:
                await receiver.close()

    @property
    def waiting(self) -> int:
        """How many deliveries wait."""
        return sum(receiver.waiting for receiver in self._receivers)

    def counts(self) -> Mapping[str, int]:
        """Returns counters for metrics: `delivered`, `failed` (tries) and `dropped`."""
        return dict(self._counts)


class _Receiver:
    def __init__(
        self,
        settings: NotificationSettings,
        *,
        counts: Counter[str],
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        rand: Callable[[], float],
    ) -> None:
        self._url = settings.url
        # Some receivers have people write a token into the path.
        self._shown = str(URL(settings.url).origin())
        self._http = HttpClient(settings, seconds=TIMEOUT_SECONDS)
        self._counts = counts
        self._clock = clock
        self._sleep = sleep
        self._rand = rand
        self._queue: deque[tuple[bytes, datetime]] = deque()
        self._filled = asyncio.Event()
        self._failures = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def take(self, body: bytes, now: datetime) -> None:
        if len(self._queue) >= MOST_WAITING:
            self._queue.popleft()
            self._drop("more than %d notifications wait", MOST_WAITING)
        self._queue.append((body, now))
        self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            if not self._queue:
                self._filled.clear()
                continue
            body, since = self._queue[0]
            if self._clock() - since > KEPT:
                self._queue.popleft()
                self._drop("it could not be delivered for %s", KEPT)
                continue
            wait = await self._deliver(body, since)
            if wait is not None:
                await self._sleep(wait)

    async def close(self) -> None:
        await self._http.close()

    async def _deliver(self, body: bytes, since: datetime) -> float | None:
        """Tries the first that waits; gives the seconds until the next try where it failed."""
        asked: float | None = None
        try:
            response = await self._http.post(
                self._url, data=body, headers={"Content-Type": _CONTENT_TYPE}, largest=_LARGEST_ANSWER
            )
        except HttpError as error:
            problem = str(error)
        else:
            if 200 <= response.status < 300:
                self._remove(body, since)
                self._counts["delivered"] += 1
                self._failures = 0
                return None
            if response.status in _NEVER:
                self._remove(body, since)
                self._drop("the receiver refuses it with HTTP status %d", response.status)
                return None
            problem, asked = f"answers with HTTP status {response.status}", response.retry_after
        self._counts["failed"] += 1
        if self._failures == 0:
            logger.warning("a receiver of notifications (%s) %s; it is tried again", self._shown, problem)
        self._failures += 1
        # To the end, so that one that the receiver chokes on does not hold up the others.
        if self._remove(body, since):
            self._queue.append((body, since))
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures - 1, 16)) * (0.5 + self._rand() / 2)
        return max(wait, min(asked or 0.0, KEPT.total_seconds()))

    def _remove(self, body: bytes, since: datetime) -> bool:
        # By looking: while it was on its way it may have been pushed out.
        if (body, since) not in self._queue:
            return False
        self._queue.remove((body, since))
        return True

    def _drop(self, why: str, *parameters: object) -> None:
        self._counts["dropped"] += 1
        logger.warning(f"a notification to {self._shown} was dropped: {why}", *parameters)
