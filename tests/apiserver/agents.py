"""Agents as the end-to-end tests make them and look at them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bulkhead.api import conditions
from tests.apiserver.rest import AGENTS, MERGE, Answer, Rest
from tests.operator_process import eventually

Object = dict[str, Any]
Objects = list[Object]
Names = list[str]

PATHS = {
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "AgentDeployment": AGENTS,
}

RESTRICTED_POD: Object = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "main",
            "image": "example.test/main:1",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
"""Spec of a pod that is no agent's, and that a sandbox namespace admits."""


def went_down_in_order(record: Object) -> bool:
    """Whether a suspension, as its status records it, cut the network first and proved the processes' end last.

    Credentials and processes end side by side: neither waits for the other.
    """
    steps = ("since", "networkCutAt", "credentialsRevokedAt", "processesSignalledAt", "stoppedAt")
    since, cut, revoked, signalled, stopped = (conditions.parse_time(record[step]) for step in steps)
    return since <= cut <= min(revoked, signalled) and signalled <= stopped


class Lab:
    """One namespace and what is in it."""

    def __init__(self, rest: Rest, namespace: str) -> None:
        self.rest = rest
        self.namespace = namespace

    def path(self, kind: str, name: str = "") -> str:
        path = PATHS[kind].format(namespace=self.namespace)
        return f"{path}/{name}" if name else path

    def create(self, name: str, **spec: Any) -> Object:
        """Creates an agent; fails the test when it is refused."""
        answer = self.try_create(name, **spec)
        assert answer.ok, answer.message
        return answer.body

    def try_create(self, name: str, **spec: Any) -> Answer:
        body = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": name},
            "spec": {"owner": "team-a", "image": "example.test/agent:1", **spec},
        }
        return self.rest.post(self.path("AgentDeployment"), body)

    def patch(self, name: str, **spec: Any) -> Object:
        answer = self.rest.send("PATCH", self.path("AgentDeployment", name), {"spec": spec}, content_type=MERGE)
        assert answer.ok, answer.message
        return answer.body

    def put(self, kind: str, obj: Object) -> Object:
        """Creates an object of another kind as the administrator."""
        answer = self.rest.post(self.path(kind), obj)
        assert answer.ok, answer.message
        return answer.body

    def delete(self, kind: str, name: str) -> None:
        answer = self.rest.delete(self.path(kind, name))
        assert answer.ok, answer.message

    def get(self, kind: str, name: str) -> Object | None:
        answer = self.rest.get(self.path(kind, name))
        assert answer.ok or answer.status == 404, answer.message
        return answer.body if answer.ok else None

    def the(self, kind: str, name: str) -> Object:
        found = self.get(kind, name)
        assert found is not None, f"{kind} {name} does not exist"
        return found

    def keep_from_collector(self, kind: str, name: str) -> None:
        """Gives an object a second owner, one that stays: the garbage collector takes none that has a living owner."""
        # The controller that makes it may be behind the one that made the object.
        account = eventually(lambda: self.get("ServiceAccount", "default"), "the namespace's own account")
        stays = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "default", "uid": account["metadata"]["uid"]}
        owners = [*self.the(kind, name)["metadata"].get("ownerReferences", ()), stays]
        patch = {"metadata": {"ownerReferences": owners}}
        answer = self.rest.send("PATCH", self.path(kind, name), patch, content_type=MERGE)
        assert answer.ok, answer.message

    def list(self, kind: str) -> Objects:
        answer = self.rest.get(self.path(kind))
        assert answer.ok, answer.message
        items: Objects = answer.body["items"]
        return items

    def names(self, kind: str) -> Names:
        return sorted(item["metadata"]["name"] for item in self.list(kind))

    def status(self, name: str) -> Object:
        found = self.get("AgentDeployment", name)
        return (found or {}).get("status") or {}

    def state(self, name: str) -> str | None:
        return self.status(name).get("state")

    def condition(self, name: str, kind: str) -> Object:
        for one in self.status(name).get("conditions") or ():
            if one["type"] == kind:
                found: Object = one
                return found
        return {}

    def until_state(self, name: str, *states: str, within: float = 60.0) -> None:
        """Waits until the status is about the present spec and says one of the states."""

        def reached() -> bool:
            found = self.get("AgentDeployment", name) or {}
            status = found.get("status") or {}
            current = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
            return current and status.get("state") in states

        def what() -> str:
            told = [
                f"{one['type']}={one['status']}: {one['message']}" for one in self.status(name).get("conditions", ())
            ]
            return f"agent {name} is {' or '.join(states)}, but it says {told}"

        eventually(reached, what, within=within)

    def until_over_quota(self, kind: str, body: Object) -> None:
        """Waits until a quota is in force: a controller gives it a status, and admission has to read that."""

        def refused() -> bool:
            answer = self.rest.post(self.path(kind), {**body, "metadata": {"name": "probe"}}, dryRun="All")
            return answer.status == 403 and "exceeded quota" in answer.message

        eventually(refused, f"the quota refuses another {kind}")

    def until_built(self, names: Iterable[str], within: float = 60.0) -> None:
        """Waits until each of the agents has its workload and a pod."""
        wanted = {f"{name}-0" for name in names}
        eventually(lambda: wanted <= set(self.names("Pod")), f"pods {sorted(wanted)}", within=within)
