"""Full garbage collections: never by themselves, and never while somebody is being stopped."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bulkhead.engine.garbage import collect_seldom
from tests.faults import eventually


@pytest.fixture
def full() -> Iterator[list[str]]:
    """The full collections that ended, as they do."""
    ended: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            ended.append(phase)

    gc.callbacks.append(note)
    yield ended
    gc.callbacks.remove(note)


def keep_much() -> list[list[object]]:
    """Makes so many lasting objects that Python goes through all there are, several times over."""
    return [[[]] for _ in range(len(gc.get_objects()) // 2)]


async def test_python_does_none_by_itself_while_it_is_left_to_the_operator(full: list[str]) -> None:
    before = gc.get_threshold()
    keep_much()
    assert full, "what is kept is enough to set one off"
    task = asyncio.create_task(collect_seldom(is_busy=lambda: False))
    await eventually(lambda: gc.get_threshold() != before, "it has begun")
    full.clear()
    keep_much()
    assert full == []
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert gc.get_threshold() == before


async def test_it_waits_until_nobody_is_being_stopped(full: list[str]) -> None:
    answers = [True, True, True, False]
    seen: list[int] = []

    def is_busy() -> bool:
        seen.append(len(full))
        return answers.pop(0) if answers else True

    task = asyncio.create_task(collect_seldom(is_busy=is_busy, interval=0, look=0))
    await eventually(lambda: len(seen) > 4, "it has done one and is to do the next")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert seen[:5] == [0, 0, 0, 0, 1]
    assert len(full) == 1
