"""The plan for one agent: what should exist, what must go, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bulkhead.api import meta
from bulkhead.api.agentdeployment import AgentDeploymentSpec, InvalidSpec, parse_spec
from bulkhead.plan import breakerdecision as breaker
from bulkhead.plan import identity, isolation, leases, names, network, pods, suspension, workload
from bulkhead.plan.assessment import Assessment, assess
from bulkhead.plan.breakerdecision import Broken
from bulkhead.plan.leases import LeasePlan
from bulkhead.plan.observed import Object, Observed
from bulkhead.plan.signals import Alert
from bulkhead.plan.suspension import Reason

CREDENTIALS = "credentials"
NETWORK = "network"
PROCESSES = "processes"

STUCK_LOOK = timedelta(seconds=5)
"""How often the warnings about a stuck rollout are read again: events are listed, not watched."""
STOP_LOOK = timedelta(seconds=1)
"""How often a stop that is not proven yet is looked at, should no watch event come."""
UNPROVEN_LOOK = timedelta(seconds=5)
"""How often it is asked again whether the canaries answer the operator. That one begins to is news, but that one which
answered long ago has answered again is none: of 300 agents resumed on a busy machine, 27 waited for good (measured)."""
CONFLICT_LOOK = timedelta(seconds=10)
"""How often somebody else's object under one of our names is looked for: caches hold only our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One object to delete, by name and UID: a successor with the same name is never hit."""

    kind: str
    namespace: str
    name: str
    uid: str
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Removals that may go side by side. Phases go one after the other."""

    step: str
    removals: tuple[Removal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """One object that should exist exactly so, and the UID of the owner that makes it ours."""

    object: Object
    owner_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to bring about for one agent."""

    spec: AgentDeploymentSpec | None
    reasons: tuple[Reason, ...]
    """Why the agent must not run; empty means that it may."""
    assessment: Assessment | None = None
    """What the world around the agent means for it; None where that could not be told."""
    desired: tuple[Desired, ...] = ()
    phases: tuple[Phase, ...] = ()
    leases: LeasePlan = leases.NOTHING
    """What to do about its credentials, beside everything else: nothing waits for an issuer."""
    delete_agent: bool = False
    next_look: timedelta | None = None
    user_namespaces: bool = False
    """Whether the pods have user namespaces of their own."""
    breaker: Broken | None = None
    """The agent's breaker after this plan, and what follows from it."""

    @property
    def rests_on_this_replica(self) -> bool:
        """Whether the only reason to stop is what this replica of the operator itself could not reach."""
        return {reason.type for reason in self.reasons} == {suspension.UNPROVEN}

    @property
    def opens(self) -> bool:
        """Whether this plan opens the breaker and no status says so yet: its evidence may go with the pods."""
        return self.breaker is not None and self.breaker.opens

    @property
    def settled_alerts(self) -> tuple[Alert, ...]:
        """The alerts whose records are needed no longer once this plan's status is written."""
        return self.breaker.settled_alerts if self.breaker is not None else ()

    @property
    def suspends(self) -> bool:
        """Whether this plan only takes away."""
        return bool(self.reasons)


def plan(observed: Observed, *, now: datetime) -> Plan:
    """Decides what an agent's objects should be.

    Args:
        observed: what is known of the agent.
        now: the time.
    """
    agent = observed.agent
    spec: AgentDeploymentSpec | None = None
    problems: tuple[str, ...] = ()
    try:
        spec = parse_spec(agent.get("spec"), name=agent["metadata"]["name"])
    except InvalidSpec as error:
        problems = error.problems
    judged: Assessment | None = None
    if spec is not None and observed.surroundings is not None:
        judged = assess(observed, spec, observed.surroundings, now=now)
    credentials = _leases(observed, spec, runs=True, now=now)
    found = suspension.reasons(
        observed, spec=spec, problems=problems, assessment=judged, expired=credentials.expired, now=now
    )
    broken = breaker.decide(observed, spec=spec, assessment=judged, runs_possible=not found, now=now)
    found = suspension.with_breaker(found, broken.decision)
    if found or spec is None or observed.namespace is None or judged is None:
        made = _suspended(observed, spec, found, judged, now=now)
    elif broken.was_open:
        # What lets an agent run again is on record before anything is built: who finds pods beside the record of an
        # open breaker, after a crash or on another replica, has to take them down.
        made = Plan(spec=spec, reasons=(), assessment=judged, leases=credentials, next_look=timedelta(0))
    else:
        made = _running(observed, observed.namespace, spec, judged, credentials, now=now)
    looks = [one for one in (made.next_look, broken.decision.next_look) if one is not None]
    return replace(made, breaker=broken, next_look=min(looks, default=None))


def _leases(observed: Observed, spec: AgentDeploymentSpec | None, *, runs: bool, now: datetime) -> LeasePlan:
    """Decides about the agent's credentials; for most agents there is nothing to decide."""
    return leases.plan(
        leases.asked(spec.credentials) if spec is not None else (),
        observed.books if observed.books is not None else leases.EMPTY,
        agent=observed.agent,
        runs=runs,
        now=now,
        patience=observed.revocation_patience,
    )


def _suspended(
    observed: Observed,
    spec: AgentDeploymentSpec | None,
    found: tuple[Reason, ...],
    judged: Assessment | None,
    *,
    now: datetime,
) -> Plan:
    agent = observed.agent
    expired = {reason.type for reason in found} == {suspension.LIFETIME_EXPIRED}
    stopped = suspension.is_stopped(observed)
    credentials = _leases(observed, spec, runs=False, now=now)
    looks = [credentials.next_look] if credentials.next_look is not None else []
    if not stopped:
        looks.append(STOP_LOOK)
    if observed.taken:
        looks.append(CONFLICT_LOOK)
    if any(reason.type == suspension.UNPROVEN for reason in found):
        looks.append(UNPROVEN_LOOK)
    return Plan(
        spec=spec,
        reasons=found,
        assessment=judged,
        phases=stop_phases(observed, grace=suspension.grace_seconds(agent, observed.switches)),
        leases=credentials,
        delete_agent=bool(
            stopped and expired and spec is not None and spec.lifetime and spec.lifetime.on_expiry == "Delete"
        ),
        next_look=min(looks, default=None),
    )


def stop_phases(observed: Observed, *, grace: int) -> tuple[Phase, ...]:
    """Returns the removals of a suspension in their order: network, credentials, processes.

    Of the network the allow rules go: rules only add up, so no deny can be laid over them, and the namespace's deny-all
    is what is left. The RoleBinding goes before the ServiceAccount: what a token's bearer may do is looked up at each
    request, and that the token is good is remembered by the API server for ten seconds. The StatefulSet and its pods
    go side by side, it first: its deletion takes the API server less time than that of a pod, and a kubelet needs many
    times as long to end one. What its controller may make in between is refused, for the account is gone, or is found
    by the look at the live API without which nothing counts as stopped.
    """
    agent_uid = observed.agent["metadata"]["uid"]

    def ours(*objects: Object | None) -> tuple[Removal, ...]:
        return tuple(found for obj in objects if (found := _removal(obj, agent_uid)) is not None)

    pods_left = tuple(_pod_removal(pod, grace) for pod in suspension.remaining(observed))
    return (
        Phase(step=NETWORK, removals=ours(observed.network_policy, observed.cilium_policy)),
        Phase(step=CREDENTIALS, removals=ours(observed.role_binding)),
        Phase(step=CREDENTIALS, removals=ours(observed.service_account, observed.role)),
        Phase(step=PROCESSES, removals=(*ours(observed.stateful_set), *pods_left)),
    )


def _removal(obj: Object | None, owner_uid: str) -> Removal | None:
    if obj is None or not meta.is_owned_by(obj, owner_uid):
        return None
    data = obj["metadata"]
    return Removal(kind=obj["kind"], namespace=data["namespace"], name=data["name"], uid=data["uid"])


def _pod_removal(pod: Object, grace: int) -> Removal:
    data = pod["metadata"]
    return Removal(kind="Pod", namespace=data["namespace"], name=data["name"], uid=data["uid"], grace_seconds=grace)


def _running(
    observed: Observed,
    namespace: Object,
    spec: AgentDeploymentSpec,
    judged: Assessment,
    credentials: LeasePlan,
    *,
    now: datetime,
) -> Plan:
    agent = observed.agent
    agent_uid = agent["metadata"]["uid"]
    desired = [Desired(object=network.deny_all(namespace), owner_uid=namespace["metadata"]["uid"])]
    own = (
        judged.rules.policy,
        judged.rules.cilium,
        identity.service_account(agent, spec, pull_secrets=observed.pull_secrets),
        identity.role(agent, spec),
        identity.role_binding(agent, spec),
    )
    desired += [Desired(object=obj, owner_uid=agent_uid) for obj in own if obj is not None]
    user_namespaces = _user_namespaces(observed, spec)
    strays = _strays(observed)
    if credentials.ready and (observed.stateful_set is not None or not strays):
        # Pods would wait for a Secret that is not there, and nobody would be told why. And a StatefulSet that meets
        # pods of its own names which it does not own only fails and backs off.
        built = _workload(observed, spec, judged, user_namespaces=user_namespaces)
        desired.append(Desired(object=built, owner_uid=agent_uid))
    return Plan(
        spec=spec,
        reasons=(),
        assessment=judged,
        desired=tuple(desired),
        phases=_outdated(observed, spec, judged, strays),
        leases=credentials,
        next_look=_next_look(observed, spec, judged, credentials, now=now, strays=bool(strays)),
        user_namespaces=user_namespaces,
    )


def _workload(observed: Observed, spec: AgentDeploymentSpec, judged: Assessment, *, user_namespaces: bool) -> Object:
    """Builds the StatefulSet, always with the gate: without surroundings or a gate nothing gets this far."""
    surroundings = observed.surroundings
    if surroundings is None or surroundings.gate is None:
        raise ValueError("an agent without a gate is not built")
    return workload.stateful_set(
        observed.agent,
        spec,
        user_namespaces=user_namespaces,
        gate_containers=isolation.containers(surroundings.gate, judged.targets, bounds=surroundings.bounds),
        host_aliases=judged.rules.host_aliases,
        required_node_labels=surroundings.bounds.required_node_labels,
    )


def _outdated(
    observed: Observed, spec: AgentDeploymentSpec, judged: Assessment, strays: tuple[Object, ...]
) -> tuple[Phase, ...]:
    """Returns what of a running agent has to go: what nobody asks for any more, and pods of earlier runs."""
    phases: list[Phase] = []
    agent_uid = observed.agent["metadata"]["uid"]
    rights = identity.role(observed.agent, spec)
    for step, live, wanted in (
        (NETWORK, observed.network_policy, judged.rules.policy),
        (NETWORK, observed.cilium_policy, judged.rules.cilium),
        (CREDENTIALS, observed.role_binding, rights),
        (CREDENTIALS, observed.role, rights),
    ):
        gone = _removal(live, agent_uid)
        if gone is not None and wanted is None:
            phases.append(Phase(step=step, removals=(gone,)))
    if strays:
        grace = suspension.grace_seconds(observed.agent, observed.switches)
        phases.append(Phase(step=PROCESSES, removals=tuple(_pod_removal(pod, grace) for pod in strays)))
    return tuple(phases)


def _user_namespaces(observed: Observed, spec: AgentDeploymentSpec) -> bool:
    """Says whether the pods get user namespaces; decided once for each run.

    A node that joins and cannot have them must not restart what runs. What a run has is read from our own status and
    not from the StatefulSet, which others may be able to edit. Another runtime class is another isolation.
    """
    status = observed.agent.get("status") or {}
    if status.get("runStartedAt") and "userNamespaces" in status:
        return bool(status["userNamespaces"])
    return observed.user_namespaces and spec.runtime_class_name is None


def _strays(observed: Observed) -> tuple[Object, ...]:
    """Returns pods of the agent that its present StatefulSet does not control, or is about to let go of.

    They are of an earlier run that is not over yet, or the labels were edited by which the controller and our own watch
    find them. The controller lets go of such a pod when it gets to it; who waits for that has no watch to be told by.
    """
    current = (observed.stateful_set or {}).get("metadata", {}).get("uid")
    found_by = {**names.managed_labels(), **names.pod_selector(observed.agent)}
    return tuple(
        pod
        for pod in observed.pods
        if not current
        or (meta.controller_of(pod) or {}).get("uid") != current
        or not found_by.items() <= meta.labels_of(pod).items()
    )


def _next_look(
    observed: Observed,
    spec: AgentDeploymentSpec,
    judged: Assessment,
    credentials: LeasePlan,
    *,
    now: datetime,
    strays: bool,
) -> timedelta | None:
    looks: list[timedelta] = []
    if credentials.next_look is not None:
        looks.append(credentials.next_look)
    ends = suspension.run_ends_at(observed.agent, spec)
    if ends is not None:
        looks.append(max(ends - now, timedelta(0)))
    elif spec.lifetime is not None:
        looks.append(timedelta(seconds=spec.lifetime.max_seconds))
    if judged.unproven_at is not None:
        looks.append(max(judged.unproven_at - now, timedelta(0)))
    if strays:
        looks.append(STOP_LOOK)
    if is_stuck(observed, wanted=spec.replicas):
        looks.append(STUCK_LOOK)
    return min(looks, default=None)


def is_stuck(observed: Observed, *, wanted: int) -> bool:
    """Says whether a rollout waits for something that only warning events can explain.

    That is so when pods are missing, or placed on a node but not up without a word of their own.
    """
    if observed.stateful_set is None:
        return False
    alive = [pod for pod in observed.pods if not pods.is_being_deleted(pod)]
    if len(alive) < wanted:
        return True
    return any(
        pod.get("spec", {}).get("nodeName") and not pods.is_ready(pod) and pods.trouble(pod) is None for pod in alive
    )
