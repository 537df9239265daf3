"""Tier scale: many nodes that nothing runs on, and pods that become Ready there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import api, scale
from tests.devcluster.support import leftovers, wait_for

WEB = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 100,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "initContainers": [
                    {"name": "once", "image": "example.invalid/once"},
                    {"name": "beside", "image": "example.invalid/beside", "restartPolicy": "Always"},
                ],
                "containers": [{"name": "main", "image": "example.invalid/main"}],
            },
        },
    },
}


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("node", "ready"),
    [
        pytest.param({"spec": {}, "status": {}}, False, id="no conditions yet, and not tainted yet"),
        pytest.param({"spec": {"taints": [{"key": "not-ready"}]}, "status": READY}, False, id="tainted still"),
        pytest.param({"spec": {}, "status": READY}, True, id="ready and free of taints"),
    ],
)
def test_a_node_counts_once_it_says_that_it_is_ready_and_nothing_keeps_pods_from_it(
    node: dict[str, Any], ready: bool
) -> None:
    assert scale.is_ready(node) is ready


def test_pods_become_ready_on_simulated_nodes_and_go_when_deleted(state_root: Path) -> None:
    with api.running("scale", nodes=50) as cluster:
        nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
        assert len(nodes) == 50
        assert all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"]["conditions"]) for n in nodes
        )

        cluster.kubectl("create", "--filename=-", input=yaml.safe_dump(WEB))
        cluster.kubectl("rollout", "status", "statefulset/web", "--timeout=300s")
        pods = json.loads(cluster.kubectl("get", "pods", "--output=json"))["items"]
        assert len({pod["status"]["podIP"] for pod in pods}) == 100
        assert len({pod["spec"]["nodeName"] for pod in pods}) > 25, "the scheduler spreads them"
        [once, beside] = pods[0]["status"]["initContainerStatuses"]
        assert once["state"]["terminated"]["exitCode"] == 0
        assert "running" in beside["state"]

        cluster.kubectl("delete", "statefulset", "web")
        wait_for(lambda: not json.loads(cluster.kubectl("get", "pods", "--output=json"))["items"])

    assert leftovers(cluster) == []


def test_nodes_are_kept_alive_by_leases(state_root: Path) -> None:
    with api.running("scale", nodes=3) as cluster:
        wait_for(
            lambda: (
                len(json.loads(cluster.kubectl("get", "leases", "-n", "kube-node-lease", "-o", "json"))["items"]) == 3
            )
        )
