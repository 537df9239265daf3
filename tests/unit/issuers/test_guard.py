"""The guard: whatever an issuer does, who calls it gets an answer in time, and no value in a message."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from bulkhead.issuers.base import IssuerError, NotRenewable, Refused, Unavailable
from bulkhead.issuers.guard import MAX_HANDLE, MAX_VALUES, Guarded
from tests.unit.issuers.issuers import NOW, REQUEST, VALUE, Told, credential, fails, gives

Call = Callable[[Guarded], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "prepare": lambda issuer: issuer.prepare(REQUEST),
    "issue": lambda issuer: issuer.issue(REQUEST, {}),
    "renew": lambda issuer: issuer.renew({}, until=NOW),
    "revoke": lambda issuer: issuer.revoke({}),
    "outstanding": lambda issuer: issuer.outstanding("test1234"),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

GARBAGE: dict[str, tuple[Call, Any]] = {
    "a handle that is none": (CALLS["prepare"], None),
    "a handle of numbers": (CALLS["prepare"], {"id": 1}),
    "a handle with a number as key": (CALLS["prepare"], {1: "id"}),
    "a handle that fills the books": (CALLS["prepare"], {"id": "x" * (MAX_HANDLE + 1)}),
    "no credential": (CALLS["issue"], None),
    "a credential without a time zone": (CALLS["issue"], credential(expires_at=NOW.replace(tzinfo=None))),
    "a credential that expires never": (CALLS["issue"], credential(expires_at=None)),
    "a credential without files": (CALLS["issue"], credential(values={})),
    "files of text": (CALLS["issue"], credential(values={"token": VALUE})),
    "a file elsewhere": (CALLS["issue"], credential(values={"../token": VALUE.encode()})),
    "a file that is a folder": (CALLS["issue"], credential(values={"..": VALUE.encode()})),
    "files that fit in no Secret": (CALLS["issue"], credential(values={"token": b"x" * (MAX_VALUES + 1)})),
    "a credential with a handle of numbers": (CALLS["issue"], credential(handle={"id": 1})),
    "an expiry without a time zone": (CALLS["renew"], datetime(2026, 1, 1)),
    "no expiry": (CALLS["renew"], None),
    "outstanding handles of numbers": (CALLS["outstanding"], [{"id": 1}]),
}


def guarded(issuer: Told, **more: Any) -> Guarded:
    return Guarded(issuer, name="warehouse", **more)


async def test_what_is_in_order_gets_through() -> None:
    good = credential()
    assert await guarded(gives({"id": "1"})).prepare(REQUEST) == {"id": "1"}
    assert await guarded(gives(good)).issue(REQUEST, {}) is good
    assert await guarded(gives(NOW)).renew({}, until=NOW) == NOW
    assert await guarded(gives([{"id": "1"}])).outstanding("test1234") == [{"id": "1"}]
    assert guarded(gives(None)).describe() == "an issuer of tests"
    assert guarded(gives(None)).external is True


@every_call
@pytest.mark.parametrize("kind", [IssuerError, Refused, NotRenewable, Unavailable])
async def test_an_issuers_own_error_keeps_its_kind_and_gets_its_name(kind: type[IssuerError], call: Call) -> None:
    with pytest.raises(IssuerError) as caught:
        await call(guarded(fails(kind("it is so", retry_after=7.0))))
    assert type(caught.value) is kind
    assert caught.value.message == "issuer warehouse: it is so"
    assert caught.value.retry_after == 7.0


@every_call
@pytest.mark.parametrize("error", [ValueError, RuntimeError, TimeoutError, KeyError, asyncio.CancelledError])
async def test_a_foreign_exception_never_gets_out_nor_does_its_text(error: type[BaseException], call: Call) -> None:
    with pytest.raises(Unavailable) as caught:
        await call(guarded(fails(error(VALUE))))
    assert VALUE not in "".join(traceback.format_exception(caught.value))
    assert "issuer warehouse" in caught.value.message


async def test_what_an_issuers_error_was_made_from_is_left_behind() -> None:
    async def do() -> None:
        try:
            raise ValueError(VALUE)
        except ValueError as error:
            raise Unavailable("no answer") from error

    with pytest.raises(Unavailable) as caught:
        await guarded(Told(do)).revoke({})
    assert VALUE not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("call", "answer"), GARBAGE.values(), ids=GARBAGE)
async def test_an_answer_that_cannot_be_used_is_refused_without_repeating_it(call: Call, answer: Any) -> None:
    with pytest.raises(Refused, match="issuer warehouse gave") as caught:
        await call(guarded(gives(answer)))
    assert VALUE not in caught.value.message
    assert len(caught.value.message) < 300


@every_call
async def test_a_call_that_does_not_end_is_given_up_at_its_deadline(call: Call) -> None:
    with pytest.raises(Unavailable, match=r"issuer warehouse gave no answer within 0\.01 s"):
        await call(guarded(Told(asyncio.Event().wait), deadline=0.01))


async def test_an_issuer_that_ignores_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkhead.issuers.guard.GRACE_SECONDS", 0.01)
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    issuer = guarded(Told(stubborn), deadline=0.01, places=1, queue_seconds=0.01)
    with pytest.raises(Unavailable, match="gave no answer"):
        await issuer.revoke({})
    with pytest.raises(Unavailable, match="busy"):
        await issuer.revoke({})
    released.set()
    await asyncio.sleep(0)


async def test_what_fails_after_it_was_given_up_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bulkhead.issuers.guard.GRACE_SECONDS", 0.01)
    ended = asyncio.Event()

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ended.wait()
            raise ValueError(VALUE) from None

    with caplog.at_level(logging.DEBUG):
        with pytest.raises(Unavailable):
            await guarded(Told(late), deadline=0.01).revoke({})
        ended.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
    assert VALUE not in caplog.text


async def test_who_calls_and_is_cancelled_cancels_the_call() -> None:
    cancelled = asyncio.Event()

    async def do() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = asyncio.create_task(guarded(Told(do)).revoke({}))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cancelled.is_set()


async def test_only_so_many_calls_run_at_once() -> None:
    running, most = 0, 0

    async def do() -> dict[str, str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return {}

    issuer = guarded(Told(do), places=3)
    await asyncio.gather(*(issuer.prepare(REQUEST) for _ in range(20)))
    assert most == 3


async def test_a_revocation_never_waits_for_what_builds() -> None:
    never = asyncio.Event()
    slow = True

    async def do() -> dict[str, str]:
        if slow:
            await never.wait()
        return {}

    issuer = guarded(Told(do), places=2)
    building = [asyncio.create_task(issuer.prepare(REQUEST)) for _ in range(5)]
    await asyncio.sleep(0.01)
    slow = False
    async with asyncio.timeout(60):
        await issuer.revoke({})
    for task in building:
        task.cancel()
    await asyncio.gather(*building, return_exceptions=True)


async def test_a_call_that_finds_no_place_is_told_so_and_leaves_no_trace() -> None:
    never = asyncio.Event()
    issuer = guarded(Told(never.wait), places=1, queue_seconds=0.01)
    first = asyncio.create_task(issuer.prepare(REQUEST))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match=r"issuer warehouse is busy: .* within 0\.01 s"):
        await issuer.prepare(REQUEST)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize(
    ("told", "shown"), [("x" * 1000, "x" * 256), ("", "issuer warehouse"), (7, "issuer warehouse")]
)
async def test_a_description_that_cannot_be_shown_is_replaced(
    told: Any, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "describe", lambda self: told)
    assert guarded(gives(None)).describe() == shown


async def test_a_description_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "describe", lambda self: [][0])
    assert guarded(gives(None)).describe() == "issuer warehouse"


async def test_closing_closes_the_issuer() -> None:
    issuer = gives(None)
    await guarded(issuer).close()
    assert issuer.closed


def test_a_credential_does_not_print_its_values() -> None:
    assert VALUE not in repr(credential())
    assert VALUE not in str(credential())
