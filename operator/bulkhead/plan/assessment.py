"""What the world around an agent means for it: what it is refused, what it is given, and whether that is proven."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.plan import diversion, identity, isolation, policy, widening
from bulkhead.plan import rules as network_rules
from bulkhead.plan.isolation import Evidence, Target
from bulkhead.plan.observed import Object, Observed
from bulkhead.plan.policy import Violation
from bulkhead.plan.rules import Rules
from bulkhead.plan.surroundings import Surroundings
from bulkhead.plan.widening import Opened

NOTHING = Rules(policy=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Everything that policies, rules and proofs say about one agent at one moment."""

    policies: tuple[str, ...]
    """Names of the SandboxPolicies that apply; an agent without one does not run."""
    violations: tuple[Violation, ...] = ()
    """What of the spec is refused, by a policy or by Bulkhead itself."""
    rules: Rules = field(default=NOTHING)
    opened: tuple[Opened, ...] = ()
    """What others have opened for this agent."""
    evidence: Evidence
    """What the gate in the agent's pods says."""
    unproven: str = ""
    """Why nothing can be proven now, in words; empty when it can."""
    unproven_at: datetime | None = None
    """When a canary that fails now will have failed for too long."""
    targets: tuple[Target, ...] = ()
    """What the gate tries."""


def assess(observed: Observed, spec: AgentDeploymentSpec, surroundings: Surroundings, *, now: datetime) -> Assessment:
    """Judges what an agent asks for, and whether its isolation is and can be proven.

    Args:
        observed: what is known of the agent.
        spec: its parsed spec.
        surroundings: what is known of the world around it.
        now: the time.
    """
    agent, bounds, reserved = observed.agent, surroundings.bounds, surroundings.reserved
    namespace = agent["metadata"]["namespace"]
    given = network_rules.rules(
        agent,
        spec,
        bounds=bounds,
        reserved=reserved,
        services=surroundings.services,
        dns_service=surroundings.dns_service,
        api_endpoints=surroundings.api_endpoints,
        api_service=surroundings.api_service,
        serves_cilium=surroundings.serves_cilium,
    )
    refused = list(
        policy.violations(
            spec,
            bounds,
            namespace=namespace,
            reserved=reserved,
            api_audiences=surroundings.api_audiences,
            issuers=surroundings.issuers,
        )
    )
    refused += [one for one in given.problems if one not in refused]
    opened = widening.opened(surroundings.foreign, bounds=bounds, reserved=reserved, namespace=observed.namespace or {})
    taken = diversion.diverted(given.policy, surroundings.exposed, bounds=bounds)
    return Assessment(
        policies=tuple(one.name for one in bounds.policies),
        violations=tuple(refused),
        rules=given,
        opened=(*(one for one in opened if widening.touches(one, agent)), *taken),
        evidence=isolation.evidence(observed.pods, wanted=spec.replicas),
        unproven=isolation.controlled(
            bounds,
            surroundings.gate,
            surroundings.controls,
            now=now,
            running=observed.stateful_set is not None,
        ),
        unproven_at=isolation.patience_ends(bounds, surroundings.gate, surroundings.controls),
        targets=_targets(observed, spec, surroundings),
    )


def _targets(observed: Observed, spec: AgentDeploymentSpec, surroundings: Surroundings) -> tuple[Target, ...]:
    """Returns what the gate of this run tries.

    The API server's addresses stay those of the run's beginning: one of several API servers that restarts leaves the
    published list for a while, and each change of the targets is a new pod.
    """
    if surroundings.gate is None:
        return ()
    endpoints = surroundings.api_endpoints
    if observed.stateful_set is not None:
        recorded = tuple(
            (target.address, target.port)
            for target in recorded_targets(observed.agent)
            if target.name == isolation.API_SERVER
        )
        endpoints = recorded or endpoints
    return isolation.targets(
        surroundings.bounds,
        gate=surroundings.gate,
        api_endpoints=endpoints,
        api_access=identity.wants_api(spec),
    )


def recorded_targets(agent: Object) -> tuple[Target, ...]:
    """Returns the targets that the agent's status says its present run tries; what is none is left out.

    A status can be written by others, and one that raised here kept its agent from being stopped.
    """
    listed = ((agent.get("status") or {}).get("isolation") or {}).get("targets") or ()
    found = []
    for text in listed:
        with suppress(ValueError):
            found.append(Target.parse(text))
    return tuple(found)
