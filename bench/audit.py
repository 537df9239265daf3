"""The API server's audit log as a stopwatch: it says to the microsecond when each request was answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from devcluster import auditlog

POLL_SECONDS = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answered request.

    Attributes:
        verb: such as `create` or `delete`.
        resource: with its subresource, such as `pods` or `agentdeployments/status`.
        namespace: of the object, empty for none.
        name: of the object; empty for collections.
        user: who asked.
        agent: the client's user agent.
        code: the HTTP status of the answer.
        received: when it came, in seconds of the epoch.
        answered: when it was answered; for a watch, when it began.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    code: int
    received: float
    answered: float

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return 200 <= self.code < 300


class AuditLog:
    """Follows an audit log from its present end. Level `Metadata` is enough.

    Args:
        path: of the log.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._file.seek(auditlog.end(path))
        self._rest = b""
        self.seen: list[Request] = []

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def read(self) -> list[Request]:
        """Reads what has been written since, notes it in `seen`, and gives it."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        fresh = [found for line in lines if (found := parse(json.loads(line))) is not None]
        self.seen.extend(fresh)
        return fresh

    def forget(self) -> None:
        """Drops what was seen so far, and what was written until now."""
        self.read()
        self.seen.clear()

    async def until(self, wanted: Callable[[Request], bool], what: str, *, within: float = 30.0) -> Request:
        """Waits for a request and gives the first that is wanted, of those since the last `forget`.

        Raises:
            TimeoutError: it did not come; the text says what was waited for.
        """
        checked = 0
        deadline = time.monotonic() + within
        while True:
            self.read()
            for request in self.seen[checked:]:
                if wanted(request):
                    return request
            checked = len(self.seen)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within:.0f} s: {what}")
            await asyncio.sleep(POLL_SECONDS)

    def of(self, verb: str, resource: str) -> Iterator[Request]:
        """Gives the requests seen that were carried out, of one verb and resource."""
        return (one for one in self.seen if one.done and one.verb == verb and one.resource == resource)


def carried_out(verb: str, resource: str, namespace: str, name: str) -> Callable[[Request], bool]:
    """Recognises a request that was carried out, whoever's it was."""
    wanted = (True, verb, resource, namespace, name)
    return lambda one: (one.done, one.verb, one.resource, one.namespace, one.name) == wanted


def parse(entry: dict[str, Any]) -> Request | None:
    """Reads one event of the log; None for what is no request for objects, or not answered yet.

    A create's name is in the log only where the client gave the object's name in its body and the level shows it;
    at level `Metadata` the API server fills it in from the object that it made.
    """
    reference = entry.get("objectRef")
    expected = "ResponseStarted" if entry["verb"] == "watch" else "ResponseComplete"
    if reference is None or entry["stage"] != expected:
        return None
    return Request(
        verb=entry["verb"],
        resource="/".join(part for part in (reference["resource"], reference.get("subresource")) if part),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        user=entry["user"]["username"],
        agent=entry.get("userAgent", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        received=_seconds(entry["requestReceivedTimestamp"]),
        answered=_seconds(entry["stageTimestamp"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
