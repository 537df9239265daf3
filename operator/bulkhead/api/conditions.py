"""Kubernetes conditions and times as plain values.

Conditions follow the API conventions of Kubernetes (sig-architecture, api-conventions.md, "Typical status properties"):
one entry for each type, and `lastTransitionTime` moves only when `status` does.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

Condition = dict[str, Any]
Status = Literal["True", "False", "Unknown"]

MAX_MESSAGE: Final = 32768
"""Characters; the bound of `message` in metav1.Condition. The CRD has the same."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What is recorded as earlier is no time of ours."""
LATEST_YEAR: Final = 2100
"""What is recorded for this year or a later one is none either."""


def set_condition(
    conditions: Iterable[Condition],
    *,
    type: str,
    status: Status,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Returns the conditions with one of them set, sorted by type. The argument is not changed.

    Args:
        conditions: what there was before.
        type: which one to set.
        status: its new value.
        reason: one CamelCase word, for programs.
        message: sentences, for people; shortened to `MAX_MESSAGE` characters.
        generation: the `metadata.generation` of the object that was looked at.
        now: becomes `lastTransitionTime` if the condition is new or its status changes.
    """
    by_type = {condition["type"]: condition for condition in conditions}
    before = by_type.get(type)
    unchanged = before is not None and before.get("status") == status and before.get("lastTransitionTime")
    by_type[type] = {
        "type": type,
        "status": status,
        "reason": reason,
        "message": shorten(message, MAX_MESSAGE),
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else format_time(now),
    }
    return [by_type[key] for key in sorted(by_type)]


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    """Returns the condition of this type, or None."""
    return next((condition for condition in conditions if condition.get("type") == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:
    """Tells whether the condition of this type is there and has the status "True"."""
    condition = find(conditions, type)
    return condition is not None and condition.get("status") == "True"


def shorten(text: str, limit: int) -> str:
    """Returns the text, or its beginning and an ellipsis, in at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_time(moment: datetime) -> str:
    """Formats as metav1.Time does: RFC 3339, UTC, whole seconds (rounded down).

    Raises:
        ValueError: the time has no zone; guessing one would shift it silently.
    """
    return _utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """Formats as metav1.MicroTime does: RFC 3339, UTC, always six decimals.

    Raises:
        ValueError: the time has no zone.
    """
    return _utc(moment).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Reads an RFC 3339 time as Kubernetes writes it (Time or MicroTime) into an aware UTC datetime.

    Raises:
        ValueError: it is no time, or has no zone.
    """
    return _utc(datetime.fromisoformat(text))


def read_time(value: object) -> datetime | None:
    """Reads a time out of a status or a raw spec; None for whatever is no time of this century.

    Never raises: what somebody wrote there must not keep an agent from being stopped. With a time near the end of what
    a datetime holds nothing can be reckoned.
    """
    try:
        moment = parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and EARLIEST.year <= moment.year < LATEST_YEAR else None


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; accepted are aware times such as datetime.now(UTC)")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} is outside of the years 1 to 9999 in UTC") from error
