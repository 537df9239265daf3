"""What Alertmanager's webhook delivers (its format version 4), taken apart: nothing in it is believed unseen."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bulkhead.api import conditions
from bulkhead.api.conditions import shorten
from bulkhead.plan import alertrecord
from bulkhead.plan.redaction import redacted
from bulkhead.plan.signals import AgentKey, Alert

MOST_ALERTS = 10_000
"""In one delivery."""

LONGEST_NAME = 256
LONGEST_MESSAGE = 512

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""Of namespaces and agents (RFC 1123); what is no name is nobody's."""
_FINGERPRINT = re.compile(r"[0-9a-f]{1,64}")


class Malformed(Exception):  # noqa: N818 (it says what the delivery is)
    """The delivery is not what Alertmanager sends. Its text says what is wrong with it."""


class Dropped(enum.Enum):
    """Why an alert is not acted on."""

    RESOLVED = "resolved"
    """It fires no more: that closes no breaker."""
    UNLABELLED = "unlabelled"
    """It names no agent."""
    OLD = "old"
    """It began longer ago than is accepted: a replay, or one that was delivered late."""
    UNUSABLE = "unusable"
    """It is not what Alertmanager delivers. Others in its group are no worse for it."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One alert of a delivery that is to be acted on."""

    agent: AgentKey
    alert: Alert


def read(body: bytes, *, now: datetime, max_age: timedelta) -> Iterator[Delivered | Dropped]:
    """Takes a delivery apart.

    Args:
        body: of the request.
        now: the time.
        max_age: what began longer ago is dropped.

    Raises:
        Malformed: it is no delivery, on the first look.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is no JSON") from None
    alerts = content.get("alerts") if isinstance(content, dict) else None
    if not isinstance(alerts, list) or content.get("version") != "4":
        raise Malformed("accepted is Alertmanager's webhook format, version 4")
    if len(alerts) > MOST_ALERTS:
        raise Malformed(f"{len(alerts)} alerts at once; accepted are up to {MOST_ALERTS}: see max_alerts")
    for one in alerts:
        try:
            yield _read(one, now, max_age)
        except Malformed:
            yield Dropped.UNUSABLE


def _read(raw: Any, now: datetime, max_age: timedelta) -> Delivered | Dropped:
    if not isinstance(raw, dict):
        raise Malformed("an alert is no object")
    if raw.get("status") != "firing":
        return Dropped.RESOLVED
    labels = raw.get("labels")
    agent = _agent(labels)
    if agent is None or not isinstance(labels, dict):
        return Dropped.UNLABELLED
    name, fingerprint = labels.get("alertname"), raw.get("fingerprint")
    if not isinstance(name, str) or not name:
        raise Malformed("an alert has no alertname")
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise Malformed("an alert has no fingerprint")
    began = _time(raw.get("startsAt"))
    if now - began > max_age:
        return Dropped.OLD
    return Delivered(
        agent,
        Alert(
            name=shorten(name, LONGEST_NAME),
            fingerprint=fingerprint,
            # As it was delivered, for the next delivery has to be known by it.
            starts_at=began,
            received_at=now,
            message=_message(raw.get("annotations")),
            record=alertrecord.name(agent, fingerprint, began),
        ),
    )


def _agent(labels: Any) -> AgentKey | None:
    if not isinstance(labels, dict):
        return None
    namespace, agent = labels.get("namespace"), labels.get("agent")
    if not isinstance(namespace, str) or not isinstance(agent, str):
        return None
    if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(agent):
        return None
    return namespace, agent


def _time(raw: Any) -> datetime:
    try:
        return conditions.parse_time(raw)
    except (TypeError, ValueError, OverflowError):
        raise Malformed("an alert has no startsAt that is a time (RFC 3339)") from None


def _message(annotations: Any) -> str:
    if not isinstance(annotations, Mapping):
        return ""
    text = annotations.get("summary") or annotations.get("description") or ""
    return shorten(redacted(text), LONGEST_MESSAGE) if isinstance(text, str) else ""
