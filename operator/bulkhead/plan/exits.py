"""How an agent's containers ended: what the kubelet told of it, and what of that a status keeps.

An exit is told by a pod's status and goes with the pod, so it is written down: in `status.suspension.exits` what ended
in a suspension, in `status.lastExits` what ended before, by itself. Messages are the last lines of a container's own
output (`terminationMessagePolicy: FallbackToLogsOnError`); they were redacted before they came into a cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bulkhead.api import conditions
from bulkhead.plan import gatestatus
from bulkhead.plan.observed import Object

SHOWN: Final = 32
"""Exits that a status lists at most; the newest are kept."""
MESSAGE_LENGTH: Final = 1024
"""Characters of a message that are kept: the last ones, for what a program says last tells why it ended."""
REASON_LENGTH: Final = 128

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """One end of one container."""

    pod: str
    pod_uid: str = ""
    """Empty for one that was read from a status: there the name is enough."""
    container: str
    exit_code: int
    reason: str
    """In the kubelet's word, for example Completed, Error or OOMKilled."""
    finished_at: datetime | None
    """By the node's clock, in whole seconds; None where the kubelet did not see the end."""
    message: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Which container of which pod; a StatefulSet gives the same to its next run."""
        return self.pod, self.container

    @property
    def words(self) -> str:
        """The exit for people: `counter-0/agent: OOMKilled, code 137`."""
        return f"{self.pod}/{self.container}: {self.reason or 'ended'}, code {self.exit_code}"


def of_pod(pod: Object) -> tuple[Exit, ...]:
    """Returns the ends of a pod's containers that its status tells of, the oldest first; the gate's are left out.

    A status tells of two for each container: how it ended before it was last restarted, and how it ended now.
    """
    metadata = pod["metadata"]
    found = []
    for status in _statuses(pod):
        for field in ("lastState", "state"):
            ended = (status.get(field) or {}).get("terminated")
            if not isinstance(ended, dict) or not isinstance(ended.get("exitCode"), int):
                continue
            found.append(
                Exit(
                    pod=str(metadata["name"]),
                    pod_uid=str(metadata["uid"]),
                    container=str(status.get("name")),
                    exit_code=ended["exitCode"],
                    reason=str(ended.get("reason") or "")[:REASON_LENGTH],
                    finished_at=conditions.read_time(ended.get("finishedAt")),
                    message=_tail(ended.get("message")),
                )
            )
    return tuple(dict.fromkeys(sorted(found, key=_when)))


def telling(pod: Object) -> object:
    """Returns what changes when, and only when, a container of the agent ended or was started again."""
    return [
        (
            status.get("name"),
            status.get("restartCount"),
            [((status.get(field) or {}).get("terminated") or {}).get("finishedAt") for field in ("lastState", "state")],
            "terminated" in (status.get("state") or {}),
        )
        for status in _statuses(pod)
    ]


def newest(exits: Iterable[Exit]) -> tuple[Exit, ...]:
    """Returns the last exit of each container, the newest first, `SHOWN` of them at most."""
    last: dict[tuple[str, str], Exit] = {}
    for one in sorted(exits, key=_when):
        last[one.place] = one
    ordered = sorted(last.values(), key=lambda one: one.place)
    return tuple(sorted(ordered, key=_when, reverse=True)[:SHOWN])


def during(previous: Object | None, found: Iterable[Exit], *, since: datetime) -> list[Object]:
    """Returns `status.suspension.exits`: how containers ended in a suspension.

    The kubelet's times are whole seconds, so the second in which the suspension began belongs to it.

    Args:
        previous: the suspension as it is recorded so far; None for one that begins.
        found: the exits that are known.
        since: when the suspension began.
    """
    known = read((previous or {}).get("exits"))
    return write(newest((*known, *(one for one in found if not _is_before(one, since)))))


def last(previous: Object | None, found: Iterable[Exit], *, before: datetime | None) -> list[Object]:
    """Returns `status.lastExits`: how containers last ended by themselves.

    Args:
        previous: the status as it is recorded so far.
        found: the exits that are known.
        before: when the present suspension began; None while the agent runs.
    """
    status = previous or {}
    told = {_key(one) for one in read((status.get("lastSuspension") or {}).get("exits"))}
    fresh = (one for one in found if (before is None or _is_before(one, before)) and _key(one) not in told)
    return write(newest((*read(status.get("lastExits")), *fresh)))


def recorded(status: Object | None) -> tuple[Exit, ...]:
    """Returns every exit that a status of an agent tells of."""
    given = status or {}
    places = (given.get("suspension"), given.get("lastSuspension"))
    lists = [given.get("lastExits"), *((one or {}).get("exits") for one in places)]
    return tuple(one for entries in lists for one in read(entries))


def unrecorded(found: Iterable[Exit], status: Object | None) -> tuple[Exit, ...]:
    """Returns the exits that a status tells neither of nor of a later one of the same container."""
    latest = {one.place: one for one in sorted(recorded(status), key=_when)}
    return tuple(one for one in found if one.place not in latest or _when(latest[one.place]) < _when(one))


def write(exits: Sequence[Exit]) -> list[Object]:
    """Returns exits as a status lists them."""
    entries = []
    for one in exits:
        entry: dict[str, Any] = {"pod": one.pod, "container": one.container, "exitCode": one.exit_code}
        if one.reason:
            entry["reason"] = one.reason
        if one.finished_at is not None:
            entry["finishedAt"] = conditions.format_time(one.finished_at)
        if one.message:
            entry["message"] = one.message
        entries.append(entry)
    return entries


def read(entries: Any) -> tuple[Exit, ...]:
    """Reads exits from a status; what is none is left out, for a status is no proof of anything."""
    listed = entries if isinstance(entries, list) else []
    return tuple(
        Exit(
            pod=one["pod"],
            container=one["container"],
            exit_code=one["exitCode"],
            reason=str(one.get("reason") or "")[:REASON_LENGTH],
            finished_at=conditions.read_time(one.get("finishedAt")),
            message=_tail(one.get("message")),
        )
        for one in listed
        if isinstance(one, dict) and _is_exit(one)
    )


def _is_exit(entry: Object) -> bool:
    names = ((entry.get("pod"), 253), (entry.get("container"), 63))
    return type(entry.get("exitCode")) is int and all(
        isinstance(name, str) and 0 < len(name) <= most for name, most in names
    )


def _statuses(pod: Object) -> list[Object]:
    listed = (pod.get("status") or {}).get("containerStatuses") or ()
    return [one for one in listed if one.get("name") not in gatestatus.CONTAINERS]


def _is_before(one: Exit, moment: datetime) -> bool:
    return one.finished_at is not None and one.finished_at < moment.replace(microsecond=0)


def _key(one: Exit) -> tuple[str, str, datetime | None, int]:
    return (*one.place, one.finished_at, one.exit_code)


def _when(one: Exit) -> datetime:
    return one.finished_at or _LONG_AGO


def _tail(message: Any) -> str:
    text = message.strip() if isinstance(message, str) else ""
    return text if len(text) <= MESSAGE_LENGTH else "…" + text[1 - MESSAGE_LENGTH :]
