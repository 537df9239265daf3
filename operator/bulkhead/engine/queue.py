"""The work queue: one entry per key, two lanes, delays and backoff.

The urgent lane is for keys whose work only takes away. It has workers of its own, and it does not wait for the normal
lane even on the same key: work in progress there is cancelled, since what it builds is not wanted any more. Everything
is level-triggered, so a write that the cancelled work had already sent is seen and undone like any other drift.

Within a lane a key can be patient: it waits behind all others, and some of the workers are never given one. That is how
thousands of agents of a fleet that is stopped already are looked after without holding up the next that is not.

An API server that asks for patience (429) is heard by the normal lane as a whole. Cuts go on: each is tried again soon.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What is to be reconciled: an object by kind, namespace and name."""

    kind: str
    namespace: str
    name: str


class Lane(Enum):
    """Where a key waits."""

    NORMAL = "normal"
    URGENT = "urgent"


Work = Callable[[Key, Lane], Awaitable[None]]

BACKOFF_FIRST = 0.05
BACKOFF_MOST = 15.0
URGENT_RETRY_MOST = 0.5
"""The longest that a cut waits, in seconds, when the API server asks for patience, however much it asks for. Priority
and fairness says one second to everybody; who heeds it beside hundreds that do not is the last to be served."""
PAUSE_FIRST = 0.5
"""Seconds that the normal lane pauses when the API server asks for patience and does not say how much; it doubles."""


@dataclass(slots=True)
class _Lane:
    """The waiting keys of one lane, in order of arrival; the patient ones apart."""

    waiting: deque[Key] = field(default_factory=deque)
    behind: deque[Key] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    members: set[Key] = field(default_factory=set)
    patient: set[Key] = field(default_factory=set)
    """Those of the members that wait behind."""
    running: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    for_patient: int = 0
    """Workers that may have a patient key."""
    with_patient: set[Key] = field(default_factory=set)
    paused_until: float = float("-inf")
    pauses: int = 0

    def put(self, key: Key, *, patient: bool) -> None:
        """Puts a key in, or brings one that waits behind to the front if it is patient no more."""
        if key in self.members and (patient or key not in self.patient):
            return
        self.members.add(key)
        if patient:
            self.patient.add(key)
        else:
            self.patient.discard(key)
        (self.behind if patient else self.waiting).append(key)
        self.arrived.set()

    def discard(self, key: Key) -> None:
        """Takes a key out, wherever it waits."""
        self.members.discard(key)
        self.patient.discard(key)

    def take(self) -> Key | None:
        """Takes the next key out that a worker may have now."""
        # A key that was taken out or brought to the front is still in a deque, but not of its kind any more.
        while self.waiting:
            key = self.waiting.popleft()
            if key in self.members and key not in self.patient:
                self.discard(key)
                return key
        while self.behind and len(self.with_patient) < self.for_patient:
            key = self.behind.popleft()
            if key in self.patient:
                self.discard(key)
                self.with_patient.add(key)
                return key
        return None


class WorkQueue:
    """A deduplicating queue with a normal and an urgent lane.

    All methods are for the event loop's thread. A key waits at most once, in one lane; it is worked on at most once per
    lane at a time, and in the normal lane never while the urgent lane has it.

    Args:
        clock: monotonic seconds.
        jitter: a number in [0, 1) for each backoff; retries of many keys must not come in step.
        is_patient: asked when a key is put in: whether it may wait behind all others of its lane.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
        is_patient: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._is_patient = is_patient
        self._lanes = {lane: _Lane() for lane in Lane}
        self._again: dict[Key, Lane] = {}
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, tuple[float, Lane]] = {}
        self._heap: list[tuple[float, Key]] = []
        self._timer = asyncio.Event()

    def add(self, key: Key, lane: Lane = Lane.NORMAL) -> None:
        """Puts a key in; an urgent one overtakes its own normal entry and cancels its work in progress there."""
        normal, urgent = self._lanes[Lane.NORMAL], self._lanes[Lane.URGENT]
        if key in urgent.members:
            urgent.put(key, patient=self._is_patient(key))
            return
        if key in urgent.running:
            self._again[key] = Lane.URGENT if Lane.URGENT in (lane, self._again.get(key)) else lane
            return
        if lane is Lane.URGENT:
            self._again.pop(key, None)
            normal.discard(key)
            building = normal.running.get(key)
            if building is not None:
                building.cancel()
        elif key in normal.running:
            self._again.setdefault(key, lane)
            return
        self._lanes[lane].put(key, patient=self._is_patient(key))

    def add_after(self, key: Key, seconds: float, lane: Lane = Lane.NORMAL) -> None:
        """Puts a key in after a delay; of several delays of one key the shortest counts, and the lane that cuts."""
        due = self._clock() + seconds
        earlier = self._due.get(key)
        if earlier is not None:
            lane = Lane.URGENT if Lane.URGENT in (lane, earlier[1]) else lane
            if earlier[0] <= due:
                # A cut must not wait for the normal lane, which may pause.
                self._due[key] = (earlier[0], lane)
                return
        self._due[key] = (due, lane)
        heapq.heappush(self._heap, (due, key))
        self._timer.set()

    def retry(self, key: Key, lane: Lane, *, at_least: float = 0.0) -> float:
        """Puts a key in after its backoff, with full jitter in the upper half; returns the seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is bounded: 2**1100 is no float, and a key may fail for days.
        ceiling: float = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))
        seconds = max(at_least, ceiling * (0.5 + 0.5 * self._jitter()))
        self.add_after(key, seconds, lane)
        return seconds

    def throttled(self, key: Key, lane: Lane, retry_after: float | None) -> float:
        """Puts a key in again that the API server asked to have patience with; returns the seconds.

        The normal lane begins nothing until then. The urgent one goes on, and this key of it is tried again soon.

        Args:
            key: what was worked on.
            lane: in which.
            retry_after: seconds, where the API server said how long; else each pause is twice the one before.
        """
        if lane is Lane.URGENT:
            seconds = URGENT_RETRY_MOST * (0.5 + 0.5 * self._jitter())
            self.add_after(key, seconds, lane)
            return seconds
        entry, now = self._lanes[lane], self._clock()
        if now >= entry.paused_until:
            entry.pauses = entry.pauses + 1 if now - entry.paused_until < BACKOFF_MOST else 1
            asked = retry_after or PAUSE_FIRST * 2.0 ** min(entry.pauses - 1, 16)
            entry.paused_until = now + min(asked, BACKOFF_MOST) * (1 + 0.2 * self._jitter())
            self._timer.set()
        return self.retry(key, lane, at_least=entry.paused_until - now)

    def forget(self, key: Key) -> None:
        """Clears a key's count of failures, after work on it has succeeded."""
        self._failures.pop(key, None)

    def cancel_delay(self, key: Key) -> None:
        """Drops a key's pending delay: its object is gone."""
        self._due.pop(key, None)

    def depth(self, lane: Lane) -> int:
        """Returns how many keys wait in a lane."""
        return len(self._lanes[lane].members)

    async def run(self, work: Work, *, workers: dict[Lane, int]) -> None:
        """Works until cancelled, with so many workers in each lane.

        `work` reports its own failures (`retry`); an exception that it lets through is logged and retried, never lost.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick(), name="queue-delays")
            for lane, count in workers.items():
                self._lanes[lane].for_patient = max(1, count - max(1, count // 4))
                for number in range(count):
                    group.create_task(self._worker(lane, work), name=f"worker-{lane.value}-{number}")

    async def _worker(self, lane: Lane, work: Work) -> None:
        entry = self._lanes[lane]
        while True:
            key = await self._next(entry)
            task = asyncio.ensure_future(self._one(key, lane, work))
            entry.running[key] = task
            try:
                await asyncio.wait({task})
            finally:
                # Cancelled here means the whole queue is being shut down: the work in progress goes with it.
                task.cancel()
                entry.running.pop(key, None)
                if key in entry.with_patient:
                    entry.with_patient.discard(key)
                    entry.arrived.set()
            self._settle(key)

    async def _next(self, entry: _Lane) -> Key:
        while True:
            key = entry.take() if self._clock() >= entry.paused_until else None
            if key is not None:
                return key
            entry.arrived.clear()
            await entry.arrived.wait()

    async def _one(self, key: Key, lane: Lane, work: Work) -> None:
        try:
            await work(key, lane)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this work, but something that it waited for was: it is not done, and nobody knows.
            logger.warning("work was cut short: what it waited for was cancelled", extra=_named(key))
            self.retry(key, lane)
        except Exception:
            logger.exception("work failed unexpectedly", extra=_named(key))
            self.retry(key, lane)

    def _settle(self, key: Key) -> None:
        if any(key in lane.running for lane in self._lanes.values()):
            return
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again)

    async def _tick(self) -> None:
        while True:
            self._timer.clear()
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                due, key = heapq.heappop(self._heap)
                entry = self._due.get(key)
                if entry is not None and entry[0] == due:
                    del self._due[key]
                    self.add(key, entry[1])
            for lane in self._lanes.values():
                if lane.members and lane.paused_until <= now:
                    lane.arrived.set()
            dues = [lane.paused_until for lane in self._lanes.values() if lane.paused_until > now]
            dues += [self._heap[0][0]] if self._heap else []
            wait = min(dues) - now if dues else None
            try:
                async with asyncio.timeout(wait):
                    await self._timer.wait()
            except TimeoutError:
                continue


def _named(key: Key) -> dict[str, str]:
    return {"key": f"{key.namespace}/{key.name}"}
