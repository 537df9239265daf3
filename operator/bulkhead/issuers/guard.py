"""The guard around an issuer: deadlines, a limit on calls at once, and no foreign exception ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from bulkhead.issuers.base import (
    Credential,
    Handle,
    Issuer,
    IssuerError,
    NotRenewable,
    Refused,
    Request,
    Unavailable,
)

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds for one call."""
PLACES = 8
"""Calls at once that build; and as many that revoke, beside them."""
QUEUE_SECONDS = 30.0
"""Seconds that a call waits for a place."""
GRACE_SECONDS = 1.0
"""Seconds that a call has to end after it was cancelled; then it is left behind."""

MAX_HANDLE = 4096
"""Characters of a handle, keys and values together: it is kept in a ConfigMap, and there may be thousands."""
MAX_DESCRIPTION = 256
MAX_VALUES = 512 * 1024
"""Bytes of all files of a credential: a Secret has 1 MiB, and half as much again as base64."""

_FILE_NAME = re.compile(r"(?!\.{1,2}$)[-._a-zA-Z0-9]{1,253}")


class Guarded:
    """An issuer behind deadlines; what the rest of the operator sees of any issuer.

    Revocations have places of their own: cutting never waits for building. An exception that is not an `IssuerError`
    comes from a library or a third party's code and its text may hold a value (a driver quotes the statement that
    failed), so that only its type is told, and it is not chained.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        name: str,
        deadline: float = DEADLINE,
        places: int = PLACES,
        queue_seconds: float = QUEUE_SECONDS,
    ) -> None:
        """Wraps an issuer.

        Args:
            issuer: the one to guard.
            name: its name in the configuration, which messages carry.
            deadline: seconds for one call.
            places: calls at once.
            queue_seconds: seconds that a call waits for its place before it fails as `Unavailable`.
        """
        self._issuer = issuer
        self._name = name
        self._deadline = deadline
        self._queue_seconds = queue_seconds
        self._building = asyncio.Semaphore(places)
        self._revoking = asyncio.Semaphore(places)

    @property
    def external(self) -> bool:
        """Says what the issuer says."""
        return self._issuer.external

    async def prepare(self, request: Request) -> Handle:
        """See `Issuer.prepare`."""
        return self._handle(await self._call(lambda: self._issuer.prepare(request), self._building))

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """See `Issuer.issue`."""
        return self._credential(await self._call(lambda: self._issuer.issue(request, handle), self._building))

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """See `Issuer.renew`."""
        return self._time(await self._call(lambda: self._issuer.renew(handle, until=until), self._building))

    async def revoke(self, handle: Handle) -> None:
        """See `Issuer.revoke`."""
        await self._call(lambda: self._issuer.revoke(handle), self._revoking)

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """See `Issuer.outstanding`."""
        found = await self._call(lambda: self._issuer.outstanding(installation), self._building)
        return [self._handle(one) for one in found]

    def describe(self) -> str:
        """Says what the issuer says, or its name where it says nothing that can be shown."""
        try:
            told = self._issuer.describe()
        except Exception:
            told = ""
        return told[:MAX_DESCRIPTION] if isinstance(told, str) and told else f"issuer {self._name}"

    async def close(self) -> None:
        """Closes the issuer."""
        await self._issuer.close()

    async def _call(self, call: Callable[[], Coroutine[Any, Any, T]], places: asyncio.Semaphore) -> T:
        try:
            async with asyncio.timeout(self._queue_seconds):
                await places.acquire()
        except TimeoutError:
            raise Unavailable(
                f"issuer {self._name} is busy: no call before this one ended within {self._queue_seconds:g} s"
            ) from None
        task = asyncio.ensure_future(call())
        # One that ignores its cancellation keeps its place, so that what is left behind never piles up.
        task.add_done_callback(lambda ended: _finished(ended, places))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline)
        finally:
            # The caller was cancelled, or the time is up. Somebody's clean-up may take a moment, but not for ever.
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=GRACE_SECONDS)
        if not done:
            raise Unavailable(f"issuer {self._name} gave no answer within {self._deadline:g} s")
        return self._result(task)

    def _result(self, task: asyncio.Task[T]) -> T:
        # Raised outside of any `except`: a chained exception would carry the text of a library into a traceback.
        if task.cancelled():
            raise Unavailable(f"issuer {self._name} broke the call off")
        failed = task.exception()
        if failed is None:
            return task.result()
        if not isinstance(failed, IssuerError):
            raise Unavailable(f"issuer {self._name} failed with {type(failed).__name__}")
        for kind in (Refused, NotRenewable, Unavailable):
            if isinstance(failed, kind):
                raise kind(f"issuer {self._name}: {failed.message}", retry_after=failed.retry_after)
        raise IssuerError(f"issuer {self._name}: {failed.message}", retry_after=failed.retry_after)

    def _handle(self, handle: Handle) -> Handle:
        texts = [*handle.keys(), *handle.values()] if isinstance(handle, Mapping) else [None]
        if not all(isinstance(one, str) for one in texts):
            raise Refused(f"issuer {self._name} gave a handle that is not a mapping of strings to strings")
        if sum(len(one) for one in texts if one) > MAX_HANDLE:
            raise Refused(f"issuer {self._name} gave a handle of more than {MAX_HANDLE} characters")
        return handle

    def _time(self, time: datetime) -> datetime:
        if not isinstance(time, datetime) or time.tzinfo is None:
            raise Refused(f"issuer {self._name} gave an expiry that is not a datetime with a time zone")
        return time

    def _credential(self, credential: Credential) -> Credential:
        if not isinstance(credential, Credential):
            raise Refused(f"issuer {self._name} gave something that is not a Credential")
        self._handle(credential.handle)
        self._time(credential.expires_at)
        wrong = [name for name in credential.values if not isinstance(name, str) or not _FILE_NAME.fullmatch(name)]
        if wrong or not credential.values:
            raise Refused(
                f"issuer {self._name} gave {'no files' if not credential.values else f'files named {wrong!r}'}; "
                f"accepted is at least one, each named with letters, digits, '-', '_' and '.'"
            )
        if not all(isinstance(value, bytes) for value in credential.values.values()):
            raise Refused(f"issuer {self._name} gave a file whose content is not bytes")
        if sum(len(value) for value in credential.values.values()) > MAX_VALUES:
            raise Refused(f"issuer {self._name} gave files of more than {MAX_VALUES} bytes together")
        return credential


def _finished(task: asyncio.Task[Any], places: asyncio.Semaphore) -> None:
    places.release()
    if not task.cancelled():
        task.exception()  # taken, or asyncio would log it, text and all, when nobody waits for it any more
