"""Mistakes that others made, played again: what was there before the walls, and what goes away under those who run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.stage import Stage
from devcluster import network
from devcluster.errors import DevclusterError
from tests.apiserver.agents import Object, went_down_in_order
from tests.apiserver.conftest import SANDBOX_LABELS
from tests.cluster.agents import POLICIES, PRODUCTION, ROOM, TASKS, WORKSPACE, Sandbox, break_glass, own_policy
from tests.cluster.attack import Attempt, Places, places
from tests.cluster.pods import Manifest, Namespace, restricted_pod, wait_for

ATTEMPTS = (
    Attempt.parse("TCP/5432", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/5432", network.PRODUCTION_ADDRESS_6, "production"),
    Attempt.parse("UDP/53", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/80", network.METADATA_ADDRESS, "metadata"),
)


@dataclass(frozen=True)
class Watch:
    """Ears at production and at the metadata service."""

    places: Places

    def got_through(self, namespace: Namespace, pod: str) -> set[str]:
        """Which packets from a pod arrived."""
        found = self.places.attack(namespace, pod, ATTEMPTS, seconds=0.6)
        return {str(attempt) for attempt, result in found.items() if result.got_through}


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    named = {"production": network.PRODUCTION, "metadata": network.METADATA}
    with places(**{name: Path("/run/netns", namespace) for name, namespace in named.items()}) as heard:
        yield Watch(heard)


def allow(**to: object) -> Manifest:
    """A NetworkPolicy that lets every pod of its namespace out to somewhere."""
    rule = [{"to": [{"ipBlock": to}]}] if to else [{}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "custom"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": rule},
    }


def test_a_pod_that_ran_before_its_namespace_became_a_sandbox_is_cut_off(
    operator: Stage, namespace: Namespace, watch: Watch
) -> None:
    namespace.run(restricted_pod("early"))
    everything = {str(attempt) for attempt in ATTEMPTS}
    # Each attempt lasts for half a second, and Cilium may not have connected a pod that has only just started.
    wait_for(lambda: watch.got_through(namespace, "early") == everything, seconds=60, what="all of it is reached")
    labels = [f"{key}={value}" for key, value in SANDBOX_LABELS.items()]
    operator.ask("label", "--overwrite", "namespace", namespace.name, *labels)
    guarded = Namespace(namespace.cluster, namespace.name, kubeconfig=break_glass(operator.cluster))
    wait_for(lambda: not watch.got_through(guarded, "early"), seconds=60, what="the pod is cut off")


def test_a_deny_all_that_was_deleted_under_running_pods_opens_nothing_and_is_back(
    sandbox: Sandbox, watch: Watch
) -> None:
    sandbox.start("runs", resources=ROOM)
    former = sandbox.lab.the("NetworkPolicy", "bulkhead-deny-all")["metadata"]["uid"]
    for name in sandbox.lab.names("NetworkPolicy"):
        sandbox.lab.delete("NetworkPolicy", name)
    # Whether it is back already or not: what is denied to the whole cluster's agents holds beside it.
    assert watch.got_through(sandbox, "runs-0") == set()

    def back() -> bool:
        found = sandbox.lab.get("NetworkPolicy", "bulkhead-deny-all")
        return found is not None and found["metadata"]["uid"] != former

    wait_for(back, seconds=30, what="it is made again")
    assert watch.got_through(sandbox, "runs-0") == set()


def test_a_policy_deleted_under_running_agents_stops_them_in_order_and_they_come_back_with_it(operator: Stage) -> None:
    with Sandbox.opened(operator.cluster, {"production": PRODUCTION}) as sandbox:
        for name in ("one", "two"):
            sandbox.agent(name, workspace=WORKSPACE, suspendGraceSeconds=2)
        sandbox.settled("one", "two")
        tasks = [*sandbox.tasks("one"), *sandbox.tasks("two")]
        assert len(tasks) == 2 * TASKS
        assert sandbox.lab.rest.delete(f"{POLICIES}/{sandbox.name}").ok
        sandbox.suspended("one", "two")
        assert not any(task.is_alive for task in tasks)
        for name in ("one", "two"):
            assert went_down_in_order(sandbox.lab.status(name)["suspension"])
            assert sandbox.lab.condition(name, "PolicyAccepted")["status"] == "False"
        made = sandbox.lab.rest.post(POLICIES, own_policy(sandbox.name, {"production": PRODUCTION}))
        assert made.ok, made.message
        sandbox.running("one", "two")


def test_a_policy_that_no_longer_accepts_an_agent_stops_it_and_says_so_by_name_and_field(operator: Stage) -> None:
    wide: Object = {"production": PRODUCTION, "network": {"egressCIDRs": [network.OUTSIDE_CIDR]}}
    with Sandbox.opened(operator.cluster, wide) as sandbox:
        egress = [{"to": {"cidr": network.OUTSIDE_CIDR}, "ports": [{"port": 443}]}]
        sandbox.start("runs", network={"egress": egress})
        narrow: Object = {"spec": {"network": {"egressCIDRs": []}}}
        found = sandbox.lab.rest.patch(f"{POLICIES}/{sandbox.name}", narrow)
        assert found.ok, found.message
        sandbox.suspended("runs")
        said = sandbox.lab.condition("runs", "PolicyAccepted")["message"]
        assert sandbox.name in said and "egress" in said
        mended = {"spec": {"network": {"egressCIDRs": [network.OUTSIDE_CIDR]}}}
        assert sandbox.lab.rest.patch(f"{POLICIES}/{sandbox.name}", mended).ok
        sandbox.running("runs")


def test_a_pod_with_an_agents_labels_is_not_the_agents(sandbox: Sandbox, watch: Watch) -> None:
    """It gets no way out by them, is not stopped in the agent's place, and does not count as the agent."""
    sandbox.start("runs", resources=ROOM, suspendGraceSeconds=2)
    labels = sandbox.pod("runs")["metadata"]["labels"]
    sandbox.run(restricted_pod("spoof", labels=labels))
    assert watch.got_through(sandbox, "spoof") == set()
    assert sandbox.lab.status("runs")["ready"] == "1/1"
    sandbox.lab.patch("runs", suspend=True)
    sandbox.suspended("runs")
    assert sandbox.lab.names("Pod") == ["spoof"]
    assert watch.got_through(sandbox, "spoof") == set()


@pytest.mark.parametrize(
    "custom",
    [
        {"cidr": "0.0.0.0/0"},
        {"cidr": "0.0.0.0/0", "except": [network.PRODUCTION_CIDR]},
        {"cidr": "169.254.0.0/16"},
        {"cidr": "::/0", "except": [network.PRODUCTION_CIDR_6]},
        {},
    ],
    ids=str,
)
def test_a_custom_rule_that_drops_the_metadata_block_is_refused_whoever_writes_it(
    sandbox: Sandbox, custom: dict[str, object]
) -> None:
    with pytest.raises(DevclusterError, match="ValidatingAdmissionPolicy"):
        sandbox.create(allow(**custom))
    assert "custom" not in json.dumps(sandbox.lab.names("NetworkPolicy"))
