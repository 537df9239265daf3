"""The work queue: dedupe, lanes, delays, backoff."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bulkhead.engine.queue import BACKOFF_MOST, URGENT_RETRY_MOST, Key, Lane, WorkQueue

A, B = Key("AgentDeployment", "lab", "a"), Key("AgentDeployment", "lab", "b")


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


async def broken() -> None:
    raise RuntimeError("unexpected")


async def deserted() -> None:
    """Waits for something that somebody else cancels."""
    awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    awaited.cancel()
    await awaited


class Bench:
    """A queue whose work is under the test's control: each piece waits until it is let go."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.patient: set[Key] = set()
        self.queue = WorkQueue(clock=self.clock, jitter=lambda: 1.0, is_patient=lambda key: key in self.patient)
        self.started: list[tuple[Key, Lane]] = []
        self.finished: list[tuple[Key, Lane]] = []
        self.cancelled: list[tuple[Key, Lane]] = []
        self.gates: dict[tuple[Key, Lane], asyncio.Event] = {}
        self.progress = asyncio.Event()
        self.fail: Callable[[Key], bool] = lambda _: False
        self.failure = broken

    def hold(self, key: Key, lane: Lane) -> None:
        self.gates[(key, lane)] = asyncio.Event()

    def release(self, key: Key, lane: Lane) -> None:
        self.gates.pop((key, lane)).set()

    async def work(self, key: Key, lane: Lane) -> None:
        self.started.append((key, lane))
        if self.fail(key):
            await self.failure()
        gate = self.gates.get((key, lane))
        try:
            if gate is not None:
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append((key, lane))
            raise
        self.finished.append((key, lane))
        self.progress.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.progress.clear()
                await self.progress.wait()

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


@asynccontextmanager
async def bench(normal: int = 2, urgent: int = 2) -> AsyncIterator[Bench]:
    made = Bench()
    running = asyncio.create_task(made.queue.run(made.work, workers={Lane.NORMAL: normal, Lane.URGENT: urgent}))
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_key_that_waits_is_not_put_in_twice() -> None:
    made = Bench()
    made.queue.add(A)
    made.queue.add(A)
    made.queue.add(B)
    assert made.queue.depth(Lane.NORMAL) == 2


async def test_what_arrives_during_the_work_is_worked_on_once_more_and_never_at_the_same_time() -> None:
    async with bench() as made:
        made.hold(A, Lane.NORMAL)
        made.queue.add(A)
        await made.settle()
        made.queue.add(A)
        made.queue.add(A)
        await made.settle()
        assert made.started == [(A, Lane.NORMAL)]
        made.release(A, Lane.NORMAL)
        await made.settle()
        assert made.started == [(A, Lane.NORMAL)] * 2


async def test_an_urgent_key_overtakes_its_own_normal_entry() -> None:
    made = Bench()
    made.queue.add(A, Lane.NORMAL)
    made.queue.add(A, Lane.URGENT)
    assert (made.queue.depth(Lane.NORMAL), made.queue.depth(Lane.URGENT)) == (0, 1)


async def test_an_urgent_key_does_not_wait_for_the_normal_work_on_it_but_ends_that() -> None:
    async with bench() as made:
        made.hold(A, Lane.NORMAL)
        made.queue.add(A)
        await made.settle()
        made.queue.add(A, Lane.URGENT)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT)]
        assert made.cancelled == [(A, Lane.NORMAL)]


async def test_urgent_work_is_not_held_up_by_a_normal_lane_in_which_everything_is_stuck() -> None:
    async with bench(normal=1, urgent=1) as made:
        made.hold(A, Lane.NORMAL)
        made.queue.add(A)
        for number in range(100):
            made.queue.add(Key("AgentDeployment", "lab", f"n{number}"))
        made.queue.add(B, Lane.URGENT)
        await made.settle()
        assert made.finished == [(B, Lane.URGENT)]


async def test_normal_work_on_a_key_waits_for_its_urgent_work() -> None:
    async with bench() as made:
        made.hold(A, Lane.URGENT)
        made.queue.add(A, Lane.URGENT)
        await made.settle()
        made.queue.add(A, Lane.NORMAL)
        await made.settle()
        assert made.started == [(A, Lane.URGENT)]
        made.release(A, Lane.URGENT)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT), (A, Lane.NORMAL)]


async def test_of_what_arrives_during_urgent_work_the_urgent_wins() -> None:
    async with bench() as made:
        made.hold(A, Lane.URGENT)
        made.queue.add(A, Lane.URGENT)
        await made.settle()
        made.queue.add(A, Lane.URGENT)
        made.queue.add(A, Lane.NORMAL)
        made.release(A, Lane.URGENT)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT)] * 2


async def test_delays_end_when_the_clock_says_so_and_the_shortest_counts() -> None:
    async with bench() as made:
        made.queue.add_after(A, 60)
        made.queue.add_after(A, 0.01, Lane.URGENT)
        made.queue.add_after(A, 5)
        made.clock.time += 1
        await made.until(lambda: bool(made.finished))
        assert made.finished == [(A, Lane.URGENT)]
        made.clock.time += 100
        made.queue.add_after(B, 0.0)
        await made.until(lambda: len(made.finished) == 2)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT), (B, Lane.NORMAL)]


def test_backoff_grows_to_its_bound_and_starts_anew_after_success() -> None:
    queue = WorkQueue(clock=Clock(), jitter=lambda: 1.0)
    waits = [queue.retry(A, Lane.NORMAL) for _ in range(5000)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == BACKOFF_MOST
    queue.forget(A)
    assert queue.retry(A, Lane.NORMAL) == 0.05
    assert queue.retry(A, Lane.NORMAL, at_least=7.0) == 7.0


def test_backoffs_of_many_keys_do_not_come_in_step() -> None:
    queue = WorkQueue(clock=Clock())
    waits = {queue.retry(Key("AgentDeployment", "lab", str(number)), Lane.NORMAL) for number in range(50)}
    assert len(waits) > 40
    assert all(0.025 <= wait <= 0.05 for wait in waits)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(broken, "work failed unexpectedly", id="an unexpected error"),
        pytest.param(deserted, "what it waited for was cancelled", id="a wait for what was cancelled"),
    ],
)
async def test_work_that_ends_unexpectedly_is_tried_again_and_stalls_nobody(
    caplog: pytest.LogCaptureFixture, failure: Callable[[], Coroutine[Any, Any, None]], told: str
) -> None:
    async with bench(normal=1) as made:
        made.failure = failure
        made.fail = lambda key: key == A
        made.queue.add(A)
        made.queue.add(B)
        await made.settle()
        assert (B, Lane.NORMAL) in made.finished
        made.fail = lambda key: False
        made.clock.time += 1
        made.queue.add_after(B, 0.0)
        await made.until(lambda: (A, Lane.NORMAL) in made.finished)
    assert told in caplog.text


async def test_ending_the_queue_ends_the_work_in_progress() -> None:
    async with bench() as made:
        made.hold(A, Lane.NORMAL)
        made.queue.add(A)
        await made.settle()
    assert made.cancelled == [(A, Lane.NORMAL)]


def agents(count: int) -> list[Key]:
    return [Key("AgentDeployment", "lab", f"n{number}") for number in range(count)]


async def test_who_is_patient_waits_behind_all_others_of_the_lane() -> None:
    many = agents(50)
    async with bench(urgent=1) as made:
        made.patient = set(many)
        made.hold(A, Lane.URGENT)
        for key in (A, *many, B):
            made.queue.add(key, Lane.URGENT)
        await made.settle()
        made.release(A, Lane.URGENT)
        await made.until(lambda: len(made.finished) == 52)
        assert [key for key, _ in made.finished[:2]] == [A, B]
        assert [key for key, _ in made.finished[2:]] == many, "among themselves they keep their order"


async def test_work_on_patient_keys_never_has_all_workers() -> None:
    many = agents(50)
    async with bench(urgent=4) as made:
        made.patient = set(many)
        for key in many:
            made.hold(key, Lane.URGENT)
            made.queue.add(key, Lane.URGENT)
        await made.settle()
        assert len(made.started) == 3
        made.queue.add(A, Lane.URGENT)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT)]
        for key in many:
            made.release(key, Lane.URGENT)
        await made.until(lambda: len(made.finished) == 51)


async def test_a_key_that_is_patient_no_more_comes_to_the_front() -> None:
    many = agents(5)
    async with bench(urgent=1) as made:
        made.patient = set(many)
        made.hold(A, Lane.URGENT)
        for key in (A, *many):
            made.queue.add(key, Lane.URGENT)
        await made.settle()
        made.patient.discard(many[3])
        made.queue.add(many[3], Lane.URGENT)
        made.release(A, Lane.URGENT)
        await made.until(lambda: len(made.finished) == 6)
        assert [key for key, _ in made.finished] == [A, many[3], many[0], many[1], many[2], many[4]]


async def test_an_api_server_that_asks_for_patience_pauses_the_normal_lane_and_not_the_urgent_one() -> None:
    async with bench() as made:
        assert made.queue.throttled(A, Lane.NORMAL, 4.0) >= 4.0
        made.queue.add(B, Lane.NORMAL)
        made.queue.add(A, Lane.URGENT)
        await made.settle()
        assert made.finished == [(A, Lane.URGENT)]
        made.clock.time += 10.0
        made.queue.add_after(Key("AgentDeployment", "lab", "c"), 0.0, Lane.URGENT)
        await made.until(lambda: (B, Lane.NORMAL) in made.finished)


async def test_a_pause_ends_by_itself() -> None:
    running = WorkQueue(clock=asyncio.get_running_loop().time, jitter=lambda: 0.0)
    worked = asyncio.Event()

    async def work(key: Key, lane: Lane) -> None:
        worked.set()

    task = asyncio.create_task(running.run(work, workers=dict.fromkeys(Lane, 1)))
    running.throttled(A, Lane.NORMAL, 0.05)
    running.add(B, Lane.NORMAL)
    async with asyncio.timeout(60):
        await worked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_cut_is_tried_again_soon_however_long_the_api_server_asks_to_wait() -> None:
    queue = WorkQueue(clock=Clock())
    assert all(0 < queue.throttled(A, Lane.URGENT, 3600.0) <= URGENT_RETRY_MOST for _ in range(100))


def test_pauses_grow_while_the_api_server_goes_on_refusing_and_does_not_say_how_long() -> None:
    clock = Clock()
    queue = WorkQueue(clock=clock, jitter=lambda: 0.0)
    waits = []
    for _ in range(8):
        waits.append(queue.throttled(A, Lane.NORMAL, None))
        assert queue.throttled(B, Lane.NORMAL, None) <= waits[-1] + 15.0, "refused at the same time: the same pause"
        clock.time += waits[-1]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    clock.time += 100
    assert queue.throttled(Key("AgentDeployment", "lab", "c"), Lane.NORMAL, None) == 0.5


async def test_a_cut_that_is_tried_again_does_not_wait_as_the_normal_look_that_was_to_come_does() -> None:
    async with bench() as made:
        made.queue.throttled(B, Lane.NORMAL, 15.0)
        made.queue.add_after(A, 0.2)
        made.queue.throttled(A, Lane.URGENT, None)
        made.queue.add_after(A, 0.1)
        made.clock.time += 1
        made.queue.add_after(B, 0.0)
        await made.until(lambda: (A, Lane.URGENT) in made.finished)
