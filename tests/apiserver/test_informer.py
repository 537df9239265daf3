"""The informer against a real API server, and against the same one with a bad way to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkhead.api import meta
from bulkhead.cluster.client import PAGE_SIZE, Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.informer import YIELD_EVERY, Informer
from bulkhead.cluster.resources import SERVICE_ACCOUNTS, Object
from devcluster.api import RunningCluster
from tests.faults import Answer, CutStream, DropAfter, DropBefore, FaultProxy, Freeze, Rewrite, Stream, eventually

SELECTOR = meta.AGENT_LABEL


@pytest.fixture
async def client(apiserver: RunningCluster) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=apiserver.kubeconfig)
    async with Client(connection, deadline=60.0, connect_timeout=60.0) as client:
        yield client


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    # Only silence is to be noticed soon: a list that a busy machine answers late and that is broken off for it is asked
    # for again, and the tests count what was asked for.
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    async with Client(connection, deadline=30.0, silence=1.0) as client:
        yield client


@dataclass
class Heard:
    """What an informer told: `+name`, `~name`, `-name`."""

    changes: list[str] = field(default_factory=list)

    def __call__(self, old: Object | None, new: Object | None) -> None:
        sign = "+" if old is None else "-" if new is None else "~"
        self.changes.append(sign + str((new or old or {})["metadata"]["name"]))


@dataclass
class Mirror:
    """An informer of the accounts of one namespace, and what it told."""

    informer: Informer
    heard: Heard

    @property
    def names(self) -> set[str]:
        return {obj["metadata"]["name"] for obj in self.informer}


@asynccontextmanager
async def mirror(client: Client, namespace: str, **options: Any) -> AsyncIterator[Mirror]:
    heard = Heard()
    informer = Informer(
        client, SERVICE_ACCOUNTS, namespace=namespace, label_selector=SELECTOR, on_change=heard, **options
    )
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 60)
        yield Mirror(informer, heard)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def account(namespace: str, name: str, *, uid: str = "u-1", **labels: str) -> Object:
    labels = {meta.AGENT_LABEL: name, meta.AGENT_UID_LABEL: uid, **labels}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
    }


async def delete(client: Client, obj: Object) -> None:
    data = obj["metadata"]
    await client.delete(SERVICE_ACCOUNTS, namespace=data["namespace"], name=data["name"], uid=data["uid"])


async def test_it_mirrors_what_is_there_and_what_happens(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox, "before"))
    async with mirror(client, sandbox) as seen:
        assert seen.heard.changes == ["+before"]
        created = await client.create(account(sandbox, "after"))
        await eventually(lambda: "after" in seen.names, "the new object is seen")
        await client.apply(account(sandbox, "after", extra="label"), uid=created["metadata"]["uid"])
        await eventually(lambda: "~after" in seen.heard.changes, "the change is seen")
        await delete(client, created)
        await eventually(lambda: "after" not in seen.names, "the deletion is seen")
        assert seen.heard.changes == ["+before", "+after", "~after", "-after"]


async def test_objects_come_without_managed_fields_and_with_their_kind(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox, "listed"))
    async with mirror(client, sandbox) as seen:
        await client.create(account(sandbox, "watched"))
        await eventually(lambda: len(seen.informer) == 2, "both are seen")
        for obj in seen.informer:
            assert (obj["apiVersion"], obj["kind"]) == ("v1", "ServiceAccount")
            assert "managedFields" not in obj["metadata"]


async def test_what_many_objects_have_in_common_is_kept_once(client: Client, sandbox: str) -> None:
    common = "a-value-that-is-long"
    await client.create(account(sandbox, "listed", common=common))
    async with mirror(client, sandbox) as seen:
        await client.create(account(sandbox, "watched", common=common))
        await eventually(lambda: "watched" in seen.names, "the new object is seen")
        first, second = (one["metadata"]["labels"]["common"] for one in seen.informer)
        assert first == common
        assert first is second


async def test_a_large_collection_is_read_in_pages(
    proxy: FaultProxy, shaky: Client, client: Client, sandbox: str
) -> None:
    count = PAGE_SIZE + 1
    for start in range(0, count, 20):  # few at a time: a call's deadline counts its wait for a connection too
        numbers = range(start, min(start + 20, count))
        await asyncio.gather(*(client.create(account(sandbox, f"agent-{number}")) for number in numbers))
    async with mirror(shaky, sandbox) as seen:
        assert len(seen.informer) == count
    assert proxy.seen("GET", f"limit={PAGE_SIZE}", watch=False) == 2


async def test_only_what_the_transform_keeps_is_stored(client: Client, sandbox: str) -> None:
    def slim(obj: Object) -> Object:
        kept = ("namespace", "name", "uid", "resourceVersion", "labels")
        return {"metadata": {name: obj["metadata"][name] for name in kept}}

    await client.create(account(sandbox, "listed"))
    async with mirror(client, sandbox, transform=slim) as seen:
        watched = await client.create(account(sandbox, "watched"))
        await eventually(lambda: len(seen.informer) == 2, "both are seen")
        seen.informer.observe(await client.apply(account(sandbox, "watched", a="b"), uid=watched["metadata"]["uid"]))
        assert all(set(obj) == {"metadata"} for obj in seen.informer)


async def test_the_index_follows_creation_change_and_deletion(client: Client, sandbox: str) -> None:
    def names(uid: str) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in seen.informer.by_index((sandbox, uid)))

    await client.create(account(sandbox, "one", uid="u-1"))
    async with mirror(client, sandbox) as seen:
        two = await client.create(account(sandbox, "two", uid="u-1"))
        await eventually(lambda: names("u-1") == ["one", "two"], "both are indexed")
        await client.apply(account(sandbox, "two", uid="u-2"), uid=two["metadata"]["uid"])
        await eventually(lambda: names("u-2") == ["two"], "the new value is indexed")
        assert names("u-1") == ["one"]
        await delete(client, two)
        await eventually(lambda: names("u-2") == [], "the deletion is indexed")


async def test_an_own_index_replaces_the_one_by_agent(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox, "one", colour="red"))
    async with mirror(client, sandbox, index=lambda obj: obj["metadata"]["labels"].get("colour")) as seen:
        assert [obj["metadata"]["name"] for obj in seen.informer.by_index("red")] == ["one"]
        assert seen.informer.by_index("blue") == []


async def test_an_object_that_loses_its_label_is_gone_from_the_mirror(client: Client, sandbox: str) -> None:
    created = await client.create(account(sandbox, "one"))
    async with mirror(client, sandbox) as seen:
        await client.json_patch(
            SERVICE_ACCOUNTS,
            namespace=sandbox,
            name="one",
            operations=[{"op": "remove", "path": "/metadata/labels"}],
            uid=created["metadata"]["uid"],
        )
        await eventually(lambda: "one" not in seen.names, "it is gone")


async def test_what_we_wrote_is_there_at_once_and_its_echo_is_not_news(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True, times=None)
    async with mirror(shaky, sandbox) as seen:
        written = await client.create(account(sandbox, "mine"))
        seen.informer.observe(written)
        assert seen.names == {"mine"}
        await client.create(account(sandbox, "marker"))
        proxy.clear()
        await eventually(lambda: "marker" in seen.names, "the watch has passed our write")
        assert seen.heard.changes == ["+marker"]


async def test_an_answer_that_comes_after_the_deletion_does_not_bring_the_object_back(
    client: Client, sandbox: str
) -> None:
    async with mirror(client, sandbox) as seen:
        written = await client.create(account(sandbox, "mine"))
        await delete(client, written)
        await eventually(lambda: "-mine" in seen.heard.changes, "the deletion is seen")
        seen.informer.observe(written)
        assert "mine" not in seen.names


async def test_an_older_version_from_the_watch_never_overwrites_a_newer_one(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    first = await client.create(account(sandbox, "mine"))
    second = await client.apply(account(sandbox, "mine", step="2"), uid=first["metadata"]["uid"])
    third = await client.apply(account(sandbox, "mine", step="3"), uid=first["metadata"]["uid"])
    event = json.dumps({"type": "MODIFIED", "object": second}).encode() + b"\n"
    # The mirror has only listed the first version when we learn of the third; the watch then tells of the second.
    proxy.on("GET", "/serviceaccounts", Rewrite(lambda page: _page_with(page, first)), watch=False)
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True)
    proxy.on("GET", "/serviceaccounts", Stream((event,)), watch=True)
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True, times=None)
    async with mirror(shaky, sandbox) as seen:
        seen.informer.observe(third)
        await eventually(lambda: proxy.seen("GET", watch=True) >= 3, "the old version was told")
        assert (seen.informer.get(sandbox, "mine") or {})["metadata"]["labels"]["step"] == "3"


def _page_with(page: Object, obj: Object) -> Object:
    return {**page, "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}, "items": [obj]}


async def test_the_end_of_a_predecessor_does_not_remove_its_successor(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    first = await client.create(account(sandbox, "mine"))
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True)
    async with mirror(shaky, sandbox) as seen:
        await eventually(lambda: proxy.seen("GET", watch=True) == 1, "the watch is deaf")
        await delete(client, first)
        second = await client.create(account(sandbox, "mine"))
        seen.informer.observe(second)
        await client.create(account(sandbox, "marker"))
        await eventually(lambda: "marker" in seen.names, "the watch has passed both")
        stored = seen.informer.get(sandbox, "mine") or {}
        assert stored["metadata"]["uid"] == second["metadata"]["uid"]


async def test_what_was_deleted_unseen_is_told_at_the_next_list(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    kept = await client.create(account(sandbox, "kept"))
    lost = await client.create(account(sandbox, "lost"))
    gone = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True, times=None)
    async with mirror(shaky, sandbox) as seen:
        await delete(client, lost)
        proxy.clear()
        proxy.on("GET", "/serviceaccounts", Stream((gone,)), watch=True)
        await eventually(lambda: seen.informer.relists == 2, "it listed again")
        assert seen.names == {"kept"}
        assert seen.heard.changes[2:] == ["-lost"]
        assert (seen.informer.get(sandbox, "kept") or {})["metadata"]["uid"] == kept["metadata"]["uid"]


async def test_a_list_does_not_undo_what_we_wrote_after_it_was_read(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    await client.create(account(sandbox, "old"))
    items, version = await client.list(SERVICE_ACCOUNTS, namespace=sandbox, label_selector=SELECTOR)
    written = await client.create(account(sandbox, "mine"))
    before = {"metadata": {"resourceVersion": version}, "items": items}
    proxy.on("GET", "/serviceaccounts", Rewrite(lambda _: before), watch=False, times=None)
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True)
    proxy.on("GET", "/serviceaccounts", Answer(410, "Expired"), watch=True)
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True, times=None)
    async with mirror(shaky, sandbox) as seen:
        assert seen.names == {"old"}
        seen.informer.observe(written)
        await eventually(lambda: seen.informer.relists >= 2, "it listed again")
        assert seen.names == {"old", "mine"}


async def test_after_etcd_went_back_in_time_the_list_counts_and_not_what_we_remember(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    old = await client.create(account(sandbox, "old"))
    await client.create(account(sandbox, "new"))
    async with mirror(shaky, sandbox) as seen:
        assert seen.names == {"old", "new"}
        proxy.on("GET", "/serviceaccounts", Rewrite(lambda page: _page_with(page, old)), watch=False, times=None)
        # For as long as it takes: an answer that came late, as on a machine that stood still, begins a new streak of
        # failures, and only a streak makes it list again.
        answer = Answer(504, "Timeout", "Too large resource version")
        proxy.on("GET", "/serviceaccounts", answer, watch=True, times=None)
        await eventually(lambda: seen.informer.relists >= 2, "it gave up on the position", within=30)
        assert seen.names == {"old"}


@pytest.mark.parametrize(
    "fault",
    [
        CutStream(events=0),
        CutStream(events=0, half=False),
        DropBefore(),
        Answer(429, "TooManyRequests", retry_after=1),
        Answer(500, "InternalError"),
        Answer(503, body=b"no healthy upstream"),
        Answer(410, "Expired"),
        Answer(401, "Unauthorized"),
        Stream((b'{"type":"ADDED","object":{"metadata":{}}}\n',)),
        Stream((b"not JSON\n",)),
        Stream(()),
    ],
    ids=[
        "half a line",
        "cut",
        "dropped",
        "429",
        "500",
        "503",
        "410",
        "401",
        "malformed event",
        "garbage",
        "ended at once",
    ],
)
async def test_nothing_is_missed_when_the_watch_fails(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str, fault: Any
) -> None:
    # The first watch is deaf, so that the failing ones have something to miss.
    proxy.on("GET", "/serviceaccounts", Freeze(), watch=True)
    proxy.on("GET", "/serviceaccounts", fault, watch=True, times=2)
    async with mirror(shaky, sandbox) as seen:
        await eventually(lambda: proxy.seen("GET", watch=True) == 1, "the watch is deaf")
        created = await client.create(account(sandbox, "one"))
        await client.create(account(sandbox, "two"))
        await delete(client, created)
        await eventually(lambda: seen.names == {"two"}, "it caught up", within=20)


@pytest.mark.parametrize(
    "fault",
    [DropAfter(), Answer(429, retry_after=0.2), Answer(500), Answer(403, "Forbidden")],
    ids=["dropped", "429", "500", "403"],
)
async def test_the_first_list_is_tried_until_it_succeeds(
    shaky: Client, proxy: FaultProxy, sandbox: str, fault: Any
) -> None:
    proxy.on("GET", "/serviceaccounts", fault, watch=False, times=3)
    async with mirror(shaky, sandbox) as seen:
        assert seen.informer.relists == 1
    assert proxy.seen("GET", watch=False) == 4


async def test_a_watch_that_drops_is_resumed_without_listing_again(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    proxy.on("GET", "/serviceaccounts", CutStream(events=1), watch=True, times=3)
    async with mirror(shaky, sandbox) as seen:
        for number in range(8):
            await client.create(account(sandbox, f"agent-{number}"))
        await eventually(lambda: len(seen.informer) == 8, "all are seen")
        assert seen.informer.relists == 1
        assert seen.heard.changes == [f"+agent-{number}" for number in range(8)]


async def test_a_listener_that_fails_does_not_blind_the_mirror(client: Client, sandbox: str) -> None:
    def fails(old: Object | None, new: Object | None) -> None:
        raise RuntimeError("a bug in a listener")

    informer = Informer(client, SERVICE_ACCOUNTS, namespace=sandbox, label_selector=SELECTOR, on_change=fails)
    task = asyncio.create_task(informer.run())
    try:
        await client.create(account(sandbox, "one"))
        await eventually(lambda: informer.get(sandbox, "one") is not None, "it is mirrored all the same")
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_its_age_is_the_time_since_the_server_last_spoke(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    now = 0.0
    informer = Informer(client, SERVICE_ACCOUNTS, on_change=Heard())
    assert informer.age == float("inf")
    async with mirror(client, sandbox, clock=lambda: now) as seen:
        now = 7.0
        assert seen.informer.age == 7.0
        await client.create(account(sandbox, "one"))
        await eventually(lambda: seen.informer.age == 0.0, "an event is a proof of life")


async def test_a_burst_of_events_leaves_room_for_other_tasks(
    client: Client, proxy: FaultProxy, sandbox: str, tmp_path: Path
) -> None:
    obj = await client.create(account(sandbox, "one"))
    base = int(obj["metadata"]["resourceVersion"])

    def event(number: int) -> bytes:
        data = {**obj["metadata"], "resourceVersion": str(base + number)}
        return json.dumps({"type": "MODIFIED", "object": {**obj, "metadata": data}}).encode() + b"\n"

    proxy.on("GET", "/serviceaccounts", Stream(tuple(event(number) for number in range(1, 5001))), watch=True)
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    at_once = 0
    # A patient client: this loop and the proxy share an interpreter, and the burst comes only once. A client that took
    # a pause in it for silence would ask for the rest of a future that the API server does not know.
    async with Client(connection) as patient, mirror(patient, sandbox) as seen, asyncio.timeout(120):
        # The burst may have begun before this task's first turn, so that turns are no measure: one was missing once.
        heard = len(seen.heard.changes)
        while heard < 5001:
            await asyncio.sleep(0)
            before, heard = heard, len(seen.heard.changes)
            at_once = max(at_once, heard - before)
    assert at_once <= YIELD_EVERY
