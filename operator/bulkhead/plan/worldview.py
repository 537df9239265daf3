"""The conditions of an agent that are about the world around it, and what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan import proof, refusals
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.observed import Object
from bulkhead.plan.surroundings import Surroundings

POLICY_ACCEPTED: Final = "PolicyAccepted"
ISOLATED: Final = "Isolated"
NETWORK_AS_PLANNED: Final = "NetworkAsPlanned"
ADMISSION_IN_FORCE: Final = "AdmissionInForce"
KINDS: Final = (POLICY_ACCEPTED, ISOLATED, NETWORK_AS_PLANNED, ADMISSION_IN_FORCE)
ALARMING: Final = (NETWORK_AS_PLANNED, ADMISSION_IN_FORCE)
"""Conditions whose becoming false is an event of its own: no suspension need follow from it."""

SHOWN = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition says: `True`, `False` or `Unknown`, why, and in words."""

    status: conditions.Status
    reason: str
    message: str


def verdicts(assessment: Assessment, surroundings: Surroundings, record: Object, *, runs: bool) -> dict[str, Verdict]:
    """Returns the conditions about policies, proof, network and admission, by type.

    Args:
        assessment: what the world around the agent means for it.
        surroundings: that world.
        record: `status.isolation` as it is written now.
        runs: whether the agent may run.
    """
    return {
        POLICY_ACCEPTED: _policy(assessment),
        ISOLATED: _isolated(assessment, record, runs=runs),
        NETWORK_AS_PLANNED: _network(assessment, surroundings),
        ADMISSION_IN_FORCE: _admission(surroundings.admission),
    }


def _policy(assessment: Assessment) -> Verdict:
    if not assessment.policies:
        return Verdict("False", "NoPolicy", "no SandboxPolicy selects this namespace")
    if assessment.violations:
        return Verdict("False", "Refused", refusals.text(assessment.violations))
    return Verdict("True", "Accepted", f"accepted by SandboxPolicy {', '.join(assessment.policies)}")


def _isolated(assessment: Assessment, record: Object, *, runs: bool) -> Verdict:
    tried = f"{len(record['targets'])} targets are tried from inside the pod"
    result = record["result"]
    if result == proof.LOST:
        words = "; ".join(record["answered"]) or "a target answered"
        return Verdict("False", "Lost", f"lost at {record['lostAt']}: {words}")
    if result == proof.UNKNOWN:
        return Verdict("Unknown", "Unproven", assessment.unproven)
    if not runs:
        return Verdict("Unknown", "NotRunning", "nothing runs that could be proven")
    if result == proof.OPEN:
        return Verdict("False", "Open", assessment.evidence.message)
    if result == proof.PENDING:
        return Verdict("Unknown", "Pending", f"{tried}; {assessment.evidence.message}")
    return Verdict("True", "Proven", f"{tried}, and none answered; {assessment.evidence.message}")


def _network(assessment: Assessment, surroundings: Surroundings) -> Verdict:
    in_force = f"in force: {', '.join(surroundings.layers)}"
    notes = "".join(f"; {note}" for note in assessment.rules.notes[:SHOWN])
    if assessment.opened:
        listed = _shortened(f"{one.kind} {one.name}: {one.message}" for one in assessment.opened)
        return Verdict("False", "Widened", f"{listed}; {in_force}")
    return Verdict("True", "AsPlanned", f"{in_force}{notes}")


def _admission(problems: tuple[str, ...] | None) -> Verdict:
    if problems is None:
        return Verdict("Unknown", "NotInstalled", "the operator was not told which admission policies there should be")
    if problems:
        return Verdict("False", "Weakened", _shortened(problems))
    return Verdict("True", "InForce", "every admission policy is as it was installed")


def _shortened(parts: Iterable[str]) -> str:
    listed = list(parts)
    more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + more
