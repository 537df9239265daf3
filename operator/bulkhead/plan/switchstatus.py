"""The status of a KillSwitch: how many agents it stops, who is still to be stopped, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bulkhead.api import conditions
from bulkhead.plan import refusals
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.observed import Object
from bulkhead.plan.status import Transition
from bulkhead.plan.worldview import Verdict

CUT_OFF: Final = "CutOff"
STOPPED: Final = "Stopped"
INVALID: Final = "Invalid"
PENDING: Final = "Pending"
NOTHING_MATCHES: Final = "NothingMatches"
VERIFIED: Final = "Verified"

PENDING_SHOWN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a switch is.

    Attributes:
        matched: the agents that it stops, as `namespace/name`.
        connected: those that still have rules of the network that let them out, or others in.
        running: those, and agents it stopped that are deleted by now, of which it is not proven that nothing runs.
    """

    matched: frozenset[str]
    connected: frozenset[str]
    running: frozenset[str]


def status(switch: Switch, obj: Object, progress: Progress, *, seen: datetime, now: datetime) -> Object:
    """Returns the whole status of a switch. It does not change with the time alone.

    The times are those of the first stop. An agent that matches and appears later never starts; that it is looked at
    shows in the conditions, and takes nothing from how long the stop took.

    Args:
        switch: the switch.
        obj: the object that it was read from, for its last status.
        progress: how far it is.
        seen: when this operator first saw the switch; counts where no status says when another did.
        now: the time.
    """
    previous = obj.get("status") or {}
    generation = int(obj["metadata"].get("generation") or 0)
    result: dict[str, Any] = {"observedGeneration": generation, "startedAt": previous.get("startedAt") or _at(seen)}
    result |= {key: previous[key] for key in ("cutOffAt", "stoppedAt", "seconds") if previous.get(key)}
    verdicts = {CUT_OFF: _cut_off(switch, progress), STOPPED: _stopped(switch, progress)}
    if switch.selection is not None:
        result |= _counts(progress)
        _note_times(result, verdicts, now)
    found = [one for one in previous.get("conditions") or () if one["type"] in verdicts]
    for kind, verdict in verdicts.items():
        found = conditions.set_condition(
            found,
            type=kind,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            generation=generation,
            now=now,
        )
    return {**result, "conditions": found}


def is_cut_off(current: Object) -> bool:
    """Says whether a status tells that all whom the switch stops are cut off."""
    return conditions.is_true(current.get("conditions") or (), CUT_OFF)


def is_settled(current: Object) -> bool:
    """Says whether a status tells of nothing that is still to come."""
    return all(conditions.is_true(current.get("conditions") or (), kind) for kind in (CUT_OFF, STOPPED))


def transitions(previous: Object, current: Object) -> tuple[Transition, ...]:
    """Returns which conditions differ in status or reason between two statuses of one switch, for events."""
    found = []
    for after in current["conditions"]:
        before = conditions.find(previous.get("conditions") or (), after["type"]) or {}
        if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
            continue
        if after["reason"] == INVALID:
            found.append(Transition("Warning", INVALID, after["message"]))
        elif after["status"] == "True":
            found.append(Transition("Normal", after["type"], after["message"]))
        elif before:
            found.append(Transition("Warning", f"Not{after['type']}", after["message"]))
    return tuple(dict.fromkeys(found))


def _counts(progress: Progress) -> Object:
    running = sorted(progress.running)
    counts: Object = {
        "matched": len(progress.matched),
        "cutOff": len(progress.matched - progress.connected),
        "stopped": len(progress.matched - progress.running),
    }
    return counts | ({"pending": running[:PENDING_SHOWN]} if running else {})


def _note_times(result: dict[str, Any], verdicts: Mapping[str, Verdict], now: datetime) -> None:
    if verdicts[CUT_OFF].status == "True":
        result.setdefault("cutOffAt", _at(now))
    if verdicts[STOPPED].status == "True" and "stoppedAt" not in result:
        result["stoppedAt"] = _at(now)
        started = conditions.read_time(result["startedAt"])
        if started is not None:
            result["seconds"] = f"{max((now - started).total_seconds(), 0.0):.3f}"


def _cut_off(switch: Switch, progress: Progress) -> Verdict:
    if switch.selection is None:
        return _invalid(switch)
    if not progress.matched:
        return _NOBODY
    if progress.connected:
        return Verdict("False", PENDING, f"still with network: {refusals.listed(sorted(progress.connected))}")
    return Verdict("True", "NetworkRemoved", f"no agent of {len(progress.matched)} has a rule of the network left")


def _stopped(switch: Switch, progress: Progress) -> Verdict:
    if switch.selection is None:
        return _invalid(switch)
    if progress.running:
        return Verdict("False", PENDING, f"not proven to be stopped: {refusals.listed(sorted(progress.running))}")
    if not progress.matched:
        return _NOBODY
    return Verdict("True", VERIFIED, f"the API server has no pod left of any of {len(progress.matched)} agents")


def _invalid(switch: Switch) -> Verdict:
    return Verdict(
        "False", INVALID, "this kill switch stops nobody, for it is not understood: " + " ".join(switch.problems)
    )


_NOBODY: Final = Verdict("True", NOTHING_MATCHES, "no agent matches; one that appears and does will not start")


def _at(moment: datetime) -> str:
    return conditions.format_micro_time(moment)
