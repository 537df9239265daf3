"""The gate in the agent's pod, put to the API server: accepted, restricted, and returned as it was sent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.plan import isolation, workload
from bulkhead.plan.isolation import Gate, Target
from tests import restricted
from tests.apiserver.conftest import SANDBOX_LABELS
from tests.apiserver.rest import APPLY, Rest
from tests.unit.plan.policies import bounds_of, sandbox_policy, spec_of

NAMESPACE = "gate-dry-runs"
ALIASES = (
    {"ip": "10.96.0.20", "hostnames": ["search.tools.svc.cluster.local", "search.tools.svc", "search.tools"]},
    {"ip": "fd00::20", "hostnames": ["search.tools"]},
)
BOUNDS = {
    "the watch beside the agent": {"intervalSeconds": 30},
    "the proof at the start alone": {"mode": "AtStart"},
}
NETWORKS = {"names without DNS": "None", "the cluster's DNS": "Cluster"}


@pytest.fixture
def built(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A StatefulSet with everything that policies and the network add to it."""
    settings, dns = request.param
    canary = {"name": "db", "address": "10.200.0.10", "port": 5432}
    bounds = bounds_of(sandbox_policy(production={"canaries": [canary]}, isolation=settings))
    gate = Gate(
        image="registry.example/operator:1", pull_policy="Always", canary=Target("own", "TCP", "10.96.0.77", 8082)
    )
    targets = isolation.targets(bounds, gate=gate, api_endpoints=(("10.96.0.1", 443), ("fd00::1", 6443)))
    agent = {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "demo", "namespace": NAMESPACE, "uid": "4f0c9a2e-0000-4000-8000-000000000001"},
    }
    return workload.stateful_set(
        agent,
        spec_of(network={"dns": dns}, placement={"nodeSelector": {"disk": "fast"}}),
        gate_containers=isolation.containers(gate, targets, bounds=bounds),
        host_aliases=() if dns == "Cluster" else ALIASES,
        required_node_labels={"pool": "sandbox"},
    )


CASES = [(settings, dns) for settings in BOUNDS.values() for dns in NETWORKS.values()]
IDS = [f"{one}, {other}" for one in BOUNDS for other in NETWORKS]


@pytest.mark.parametrize("built", CASES, ids=IDS, indirect=True)
def test_a_stateful_set_with_its_gate_is_returned_as_it_was_sent(
    rest: Rest, dry_runs: None, built: dict[str, Any]
) -> None:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "bulkhead"}
    sent = copy.deepcopy(built)
    for answer in (
        rest.post(path, built, **query),
        rest.patch(f"{path}/demo", built, content_type=APPLY, force="true", **query),
    ):
        assert answer.ok, answer.message
        assert answer.warnings == ()
        assert answer.body["spec"] == sent["spec"]


@pytest.mark.parametrize("built", CASES, ids=IDS, indirect=True)
def test_its_pod_is_admitted_where_restricted_is_enforced(rest: Rest, dry_runs: None, built: dict[str, Any]) -> None:
    spec = built["spec"]["template"]["spec"]
    assert restricted.violations(spec, cluster_dns=spec["dnsPolicy"] == "ClusterFirst") == []
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo-0"}, "spec": spec}
    answer = rest.post(f"/api/v1/namespaces/{NAMESPACE}/pods", pod, dryRun="All", fieldValidation="Strict")
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.fixture(scope="module")
def dry_runs(rest: Rest) -> Iterator[None]:
    """A sandbox namespace with the agent's service account."""
    wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": SANDBOX_LABELS}}
    answer = rest.post("/api/v1/namespaces", wanted)
    assert answer.ok, answer.message
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent-demo"}}
    answer = rest.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)
    assert answer.ok, answer.message
    yield
    rest.delete(f"/api/v1/namespaces/{NAMESPACE}")
