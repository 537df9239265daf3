"""The status of a SandboxPolicy: whom it applies to, who violates it, and whether its canaries can be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from bulkhead.api import conditions, meta
from bulkhead.plan import refusals
from bulkhead.plan.isolation import Control, ControlKey, key_of
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Canary, Policy, covers
from bulkhead.plan.signals import QueryKey, Reading
from bulkhead.plan.status import Transition
from bulkhead.plan.worldview import POLICY_ACCEPTED, Verdict

READY: Final = "Ready"
CANARIES_REACHABLE: Final = "CanariesReachable"
CLUSTERWIDE_DENIES: Final = "ClusterwideDenies"
_NEGATED: Final = {
    READY: "NotReady",
    CANARIES_REACHABLE: "CanariesUnreachable",
    CLUSTERWIDE_DENIES: "NoClusterwideDenies",
}
NOT_SERVED: Final = "NotServed"
"""The reason of `ClusterwideDenies` where the cluster has no such kind, which is no fault of anybody."""

VIOLATORS_SHOWN: Final = 16
QUERIES_SHOWN: Final = 32
NAMESPACES_SHOWN: Final = 256
"""Production namespaces that admission can know of; the plan knows all."""
MAX_MESSAGE: Final = 512
"""Characters of what is said of one agent or canary."""


def status(
    policy: Policy,
    obj: Object,
    *,
    namespaces: Iterable[Object],
    agents: Iterable[Object],
    controls: Mapping[ControlKey, Control],
    denies: Verdict,
    readings: Mapping[QueryKey, Reading],
    now: datetime,
) -> Object:
    """Returns the whole status of a policy. It does not change with the time alone.

    Args:
        policy: the policy.
        obj: the object that it was read from, for its last status.
        namespaces: every namespace of the cluster; of each only its metadata is read.
        agents: the AgentDeployments of the sandbox namespaces that the policy covers.
        controls: whether the operator reaches the canaries, by protocol, address and port.
        denies: whether production and the floor are denied clusterwide too.
        readings: how the queries of breakers fare, of whichever policies.
        now: the time.
    """
    previous = obj.get("status") or {}
    known, counted = list(namespaces), list(agents)
    violators = sorted(_violators(policy, counted), key=lambda one: (one["namespace"], one["name"]))
    production = sorted(
        one["metadata"]["name"] for one in known if policy.production_namespaces.matches(meta.labels_of(one))
    )
    canaries = [_canary(one, previous, _control(one, controls), now=now) for one in policy.canaries]
    covered = sum(meta.is_sandbox(one) and covers(policy, one) for one in known)
    result: dict[str, Any] = {
        "observedGeneration": policy.generation,
        "namespaces": covered,
        "agents": len(counted),
        "violating": len(violators),
        "violators": violators[:VIOLATORS_SHOWN],
        "productionNamespaces": production[:NAMESPACES_SHOWN],
        "canaries": canaries,
        "queries": [_query(one) for key, one in sorted(readings.items()) if key[0] == policy.name][:QUERIES_SHOWN],
    }
    verdicts = {
        READY: _ready(policy, covered=covered, agents=len(counted), violating=len(violators), production=production),
        CANARIES_REACHABLE: _canaries_reachable(policy, controls, canaries),
        CLUSTERWIDE_DENIES: denies,
    }
    found = [one for one in previous.get("conditions") or () if one["type"] in verdicts]
    for kind, verdict in verdicts.items():
        found = conditions.set_condition(
            found,
            type=kind,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            generation=policy.generation,
            now=now,
        )
    return {**result, "conditions": found}


def _query(reading: Reading) -> Object:
    since = conditions.format_micro_time(reading.since)
    return {"name": reading.name, "ok": reading.ok, "since": since, "message": reading.problem[:MAX_MESSAGE]}


def transitions(previous: Object, current: Object) -> tuple[Transition, ...]:
    """Returns which conditions differ in status or reason between two statuses of one policy, for events."""
    found = []
    for after in current.get("conditions") or ():
        before = conditions.find(previous.get("conditions") or (), after["type"])
        same = before is not None and (before["status"], before["reason"]) == (after["status"], after["reason"])
        # That something is not known yet is no news.
        if same or (before is None and after["status"] == "Unknown"):
            continue
        bad = after["status"] == "False" and after["reason"] != NOT_SERVED
        level: Literal["Normal", "Warning"] = "Warning" if bad else "Normal"
        found.append(Transition(level, _event(after), f"{after['reason']}: {after['message']}"))
    return tuple(found)


def _event(condition: conditions.Condition) -> str:
    kind: str = condition["type"]
    return {"True": kind, "False": _NEGATED[kind]}.get(condition["status"], f"{kind}Unknown")


def _violators(policy: Policy, agents: Iterable[Object]) -> Iterable[Object]:
    for agent in agents:
        accepted = conditions.find((agent.get("status") or {}).get("conditions") or (), POLICY_ACCEPTED) or {}
        if accepted.get("status") != "False":
            continue
        words = refusals.about(accepted.get("message") or "", policy.name)
        if words:
            data = agent["metadata"]
            yield {
                "namespace": data["namespace"],
                "name": data["name"],
                "message": conditions.shorten(words, MAX_MESSAGE),
            }


def _control(canary: Canary, controls: Mapping[ControlKey, Control]) -> Control | None:
    """Returns how the operator fares with a canary; None before it was tried."""
    control = controls.get(key_of(canary))
    if control is None or (control.reached_at is None and control.failing_since is None):
        return None
    return control


def _canary(canary: Canary, previous: Object, control: Control | None, *, now: datetime) -> Object:
    reachable = control is not None and control.failing_since is None
    before = next((one for one in previous.get("canaries") or () if one["name"] == canary.name), None)
    if before is not None and before["reachable"] == reachable and before.get("since"):
        since = before["since"]
    else:
        since = conditions.format_micro_time((control.failing_since if control is not None else None) or now)
    words = f"{canary.protocol} {canary.address} {canary.port}"
    if control is None:
        message = f"{words} was not tried yet"
    else:
        message = f"{words} answers" if reachable else f"{words} does not answer: {control.message}"
    return {
        "name": canary.name,
        "reachable": reachable,
        "since": since,
        "message": conditions.shorten(message, MAX_MESSAGE),
    }


def _ready(policy: Policy, *, covered: int, agents: int, violating: int, production: list[str]) -> Verdict:
    if policy.spec is None:
        return Verdict("False", "Invalid", f"no agent runs under this policy: {' '.join(policy.problems)}")
    extra = ""
    if len(production) > NAMESPACES_SHOWN:
        extra = (
            f"; {len(production)} namespaces are production, of which admission knows the first {NAMESPACES_SHOWN}: "
            "the others are refused when the agent is planned, not when it is applied"
        )
    if not covered:
        return Verdict("True", "SelectsNothing", f"no sandbox namespace has labels that the policy selects{extra}")
    counted = f"the policy applies to {_counted(covered, 'namespace')} with {_counted(agents, 'agent')}"
    violated = f", and {violating} of them ask for more than it accepts" if violating else ""
    return Verdict("True", "InForce", f"{counted}{violated}{extra}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _canaries_reachable(policy: Policy, controls: Mapping[ControlKey, Control], canaries: list[Object]) -> Verdict:
    if policy.spec is None:
        return Verdict("Unknown", "Invalid", "which canaries the policy names could not be understood")
    if not canaries:
        return Verdict("Unknown", "NoCanaries", "the policy names no canary; the operator's own is the only control")
    untried = [one.name for one in policy.canaries if _control(one, controls) is None]
    silent = [one["name"] for one in canaries if not one["reachable"] and one["name"] not in untried]
    if silent:
        return Verdict(
            "False",
            "NoAnswer",
            f"the operator does not reach {refusals.listed(silent)}, so that an agent does not reach them proves "
            "nothing; no agent starts under this policy until they answer",
        )
    if untried:
        return Verdict("Unknown", "NotTried", f"{refusals.listed(untried)} were not tried yet")
    return Verdict("True", "Reached", f"the operator reaches {refusals.listed(one['name'] for one in canaries)}")
