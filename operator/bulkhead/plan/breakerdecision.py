"""The breaker of one agent, from what is observed to what follows: reads the record, collects the evidence, steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bulkhead.api import conditions
from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.plan import breaker, circuit, trips
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.breaker import Decision
from bulkhead.plan.breakerrules import rules
from bulkhead.plan.circuit import Circuit, State
from bulkhead.plan.observed import Observed
from bulkhead.plan.signals import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The breaker of one agent after a step.

    Attributes:
        circuit: what is to be on record.
        decision: what follows from it.
        was_open: whether the record says Open and the breaker is no longer.
        opens: whether the breaker is open and the record does not say so yet.
        settled_alerts: alerts whose records are needed no longer once this is on record.
    """

    circuit: Circuit
    decision: Decision
    was_open: bool
    opens: bool
    settled_alerts: tuple[Alert, ...] = ()


def decide(
    observed: Observed,
    *,
    spec: AgentDeploymentSpec | None,
    assessment: Assessment | None,
    runs_possible: bool,
    now: datetime,
) -> Broken:
    """Decides about the breaker of one agent.

    Args:
        observed: what is known of the agent.
        spec: its parsed spec, None when it could not be parsed.
        assessment: what the world around it means for it; None where that could not be told.
        runs_possible: whether nothing else keeps it from running.
        now: the time.
    """
    agent, surroundings = observed.agent, observed.surroundings
    raw = agent.get("spec")
    in_force = rules(surroundings.bounds if surroundings is not None else None, raw)
    reset_at = _reset_at(raw)
    recorded = circuit.read((agent.get("status") or {}).get("circuit"), now=now)
    evidence = trips.collect(
        observed,
        breaker.forgiven(recorded, reset_at, now=now),
        in_force,
        isolation=assessment.evidence if assessment is not None else None,
        wanted=spec.replicas if spec is not None else 0,
        runs=runs_possible,
        now=now,
    )
    after, decision = breaker.step(
        recorded,
        rules=in_force,
        evidence=evidence,
        reset_at=reset_at,
        runs_possible=runs_possible,
        seed=str(agent["metadata"]["uid"]),
        now=now,
    )
    return Broken(
        circuit=after,
        decision=decision,
        was_open=recorded.state is State.OPEN and not decision.open,
        opens=decision.open and recorded.state is not State.OPEN,
        settled_alerts=trips.settled(observed.alerts, after, in_force) if surroundings is not None else (),
    )


def _reset_at(raw_spec: Any) -> datetime | None:
    """Returns `spec.circuitBreaker.resetAt`, read from the raw object; None where there is no time there.

    The record takes the same times: one that is honoured and then cannot be read would hold the agent for good.
    """
    given = raw_spec.get("circuitBreaker") if isinstance(raw_spec, dict) else None
    return conditions.read_time(given.get("resetAt")) if isinstance(given, dict) else None
