"""Whether an agent's pods are up, and if not, why: in the words Kubernetes used."""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.plan import pods
from bulkhead.plan.observed import Object, Warned
from bulkhead.plan.pods import Cause

ROLLING_OUT = "RollingOut"
READY = "AllReplicasReady"
REVISION_LABEL = "controller-revision-hash"
"""Set by the StatefulSet controller on each pod. Its counts, such as `updatedReplicas`, are left out when zero."""

# A warning explains a rollout only while no pod speaks for itself; of several, the one nearest to the cause.
_TELLING = (
    "FailedCreate",
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "ProvisioningFailed",
    "FailedScheduling",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far the pods of a running agent have got."""

    wanted: int
    present: int
    ready: int
    complete: bool
    """Every wanted replica is of the current revision and ready, and no other is left."""
    cause: Cause | None
    """What keeps it from completing, where Kubernetes has said so."""


def assess(
    *, wanted: int, stateful_set: Object | None, own_pods: tuple[Object, ...], warned: tuple[Warned, ...]
) -> Rollout:
    """Sums up a StatefulSet, its pods and what was warned about them.

    Args:
        wanted: replicas the agent asks for.
        stateful_set: the agent's StatefulSet, None while there is none.
        own_pods: the agent's pods.
        warned: recent warning events about the StatefulSet and its pods.
    """
    status = (stateful_set or {}).get("status") or {}
    generation = (stateful_set or {}).get("metadata", {}).get("generation", 0)
    alive = [pod for pod in own_pods if not pods.is_being_deleted(pod)]
    ready = sum(1 for pod in alive if pods.is_ready(pod))
    seen = stateful_set is not None and status.get("observedGeneration", -1) >= generation
    revision = status.get("updateRevision")
    current = all((pod["metadata"].get("labels") or {}).get(REVISION_LABEL) == revision for pod in own_pods)
    complete = seen and current and ready == wanted == len(own_pods)
    return Rollout(
        wanted=wanted,
        present=len(own_pods),
        ready=ready,
        complete=complete,
        cause=None if complete else _cause(alive, missing=len(alive) < wanted, warned=warned),
    )


def _cause(alive: list[Object], *, missing: bool, warned: tuple[Warned, ...]) -> Cause | None:
    for pod in sorted(alive, key=lambda one: str(one["metadata"]["name"])):
        found = pods.trouble(pod)
        if found is not None:
            return Cause(found.reason, f"pod {pod['metadata']['name']}: {found.message}")
    stuck = missing or any(not pods.is_ready(pod) for pod in alive)
    if not stuck:
        return None
    for reason in _TELLING:
        for one in warned:
            if one.reason == reason:
                return Cause(one.reason, f"{one.kind} {one.name}: {one.message}")
    return None
