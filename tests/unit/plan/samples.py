"""Objects for the tables of the plan's tests: each as the API server would send it, with only what a case changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.meta import owner_reference
from bulkhead.plan import identity, isolation, policy, workload
from bulkhead.plan.isolation import Control, Gate, Target
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.observed import Observed
from bulkhead.plan.surroundings import Surroundings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UID = "a1b2c3"
STATEFUL_SET_UID = "set-1"


CANARY = Target("operator", "TCP", "10.96.0.99", 8082)
GATE = Gate(image="bulkhead/operator:1", pull_policy="IfNotPresent", canary=CANARY)


def seconds_ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def agent(
    *,
    name: str = "scout",
    namespace: str = "lab",
    status: dict[str, Any] | None = None,
    metadata: Any = (),
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": UID,
            "generation": 3,
            "resourceVersion": "10",
            **dict(metadata),
        },
        "spec": {"owner": "team-a", "image": "example.test/scout:1", **spec},
        **({"status": status} if status is not None else {}),
    }


def namespace(**metadata: Any) -> dict[str, Any]:
    labels = {"bulkhead.dev/sandbox": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "lab", "uid": "ns-1", "labels": labels, **metadata},
    }


def sandbox_policy(name: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": name, "uid": f"policy-{name}", "generation": 1, "resourceVersion": "5"},
        "spec": spec,
    }


def control(*, reached: float | None = 1, failing: float | None = None) -> Control:
    """A canary that last answered the operator so many seconds ago, and has been failing for so many."""
    return Control(
        reached_at=None if reached is None else NOW - timedelta(seconds=reached),
        failing_since=None if failing is None else NOW - timedelta(seconds=failing),
        message="" if failing is None else "no answer within 1 s",
    )


def surroundings(*policies: dict[str, Any], **known: Any) -> Surroundings:
    """A world in which the one policy asks for nothing and the canary answers, but for what a case changes."""
    given = [policy.parse(one) for one in policies or (sandbox_policy(),)]
    defaults = {
        "bounds": policy.bounds(given, namespace=namespace(), namespaces=[namespace()]),
        "gate": GATE,
        "api_endpoints": (("10.9.0.1", 6443),),
        "controls": {(CANARY.protocol, CANARY.address, CANARY.port): control()},
        "admission": (),
    }
    return Surroundings(**{**defaults, **known})


def gate_status(*, answered: str = "") -> list[dict[str, Any]]:
    """Statuses of the gate's containers in a pod: proven, or with a watch that a target answered."""
    passed = {"exitCode": 0, "finishedAt": seconds_ago(60), "message": f"closed 4 targets at {seconds_ago(60)}"}
    watch: dict[str, Any] = {"name": isolation.WATCH, "ready": True, "restartCount": 0}
    watch["state"] = {"running": {"startedAt": seconds_ago(59)}}
    if answered:
        message = f"open: {answered} at {seconds_ago(3)}"
        watch |= {"restartCount": 1, "ready": False}
        watch["lastState"] = {
            "terminated": {"exitCode": isolation.ANSWERED, "finishedAt": seconds_ago(3), "message": message}
        }
    return [{"name": isolation.GATE, "ready": True, "restartCount": 0, "state": {"terminated": passed}}, watch]


def stateful_set(of: dict[str, Any], *, owner: str = UID, **status: Any) -> dict[str, Any]:
    built = workload.stateful_set(of, parse_spec(of["spec"], name=of["metadata"]["name"]))
    metadata = {**built["metadata"], "uid": STATEFUL_SET_UID, "generation": 1, "resourceVersion": "11"}
    metadata["ownerReferences"] = [{**metadata["ownerReferences"][0], "uid": owner}]
    return {**built, "metadata": metadata, "status": {"observedGeneration": 1, "updateRevision": "r1", **status}}


def service_account(of: dict[str, Any], *, owner: str = UID) -> dict[str, Any]:
    built = identity.service_account(of, parse_spec(of["spec"], name=of["metadata"]["name"]))
    metadata = {**built["metadata"], "uid": "sa-1", "resourceVersion": "12"}
    metadata["ownerReferences"] = [{**metadata["ownerReferences"][0], "uid": owner}]
    return {**built, "metadata": metadata}


def role(of: dict[str, Any], *, kind: str = "Role", owner: str = UID) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": f"agent-{of['metadata']['name']}",
            "namespace": of["metadata"]["namespace"],
            "uid": f"{kind.lower()}-1",
            "ownerReferences": [{**owner_reference(of), "uid": owner}],
        },
    }


def lease(of: dict[str, Any], *, credential: str = "warehouse", expires_in: float = 600, **known: Any) -> Lease:
    """An active lease of 900 s of an issuer "postgres", by default far from its rotation."""
    issued = NOW + timedelta(seconds=expires_in - 900)
    defaults: dict[str, Any] = {
        "id": "abcdefghijkl",
        "issuer": "postgres",
        "source": {"role": "reader"},
        "ttl_seconds": 900,
        "external": True,
        "handle": {"role": "bulkhead_1_abcdefghijkl"},
        "state": State.ACTIVE,
        "prepared_at": issued,
        "issued_at": issued,
        "expires_at": NOW + timedelta(seconds=expires_in),
        "unsure": False,
    }
    data = of["metadata"]
    return Lease(
        agent_namespace=data["namespace"],
        agent=data["name"],
        agent_uid=data["uid"],
        credential=credential,
        **{**defaults, **known},
    )


def pod(
    ordinal: int = 0,
    *,
    controller: str | None = STATEFUL_SET_UID,
    ready: bool = False,
    revision: str = "r1",
    node: str | None = "n1",
    deleting: bool = False,
    waiting: tuple[str, str] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    container: dict[str, Any] | None = None,
    unlabelled: tuple[str, ...] = (),
    gate: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    name = f"scout-{ordinal}"
    status: dict[str, Any] = {"phase": "Running" if ready else "Pending", "conditions": conditions or []}
    if ready:
        status["conditions"] = [*status["conditions"], {"type": "Ready", "status": "True"}]
    if ready or gate:
        status["initContainerStatuses"] = gate or gate_status()
    if waiting:
        status["containerStatuses"] = [{"state": {"waiting": {"reason": waiting[0], "message": waiting[1]}}}]
    if container:
        status["containerStatuses"] = [container]
    labels = {
        "app.kubernetes.io/managed-by": "bulkhead",
        "bulkhead.dev/agent-uid": UID,
        "controller-revision-hash": revision,
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "lab",
        "uid": f"pod-{ordinal}",
        "labels": {key: value for key, value in labels.items() if key not in unlabelled},
    }
    if controller:
        metadata["ownerReferences"] = [{"kind": "StatefulSet", "name": "scout", "uid": controller, "controller": True}]
    if deleting:
        metadata["deletionTimestamp"] = seconds_ago(1)
    env = [{"name": "BULKHEAD_AGENT_UID", "value": UID}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "serviceAccountName": "agent-scout", "containers": [{"name": "agent", "env": env}]},
        "status": status,
    }


def observed(of: dict[str, Any], **known: Any) -> Observed:
    return Observed(agent=of, **{"namespace": namespace(), "surroundings": surroundings(), **known})
