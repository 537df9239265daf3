"""The ConfigMap that an alert is kept in, between its delivery and the agent's status."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from bulkhead.api import conditions, meta
from bulkhead.plan.observed import Object
from bulkhead.plan.signals import AgentKey, Alert

VALUE = "true"
_KEY = "alert.json"


def name(agent: AgentKey, fingerprint: str, starts_at: datetime) -> str:
    """Returns the name of the record: one alert that fires once has one, however often it is delivered."""
    text = json.dumps([*agent, fingerprint, conditions.format_micro_time(starts_at)])
    return f"bulkhead-alert-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def manifest(agent: AgentKey, alert: Alert, *, uid: str, namespace: str) -> Object:
    """Returns the record.

    Args:
        agent: whom the alert is about.
        alert: the alert.
        uid: the agent's; one of the same name that is made later is another.
        namespace: the operator's own.
    """
    content = {
        "namespace": agent[0],
        "agent": agent[1],
        "name": alert.name,
        "fingerprint": alert.fingerprint,
        "startsAt": conditions.format_micro_time(alert.starts_at),
        "receivedAt": conditions.format_micro_time(alert.received_at),
        "message": alert.message,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": alert.record,
            "namespace": namespace,
            "labels": {
                meta.ALERT_LABEL: VALUE,
                meta.AGENT_UID_LABEL: uid,
                meta.MANAGED_BY_LABEL: meta.MANAGED_BY_VALUE,
            },
        },
        "immutable": True,
        "data": {_KEY: json.dumps(content, sort_keys=True)},
    }


def read(record: Object) -> tuple[AgentKey, str, Alert] | None:
    """Returns the agent, its UID and the alert of a record; None for what is none or was damaged."""
    metadata = record.get("metadata") or {}
    try:
        content = json.loads(record["data"][_KEY])
        texts = {key: content[key] for key in ("namespace", "agent", "name", "fingerprint", "message")}
        if not all(isinstance(one, str) for one in texts.values()):
            return None
        alert = Alert(
            name=texts["name"],
            fingerprint=texts["fingerprint"],
            starts_at=conditions.parse_time(content["startsAt"]),
            received_at=conditions.parse_time(content["receivedAt"]),
            message=texts["message"],
            record=metadata["name"],
        )
        return (texts["namespace"], texts["agent"]), metadata["labels"][meta.AGENT_UID_LABEL], alert
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
