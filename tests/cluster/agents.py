"""Agents on a real node: sandbox namespaces, the agents in them, and their processes."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import containers, installation
from demo.containers import Task
from demo.stage import Stage
from devcluster import api, images, network, production
from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab, Object
from tests.apiserver.conftest import SANDBOX_LABELS
from tests.apiserver.rest import Rest
from tests.cluster.pods import Namespace, wait_for

MARGIN = 2.0
"""Seconds beyond its grace period in which all containers of an agent are gone, on a machine that keeps up."""

BOUND = 5 * MARGIN
"""What is a failure on any machine: a kubelet that was not told how long gives thirty seconds."""

WORKER = "trap 'exit 0' TERM; while :; do sleep 60 & wait; done"
"""A shell program that runs until it is told to end, and then ends at once."""

DEAF = "exec sleep infinity"
"""One that SIGTERM does not end: the kernel drops signals to a first process that has no handler for them."""

TASKS = 3
"""Containers of a replica that runs: the agent's, the isolation watch, and the one that holds the namespaces."""

SMALL = {"limits": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "64Mi"}}
ROOM = {"limits": {"cpu": "300m", "memory": "64Mi", "ephemeral-storage": "64Mi"}}
"""Enough for a Python program with a hundred threads not to be late."""
WORKSPACE = {"size": "16Mi", "onDelete": "Delete"}


VALUES = Path(__file__).with_name("values.yaml")
"""The chart's values for these tests."""

OWN_POLICY = {"example.com/policy": "own"}
"""Label of sandbox namespaces that the tests' policy `default` does not select."""

PRODUCTION = {
    "cidrs": [network.PRODUCTION_CIDR, network.PRODUCTION_CIDR_6],
    "canaries": [{"name": "database", "address": network.PRODUCTION_ADDRESS, "port": production.PORT}],
}
"""What production is, for a SandboxPolicy."""

ALERTMANAGER = "alertmanager"
"""Secret with the token that Alertmanager has to show to the operator."""

POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"


@dataclass(frozen=True)
class Sandbox(Namespace):
    """A sandbox namespace that admits restricted pods only.

    What is done in it by way of this class is done by somebody whom admission lets through: `break_glass`.

    Attributes:
        lab: makes agents in it and reads them.
    """

    lab: Lab

    @classmethod
    @contextmanager
    def opened(cls, cluster: RunningCluster, policy: Object | None = None) -> Iterator[Sandbox]:
        """Make one; delete it, and with it all agents in it, afterwards.

        Args:
            cluster: where.
            policy: spec of a SandboxPolicy for this namespace alone, named like it; by default `default` applies.
        """
        name = f"sandbox-{secrets.token_hex(3)}"
        labels = SANDBOX_LABELS if policy is None else {**SANDBOX_LABELS, **OWN_POLICY}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        glass = break_glass(cluster)
        with Rest(glass) as rest:
            try:
                if policy is not None:
                    _post(rest, POLICIES, own_policy(name, policy))
                _post(rest, "/api/v1/namespaces", manifest)
                yield cls(cluster, name, Lab(rest, name), kubeconfig=glass)
            finally:
                rest.delete(f"/api/v1/namespaces/{name}")
                rest.delete(f"{POLICIES}/{name}")

    def agent(self, name: str, program: str = WORKER, **spec: Any) -> None:
        """Create an agent that runs a shell program in the toolbox."""
        self.lab.create(name, **{"image": images.TOOLBOX, "command": ["sh", "-c", program], "resources": SMALL, **spec})

    def start(self, name: str, program: str = WORKER, **spec: Any) -> None:
        """Create an agent and wait until it runs."""
        self.agent(name, program, **spec)
        self.running(name)

    def running(self, *names: str, within: float = 120) -> None:
        """Wait until agents run."""
        for name in names:
            self.lab.until_state(name, "Running", within=within)

    def settled(self, *names: str) -> None:
        """Wait until agents have run for two seconds or more.

        The kubelet looks at containers once a second, so a pod that has only just become ready is told to end late.
        """
        self.running(*names)

        def begun(name: str) -> datetime:
            (container,) = self.pod(name)["status"]["containerStatuses"]
            return datetime.fromisoformat(container["state"]["running"]["startedAt"])  # in whole seconds

        last = max(map(begun, names))
        wait_for(lambda: datetime.now(UTC) - last >= timedelta(seconds=3), seconds=10, what="they have run for a while")

    def suspended(self, *names: str, within: float = 60) -> None:
        """Wait until the operator says that nothing of these agents is left."""

        def all_are() -> bool:
            return all(self.lab.condition(name, "Suspended").get("status") == "True" for name in names)

        wait_for(all_are, seconds=within, what=f"suspended: {', '.join(names)}")

    def pod(self, name: str) -> Object:
        """The pod of an agent with one replica."""
        return self.lab.the("Pod", f"{name}-0")

    def account_uid(self, name: str) -> str:
        """Who the agent is to the API server."""
        return str(self.lab.the("ServiceAccount", f"agent-{name}")["metadata"]["uid"])

    def read(self, name: str, path: str) -> str:
        """The content of a file in an agent's pod."""
        return self.inside(f"{name}-0", "cat", path)

    def until_begun(self, name: str, times: int) -> None:
        """Wait until an agent has begun so often, by what it wrote into `/workspace/runs`, and no more often.

        It is ready when its container runs; its shell may not have written anything yet.
        """

        def begun() -> int:
            return self.inside(f"{name}-0", "sh", "-c", "cat /workspace/runs || true").count("begun")

        wait_for(lambda: begun() >= times, seconds=60, what=f"{name} has begun {times} times", interval=0.2)
        assert begun() == times, name

    def tasks(self, name: str) -> list[Task]:
        """What containerd runs for an agent with one replica: see `TASKS`."""
        return [task for task in containers.running(self.cluster, self.name) if task.pod == f"{name}-0"]

    def until_operator_works(self, name: str) -> None:
        """Wait until the operator repairs something of an agent: then it has read all and carries decisions out."""
        former = self.account_uid(name)
        self.lab.delete("ServiceAccount", f"agent-{name}")

        def repaired() -> bool:
            account = self.lab.get("ServiceAccount", f"agent-{name}")
            return account is not None and account["metadata"]["uid"] != former

        # After a restart of the node: a sandbox, a container and its caches, with all other pods of the node beside it.
        wait_for(repaired, seconds=180, what="the operator repairs")


def break_glass(cluster: RunningCluster) -> Path:
    """Credentials of an administrator in the group that admission lets do everything."""
    return api.user_kubeconfig(cluster, "tester", ["bulkhead:break-glass", "system:masters"])


def install(stage: Stage, *settings: str) -> None:
    """Install the operator from the chart, or upgrade it, with the tests' values and further ones."""
    _admit_alertmanager(stage)
    installation.act(stage, settings=settings, values=VALUES)


def _admit_alertmanager(stage: Stage) -> None:
    """Make the Secret of `values.yaml` by which the operator knows Alertmanager."""
    if stage.ask("get", "namespace", installation.NAMESPACE, "--ignore-not-found") == "":
        stage.ask("create", "namespace", installation.NAMESPACE)
    in_it = f"--namespace={installation.NAMESPACE}"
    if stage.ask("get", "secret", ALERTMANAGER, in_it, "--ignore-not-found") == "":
        token = f"--from-literal=token={secrets.token_urlsafe(24)}"
        stage.ask("create", "secret", "generic", ALERTMANAGER, in_it, token)


def alertmanager_token(stage: Stage) -> str:
    """What Alertmanager has to show to the operator."""
    in_it = f"--namespace={installation.NAMESPACE}"
    found = stage.ask("get", "secret", ALERTMANAGER, in_it, "--output=jsonpath={.data.token}")
    return base64.b64decode(found).decode()


def alerts_url(stage: Stage) -> str:
    """Where the operator takes alerts, for who has no DNS."""
    of = ("service", f"{installation.RELEASE}-alerts", f"--namespace={installation.NAMESPACE}")
    return f"http://{stage.ask('get', *of, '--output=jsonpath={.spec.clusterIP}')}:8083/alerts"


def metrics(cluster: RunningCluster) -> str:
    """What the operator's pods tell who may read their metrics."""
    pods = f"/api/v1/namespaces/{installation.NAMESPACE}/pods"
    listed = json.loads(cluster.kubectl("get", "--raw", pods))
    names = [pod["metadata"]["name"] for pod in listed["items"]]
    return "\n".join(cluster.kubectl("get", "--raw", f"{pods}/{name}:8081/proxy/metrics") for name in names)


def own_policy(namespace: str, spec: Object) -> Object:
    """A SandboxPolicy that selects one namespace."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": namespace},
        "spec": {"namespaceSelector": selector, **spec},
    }


def _post(rest: Rest, path: str, manifest: Object) -> None:
    made = rest.post(path, manifest)
    assert made.ok, made.message


def timed(act: Callable[[], object], tasks: Iterable[Task], *, within: float) -> float:
    """Do something that ends processes; give the seconds from before it until none of them exists."""
    began = time.monotonic()
    act()
    wait_for(lambda: not any(task.is_alive for task in tasks), seconds=within, what="processes end", interval=0.01)
    return time.monotonic() - began


def event_reasons(namespace: Namespace) -> set[str]:
    """Reasons of all events in a namespace."""
    found = json.loads(namespace.kubectl("get", "events", "--output=json"))
    return {str(event["reason"]) for event in found["items"]}
