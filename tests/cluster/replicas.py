"""The operator's own replicas on a real node: which of them leads, and what becomes of agents when one is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo import containers, installation
from demo.containers import SANDBOX, Task
from demo.stage import Stage
from tests.apiserver.agents import Object
from tests.apiserver.rest import Rest
from tests.cluster.pods import wait_for

PODS = f"/api/v1/namespaces/{installation.NAMESPACE}/pods"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{installation.NAMESPACE}/leases/bulkhead-operator"


@dataclass(frozen=True)
class Replica:
    """A pod of the operator whose process runs.

    Attributes:
        pod: its name.
        uid: its UID, under which it holds the lease.
        restarts: how often its container was started again.
        task: the operator's process.
    """

    pod: str
    uid: str
    restarts: int
    task: Task

    def kill(self) -> None:
        """End it as the kernel does when memory is short; the kubelet starts its container again."""
        os.kill(self.task.pid, signal.SIGKILL)
        wait_for(lambda: not self.task.is_alive, seconds=10, what="the operator's process ends", interval=0.005)


def running(stage: Stage, rest: Rest) -> list[Replica]:
    """All replicas whose process runs."""
    pods = {pod["metadata"]["name"]: pod for pod in _pods(rest)}
    tasks = containers.running(stage.cluster, installation.NAMESPACE)
    return [
        Replica(task.pod, pods[task.pod]["metadata"]["uid"], _restarts(pods[task.pod]), task)
        for task in tasks
        if task.container != SANDBOX and task.pod in pods
    ]


def leader(stage: Stage, rest: Rest) -> Replica:
    """The one that leads; waits until there is one."""
    found: list[Replica] = []

    def leads() -> bool:
        holder = lease_holder(rest)
        found[:] = [one for one in running(stage, rest) if one.uid == holder]
        return bool(found)

    wait_for(leads, seconds=120, what="a replica leads", interval=0.2)
    return found[0]


def lease_holder(rest: Rest) -> str:
    """The UID of the pod that holds the lease."""
    return str((rest.get(LEASE).body.get("spec") or {}).get("holderIdentity") or "")


def until_another_leads(rest: Rest, former: Replica) -> None:
    """Wait until another replica than the former leader holds the lease."""
    wait_for(lambda: lease_holder(rest) not in ("", former.uid), seconds=60, what="another one leads")


def is_back(rest: Rest, killed: Replica) -> bool:
    """Whether the container of a replica that was killed has been started again and is ready."""
    return any(
        pod["metadata"]["uid"] == killed.uid and _restarts(pod) > killed.restarts and _is_ready(pod)
        for pod in _pods(rest)
    )


def lose(rest: Rest, replica: Replica) -> None:
    """Kill a replica and delete its pod: what comes in its place has another UID, so the lease has to run out."""
    replica.kill()
    answer = rest.delete(f"{PODS}/{replica.pod}", gracePeriodSeconds="0")
    assert answer.ok, answer.message


def until_ready(rest: Rest, count: int) -> None:
    """Wait until there are so many replicas, all of them ready."""

    def ready() -> bool:
        pods = _pods(rest)
        return len(pods) == count and all(map(_is_ready, pods))

    wait_for(ready, seconds=180, what=f"the operator has {count} ready replicas", interval=0.1)


@contextmanager
def scaled(stage: Stage, rest: Rest, count: int) -> Iterator[None]:
    """Have so many replicas for the length of a `with` block, and one after it."""
    try:
        _scale(stage, count)
        until_ready(rest, count)
        yield
    finally:
        _scale(stage, 1)
        until_ready(rest, 1)


def _scale(stage: Stage, count: int) -> None:
    of = f"--namespace={installation.NAMESPACE}"
    stage.ask("scale", f"deployment/{installation.RELEASE}", of, f"--replicas={count}")


def _pods(rest: Rest) -> list[Object]:
    answer = rest.get(PODS)
    assert answer.ok, answer.message
    found: list[Object] = answer.body["items"]
    return found


def _restarts(pod: Object) -> int:
    return sum(int(one["restartCount"]) for one in pod["status"].get("containerStatuses", ()))


def _is_ready(pod: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
