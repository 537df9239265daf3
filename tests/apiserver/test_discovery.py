"""Finding out which optional kinds a cluster serves, while their definitions come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.discovery import OPTIONAL, Discovery, run_while_served
from bulkhead.cluster.errors import ClusterError
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import CLUSTER_NETWORK_POLICIES, Object, Resource
from devcluster.api import RunningCluster
from tests.apiserver.foreign_crds import installed
from tests.faults import Answer, DropBefore, FaultProxy, Rewrite, eventually

Served = frozenset[Resource]


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    async with Client(connection, deadline=30.0) as client:
        yield client


@asynccontextmanager
async def serving(cluster: RunningCluster, *resources: Resource) -> AsyncIterator[None]:
    """Lets the cluster serve some kinds; the event loop goes on meanwhile."""
    context = installed(cluster, *(one.plural for one in resources))
    await asyncio.to_thread(context.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@asynccontextmanager
async def running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), "it ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_looks(discovery: Discovery, wanted: set[Resource]) -> None:
    """Looks until the API server's discovery document has followed a definition, which it does a moment later.

    The moment is long where the API server is busy: a collection is served, or not any more, well before.
    """
    deadline = asyncio.get_running_loop().time() + 120
    while (found := await discovery.look()) != wanted:
        assert asyncio.get_running_loop().time() < deadline, f"not within 120 s: {wanted}, but {found} is served"
        await asyncio.sleep(0.05)


KINDS = {
    "none": (),
    "the cluster's": (CLUSTER_NETWORK_POLICIES,),
    "all of them": OPTIONAL,
}


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS.keys())
async def test_exactly_what_is_served_is_found(
    apiserver: RunningCluster, client: Client, kinds: tuple[Resource, ...]
) -> None:
    discovery = Discovery(client)
    assert not discovery.known.is_set()
    async with serving(apiserver, *kinds):
        await until_looks(discovery, set(kinds))
        assert discovery.known.is_set()
        assert {one for one in OPTIONAL if discovery.serves(one)} == set(kinds)


async def test_changes_are_told_once_and_the_first_answer_is_one(apiserver: RunningCluster, client: Client) -> None:
    # What an earlier test had served may still be in the discovery document, and would be the first answer.
    await until_looks(Discovery(client), set())
    told: list[Served] = []
    discovery = Discovery(client, on_change=told.append)
    await until_looks(discovery, set())
    await discovery.look()
    assert told == [frozenset()]
    async with serving(apiserver, CLUSTER_NETWORK_POLICIES):
        await until_looks(discovery, {CLUSTER_NETWORK_POLICIES})
        await discovery.look()
    await until_looks(discovery, set())
    assert told == [frozenset(), frozenset({CLUSTER_NETWORK_POLICIES}), frozenset()]


def renamed(document: Object) -> Object:
    """As an API server answers that serves another kind, or another scope, under the same name."""
    for one in document["resources"]:
        one["namespaced"] = True
    return document


async def test_a_resource_of_the_name_that_is_something_else_does_not_count(
    apiserver: RunningCluster, client: Client, proxy: FaultProxy
) -> None:
    discovery = Discovery(client)
    async with serving(apiserver, CLUSTER_NETWORK_POLICIES):
        await until_looks(discovery, {CLUSTER_NETWORK_POLICIES})
        proxy.on("GET", "/apis/policy.networking.k8s.io/v1alpha2$", Rewrite(renamed))
        assert await discovery.look() == set()


@pytest.mark.parametrize("fault", [Answer(503), Answer(403, reason="Forbidden"), DropBefore()], ids=str)
async def test_an_error_leaves_what_was_known(
    apiserver: RunningCluster, client: Client, proxy: FaultProxy, fault: Answer | DropBefore
) -> None:
    discovery = Discovery(client)
    async with serving(apiserver, CLUSTER_NETWORK_POLICIES):
        await until_looks(discovery, {CLUSTER_NETWORK_POLICIES})
        proxy.on("GET", "/apis/cilium.io", fault, times=None)
        with pytest.raises(ClusterError):
            await discovery.look()
        assert discovery.served == {CLUSTER_NETWORK_POLICIES}
        unknowing = Discovery(client)
        proxy.clear()
        proxy.on("GET", "/apis/policy.networking.k8s.io", fault, times=None)
        with pytest.raises(ClusterError):
            await unknowing.look()
        assert not unknowing.known.is_set(), "half an answer is none"


async def test_it_goes_on_after_errors_and_sooner_than_after_an_answer(client: Client, proxy: FaultProxy) -> None:
    proxy.on("GET", "/apis/cilium.io", Answer(503), times=2)
    proxy.on("GET", "/apis/cilium.io", Answer(200, body=b'{"resources": [{}]}'))
    discovery = Discovery(client, interval=0.3)
    async with running(discovery.run()):
        await eventually(discovery.known.is_set, "the first answer")
        seen = proxy.seen("GET", "/apis/cilium.io")
        assert seen == 4
        await eventually(lambda: proxy.seen("GET", "/apis/cilium.io") > seen, "it asks again")


async def test_an_informer_runs_while_its_kind_is_served_and_is_empty_when_it_is_not(
    apiserver: RunningCluster, client: Client
) -> None:
    heard: list[str] = []

    def hears(old: Object | None, new: Object | None) -> None:
        heard.append(
            ("+" if old is None else "-" if new is None else "~") + str((new or old or {})["metadata"]["name"])
        )

    discovery = Discovery(client, interval=0.1)
    informer = Informer(client, CLUSTER_NETWORK_POLICIES, on_change=hears)
    async with running(discovery.run()), running(run_while_served(informer, discovery)):
        for round_ in range(2):
            assert not informer.synced.is_set()
            async with serving(apiserver, CLUSTER_NETWORK_POLICIES):
                await eventually(informer.synced.is_set, "the list is read", within=120)
                await client.create(deny(f"deny-{round_}"))
                await eventually(lambda: len(list(informer)) == 1, "the watch tells", within=120)
            emptied = lambda: not discovery.served and not informer.synced.is_set()  # noqa: E731
            await eventually(emptied, "it is emptied", within=120)
            assert list(informer) == []
    assert [one for one in heard if one[0] != "~"] == ["+deny-0", "-deny-0", "+deny-1", "-deny-1"]


async def test_an_informer_that_could_not_see_the_end_is_emptied_all_the_same(
    apiserver: RunningCluster, client: Client, proxy: FaultProxy
) -> None:
    """Whoever deletes a definition deletes its objects; but the watch may be down just then."""
    gone: list[str] = []
    discovery = Discovery(client)
    informer = Informer(
        client, CLUSTER_NETWORK_POLICIES, on_change=lambda old, new: gone.append("gone") if new is None else None
    )
    async with running(run_while_served(informer, discovery)):
        async with serving(apiserver, CLUSTER_NETWORK_POLICIES):
            await client.create(deny("deny"))
            proxy.on("GET", "/clusternetworkpolicies", DropBefore(), watch=True, times=None)
            await until_looks(discovery, {CLUSTER_NETWORK_POLICIES})
            await eventually(informer.synced.is_set, "the list is read")
            proxy.on("GET", "/clusternetworkpolicies", DropBefore(), times=None)
        assert len(list(informer)) == 1
        await until_looks(discovery, set())
        await eventually(lambda: gone == ["gone"], "it is emptied")
        assert list(informer) == []


def deny(name: str) -> Object:
    return {
        "apiVersion": CLUSTER_NETWORK_POLICIES.api_version,
        "kind": CLUSTER_NETWORK_POLICIES.kind,
        "metadata": {"name": name},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {"matchLabels": {"bulkhead.dev/sandbox": "true"}}},
            "egress": [{"name": "floor", "action": "Deny", "to": [{"networks": ["169.254.0.0/16"]}]}],
        },
    }
