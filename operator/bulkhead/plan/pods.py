"""Reading pods: which of them still hold processes, and what keeps one from running."""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.plan import exits, gatestatus, names, redaction
from bulkhead.plan.observed import Object

ENDED = frozenset({"Succeeded", "Failed"})
"""Pod phases in which every container has terminated (Kubernetes docs, Pod Lifecycle)."""

MIN_GRACE_SECONDS = 2
"""The shortest grace that means something. With 0 the pod is removed from the API before the kubelet has killed it, so
that its absence would prove nothing; and the kubelet itself gives each container two seconds at least (measured)."""

WAITING_IS_NORMAL = frozenset({"ContainerCreating", "PodInitializing"})

_FOUND = {
    gatestatus.MISCONFIGURED: "GateMisconfigured",
    gatestatus.ANSWERED: "IsolationOpen",
    gatestatus.UNPROVEN: "IsolationUnproven",
}
"""Exit codes of the gate that are a verdict, with the reason that each gives."""

_KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "ownerReferences",
)
_KEPT_STATUS = ("phase", "reason", "message", "conditions")
_STATUSES = ("initContainerStatuses", "containerStatuses")
_KEPT_OF_CONTAINER = ("name", "ready", "restartCount", "state", "lastState")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something does not run: a CamelCase reason and a message, both in Kubernetes' own words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Marks:
    """Whose a pod is: the name and the UID of an agent."""

    name: str
    uid: str


def agent_of(pod: Object) -> Marks | None:
    """Returns the agent that a pod was made for, by the marks in its environment.

    They are there because they cannot be edited, as labels and owners can.
    """
    for container in (pod.get("spec") or {}).get("containers") or ():
        if container.get("name") == names.CONTAINER:
            env = {one.get("name"): one.get("value") for one in container.get("env") or ()}
            name, uid = env.get(names.AGENT_ENV), env.get(names.AGENT_UID_ENV)
            return Marks(str(name), str(uid)) if name and uid else None
    return None


def slim(pod: Object) -> Object:
    """Returns the parts of a pod that decisions read.

    A cached pod of 5 kB shrinks to about 1.5 kB. The environment is kept: it carries the mark of ownership.
    """
    metadata, spec, status = pod.get("metadata") or {}, pod.get("spec") or {}, pod.get("status") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: metadata[key] for key in _KEPT_METADATA if key in metadata},
        "spec": {
            "serviceAccountName": spec.get("serviceAccountName"),
            "nodeName": spec.get("nodeName"),
            "containers": [
                {"name": one.get("name"), "env": [e for e in one.get("env") or () if "value" in e]}
                for one in spec.get("containers") or ()
            ],
        },
        "status": {
            **{key: status[key] for key in _KEPT_STATUS if key in status},
            **{key: [_slim_status(one) for one in status[key]] for key in _STATUSES if status.get(key)},
        },
    }


def _slim_status(status: Object) -> Object:
    """Keeps what is read of a container's status.

    The gate's termination message is its verdict. Any other is what the agent wrote last: of that, only what can be no
    secret comes into a cache.
    """
    kept = {key: status[key] for key in _KEPT_OF_CONTAINER if key in status}
    if status.get("name") in gatestatus.CONTAINERS:
        return kept
    for field in ("state", "lastState"):
        ended = (kept.get(field) or {}).get("terminated")
        if ended and "message" in ended:
            message = redaction.tail(str(ended["message"]), limit=exits.MESSAGE_LENGTH)
            kept[field] = {"terminated": {**ended, "message": message}}
    return kept


def is_being_deleted(obj: Object) -> bool:
    """Says whether a deletion of the object was accepted already."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))


def is_allowed_longer(obj: Object, seconds: int) -> bool:
    """Says whether the object's deletion was accepted with a longer grace, which another deletion would shorten.

    The garbage collector may come to the pods of a deleted StatefulSet first, and allows them their own grace.
    """
    return bool(obj.get("metadata", {}).get("deletionGracePeriodSeconds", 0) > seconds)


def condition(pod: Object, kind: str) -> Object | None:
    """Returns the pod's condition of this type, or None."""
    for one in pod.get("status", {}).get("conditions") or ():
        if one.get("type") == kind:
            found: Object = one
            return found
    return None


def is_ready(pod: Object) -> bool:
    """Says whether the kubelet calls the pod ready."""
    ready = condition(pod, "Ready")
    return ready is not None and ready.get("status") == "True" and not is_being_deleted(pod)


def trouble(pod: Object) -> Cause | None:
    """Returns what keeps a pod from running, or None when nothing is known to.

    Asked in the order in which a pod comes to life: placed on a node, images there, containers up, and still up.
    """
    placed = condition(pod, "PodScheduled")
    if placed is not None and placed.get("status") == "False":
        return Cause(placed.get("reason") or "Unschedulable", placed.get("message") or "the pod has no node")
    status = pod.get("status", {})
    for one in (listed for kind in _STATUSES for listed in status.get(kind) or ()):
        found = _gate_trouble(one) or _container_trouble(one)
        if found is not None:
            return found
    if status.get("phase") == "Failed":
        return Cause(status.get("reason") or "Failed", status.get("message") or "every container has ended")
    return None


def _gate_trouble(status: Object) -> Cause | None:
    """Returns what a container of the gate has found, which is no crash although it ended for it.

    A gate goes on holding the agent back when it is started again, so what it found stays until it has passed.
    """
    name = status.get("name")
    if name not in gatestatus.CONTAINERS:
        return None
    said = gatestatus.read(status)
    if said.code not in _FOUND or (name == gatestatus.WATCH and said.running and said.code != gatestatus.ANSWERED):
        return None
    reason = "IsolationLost" if (name, said.code) == (gatestatus.WATCH, gatestatus.ANSWERED) else _FOUND[said.code]
    holds = "; the agent is held back until that has changed" if name == gatestatus.GATE else ""
    return Cause(reason, f"{name}: {said.words}{holds}")


def _container_trouble(status: Object) -> Cause | None:
    state = status.get("state") or {}
    waiting = state.get("waiting")
    if waiting and waiting.get("reason") not in WAITING_IS_NORMAL:
        reason = waiting.get("reason") or "Waiting"
        message = waiting.get("message") or reason
        return Cause(reason, message + _last_exit(status))
    ended = state.get("terminated")
    if ended and ended.get("exitCode"):
        return Cause(ended.get("reason") or "Error", _exit_words(ended))
    return None


def _last_exit(status: Object) -> str:
    ended = (status.get("lastState") or {}).get("terminated")
    if not ended:
        return ""
    return f" ({_exit_words(ended)}, {status.get('restartCount', 0)} restarts)"


def _exit_words(ended: Object) -> str:
    # The termination message is left out: it is the agent's own text and may carry what must not be in status.
    return f"last exit: {ended.get('reason') or 'Error'}, code {ended.get('exitCode')}"
