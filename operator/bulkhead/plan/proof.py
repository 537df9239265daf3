"""The record of an agent's proof of isolation in its status.

A loss suspends the agent and opens its breaker (`breaker`). Once that lets it run again, the gate in its new pod holds
it for as long as a target still answers. The record survives restarts of the operator.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bulkhead.api import conditions
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.observed import Object
from bulkhead.plan.surroundings import Surroundings

PROVEN = "Proven"
PENDING = "Pending"
OPEN = "Open"
LOST = "Lost"
UNKNOWN = "Unknown"

SHOWN = 64
ANSWERED_SHOWN = 16
ANSWER_LENGTH = 256
"""Bounds of the CRD: a status beyond them would be refused as a whole."""


def recorded(agent: Object) -> Object:
    """Returns `status.isolation` as it was last written, empty where it never was."""
    found: Object = (agent.get("status") or {}).get("isolation") or {}
    return found


def record(agent: Object, assessment: Assessment, surroundings: Surroundings, *, runs: bool, now: datetime) -> Object:
    """Returns `status.isolation` as it is now.

    Args:
        agent: the AgentDeployment, with its last status.
        assessment: what the gate says and what it tries.
        surroundings: for the layers in force.
        runs: whether the agent may run; while it may not, only a loss is worth telling.
        now: the time.
    """
    previous = recorded(agent)
    evidence = assessment.evidence
    result = _result(assessment, previous, runs=runs)
    since = previous["since"] if previous.get("result") == result else conditions.format_micro_time(now)
    answered = evidence.answered or (tuple(previous.get("answered") or ()) if result == LOST else ())
    entry: dict[str, Any] = {
        "result": result,
        "since": since,
        "targets": [str(target) for target in assessment.targets][:SHOWN],
        "answered": [one[:ANSWER_LENGTH] for one in answered[:ANSWERED_SHOWN]],
        "layers": _layers(previous, surroundings.layers, now=now),
    }
    if result == PROVEN and evidence.at is not None:
        entry["provenAt"] = conditions.format_micro_time(evidence.at)
    elif previous.get("provenAt"):
        entry["provenAt"] = previous["provenAt"]
    if result == LOST:
        told = evidence.result == LOST and evidence.at is not None
        earlier = previous.get("lostAt") or since
        entry["lostAt"] = conditions.format_micro_time(evidence.at) if told and evidence.at is not None else earlier
    return entry


def _result(assessment: Assessment, previous: Object, *, runs: bool) -> str:
    """A loss stays what is told of an agent until it may run again: of its pods that are gone nothing else is."""
    if assessment.evidence.result == LOST or (previous.get("result") == LOST and not runs):
        return LOST
    if assessment.unproven:
        return UNKNOWN
    return assessment.evidence.result if runs else PENDING


def _layers(previous: Object, layers: tuple[str, ...], *, now: datetime) -> list[Object]:
    known = {one["name"]: one["since"] for one in previous.get("layers") or ()}
    return [{"name": name, "since": known.get(name) or conditions.format_time(now)} for name in layers]
