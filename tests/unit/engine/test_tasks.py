"""Parts that never should end, and how it is noticed that one did."""

from __future__ import annotations

import asyncio

import pytest

from bulkhead.engine.tasks import Tasks


async def for_ever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise RuntimeError("the part is broken")


async def over() -> None:
    return


async def deserted() -> None:
    """Waits for something that somebody else cancels."""
    awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    awaited.cancel()
    await awaited


async def test_a_part_that_ends_in_whatever_way_is_named_and_one_that_was_stopped_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    for part in (broken, over, deserted, for_ever):
        tasks.start(part.__name__, part())
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(tasks.failed) == ["broken", "deserted", "over"]
    assert "the part is broken" in caplog.text

    await tasks.stop()

    assert sorted(tasks.failed) == ["broken", "deserted", "over"]
