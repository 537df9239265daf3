"""When an agent must not run, and what a suspension takes, in which order.

An agent that should run but must not is suspended, for one or more reasons, whether a person asked for it or the
operator could not do otherwise. There is one way down for all of them: network, credentials, processes, proof.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bulkhead.api import conditions
from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.plan import exits, killswitch, pods, proof, refusals
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.breaker import Decision
from bulkhead.plan.exits import Exit
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.observed import Cut, Object, Observed, Taken

REQUESTED = "Requested"
KILL_SWITCH = "KillSwitch"
CIRCUIT_OPEN = "CircuitOpen"
LIFETIME_EXPIRED = "LifetimeExpired"
NOT_A_SANDBOX = "NotASandbox"
NAMESPACE_TERMINATING = "NamespaceTerminating"
INVALID = "Invalid"
CONFLICT = "Conflict"
CREDENTIALS_EXPIRED = "CredentialsExpired"
DELETED = "Deleted"
ISOLATION_LOST = "IsolationLost"
NO_POLICY = "NoPolicy"
POLICY_REFUSED = "PolicyRefused"
UNPROVEN = "Unproven"
WIDENED = "Widened"

DEFAULT_GRACE_SECONDS = 5
"""What a stop allows when the spec, which would say, cannot be read."""

MAX_MESSAGE = 4096
"""Characters of one reason; the bound of the CRD."""
PENDING_SHOWN = 16
SWITCHES_SHOWN = 8
STEPS = ("networkCutAt", "credentialsRevokedAt", "processesSignalledAt", "stoppedAt")


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for which an agent must not run."""

    type: str
    message: str


def reasons(
    observed: Observed,
    *,
    spec: AgentDeploymentSpec | None,
    problems: tuple[str, ...],
    assessment: Assessment | None,
    expired: tuple[str, ...],
    now: datetime,
) -> tuple[Reason, ...]:
    """Returns every reason but its breaker for which the agent must not run now; none means that it may.

    Args:
        observed: what is known of the agent.
        spec: the parsed spec, None when it could not be parsed.
        problems: why it could not be parsed.
        assessment: what the world around it means for it; None where that could not be told.
        expired: names of credentials that have ended and could not be renewed.
        now: the time, for the lifetime.
    """
    found = [
        _deleted(observed.agent),
        _requested(observed.agent),
        _switched(observed.switches),
        _namespace(observed),
        Reason(INVALID, "the spec is not acceptable: " + "; ".join(problems)) if problems else None,
        _taken(observed.taken),
        _lifetime(observed.agent, spec, now),
        _expired(observed, expired),
        *(_world(observed.agent, assessment) if assessment is not None else ()),
    ]
    known = tuple(reason for reason in found if reason is not None)
    if not known and assessment is not None and assessment.unproven:
        # Of what is stopped already nothing is to be proven. Each restart of the operator, whose own canary takes a
        # moment to answer again, wrote every suspended agent's status twice.
        return (Reason(UNPROVEN, assessment.unproven),)
    return known


def _deleted(agent: Object) -> Reason | None:
    if not pods.is_being_deleted(agent):
        return None
    return Reason(DELETED, "the AgentDeployment is being deleted")


def _requested(agent: Object) -> Reason | None:
    # Read from the raw object: a spec that cannot be parsed can still ask to be stopped.
    raw = agent.get("spec")
    if not isinstance(raw, dict) or raw.get("suspend") is not True:
        return None
    why = raw.get("suspendReason")
    return Reason(REQUESTED, f"spec.suspend is true: {why}" if why else "spec.suspend is true")


def _switched(switches: tuple[Switch, ...]) -> Reason | None:
    """Several switches are one reason: a status lists each type once."""
    if not switches:
        return None
    named = "; ".join(f"KillSwitch {one.name}: {one.reason}" for one in switches[:SWITCHES_SHOWN])
    more = f"; and {len(switches) - SWITCHES_SHOWN} more" if len(switches) > SWITCHES_SHOWN else ""
    return Reason(KILL_SWITCH, f"{named}{more}")


def with_breaker(found: tuple[Reason, ...], decision: Decision) -> tuple[Reason, ...]:
    """Returns the reasons that were found, and the one that the agent's breaker gives while it is open."""
    if not decision.open:
        return found
    others = tuple(one for one in found if one.type != UNPROVEN)
    return (*others, Reason(CIRCUIT_OPEN, decision.message))


def _namespace(observed: Observed) -> Reason | None:
    name = observed.agent["metadata"]["namespace"]
    if observed.namespace is None:
        return Reason(
            NOT_A_SANDBOX,
            f"agents run only in sandbox namespaces, and namespace {name} is not labelled bulkhead.dev/sandbox=true; "
            f"a platform engineer can label it, or create the agent in a namespace that is",
        )
    if pods.is_being_deleted(observed.namespace):
        return Reason(NAMESPACE_TERMINATING, f"namespace {name} is being deleted")
    return None


def _taken(taken: tuple[Taken, ...]) -> Reason | None:
    if not taken:
        return None
    names = ", ".join(str(one) for one in taken)
    return Reason(
        CONFLICT,
        f"names that this agent's objects need belong to somebody else: {names}; "
        f"they were left untouched; delete or rename them, or give the agent another name",
    )


def _lifetime(agent: Object, spec: AgentDeploymentSpec | None, now: datetime) -> Reason | None:
    ends = run_ends_at(agent, spec)
    if ends is None or now < ends or spec is None or spec.lifetime is None:
        return None
    if conditions.read_time(agent["status"]["runStartedAt"]) is None:
        return Reason(
            LIFETIME_EXPIRED,
            f"the run counts as having reached spec.lifetime.maxSeconds ({spec.lifetime.max_seconds} s), for "
            f"status.runStartedAt is no time; set spec.suspend to true and back to false for a new run",
        )
    return Reason(
        LIFETIME_EXPIRED,
        f"the run reached spec.lifetime.maxSeconds ({spec.lifetime.max_seconds} s) at {conditions.format_time(ends)}; "
        f"set spec.suspend to true and back to false for a new run, or raise maxSeconds",
    )


def _expired(observed: Observed, expired: tuple[str, ...]) -> Reason | None:
    """Nobody is left to work with a dead credential.

    What does not run needs no stop: it waits until it has live credentials. A stop that has begun is finished, so that
    the absence of the agent's processes is proven and on record.
    """
    record = (observed.agent.get("status") or {}).get("suspension") or {}
    begun = [one for one in record.get("reasons") or () if one.get("type") == CREDENTIALS_EXPIRED]
    if begun and not record.get("stoppedAt"):
        return Reason(CREDENTIALS_EXPIRED, str(begun[0].get("message", "")))
    if not expired or (observed.stateful_set is None and not observed.pods):
        return None
    return Reason(
        CREDENTIALS_EXPIRED,
        f"the lease of {', '.join(expired)} ended and could not be renewed; "
        f"status.credentials says why, and the agent starts again as soon as all of its credentials are issued",
    )


def _world(agent: Object, assessment: Assessment) -> tuple[Reason | None, ...]:
    return (
        _isolation(assessment),
        _widened(assessment),
        _policy(agent, assessment),
    )


def _isolation(assessment: Assessment) -> Reason | None:
    """A loss stops the agent while its pod says so, and opens its breaker, which holds it from then on."""
    evidence = assessment.evidence
    if evidence.result != proof.LOST:
        return None
    return Reason(ISOLATION_LOST, f"the agent's pod reached what it must not reach: {evidence.message}")


def _widened(assessment: Assessment) -> Reason | None:
    critical = [one for one in assessment.opened if one.critical]
    if not critical:
        return None
    names = "; ".join(f"{one.kind} {one.name}: {one.message}" for one in critical)
    return Reason(WIDENED, f"objects that are not the operator's open a way to production or the floor: {names}")


def _policy(agent: Object, assessment: Assessment) -> Reason | None:
    if not assessment.policies:
        namespace = agent["metadata"]["namespace"]
        return Reason(
            NO_POLICY,
            f"no SandboxPolicy selects namespace {namespace}, and an agent without one does not run; "
            f"a platform engineer can create one whose namespaceSelector matches the namespace's labels",
        )
    if not assessment.violations:
        return None
    return Reason(POLICY_REFUSED, refusals.text(assessment.violations))


def run_ends_at(agent: Object, spec: AgentDeploymentSpec | None) -> datetime | None:
    """Returns when the present run reaches its lifetime, None where it has none or has not started.

    One whose beginning cannot be read has reached it: otherwise it would never end.
    """
    started = (agent.get("status") or {}).get("runStartedAt")
    if spec is None or spec.lifetime is None or not started:
        return None
    return (conditions.read_time(started) or conditions.EARLIEST) + timedelta(seconds=spec.lifetime.max_seconds)


def grace_seconds(agent: Object, switches: Iterable[Switch] = ()) -> int:
    """Returns the seconds a stop of this agent allows its processes, whatever its spec says: from 2 to 30.

    Args:
        agent: the AgentDeployment.
        switches: the kill switches that stop it; the shortest grace counts.
    """
    raw = agent.get("spec")
    given = raw.get("suspendGraceSeconds", DEFAULT_GRACE_SECONDS) if isinstance(raw, dict) else DEFAULT_GRACE_SECONDS
    if isinstance(given, bool) or not isinstance(given, int):
        given = DEFAULT_GRACE_SECONDS
    return min(max(killswitch.grace_seconds(given, switches), pods.MIN_GRACE_SECONDS), 30)


def is_stopped(observed: Observed) -> bool:
    """Says whether the absence of every process of the agent is proven: by the live API, not by a cache."""
    return observed.pods_are_live and observed.stateful_set is None and not remaining(observed)


def remaining(observed: Observed) -> tuple[Object, ...]:
    """Returns the agent's pods that may still hold processes.

    A pod whose phase says that it has ended counts too until it is gone: phase is written before the sandbox is torn
    down, and a restart policy or an edit can bring it back.
    """
    return observed.pods


def record(
    previous: Object | None,
    *,
    found: tuple[Reason, ...],
    cut: Cut,
    grace: int,
    pending: tuple[str, ...],
    unrevoked: tuple[str, ...],
    ended: Iterable[Exit] = (),
) -> Object:
    """Returns `status.suspension`: the reasons, and the time of each step as far as it has got.

    A time once recorded stays, if it is one, whoever carries the suspension on after a restart. Where the recorded
    suspension was complete and yet something had to be removed since, a new one has begun: the agent ran in between.
    How containers ended is told by what is observed once only, so what is recorded of that stays too.
    """
    earlier = previous or {}
    ended_at = conditions.read_time(earlier.get("stoppedAt"))
    if ended_at is not None and cut.worked and cut.since > ended_at:
        earlier = {}
    ours = dict(
        zip(
            ("since", *STEPS),
            (cut.since, cut.network, cut.credentials, cut.processes, cut.stopped),
            strict=True,
        )
    )
    entry: dict[str, Any] = {
        "reasons": [{"type": one.type, "message": conditions.shorten(one.message, MAX_MESSAGE)} for one in found],
        "graceSeconds": grace,
    }
    for name, time in ours.items():
        if conditions.read_time(earlier.get(name)) is not None:
            entry[name] = earlier[name]
        elif time is not None:
            entry[name] = conditions.format_micro_time(time)
    if pending:
        entry["pending"] = list(pending[:PENDING_SHOWN])
    if unrevoked:
        entry["unrevoked"] = [one[:512] for one in unrevoked[:PENDING_SHOWN]]
    told = exits.during(earlier or None, ended, since=conditions.read_time(entry["since"]) or cut.since)
    if told:
        entry["exits"] = told
    return entry
