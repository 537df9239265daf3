"""Where it is measured: an API server of its own, the CRDs, sandbox namespaces, and agents as they come in practice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.audit import AuditLog, Request
from bench.wire import MERGE, Object, Wire
from devcluster.api import RunningCluster, running
from tests.operator_process import NAMESPACE as OPERATOR_NAMESPACE
from tests.operator_process import install_rights

ROOT = Path(__file__).parents[1]
CLUSTER = "bench"
POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
POLICY = "default"
"""The SandboxPolicy that covers all agents; it asks for nothing."""
BARE = "bench-bare"
"""Where the bare client writes: no sandbox, so that the operator has nothing to do with it."""
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:"
POD_SECURITY = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "v1.34",
}
SPEC: Object = {
    "owner": "team-a@example.test",
    "tenant": "research",
    "workflow": "digest",
    "image": "registry.example.test/agents/digest:1.4.2",
    "args": ["--interval=30s"],
    "env": [{"name": "MODE", "value": "steady"}],
    "suspendGraceSeconds": 2,
    "resources": {"limits": {"cpu": "250m", "memory": "256Mi"}},
    "workspace": {"size": "1Gi", "onDelete": "Delete"},
}
"""An agent as most are: with limits, an environment and a workspace."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """An agent by namespace and name."""

    namespace: str
    name: str


@dataclass(slots=True)
class Site:
    """The cluster and what the measurements do with it.

    Attributes:
        cluster: tier apiserver, with its audit log on.
        kubeconfig: of the operator's service account, with its chart's rights and no others.
        admin: who applies, patches and looks; not what is measured.
        bare: the client that the operator is compared with: the operator's own account, so that the API server's work
            for authentication and authorisation is the same.
        log: the stopwatch.
        namespaces: the sandboxes.
    """

    cluster: RunningCluster
    kubeconfig: Path
    admin: Wire
    bare: Wire
    log: AuditLog
    namespaces: tuple[str, ...]
    spec: Callable[[Name], Object] = lambda _: SPEC
    """Gives the spec of an agent."""

    def names(self, count: int, prefix: str) -> list[Name]:
        """Gives names for agents, spread evenly over the sandboxes."""
        return [Name(self.namespaces[n % len(self.namespaces)], f"{prefix}-{n:04d}") for n in range(count)]

    async def create(self, name: Name) -> float:
        """Creates an agent; gives the time just before it was sent."""
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": name.name},
            "spec": self.spec(name),
        }
        return await self.admin.timed("POST", agents_path(name.namespace), body)

    async def suspend(self, name: Name, suspend: bool) -> float:
        """Patches spec.suspend; gives the time just before it was sent."""
        path = agents_path(name.namespace, name.name)
        return await self.admin.timed("PATCH", path, {"spec": {"suspend": suspend}}, content_type=MERGE)

    async def delete(self, name: Name) -> None:
        """Deletes an agent."""
        await self.admin.send("DELETE", agents_path(name.namespace, name.name))

    async def quiet(self, seconds: float = 0.08, *, within: float = 120.0) -> None:
        """Waits until nobody has written anything for a while, leases aside: what was set off is over.

        Raises:
            TimeoutError: writing does not end.
        """
        last, clock = asyncio.get_running_loop().time(), asyncio.get_running_loop().time
        start = last
        while clock() - last < seconds:
            await asyncio.sleep(0.01)
            if any(_is_work(one) for one in self.log.read()):
                last = clock()
            if clock() - start > within:
                raise TimeoutError(f"the API server is still being written to after {within:.0f} s")


def agents_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's agents, or of one."""
    path = f"/apis/bulkhead.dev/v1alpha1/namespaces/{namespace}/agentdeployments"
    return f"{path}/{name}" if name else path


def accounts_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's service accounts, or of one."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    return f"{path}/{name}" if name else path


def policies_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's NetworkPolicies, or of one."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return f"{path}/{name}" if name else path


def workloads_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's StatefulSets, or of one."""
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    return f"{path}/{name}" if name else path


def pods_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's pods, or of one."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return f"{path}/{name}" if name else path


def claims_path(namespace: str, name: str = "") -> str:
    """The path of a namespace's volume claims, or of one."""
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    return f"{path}/{name}" if name else path


def by_operator(request: Request) -> bool:
    """Whether a request is the operator's: the bare client has its account, but another user agent."""
    return request.user.startswith(OPERATOR_USER) and request.agent != BARE


def _is_work(request: Request) -> bool:
    return request.verb not in ("get", "list", "watch") and request.resource != "leases"


@asynccontextmanager
async def open_site(
    *, namespaces: int, tier: str = "apiserver", apiserver_args: Iterable[str] = ()
) -> AsyncIterator[Site]:
    """Brings a cluster up, prepares it, and takes it down in the end.

    Args:
        namespaces: how many sandboxes.
        tier: of the cluster.
        apiserver_args: more arguments for kube-apiserver.
    """
    with running(tier, CLUSTER, audit=True, extra_apiserver_args=apiserver_args) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubeconfig = install_rights(cluster)
        log = AuditLog(cluster.audit_log)
        try:
            async with (
                Wire(cluster.kubeconfig, name="bench-admin", connections=64) as admin,
                Wire(kubeconfig, name=BARE) as bare,
            ):
                await _served(admin)
                covering = {
                    "apiVersion": "bulkhead.dev/v1alpha1",
                    "kind": "SandboxPolicy",
                    "metadata": {"name": POLICY},
                }
                await admin.create(POLICIES, {**covering, "spec": {}})
                names = tuple(f"bench-{number:02d}" for number in range(namespaces))
                for name in (*names, BARE):
                    labels = dict(POD_SECURITY) | ({"bulkhead.dev/sandbox": "true"} if name != BARE else {})
                    body: dict[str, Any] = {"metadata": {"name": name, "labels": labels}}
                    await admin.create("/api/v1/namespaces", body)
                yield Site(cluster, kubeconfig, admin, bare, log, names)
        finally:
            log.close()


async def _served(admin: Wire) -> None:
    """Waits until the API server serves the kind.

    Its condition "Established" is no help: it comes before the last of the API server's own caches, and `kubectl wait`
    fails on a CRD that has no conditions yet.
    """
    for _ in range(300):
        with suppress(RuntimeError):
            await admin.get(agents_path("default"))
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the API server does not serve AgentDeployments 30 s after their CRD")
