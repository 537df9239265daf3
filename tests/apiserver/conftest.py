"""A real API server for the whole session, with the CRDs, and a sandbox namespace for each test.

The cluster is called "test". To run two sessions side by side, give one of them another name in
BULKHEAD_TEST_CLUSTER.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.api import RunningCluster, running
from tests import leakwatch
from tests.apiserver.rest import Answer, Rest

POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
REPOSITORY = Path(__file__).parents[2]
SANDBOX_LABELS = {
    "bulkhead.dev/sandbox": "true",
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "v1.34",
    "pod-security.kubernetes.io/warn": "restricted",
    "pod-security.kubernetes.io/warn-version": "v1.34",
}


@pytest.fixture(scope="session")
def apiserver() -> Iterator[RunningCluster]:
    """etcd, kube-apiserver and kube-controller-manager, with the CRDs established and the audit log on."""
    name = os.environ.get("BULKHEAD_TEST_CLUSTER", "test")
    with running("apiserver", name, audit=True) as cluster:
        cluster.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd", "--all")
        with leakwatch.watching(cluster):
            yield cluster


@pytest.fixture(scope="session")
def rest(apiserver: RunningCluster) -> Iterator[Rest]:
    """The administrator's connection to the API server, which has a SandboxPolicy that every sandbox falls under."""
    with Rest(apiserver.kubeconfig) as connection:
        # "Established" comes before the last of the API server's own caches: wait for the first answers.
        _until_ok(lambda: connection.get("/apis/bulkhead.dev/v1alpha1/agentdeployments"), "serves AgentDeployments")
        _until_ok(lambda: connection.post(POLICIES, policy("default")), "takes a SandboxPolicy")
        yield connection


def policy(name: str, **spec: Any) -> dict[str, Any]:
    """A SandboxPolicy; without more it selects every sandbox namespace and lets nothing out."""
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def _until_ok(ask: Callable[[], Answer], what: str) -> None:
    deadline = time.monotonic() + 90
    while not _is_ok(ask):
        assert time.monotonic() < deadline, f"not 90 s after the CRDs: the API server {what}"
        time.sleep(0.1)


def _is_ok(ask: Callable[[], Answer]) -> bool:
    try:
        return ask().ok
    except ValueError:  # of a kind that it does not serve yet the API server says so in plain text
        return False


@pytest.fixture
def new_sandbox(rest: Rest) -> Iterator[Callable[[], str]]:
    """Makes fresh sandbox namespaces that enforce restricted pods, and gives their names; they go after the test."""
    made = []

    def make() -> str:
        wanted = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"generateName": "sandbox-", "labels": SANDBOX_LABELS},
        }
        created = rest.post("/api/v1/namespaces", wanted)
        assert created.ok, created.message
        made.append(str(created.body["metadata"]["name"]))
        return made[-1]

    yield make
    for name in made:
        rest.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def sandbox(new_sandbox: Callable[[], str]) -> str:
    """The name of a fresh sandbox namespace."""
    return new_sandbox()
