"""Which policies are looked at when something changes, and what is said of their denies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.api import meta
from bulkhead.cluster.apply import Applier
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.discovery import Discovery
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.resources import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    Object,
    Resource,
)
from bulkhead.engine import policies
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.policies import SETTLE, Denies, PolicyReconciler
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.settings import Settings
from bulkhead.engine.view import policy_key
from bulkhead.engine.world import World
from bulkhead.plan.denies import Dialect

CANARY = {"name": "db", "address": "10.9.0.1", "port": 5432}
CANARY_KEY = ("TCP", "10.9.0.1", 5432)


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Noted(WorkQueue):
    """A queue that nobody works on: it notes what was put in, with its delay."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        self.added: list[tuple[str, float]] = []

    def add(self, key: Key, lane: Lane = Lane.NORMAL) -> None:
        self.added.append((key.name, 0.0))

    def add_after(self, key: Key, seconds: float, lane: Lane = Lane.NORMAL) -> None:
        self.added.append((key.name, seconds))


@dataclass
class Bench:
    """Real caches that were filled by hand; nothing is ever sent."""

    world: World
    denies: Denies
    discovery: Discovery
    reconciler: PolicyReconciler
    queue: Noted
    told: list[str]
    version: int = field(default=1)

    def _metadata(self, name: str, **more: Any) -> Object:
        self.version += 1
        return {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version), **more}

    def policy(self, name: str, **spec: Any) -> None:
        head = {"apiVersion": meta.API_VERSION, "kind": meta.POLICY_KIND}
        self.world.policies.observe({**head, "metadata": self._metadata(name, generation=1), "spec": spec})

    def namespace(self, name: str, *, sandbox: bool = True, **labels: str) -> None:
        marks = {meta.SANDBOX_LABEL: meta.SANDBOX_VALUE} if sandbox else {}
        metadata = self._metadata(name, labels={**labels, **marks})
        self.world.namespaces.observe({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def deny(self, dialect: Dialect, *, owner: str, **more: Any) -> None:
        reference = {"apiVersion": meta.API_VERSION, "kind": meta.POLICY_KIND, "name": owner, "uid": f"uid-{owner}"}
        metadata = self._metadata(f"bulkhead-{owner}", ownerReferences=[reference], **more)
        resource = policies.DIALECTS[dialect]
        self.denies.of(dialect).observe(
            {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        )

    def serve(self, *resources: Resource) -> None:
        self.discovery.served = frozenset(resources)
        self.discovery.known.set()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    queue, told = Noted(), list[str]()
    client = Client(Connection(SimpleNamespace()))  # never asked for anything
    world = World(
        client,
        agents=AgentStore(clock=Clock(), on_change=lambda _old, _new: None),
        settings=Settings(),
        notify=lambda key: None,
        retarget=lambda: None,
        controls=dict,
        layers=lambda names: (),
        serves=lambda resource: False,
        issuers=dict,
    )
    discovery = Discovery(client)
    denies = Denies(client, discovery=discovery, notify=queue.add)
    reconciler = PolicyReconciler(
        client,
        Applier(client),
        world=world,
        denies=denies,
        controls=dict,
        queue=queue,
        recorder=Recorder(client, instance="test"),
        is_leader=lambda: True,
        readings=dict,
        on_layers=told.append,
        now=lambda: datetime.now(UTC),
    )
    yield Bench(world, denies, discovery, reconciler, queue, told)
    await client.close()


def agent(*, accepted: str = "True", message: str = "accepted", uid: str = "u1", ready: str = "True") -> Object:
    return {
        "metadata": {"namespace": "lab", "name": "scout", "uid": uid},
        "status": {
            "conditions": [
                {"type": "PolicyAccepted", "status": accepted, "message": message},
                {"type": "Ready", "status": ready, "message": ""},
            ]
        },
    }


NEWS: dict[str, tuple[Object | None, Object | None, bool]] = {
    "it appears": (None, agent(), True),
    "it goes": (agent(), None, True),
    "it is refused now": (agent(), agent(accepted="False"), True),
    "it is refused for another reason": (agent(accepted="False"), agent(accepted="False", message="other"), True),
    "another has its name": (agent(), agent(uid="u2"), True),
    "it is judged for the first time": ({**agent(), "status": {}}, agent(), True),
    "something else about it changes": (agent(), agent(ready="False"), False),
    "nothing changes": (agent(), agent(), False),
    "it was never there": (None, None, False),
}


@pytest.mark.parametrize(("old", "new", "counts"), NEWS.values(), ids=NEWS.keys())
def test_news_of_an_agent(bench: Bench, old: Object | None, new: Object | None, counts: bool) -> None:
    bench.namespace("lab", team="lab")
    bench.policy("covers", namespaceSelector={"matchLabels": {"team": "lab"}})
    bench.policy("covers-not", namespaceSelector={"matchLabels": {"team": "other"}})
    bench.reconciler.agent_changed(old, new)
    assert bench.queue.added == ([("covers", SETTLE)] if counts else [])


def test_an_agent_outside_of_a_sandbox_concerns_no_policy(bench: Bench) -> None:
    bench.namespace("lab", sandbox=False)
    bench.policy("default")
    bench.reconciler.agent_changed(None, agent())
    assert bench.queue.added == []


def test_a_canary_concerns_the_policies_that_name_it(bench: Bench) -> None:
    bench.policy("names-it", production={"canaries": [CANARY]})
    bench.policy("names-another", production={"canaries": [{**CANARY, "port": 5433}]})
    bench.policy("not-understood", production="none")
    bench.reconciler.controls_changed(frozenset({CANARY_KEY}))
    assert bench.queue.added == [("names-it", 0.0)]


def test_everything_is_every_policy(bench: Bench) -> None:
    bench.policy("one")
    bench.policy("two")
    bench.reconciler.everything()
    assert sorted(bench.queue.added) == [("one", 0.0), ("two", 0.0)]


def test_a_layer_is_in_force_for_an_agent_when_it_is_in_place_for_each_of_its_policies(bench: Bench) -> None:
    bench.serve(CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES)
    bench.policy("one")
    bench.policy("two")
    bench.deny("cilium", owner="one")
    bench.deny("cilium", owner="two")
    bench.deny("clusternetworkpolicy", owner="one")
    layers = bench.reconciler.layers_of
    assert layers(["one"]) == ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy")
    assert layers(["one", "two"]) == ("CiliumClusterwideNetworkPolicy",)
    assert layers(["one", "gone"]) == ()
    assert layers([]) == ()


def test_what_is_being_deleted_or_no_longer_served_is_not_in_force(bench: Bench) -> None:
    bench.serve(CILIUM_CLUSTERWIDE_NETWORK_POLICIES)
    bench.policy("one")
    bench.deny("clusternetworkpolicy", owner="one")
    assert bench.reconciler.layers_of(["one"]) == ()
    bench.deny("cilium", owner="one", deletionTimestamp="2026-01-01T00:00:00Z")
    assert bench.reconciler.layers_of(["one"]) == ()


CONFLICT, FAILED = ("Conflict", "exists and is not ours"), ("Failed", "503")
VERDICTS: dict[str, tuple[tuple[Dialect, ...], dict[Dialect, tuple[str, str]], tuple[str, str]]] = {
    "one kind is served": (("cilium",), {}, ("True", "Cilium")),
    "the other is": (("clusternetworkpolicy",), {}, ("True", "ClusterNetworkPolicy")),
    "both are": (("cilium", "clusternetworkpolicy"), {}, ("True", "CiliumAndClusterNetworkPolicy")),
    "one is in conflict": (("cilium", "clusternetworkpolicy"), {"cilium": CONFLICT}, ("False", "Conflict")),
    "one failed for now": (("cilium", "clusternetworkpolicy"), {"cilium": FAILED}, ("Unknown", "Failed")),
    "a no weighs more than a failure": (
        ("cilium", "clusternetworkpolicy"),
        {"cilium": FAILED, "clusternetworkpolicy": CONFLICT},
        ("False", "Conflict"),
    ),
}


@pytest.mark.parametrize(("served", "problems", "expected"), VERDICTS.values(), ids=VERDICTS.keys())
def test_what_is_said_of_the_denies(
    served: tuple[Dialect, ...], problems: dict[Dialect, tuple[str, str]], expected: tuple[str, str]
) -> None:
    verdict = policies._verdict(served, problems)
    assert (verdict.status, verdict.reason) == expected
    assert all(words in verdict.message for _, words in problems.values())


async def test_the_look_at_a_policy_that_is_gone_forgets_what_was_told_of_it(bench: Bench) -> None:
    bench.reconciler.layers_of(["gone"])
    await bench.reconciler.reconcile(policy_key("gone"))
    assert bench.reconciler._told == {}
    assert bench.told == []


def test_news_of_a_deny_is_news_of_its_policy(bench: Bench) -> None:
    bench.denies._changed(None, {"metadata": {"ownerReferences": [{"kind": meta.POLICY_KIND, "name": "one"}]}})
    bench.denies._changed({"metadata": {"ownerReferences": [{"kind": "ConfigMap", "name": "x"}]}}, None)
    bench.denies._changed({"metadata": {}}, None)
    assert bench.queue.added == [("one", 0.0)]
