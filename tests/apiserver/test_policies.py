"""SandboxPolicies on a real API server: their status, and their clusterwide denies where a kind for them is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bulkhead.api import conditions, meta
from bulkhead.cluster import resources
from bulkhead.cluster.apply import Applier
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.discovery import Discovery
from bulkhead.cluster.errors import ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.resources import Object, Resource
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.policies import SETTLE, Denies, PolicyReconciler
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.settings import Settings
from bulkhead.engine.world import World
from bulkhead.plan.isolation import Control, ControlKey
from bulkhead.plan.refusals import Violation, text
from devcluster.api import RunningCluster
from tests import faults
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.foreign_crds import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    installed,
)
from tests.apiserver.rest import MERGE, Rest
from tests.faults import Answer, FaultProxy, Rewrite
from tests.operator_process import OperatorProcess, install_rights
from tests.operator_process import eventually as until

DENIES: dict[str, Resource] = {
    "Cilium": resources.CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    "ClusterNetworkPolicy": resources.CLUSTER_NETWORK_POLICIES,
}
KINDS = tuple(one.kind for one in DENIES.values())
NAME = "lab-rules"
DENY = f"bulkhead-{NAME}"
NODES_DENY = f"{DENY}.nodes"
CANARY = {"name": "db", "address": "10.9.0.1", "port": 5432}
CANARY_KEY = ("TCP", "10.9.0.1", 5432)
NOBODY = {"matchLabels": {"team": "nobody"}}
"""Selects no namespace. Those of earlier tests are still being deleted: whoever selects them counts them as they go."""
COLLECTED = 300.0
"""Seconds: the garbage collector learns of a new kind twice a minute, and stands still until it has read all of it."""

eventually = partial(faults.eventually, within=60.0)


@dataclass
class Bench:
    """The part of an operator that is about policies, on real caches; canaries are only talked about, never tried."""

    rest: Rest
    proxy: FaultProxy
    world: World
    reconciler: PolicyReconciler
    queue: WorkQueue
    leads: bool = True
    controls: dict[ControlKey, Control] = field(default_factory=dict)
    layers_told: list[str] = field(default_factory=list)

    async def work(self, key: Key, lane: Lane) -> None:
        if key.kind != meta.POLICY_KIND:
            return
        try:
            await self.reconciler.reconcile(key)
        except ClusterError:
            self.queue.retry(key, lane)
        else:
            self.queue.forget(key)

    def create(self, **spec: Any) -> Object:
        answer = self.rest.post(POLICIES, policy(NAME, **spec))
        assert answer.ok, answer.message
        return answer.body

    def patch(self, **spec: Any) -> None:
        answer = self.rest.send("PATCH", f"{POLICIES}/{NAME}", {"spec": spec}, content_type=MERGE)
        assert answer.ok, answer.message

    def status(self) -> Object:
        found: Object = self.rest.get(f"{POLICIES}/{NAME}").body.get("status") or {}
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        found = conditions.find(self.status().get("conditions") or (), kind) or {}
        return found.get("status", ""), found.get("reason", "")

    def message(self, kind: str) -> str:
        found = conditions.find(self.status().get("conditions") or (), kind) or {}
        return str(found.get("message", ""))

    async def until(self, kind: str, status: str, reason: str) -> None:
        await eventually(lambda: self.condition(kind) == (status, reason), f"{kind} is {status}, {reason}")

    def deny(self, dialect: str, name: str = DENY) -> Object | None:
        answer = self.rest.get(DENIES[dialect].path(name=name))
        return answer.body if answer.ok else None

    @property
    def status_writes(self) -> int:
        """Writes of the policy's status: `default` has its own, and namespaces of other tests come and go."""
        return self.proxy.seen("PATCH", f"/sandboxpolicies/{NAME}/status")

    @property
    def writes(self) -> int:
        """Requests that write, but events, and what `default` tells of namespaces that other tests leave behind."""
        told = "^(?!.*(/events|/sandboxpolicies/default/status))"
        return sum(self.proxy.seen(method, told) for method in ("POST", "PUT", "PATCH", "DELETE"))

    async def settled(self) -> None:
        """Returns when nothing has been written for longer than news of agents are gathered; fails after a minute."""
        begun = since = time.monotonic()
        writes = self.writes
        while time.monotonic() - since < 1.5 * SETTLE:
            assert time.monotonic() - begun < 60, "it goes on writing"
            if writes != self.writes:
                writes, since = self.writes, time.monotonic()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def operating(
    cluster: RunningCluster, rest: Rest, folder: Path, *faults: Callable[[FaultProxy], object]
) -> AsyncIterator[Bench]:
    """Runs the part of an operator that is about policies, through a proxy that counts its requests."""
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(cluster.kubeconfig))
        for fault in faults:
            fault(proxy)
        connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(folder / "kubeconfig"))
        watching = await stack.enter_async_context(Client(connection))
        client = await stack.enter_async_context(Client(connection))
        queue = WorkQueue(clock=time.monotonic)
        world = World(
            watching,
            agents=AgentStore(clock=time.monotonic, on_change=lambda old, new: made.reconciler.agent_changed(old, new)),
            settings=Settings(),
            notify=queue.add,
            retarget=lambda: None,
            controls=lambda: made.controls,
            layers=lambda names: made.reconciler.layers_of(names),
            serves=lambda resource: False,
            issuers=dict,
        )
        discovery = Discovery(watching, on_change=lambda served: made.reconciler.everything(), interval=0.2)
        denies = Denies(watching, discovery=discovery, notify=queue.add)
        recorder = Recorder(client, instance="test")
        reconciler = PolicyReconciler(
            client,
            Applier(client),
            world=world,
            denies=denies,
            controls=lambda: made.controls,
            queue=queue,
            recorder=recorder,
            is_leader=lambda: made.leads,
            readings=dict,
            on_layers=lambda name: made.layers_told.append(name),
            now=lambda: datetime.now(UTC),
        )
        made = Bench(rest, proxy, world, reconciler, queue)
        tasks = [
            asyncio.create_task(one)
            for one in (
                *(informer.run() for informer in world.informers),
                discovery.run(),
                denies.run(),
                recorder.run(),
            )
        ]
        try:
            await asyncio.gather(*(informer.synced.wait() for informer in world.informers), denies.synced())
            tasks.append(asyncio.create_task(queue.run(made.work, workers={Lane.NORMAL: 2, Lane.URGENT: 1})))
            yield made
            assert not [task for task in tasks if task.done()], "a part ended by itself"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def bench(apiserver: RunningCluster, rest: Rest, tmp_path: Path) -> AsyncIterator[Bench]:
    try:
        async with operating(apiserver, rest, tmp_path) as bench:
            yield bench
    finally:
        rest.delete(f"{POLICIES}/{NAME}")


def label(rest: Rest, namespace: str, **labels: str | None) -> None:
    answer = rest.send("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}}, content_type=MERGE)
    assert answer.ok, answer.message


class Agents:
    """Agents of one namespace, as the operator knows them: this is not about the watch that shows them."""

    def __init__(self, bench: Bench, namespace: str) -> None:
        self.bench = bench
        self.namespace = namespace

    def seen(self, name: str, version: int, *, accepted: bool, words: str = "") -> None:
        """Lets the operator see a version of an agent whose status says whether it is accepted."""
        refused = text(
            [Violation(policy=NAME, field="spec.image", message=f"{words}, which SandboxPolicy {NAME} refuses")]
        )
        condition = {
            "type": "PolicyAccepted",
            "status": "True" if accepted else "False",
            "reason": "Accepted" if accepted else "Refused",
            "message": f"accepted by SandboxPolicy {NAME}" if accepted else refused,
        }
        agent = {
            "apiVersion": meta.API_VERSION,
            "kind": meta.AGENT_KIND,
            "metadata": {
                "namespace": self.namespace,
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": str(version),
            },
            "status": {"conditions": [condition]},
        }
        self.bench.world.agents.observe(agent)

    def gone(self, name: str) -> None:
        self.bench.world.agents.remove(self.namespace, name, uid=f"uid-{name}")


async def test_the_status_says_what_a_policy_covers_and_who_violates_it(bench: Bench, rest: Rest, sandbox: str) -> None:
    label(rest, sandbox, team="lab")
    agents = Agents(bench, sandbox)
    agents.seen("good", 1, accepted=True)
    agents.seen("bad", 2, accepted=False, words="evil.example/agent was given")
    bench.create(namespaceSelector={"matchLabels": {"team": "lab"}})
    await bench.until("Ready", "True", "InForce")
    await eventually(lambda: bench.status()["agents"] == 2, "both agents are counted")
    status = bench.status()
    assert (status["namespaces"], status["violating"], status["observedGeneration"]) == (1, 1, 1)
    (violator,) = status["violators"]
    assert (violator["namespace"], violator["name"]) == (sandbox, "bad")
    assert "evil.example/agent was given" in violator["message"]
    agents.gone("bad")
    await eventually(lambda: bench.status()["violating"] == 0, "the violator is gone")
    label(rest, sandbox, team=None)
    await bench.until("Ready", "True", "SelectsNothing")
    assert bench.status()["agents"] == 0


async def test_production_namespaces_are_listed_as_their_labels_change(bench: Bench, rest: Rest, sandbox: str) -> None:
    bench.create(production={"namespaceSelector": {"matchLabels": {"env": "production"}}})
    await bench.until("Ready", "True", "InForce")
    assert bench.status()["productionNamespaces"] == []
    label(rest, "kube-public", env="production")
    try:
        await eventually(lambda: bench.status()["productionNamespaces"] == ["kube-public"], "it is listed")
    finally:
        label(rest, "kube-public", env=None)
    await eventually(lambda: bench.status()["productionNamespaces"] == [], "it is no longer listed")


async def test_the_news_of_many_agents_are_one_write(bench: Bench, rest: Rest, sandbox: str) -> None:
    label(rest, sandbox, team="lab")
    bench.create(namespaceSelector={"matchLabels": {"team": "lab"}})
    await bench.until("Ready", "True", "InForce")
    await bench.settled()
    before = bench.status_writes
    agents = Agents(bench, sandbox)
    for number in range(200):
        agents.seen(f"agent-{number}", number + 1, accepted=False, words=f"image {number}")
    await eventually(lambda: bench.status()["violating"] == 200, "all are counted")
    assert len(bench.status()["violators"]) == 16
    for number in range(200):
        agents.seen(f"agent-{number}", 1000 + number, accepted=False, words=f"image {number}")
    await bench.settled()
    assert bench.status_writes - before == 1


async def test_nothing_is_written_when_nothing_changed(bench: Bench) -> None:
    bench.create(namespaceSelector=NOBODY)
    await bench.until("Ready", "True", "SelectsNothing")
    await bench.settled()
    before = bench.status_writes
    bench.reconciler.everything()
    await bench.settled()
    assert bench.status_writes == before


async def test_who_does_not_lead_writes_nothing(bench: Bench) -> None:
    await bench.settled()
    bench.leads = False
    before = bench.writes
    bench.create()
    await bench.settled()
    assert bench.writes == before
    assert bench.status() == {}
    bench.leads = True
    bench.reconciler.everything()
    await eventually(lambda: bench.condition("Ready")[0] == "True", "the next leader writes it")


async def test_canaries_are_told_as_they_come_and_go_and_time_alone_writes_nothing(bench: Bench) -> None:
    def reached() -> None:
        bench.controls[CANARY_KEY] = Control(reached_at=datetime.now(UTC), failing_since=None, message="")
        bench.reconciler.controls_changed(frozenset({CANARY_KEY}))

    bench.create(namespaceSelector=NOBODY, production={"canaries": [CANARY]})
    await bench.until("CanariesReachable", "Unknown", "NotTried")
    reached()
    await bench.until("CanariesReachable", "True", "Reached")
    since = bench.status()["canaries"][0]["since"]
    await bench.settled()
    before = bench.status_writes
    reached()
    await bench.settled()
    assert bench.status_writes == before
    failing = Control(
        reached_at=datetime.now(UTC) - timedelta(seconds=9), failing_since=datetime.now(UTC), message="refused"
    )
    bench.controls[CANARY_KEY] = failing
    bench.reconciler.controls_changed(frozenset({CANARY_KEY}))
    await bench.until("CanariesReachable", "False", "NoAnswer")
    (canary,) = bench.status()["canaries"]
    assert (canary["name"], canary["reachable"]) == ("db", False)
    assert canary["since"] > since
    assert "refused" in canary["message"]
    await eventually(lambda: "CanariesUnreachable" in events(bench), "an event tells of it")


def events(bench: Bench) -> dict[str, Object]:
    """The newest event of each reason about the policy."""
    uid = bench.rest.get(f"{POLICIES}/{NAME}").body["metadata"]["uid"]
    listed = bench.rest.get("/apis/events.k8s.io/v1/namespaces/default/events").body["items"]
    return {one["reason"]: one for one in listed if one["regarding"].get("uid") == uid}


def misread(name: str) -> Callable[[Object], Object]:
    """Makes of a policy one that an older CRD had let through."""

    def change(document: Object) -> Object:
        for one in document.get("items") or ():
            if one["metadata"]["name"] == name:
                one["spec"] = {"production": {"cidrs": ["10.0.0.1/8"]}}
        return document

    return change


async def test_a_policy_that_cannot_be_understood_says_so(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    assert rest.post(POLICIES, policy(NAME)).ok
    try:
        async with operating(
            apiserver,
            rest,
            tmp_path,
            lambda proxy: proxy.on("GET", "/sandboxpolicies", Rewrite(misread(NAME)), watch=False, times=None),
        ) as bench:
            await bench.until("Ready", "False", "Invalid")
            assert "10.0.0.1/8" in bench.message("Ready")
            assert bench.condition("ClusterwideDenies") == ("Unknown", "Invalid")
            assert bench.status()["namespaces"] >= 1, "it still holds the agents of what it selects"
            await eventually(lambda: "NotReady" in events(bench), "an event tells of it")
            assert events(bench)["NotReady"]["type"] == "Warning"
    finally:
        rest.delete(f"{POLICIES}/{NAME}")


async def test_a_cluster_without_such_a_kind_is_no_fault(bench: Bench) -> None:
    bench.create()
    await bench.until("ClusterwideDenies", "False", "NotServed")
    assert "NetworkPolicies alone hold" in bench.message("ClusterwideDenies")
    await eventually(lambda: "NoClusterwideDenies" in events(bench), "it is told once")
    assert events(bench)["NoClusterwideDenies"]["type"] == "Normal"
    assert bench.reconciler.layers_of([NAME]) == ()


async def test_the_denies_follow_the_kinds_that_come_and_go(bench: Bench, apiserver: RunningCluster) -> None:
    bench.create()
    await bench.until("ClusterwideDenies", "False", "NotServed")
    assert bench.reconciler.layers_of([NAME]) == ()
    context = installed(apiserver, CLUSTER_NETWORK_POLICIES)
    await asyncio.to_thread(context.__enter__)
    try:
        await bench.until("ClusterwideDenies", "True", "ClusterNetworkPolicy")
        await eventually(lambda: bench.layers_told.count(NAME) == 1, "the agents are told")
        assert bench.reconciler.layers_of([NAME]) == ("ClusterNetworkPolicy",)
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
    await bench.until("ClusterwideDenies", "False", "NotServed")
    await eventually(lambda: bench.layers_told.count(NAME) == 2, "the agents are told")
    assert bench.reconciler.layers_of([NAME]) == ()


@pytest.fixture(scope="module")
def served(apiserver: RunningCluster) -> Iterator[None]:
    """From here on the cluster serves both kinds."""
    with installed(apiserver, CILIUM_CLUSTERWIDE_NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES):
        yield


def rules_of(deny: Object | None) -> object:
    """What a deny says, in either dialect."""
    return deny and (deny.get("specs") or deny.get("spec"))


@pytest.mark.usefixtures("served")
class TestServed:
    """Where the cluster serves both kinds."""

    @pytest.fixture(autouse=True)
    def tidy(self, rest: Rest) -> Iterator[None]:
        """Removes what a test leaves: the garbage collector learns of a new kind only half a minute after it came."""
        yield
        for resource in DENIES.values():
            for name in (DENY, NODES_DENY):
                rest.delete(resource.path(name=name))

    async def test_each_policy_has_its_denies_in_both_dialects(self, bench: Bench) -> None:
        created = bench.create(production={"cidrs": ["10.7.0.0/16", "fd00:7::/48"]})
        assert bench.reconciler.layers_of([NAME]) == ()
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        for dialect in DENIES:
            found = bench.deny(dialect)
            assert found is not None
            assert meta.is_owned_by(found, created["metadata"]["uid"])
            assert all(cidr in str(rules_of(found)) for cidr in ("10.7.0.0/16", "fd00:7::/48", "169.254.0.0/16"))
        assert NAME in bench.layers_told
        assert bench.reconciler.layers_of([NAME]) == KINDS
        assert bench.reconciler.layers_of([]) == ()
        assert bench.reconciler.layers_of([NAME, "no-such-policy"]) == (), "in place for each, or not in force"

    async def test_a_settled_policy_costs_no_writes(self, bench: Bench) -> None:
        production = {"cidrs": ["10.7.0.0/16"], "namespaceSelector": {"matchLabels": {"env": "production"}}}
        bench.create(namespaceSelector=NOBODY, production=production)
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        await bench.settled()
        before = bench.writes
        bench.reconciler.everything()
        await bench.settled()
        assert bench.writes == before

    async def test_an_edit_of_the_policy_edits_its_denies(self, bench: Bench) -> None:
        bench.create(production={"cidrs": ["10.7.0.0/16"]})
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        bench.patch(production={"cidrs": ["10.8.0.0/16"]})
        await eventually(lambda: all("10.8.0.0/16" in str(bench.deny(one)) for one in DENIES), "the new network")
        assert not any("10.7.0.0/16" in str(bench.deny(one)) for one in DENIES)

    @pytest.mark.parametrize("dialect", DENIES)
    async def test_a_deny_that_somebody_weakens_or_deletes_is_restored(self, bench: Bench, dialect: str) -> None:
        bench.create(production={"cidrs": ["10.7.0.0/16"]})
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        path = DENIES[dialect].path(name=DENY)
        part = "/specs/0/egressDeny" if dialect == "Cilium" else "/spec/egress"
        before = bench.deny(dialect)
        assert before is not None
        weakened = [{"op": "remove", "path": f"{part}/0"}]
        answer = bench.rest.send("PATCH", path, weakened, content_type="application/json-patch+json")
        assert answer.ok, answer.message
        await eventually(lambda: rules_of(bench.deny(dialect)) == rules_of(before), "it is as it was")
        bench.rest.delete(path)
        await eventually(lambda: rules_of(bench.deny(dialect)) == rules_of(before), "it is there again")
        # A write that met the deletion has failed, and the status may have said so before there was another.
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")

    async def test_the_deny_of_the_nodes_is_an_object_of_its_own_and_restored_likewise(self, bench: Bench) -> None:
        bench.create()
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        before = bench.deny("ClusterNetworkPolicy", NODES_DENY)
        assert before is not None
        assert bench.deny("Cilium", NODES_DENY) is None
        bench.rest.delete(DENIES["ClusterNetworkPolicy"].path(name=NODES_DENY))

        def restored() -> bool:
            found = bench.deny("ClusterNetworkPolicy", NODES_DENY)
            return rules_of(found) == rules_of(before) and bench.reconciler.layers_of([NAME]) == KINDS

        await eventually(restored, "it is there again")

    @pytest.mark.parametrize("labelled", [False, True], ids=["unlabelled", "with our label"])
    async def test_a_strangers_object_of_the_name_is_left_and_told(self, bench: Bench, labelled: bool) -> None:
        theirs = stranger(DENY, labels={meta.MANAGED_BY_LABEL: meta.MANAGED_BY_VALUE} if labelled else {})
        path = DENIES["ClusterNetworkPolicy"].path()
        before = bench.rest.post(path, theirs)
        assert before.ok, before.message
        bench.create()
        await bench.until("ClusterwideDenies", "False", "Conflict")
        assert f"ClusterNetworkPolicy {DENY} exists and is not ours" in bench.message("ClusterwideDenies")
        assert bench.reconciler.layers_of([NAME]) == (DENIES["Cilium"].kind,), "the other dialect is in force"
        found = bench.deny("ClusterNetworkPolicy")
        assert found is not None
        assert found["metadata"]["resourceVersion"] == before.body["metadata"]["resourceVersion"]
        await eventually(lambda: "NoClusterwideDenies" in events(bench), "an event tells of it")
        assert events(bench)["NoClusterwideDenies"]["type"] == "Warning"
        bench.rest.delete(f"{path}/{DENY}")
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        assert bench.reconciler.layers_of([NAME]) == KINDS

    async def test_what_else_the_policy_owns_is_removed_and_nothing_of_others(self, bench: Bench) -> None:
        created = bench.create()
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        ours = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY_VALUE}
        path = DENIES["ClusterNetworkPolicy"].path()
        owner = meta.owner_reference(created)
        assert bench.rest.post(path, stranger("theirs", labels=ours)).ok
        assert bench.rest.post(path, stranger("old-name", labels=ours, owners=[owner])).ok
        try:
            await eventually(lambda: bench.deny("ClusterNetworkPolicy", "old-name") is None, "the leftover is removed")
            await bench.settled()
            assert bench.deny("ClusterNetworkPolicy", "theirs") is not None
        finally:
            bench.rest.delete(f"{path}/theirs")

    async def test_a_policy_made_again_gets_denies_of_its_own(self, bench: Bench) -> None:
        first = bench.create(production={"cidrs": ["10.7.0.0/16"]})
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        bench.rest.delete(f"{POLICIES}/{NAME}")
        second = bench.create(production={"cidrs": ["10.8.0.0/16"]})
        assert first["metadata"]["uid"] != second["metadata"]["uid"]
        await eventually(
            lambda: all(meta.is_owned_by(bench.deny(one) or {}, second["metadata"]["uid"]) for one in DENIES),
            "the garbage collector took the old ones, and there are new ones",
            within=COLLECTED,
        )
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")

    async def test_the_denies_of_a_deleted_policy_go_with_it(self, bench: Bench) -> None:
        bench.create()
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        bench.rest.delete(f"{POLICIES}/{NAME}")
        await eventually(lambda: not any(bench.deny(one) for one in DENIES), "they are collected", within=COLLECTED)

    async def test_a_refusal_is_told_and_what_the_api_server_cannot_say_now_is_tried_again(self, bench: Bench) -> None:
        path = "/clusternetworkpolicies"
        bench.proxy.on("POST", path, Answer(403, "Forbidden", "quota says no"), times=None)
        bench.create()
        await bench.until("ClusterwideDenies", "False", "Refused")
        assert "quota says no" in bench.message("ClusterwideDenies")
        assert bench.reconciler.layers_of([NAME]) == (DENIES["Cilium"].kind,)
        bench.proxy.clear()
        bench.proxy.on("POST", path, Answer(503), times=3)
        bench.reconciler.everything()
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        assert bench.reconciler.layers_of([NAME]) == KINDS

    async def test_a_policy_that_is_no_longer_understood_keeps_its_denies(
        self, bench: Bench, apiserver: RunningCluster, tmp_path: Path
    ) -> None:
        bench.create(production={"cidrs": ["10.7.0.0/16"]})
        await bench.until("ClusterwideDenies", "True", "CiliumAndClusterNetworkPolicy")
        bench.leads = False
        before = [bench.deny(one) for one in DENIES]
        folder = tmp_path / "second"
        folder.mkdir()
        async with operating(
            apiserver,
            bench.rest,
            folder,
            lambda proxy: proxy.on("GET", "/sandboxpolicies", Rewrite(misread(NAME)), watch=False, times=None),
        ) as next_:
            await next_.until("ClusterwideDenies", "Unknown", "Invalid")
            await next_.settled()
            assert [next_.deny(one) for one in DENIES] == before
            assert next_.reconciler.layers_of([NAME]) == KINDS


@pytest.mark.usefixtures("served")
def test_an_agents_status_names_the_layers_that_hold_it(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    """The whole operator, under the rights of its chart."""
    lab = Lab(rest, sandbox)
    lab.create("scout")

    def layers() -> dict[str, str]:
        isolation = (lab.the("AgentDeployment", "scout").get("status") or {}).get("isolation") or {}
        return {one["name"]: one["since"] for one in isolation.get("layers") or ()}

    with OperatorProcess(install_rights(apiserver), tmp_path):
        until(lambda: layers().keys() == {"NetworkPolicy", *KINDS}, "all three layers are named")
        since = layers()
        rest.delete(DENIES["Cilium"].path(name="bulkhead-default"))
        until(lambda: rest.get(DENIES["Cilium"].path(name="bulkhead-default")).ok, "the deny is there again")
        assert layers()["NetworkPolicy"] == since["NetworkPolicy"]
        assert layers()["ClusterNetworkPolicy"] == since["ClusterNetworkPolicy"]
    for resource in DENIES.values():
        rest.delete(resource.path(name="bulkhead-default"))


def stranger(name: str, *, labels: dict[str, str], owners: list[Object] | None = None) -> Object:
    """A ClusterNetworkPolicy that somebody else wrote."""
    resource = DENIES["ClusterNetworkPolicy"]
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners or []},
        "spec": {
            "tier": "Baseline",
            "priority": 7,
            "subject": {"namespaces": {"matchLabels": {"team": "theirs"}}},
            "egress": [{"name": "all", "action": "Accept", "to": [{"networks": ["192.0.2.0/24"]}]}],
        },
    }
