"""The status of an agent: conditions, one word for a column, and the record of its suspension."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from bulkhead.api import conditions
from bulkhead.plan import breaker, breakerchanges, circuit, exits, leases, names, proof, rollout, suspension, worldview
from bulkhead.plan.agent import Plan
from bulkhead.plan.observed import Cut, Object, Observed, Outcome
from bulkhead.plan.rollout import Rollout
from bulkhead.plan.worldview import Verdict

REFUSED = "Refused"
STOPPING = "Stopping"
RUNNING = "Running"
WAITING_FOR_CREDENTIALS = "WaitingForCredentials"

MAX_POLICIES = 64

KNOWN = frozenset({"Ready", "Suspended", leases.CREDENTIALS_READY, breaker.CIRCUIT_CLOSED, *worldview.KINDS})
"""The conditions that are written here; one that cannot be told goes, rather than say what was so once."""

_REFUSING = frozenset(
    {
        suspension.NOT_A_SANDBOX,
        suspension.NAMESPACE_TERMINATING,
        suspension.NO_POLICY,
        suspension.POLICY_REFUSED,
    }
)
_TELLING = frozenset(
    {
        suspension.CIRCUIT_OPEN,
        suspension.CONFLICT,
        suspension.CREDENTIALS_EXPIRED,
        suspension.INVALID,
        suspension.ISOLATION_LOST,
        suspension.WIDENED,
        suspension.UNPROVEN,
    }
)
"""Reasons that are a state of their own; the others are what somebody wanted."""


def status(observed: Observed, plan: Plan, outcome: Outcome, *, cut: Cut | None, now: datetime) -> Object:
    """Returns the whole status of an agent after a plan was carried out.

    Args:
        observed: what the plan was made from.
        plan: the plan.
        outcome: what came of it.
        cut: the suspension in progress; given exactly when the plan suspends.
        now: the time.
    """
    agent = observed.agent
    previous = agent.get("status") or {}
    wanted = plan.spec.replicas if plan.spec else 0
    progress = rollout.assess(
        wanted=0 if plan.suspends else wanted,
        stateful_set=outcome.stateful_set or observed.stateful_set,
        own_pods=observed.pods,
        warned=observed.warned,
    )
    result: dict[str, Any] = {
        "observedGeneration": agent["metadata"].get("generation", 0),
        "replicas": progress.present,
        "readyReplicas": progress.ready,
        "ready": f"{progress.ready}/{wanted}",
        "workflow": (plan.spec.workflow if plan.spec else None) or agent["metadata"]["name"],
        "selector": names.label_selector(names.pod_selector(agent)),
    }
    if plan.suspends and cut is not None:
        suspended = _suspended(observed, plan, outcome, cut)
        ready = Verdict("False", plan.reasons[0].type, _reasons_text(plan))
        result["state"] = _state_of_suspension(plan, suspended)
        result |= _stopping(observed, plan, cut)
    else:
        suspended = Verdict("False", RUNNING, "nothing holds this agent")
        ready = _ready(plan, outcome, progress)
        result["state"] = _state_of_run(ready, progress)
        begun = outcome.stateful_set is not None or observed.stateful_set is not None
        result |= _going_on(previous, plan, begun=begun, now=now)
    verdicts = {"Ready": ready, "Suspended": suspended}
    if plan.assessment is not None and observed.surroundings is not None:
        runs = not plan.suspends
        judged = plan.assessment
        if plan.suspends and plan.reasons[0].type != suspension.UNPROVEN:
            judged = replace(judged, unproven="")
        result["policies"] = list(judged.policies[:MAX_POLICIES])
        result["isolation"] = proof.record(agent, judged, observed.surroundings, runs=runs, now=now)
        verdicts |= worldview.verdicts(judged, observed.surroundings, result["isolation"], runs=runs)
    elif previous.get("isolation"):
        result["isolation"] = previous["isolation"]
    if plan.leases.entries:
        result["credentials"] = list(plan.leases.entries)
    if plan.leases.verdict is not None:
        verdicts[leases.CREDENTIALS_READY] = plan.leases.verdict
    if plan.breaker is not None:
        result["circuit"] = circuit.write(plan.breaker.circuit)
        verdicts[breaker.CIRCUIT_CLOSED] = plan.breaker.decision.verdict
    result |= _ended(observed, result.get("suspension"))
    result["conditions"] = _conditions(previous, verdicts, agent=agent, now=now)
    return result


def _stopping(observed: Observed, plan: Plan, cut: Cut) -> Object:
    """Returns the fields of a suspension."""
    previous = observed.agent.get("status") or {}
    left = () if cut.stopped else tuple(pod["metadata"]["name"] for pod in suspension.remaining(observed))
    fields: Object = {
        "suspension": suspension.record(
            previous.get("suspension"),
            found=plan.reasons,
            cut=cut,
            grace=suspension.grace_seconds(observed.agent, observed.switches),
            pending=left,
            unrevoked=plan.leases.unrevoked,
            ended=observed.exits,
        )
    }
    if previous.get("lastSuspension"):
        fields["lastSuspension"] = previous["lastSuspension"]
    if previous.get("runStartedAt") and _keeps_run(previous, plan, cut):
        fields["runStartedAt"] = previous["runStartedAt"]
    return fields


def _ended(observed: Observed, stopping: Object | None) -> Object:
    """Returns how containers last ended by themselves, where one did."""
    since = conditions.read_time(stopping["since"]) if stopping else None
    told = exits.last(observed.agent.get("status"), observed.exits, before=since)
    return {"lastExits": told} if told else {}


def _going_on(previous: Object, plan: Plan, *, begun: bool, now: datetime) -> Object:
    """Returns the fields of a run, which begins with the agent's workload."""
    fields: Object = {"userNamespaces": plan.user_namespaces}
    last = previous.get("suspension") or previous.get("lastSuspension")
    if last:
        fields["lastSuspension"] = last
    started = conditions.read_time(previous.get("runStartedAt"))
    if started is not None and started <= now:
        fields["runStartedAt"] = previous["runStartedAt"]
    elif begun or started is not None:
        # One that is to come was written before the clock was set back: a lifetime would count from then.
        fields["runStartedAt"] = conditions.format_time(now)
    return fields


def _keeps_run(previous: Object, plan: Plan, cut: Cut) -> bool:
    """Says whether a run that is suspended is not over.

    An expired one stays expired until somebody asks for the agent to be stopped: what else joins and goes again, such
    as a kill switch or an alert, gave it another full lifetime. What is stopped and has a beginning on record expired.
    """
    if cut.stopped is None:
        return True
    kinds = {reason.type for reason in plan.reasons}
    stopping = previous.get("suspension") or {}
    recorded = {one.get("type") for one in stopping.get("reasons") or ()}
    # A spec that cannot be read has no lifetime that could have been reached.
    expired = plan.spec is None and (suspension.LIFETIME_EXPIRED in recorded or bool(stopping.get("stoppedAt")))
    return (expired or suspension.LIFETIME_EXPIRED in kinds) and suspension.REQUESTED not in kinds


def _suspended(observed: Observed, plan: Plan, outcome: Outcome, cut: Cut) -> Verdict:
    first = plan.reasons[0].type
    if cut.stopped is not None:
        return Verdict("True", first, _reasons_text(plan))
    left = ", ".join(_pod_words(pod) for pod in suspension.remaining(observed)[: suspension.PENDING_SHOWN])
    waiting = f"waiting for {left} to end" if left else "checking that nothing is left"
    problem = "".join(f"; {one}" for one in outcome.refused)
    return Verdict("False", STOPPING, f"{_reasons_text(plan)}; {waiting}{problem}")


def _pod_words(pod: Object) -> str:
    node = pod.get("spec", {}).get("nodeName")
    return f"pod {pod['metadata']['name']}" + (f" on node {node}" if node else "")


def _reasons_text(plan: Plan) -> str:
    return "; ".join(reason.message for reason in plan.reasons)


def _state_of_suspension(plan: Plan, suspended: Verdict) -> str:
    kinds = [reason.type for reason in plan.reasons]
    if suspended.status != "True":
        return "Terminating" if suspension.DELETED in kinds else "Suspending"
    for kind in kinds:
        if kind in _TELLING:
            return kind
        if kind in _REFUSING:
            return REFUSED
    return "Suspended"


def _ready(plan: Plan, outcome: Outcome, progress: Rollout) -> Verdict:
    if outcome.taken:
        return Verdict("False", suspension.CONFLICT, "; ".join(str(one) for one in outcome.taken))
    if outcome.refused:
        return Verdict("False", REFUSED, "; ".join(outcome.refused))
    if not plan.leases.ready and plan.leases.verdict is not None:
        return Verdict("False", WAITING_FOR_CREDENTIALS, plan.leases.verdict.message)
    if progress.complete:
        return Verdict("True", rollout.READY, f"{progress.ready} of {progress.wanted} replicas are ready")
    counted = f"{progress.ready} of {progress.wanted} replicas are ready"
    if progress.cause is not None:
        return Verdict("False", progress.cause.reason, f"{counted}; {progress.cause.message}")
    return Verdict("False", rollout.ROLLING_OUT, counted)


def _state_of_run(ready: Verdict, progress: Rollout) -> str:
    if ready.status == "True":
        return "ScaledToZero" if progress.wanted == 0 else RUNNING
    if ready.reason in (rollout.ROLLING_OUT, WAITING_FOR_CREDENTIALS):
        return "Starting"
    return "Conflict" if ready.reason == suspension.CONFLICT else "Failing"


def _conditions(
    previous: Object, verdicts: dict[str, Verdict], *, agent: Object, now: datetime
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        one for one in previous.get("conditions") or () if one.get("type") in verdicts or one.get("type") not in KNOWN
    ]
    for kind, verdict in verdicts.items():
        found = conditions.set_condition(
            found,
            type=kind,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            generation=agent["metadata"].get("generation", 0),
            now=now,
        )
    return found


@dataclass(frozen=True, slots=True)
class Transition:
    """A change worth an event and a log line: `Normal` or `Warning`, a CamelCase reason, and a note."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def transitions(previous: Object, current: Object) -> tuple[Transition, ...]:
    """Returns what changed between two statuses of one agent, for events: transitions only, never a heartbeat."""
    changed = breakerchanges.changes(previous, current)
    found = [Transition(one.type, str(one.kind), one.note) for one in changed]
    before = {kind: conditions.find(previous.get("conditions") or [], kind) or {} for kind in KNOWN}
    after = {kind: conditions.find(current.get("conditions") or [], kind) or {} for kind in KNOWN}
    stopping, was_stopping = current.get("suspension"), previous.get("suspension")
    if stopping and not was_stopping:
        kind: Literal["Normal", "Warning"] = (
            "Normal" if stopping["reasons"][0]["type"] in ("Requested", "Deleted") else "Warning"
        )
        found.append(Transition(kind, "Suspending", "; ".join(one["message"] for one in stopping["reasons"])))
    if stopping and _is(after["Suspended"], "True") and not _is(before["Suspended"], "True"):
        found.append(Transition("Normal", "Suspended", _stop_words(stopping)))
    if was_stopping and not stopping:
        found.append(Transition("Normal", "Resumed", "nothing holds this agent any more"))
    found.extend(_ready_transition(before["Ready"], after["Ready"], stopping=bool(stopping)))
    for aspect in worldview.ALARMING:
        # A suspension tells of its own reasons; these are told because something else was changed.
        if _is(after[aspect], "False") and before[aspect].get("message") != after[aspect].get("message"):
            found.append(Transition("Warning", str(after[aspect]["reason"]), str(after[aspect]["message"])))
    return tuple(found)


def _is(condition: Object, value: str) -> bool:
    return condition.get("status") == value


def _ready_transition(before: Object, after: Object, *, stopping: bool) -> list[Transition]:
    if _is(after, "True"):
        return [] if _is(before, "True") else [Transition("Normal", "Ready", after["message"])]
    changed = before.get("reason") != after.get("reason")
    if stopping or not changed or after.get("reason") == rollout.ROLLING_OUT:
        return []
    return [Transition("Warning", str(after.get("reason")), str(after.get("message")))]


def _stop_words(record: Object) -> str:
    since = conditions.read_time(record.get("since"))
    parts = []
    for field, words in (
        ("networkCutAt", "network cut"),
        ("credentialsRevokedAt", "credentials revoked"),
        ("processesSignalledAt", "processes told to end"),
        ("stoppedAt", "all gone"),
    ):
        at = conditions.read_time(record.get(field))
        if at is not None and since is not None:
            parts.append(f"{words} after {(at - since).total_seconds():.3f} s")
    return ", ".join(parts)
