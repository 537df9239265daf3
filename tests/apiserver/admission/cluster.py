"""A cluster with the chart's admission policies in force, and whom one can be in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import yaml

from bulkhead.api.meta import SANDBOX_LABEL
from devcluster.api import RunningCluster, user_kubeconfig
from manifests.render import find_helm
from tests.apiserver.rest import APPLY, MERGE, Answer, Rest
from tests.operator_process import NAMESPACE, eventually
from tests.packaging.rendering import render

Object = dict[str, Any]

BREAK_GLASS = "bulkhead:break-glass"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:bulkhead"
CONTROLLER = "system:serviceaccount:kube-system:"
ADMISSION = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
TYPES = {"": "application/json", "apply": APPLY, "merge": MERGE}


@dataclass(frozen=True)
class Request:
    """One request to the API server. `{ns}` in its path is a namespace."""

    method: str
    path: str
    body: Any = None
    form: str = ""
    """How a patch is meant: `merge` or `apply`."""
    connect: bool = False
    """Whether it opens a stream to a pod; such requests know no trial run."""


class Guarded:
    """The cluster, and a connection for each of its users."""

    def __init__(self, cluster: RunningCluster) -> None:
        self.cluster = cluster
        self._connections: dict[tuple[str, tuple[str, ...]], Rest] = {}
        self.admin = self.user("kubernetes-admin", "system:masters")
        self.break_glass = self.user("on-call", "system:masters", BREAK_GLASS)
        self.operator = self.user(OPERATOR, "system:serviceaccounts")

    def user(self, name: str, *groups: str) -> Rest:
        """The connection of a user, by client certificate."""
        key = name, groups
        if key not in self._connections:
            self._connections[key] = Rest(user_kubeconfig(self.cluster, name, groups))
        return self._connections[key]

    def controller(self, name: str) -> Rest:
        """The connection of a controller of kube-controller-manager, with its own account."""
        return self.user(f"{CONTROLLER}{name}", "system:serviceaccounts")

    def node(self, name: str) -> Rest:
        """The connection of a kubelet."""
        return self.user(f"system:node:{name}", "system:nodes")

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections.values():
            connection.__exit__(None, None, None)

    def send(self, who: Rest, request: Request, namespace: str, *, dry: bool = True) -> Answer:
        """Sends a request as somebody; a trial run that changes nothing by default."""
        query = {"dryRun": "All"} if dry and not request.connect else {}
        if request.form == "apply":
            query |= {"fieldManager": "test", "force": "true"}
        path = request.path.replace("{ns}", namespace)
        body = request.body
        path += ("&" if "?" in path else "?") + urlencode(query) if query else ""
        return who.send(request.method, path, body, content_type=TYPES[request.form])

    def make(self, path: str, body: Object, who: Rest | None = None) -> Object:
        """Creates an object, as the break-glass administrator unless told otherwise."""
        answer = (who or self.break_glass).post(path, body)
        assert answer.ok, answer.message
        return answer.body

    @contextmanager
    def sandbox(self, **labels: str) -> Iterator[str]:
        """A fresh sandbox namespace, deleted afterwards."""
        metadata = {"generateName": "sandbox-", "labels": {SANDBOX_LABEL: "true", **labels}}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        name = str(self.make("/api/v1/namespaces", body)["metadata"]["name"])
        try:
            yield name
        finally:
            self.admin.delete(f"/api/v1/namespaces/{name}")

    @contextmanager
    def policies(self, *policies: Object) -> Iterator[None]:
        """SandboxPolicies for the length of a block, seen by admission within it and gone from it after."""
        for policy in policies:
            made = self.make(POLICIES, {key: policy[key] for key in ("apiVersion", "kind", "metadata", "spec")})
            if "status" in policy:
                status = {"status": policy["status"]}
                answer = self.admin.send(
                    "PATCH", f"{POLICIES}/{made['metadata']['name']}/status", status, content_type=MERGE
                )
                assert answer.ok, answer.message
        try:
            yield
        finally:
            for policy in policies:
                self.admin.delete(f"{POLICIES}/{policy['metadata']['name']}")


def sandbox_policy(name: str, *, status: Object | None = None, **spec: Any) -> Object:
    """A SandboxPolicy; without more it selects every sandbox namespace."""
    made: Object = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }
    return made if status is None else {**made, "status": status}


def chart_objects() -> list[Object]:
    """What the chart installs, its SandboxPolicy left out."""
    return [one for one in render(find_helm()) if one["kind"] != "SandboxPolicy"]


def admission_objects() -> list[Object]:
    """The chart's admission policies and bindings."""
    return [one for one in chart_objects() if one["kind"] in ADMISSION]


def install(cluster: RunningCluster) -> None:
    """Installs the chart as `kubectl apply` does, and waits until its kinds are served."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all([namespace, *chart_objects()]))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd", "--all")


def refused_by(answer: Answer) -> str | None:
    """The admission policy that refused a request, without the release's name; None when none did."""
    found = re.search(r"ValidatingAdmissionPolicy 'bulkhead-([a-z-]+)' with binding", answer.message)
    return found[1] if found else None


def until_in_force(guarded: Guarded, refused: Mapping[str, Mapping[str, Request]]) -> None:
    """Waits until policies refuse what makes a new object: they come into force seconds after they were written."""
    with guarded.sandbox() as namespace:
        for name, requests in refused.items():
            for request in requests.values():
                if request.method == "POST" and "standing" not in request.path:
                    eventually(
                        partial(_is_refused, guarded, request, namespace, name), f"{name} is in force", within=90
                    )


def _is_refused(guarded: Guarded, request: Request, namespace: str, name: str) -> bool:
    return refused_by(guarded.send(guarded.admin, request, namespace)) == name
