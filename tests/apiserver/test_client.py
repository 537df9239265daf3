"""The client against a real API server, and against the same one with a bad way to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import ApiError, Unreachable
from bulkhead.cluster.resources import AGENTS, NAMESPACES, NETWORK_POLICIES, SERVICE_ACCOUNTS
from devcluster.api import RunningCluster
from tests import faults
from tests.apiserver.rest import Rest
from tests.faults import Answer, DropAfter, DropBefore, FaultProxy, Hang, Rewrite, eventually


@pytest.fixture
async def client(apiserver: RunningCluster) -> AsyncIterator[Client]:
    """A client of the administrator, straight to the API server."""
    connection = await Connection.load(kubeconfig=apiserver.kubeconfig)
    async with Client(connection, deadline=60.0, connect_timeout=60.0) as client:
        yield client


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    """A client whose requests go through the proxy. Its deadline is none that a slow API server misses."""
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    async with Client(connection, deadline=60.0) as client:
        yield client


def account(namespace: str, name: str = "agent", **metadata: Any) -> dict[str, Any]:
    """A small object to write."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": namespace, "name": name, **metadata},
        "automountServiceAccountToken": False,
    }


async def test_an_object_is_created_read_and_deleted(client: Client, sandbox: str) -> None:
    created = await client.create(account(sandbox))
    uid = created["metadata"]["uid"]
    assert await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="agent") == created
    assert await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=uid) is True
    assert await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="agent") is None
    assert await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=uid) is False


async def test_a_delete_spares_a_successor_of_the_same_name(client: Client, sandbox: str) -> None:
    first = await client.create(account(sandbox))
    await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=first["metadata"]["uid"])
    second = await client.create(account(sandbox))
    with pytest.raises(ApiError) as refused:
        await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=first["metadata"]["uid"])
    assert refused.value.conflict
    assert await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="agent") == second


async def test_a_create_under_a_taken_name_says_so(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox))
    with pytest.raises(ApiError) as refused:
        await client.create(account(sandbox))
    assert refused.value.already_exists
    assert not refused.value.conflict


async def test_an_apply_needs_the_object_to_be_the_one_that_was_meant(client: Client, sandbox: str) -> None:
    first = await client.create(account(sandbox))
    uid = first["metadata"]["uid"]
    applied = await client.apply(account(sandbox, labels={"a": "b"}), uid=uid)
    assert applied["metadata"]["labels"] == {"a": "b"}
    await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=uid)
    with pytest.raises(ApiError) as gone:
        await client.apply(account(sandbox), uid=uid)
    assert gone.value.conflict, "an apply must not create what somebody deleted"
    await client.create(account(sandbox))
    with pytest.raises(ApiError) as replaced:
        await client.apply(account(sandbox, labels={"a": "b"}), uid=uid)
    assert replaced.value.conflict
    assert "labels" not in (await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="agent") or {})["metadata"]


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f512 beyond U+FFFF",
        r"\ud83d\ude00 is text here",
        "\\",
        '"quoted": {yes}',
        "\u2028line\u2029 separators\x85",
        "\x01\x1f\x7f\x9f controls",
        "\ufeff mark",
        "\ttab\nnewline\r",
        "# no comment",
        "&a *a !!str |",
        "\U0010ffff\uffff",
    ],
    ids=ascii,
)
async def test_an_apply_carries_any_text(client: Client, sandbox: str, text: str) -> None:
    """It is read as YAML, which is not quite what JSON is."""
    created = await client.create(account(sandbox, annotations={"text": text}))
    assert created["metadata"]["annotations"] == {"text": text}
    obj = account(sandbox, annotations={"text": text, "again": text})
    applied = await client.apply(obj, uid=created["metadata"]["uid"])
    assert applied["metadata"]["annotations"] == {"text": text, "again": text}


@pytest.mark.parametrize("precondition", ["uid", "resource_version"])
async def test_a_json_patch_is_refused_as_a_conflict_when_a_precondition_fails(
    client: Client, sandbox: str, precondition: str
) -> None:
    created = await client.create(account(sandbox))
    right = {"uid": created["metadata"]["uid"], "resource_version": created["metadata"]["resourceVersion"]}
    wrong = {"uid": "00000000-0000-4000-8000-000000000000", "resource_version": "1"}
    operations = [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
    with pytest.raises(ApiError) as refused:
        await client.json_patch(
            SERVICE_ACCOUNTS,
            namespace=sandbox,
            name="agent",
            operations=operations,
            **{**right, precondition: wrong[precondition]},
        )
    assert refused.value.conflict
    patched = await client.json_patch(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", operations=operations, **right)
    assert patched["metadata"]["labels"] == {"a": "b"}


async def test_a_merge_patch_is_refused_as_a_conflict_when_the_uid_is_another(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox))
    patch = {"metadata": {"uid": "00000000-0000-4000-8000-000000000000", "labels": {"a": "b"}}}
    with pytest.raises(ApiError) as refused:
        await client.merge_patch(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", patch=patch)
    assert refused.value.conflict


def agent(namespace: str, name: str = "agent") -> dict[str, Any]:
    return {
        "apiVersion": AGENTS.api_version,
        "kind": AGENTS.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"owner": "team", "image": "example.test/agent:1"},
    }


async def test_a_status_is_replaced_as_a_whole_and_nothing_else_is(client: Client, sandbox: str) -> None:
    created = await client.create(agent(sandbox))
    uid = created["metadata"]["uid"]
    for status in ({"state": "Running", "ready": "1/1"}, {"state": "Suspended"}):
        written = await client.replace_status(AGENTS, namespace=sandbox, name="agent", uid=uid, status=status)
        assert written["status"] == status
        assert written["spec"] == created["spec"]


async def test_a_status_is_never_written_to_a_successor_of_the_same_name(client: Client, sandbox: str) -> None:
    first = await client.create(agent(sandbox))
    uid = first["metadata"]["uid"]
    await client.delete(AGENTS, namespace=sandbox, name="agent", uid=uid)
    with pytest.raises(ApiError) as absent:
        await client.replace_status(AGENTS, namespace=sandbox, name="agent", uid=uid, status={"state": "Suspended"})
    assert absent.value.not_found
    await client.create(agent(sandbox))
    with pytest.raises(ApiError) as refused:
        await client.replace_status(AGENTS, namespace=sandbox, name="agent", uid=uid, status={"state": "Suspended"})
    assert refused.value.conflict
    assert "status" not in (await client.get(AGENTS, namespace=sandbox, name="agent") or {})


async def test_the_uid_in_any_other_patch_of_a_status_protects_nothing(
    rest: Rest, client: Client, sandbox: str
) -> None:
    """Why `replace_status` tests the UID. When this fails, the API server has become stricter."""
    await client.create(agent(sandbox))
    path = AGENTS.path(namespace=sandbox, name="agent", subresource="status")
    merged = rest.patch(path, {"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "status": {"state": "A"}})
    assert merged.ok
    assert merged.body["status"] == {"state": "A"}


async def test_a_status_that_is_not_valid_is_refused_as_such(client: Client, sandbox: str) -> None:
    uid = (await client.create(agent(sandbox)))["metadata"]["uid"]
    with pytest.raises(ApiError) as refused:
        await client.replace_status(AGENTS, namespace=sandbox, name="agent", uid=uid, status={"replicas": "many"})
    assert refused.value.invalid
    assert not refused.value.conflict


async def test_a_delete_spares_what_was_changed_since_it_was_judged(client: Client, sandbox: str) -> None:
    created = await client.create(account(sandbox))
    uid, version = created["metadata"]["uid"], created["metadata"]["resourceVersion"]
    await client.apply(account(sandbox, labels={"a": "b"}), uid=uid)
    with pytest.raises(ApiError) as refused:
        await client.delete(SERVICE_ACCOUNTS, namespace=sandbox, name="agent", uid=uid, resource_version=version)
    assert refused.value.conflict


async def test_an_unknown_field_is_refused_and_not_dropped(client: Client, sandbox: str) -> None:
    with pytest.raises(ApiError) as refused:
        await client.create(account(sandbox) | {"automountServiceAccountTokens": False})
    assert refused.value.invalid
    assert "automountServiceAccountTokens" in refused.value.message


async def test_a_refusal_names_the_fields_that_caused_it(client: Client, sandbox: str) -> None:
    with pytest.raises(ApiError) as refused:
        await client.create(account(sandbox, labels={"a": "not a label value!"}))
    assert refused.value.status == 422
    assert any(cause.startswith("metadata.labels: ") for cause in refused.value.causes)


async def test_a_list_is_read_in_pages_of_one_snapshot(client: Client, sandbox: str) -> None:
    names = {f"agent-{number}" for number in range(7)}
    for name in names:
        await client.create(account(sandbox, name, labels={"of": "list"}))
    objects, version = await client.list(SERVICE_ACCOUNTS, namespace=sandbox, label_selector="of=list", limit=3)
    assert {item["metadata"]["name"] for item in objects} == names
    assert all(item["kind"] == "ServiceAccount" and item["apiVersion"] == "v1" for item in objects)
    assert int(version) >= max(int(item["metadata"]["resourceVersion"]) for item in objects)


async def test_a_list_starts_over_when_its_snapshot_expires_between_pages(
    shaky: Client, proxy: FaultProxy, sandbox: str
) -> None:
    for number in range(5):
        await shaky.create(account(sandbox, f"agent-{number}", labels={"of": "list"}))
    proxy.on("GET", "continue=", Answer(410, "Expired"))
    objects, _ = await shaky.list(SERVICE_ACCOUNTS, namespace=sandbox, label_selector="of=list", limit=2)
    assert sorted(item["metadata"]["name"] for item in objects) == [f"agent-{number}" for number in range(5)]


async def test_a_collection_is_deleted_by_label_and_never_without_one(client: Client, sandbox: str) -> None:
    await client.create(account(sandbox, "one", labels={"gone": "yes"}))
    await client.create(account(sandbox, "two"))
    await client.delete_collection(SERVICE_ACCOUNTS, namespace=sandbox, label_selector="gone=yes")
    assert await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="one") is None
    assert await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="two") is not None
    with pytest.raises(ValueError, match="label selector"):
        await client.delete_collection(SERVICE_ACCOUNTS, namespace=sandbox, label_selector=" ")


async def test_a_watch_tells_what_happens_in_order(client: Client, sandbox: str) -> None:
    _, version = await client.list(NETWORK_POLICIES, namespace=sandbox)
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": sandbox, "name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    uid = (await client.create(policy))["metadata"]["uid"]
    await client.apply(policy, uid=uid)
    await client.delete(NETWORK_POLICIES, namespace=sandbox, name="deny", uid=uid)
    types = []
    async with aclosing(client.watch(NETWORK_POLICIES, namespace=sandbox, resource_version=version)) as events:
        async for event in events:
            assert event.object["metadata"]["uid"] == uid
            types.append(event.type)
            if event.type == "DELETED":
                break
    assert types == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watch_ends_by_itself_when_the_server_was_asked_to_end_it(client: Client, sandbox: str) -> None:
    _, version = await client.list(NETWORK_POLICIES, namespace=sandbox)
    events = [
        event
        async for event in client.watch(
            NETWORK_POLICIES, namespace=sandbox, resource_version=version, timeout_seconds=1
        )
    ]
    assert {event.type for event in events} <= {"BOOKMARK"}


@pytest.mark.parametrize(
    ("fault", "property_name"),
    [
        (Answer(409, "Conflict"), "conflict"),
        (Answer(409, "AlreadyExists"), "already_exists"),
        (Answer(422, "Invalid"), "invalid"),
        (Answer(403, "Forbidden"), "forbidden"),
        (Answer(404, "NotFound"), "not_found"),
        (Answer(410, "Expired"), "gone"),
        (Answer(429, "TooManyRequests", retry_after=3), "throttled"),
    ],
    ids=lambda value: str(value.status) + value.reason if isinstance(value, Answer) else "",
)
async def test_each_refusal_is_told_apart(
    shaky: Client, proxy: FaultProxy, sandbox: str, fault: Answer, property_name: str
) -> None:
    proxy.on("POST", "/serviceaccounts", fault)
    with pytest.raises(ApiError) as refused:
        await shaky.create(account(sandbox))
    error = refused.value
    names = ("conflict", "already_exists", "invalid", "forbidden", "not_found", "gone", "throttled")
    assert [name for name in names if getattr(error, name)] == [property_name]
    assert error.retry_after == fault.retry_after


@pytest.mark.parametrize(
    "fault",
    [Answer(502, body=b"<html>bad gateway</html>"), Answer(503, body=b""), Answer(500, "InternalError")],
    ids=["page", "empty", "status"],
)
async def test_a_broken_server_is_an_error_with_its_status(
    shaky: Client, proxy: FaultProxy, sandbox: str, fault: Answer
) -> None:
    proxy.on("GET", "/serviceaccounts", fault)
    with pytest.raises(ApiError) as refused:
        await shaky.get(SERVICE_ACCOUNTS, namespace=sandbox, name="default")
    assert refused.value.status == fault.status


async def test_a_retry_after_date_is_understood(shaky: Client, proxy: FaultProxy, sandbox: str) -> None:
    proxy.on("GET", "/serviceaccounts", Answer(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"))
    with pytest.raises(ApiError) as refused:
        await shaky.get(SERVICE_ACCOUNTS, namespace=sandbox, name="default")
    assert refused.value.retry_after == 0.0


@pytest.mark.parametrize(
    ("fault", "written"), [(DropBefore(), False), (DropAfter(), True)], ids=["before the write", "after the write"]
)
async def test_a_connection_that_breaks_leaves_it_open_whether_the_write_was_done(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str, fault: faults.Action, written: bool
) -> None:
    proxy.on("POST", "/serviceaccounts", fault)
    with pytest.raises(Unreachable):
        await shaky.create(account(sandbox))
    assert (await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="agent") is not None) is written
    assert proxy.seen("POST", "/serviceaccounts") == 1, "a write is not sent twice behind the caller's back"


async def test_a_server_that_never_answers_is_given_up_at_the_deadline(
    proxy: FaultProxy, tmp_path: Path, sandbox: str
) -> None:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    proxy.on("GET", "/serviceaccounts", Hang())
    async with Client(connection, deadline=2.0) as client:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="deadline"):
            await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="default")
        assert 1.5 < time.monotonic() - started < 10


async def test_a_cancellation_in_the_moment_of_the_deadline_is_not_lost(
    proxy: FaultProxy, tmp_path: Path, sandbox: str
) -> None:
    """With aiohttp's own total timeout it is."""
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    proxy.on("GET", "/serviceaccounts", Hang(), times=None)

    async def outlives(client: Client) -> bool:
        try:
            async with asyncio.timeout(0.5):
                with suppress(Unreachable):
                    await client.get(SERVICE_ACCOUNTS, namespace=sandbox, name="default")
                await asyncio.sleep(3)
        except TimeoutError:
            return False
        return True

    async with Client(connection, deadline=0.5) as client:
        assert not any(await asyncio.gather(*(outlives(client) for _ in range(50))))


async def test_an_answer_that_is_not_json_is_no_answer(shaky: Client, proxy: FaultProxy, sandbox: str) -> None:
    proxy.on("GET", "/serviceaccounts", Answer(200, body=b"<html>welcome</html>"))
    with pytest.raises(Unreachable, match="not JSON"):
        await shaky.get(SERVICE_ACCOUNTS, namespace=sandbox, name="default")


async def test_requests_go_to_the_server_named_and_through_no_proxy_of_the_environment(
    shaky: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking the environment costs a thread and 0.4 ms at every request."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert await shaky.get(NAMESPACES, name="default") is not None


async def test_clients_have_pools_of_their_own(apiserver: RunningCluster, proxy: FaultProxy, tmp_path: Path) -> None:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    proxy.on("GET", "/namespaces/stuck", Hang(), times=None)
    async with Client(connection, pool_size=2) as normal, Client(connection, pool_size=2) as urgent:
        stuck = [asyncio.create_task(normal.get(NAMESPACES, name="stuck")) for _ in range(4)]
        await eventually(lambda: proxy.seen("GET", "/namespaces/stuck") == 2, "the pool is full")
        async with asyncio.timeout(10):
            assert await urgent.get(NAMESPACES, name="default") is not None
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_watch_that_falls_silent_is_dead(proxy: FaultProxy, tmp_path: Path, sandbox: str) -> None:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    proxy.on("GET", "/networkpolicies", faults.Freeze(), watch=True)
    async with Client(connection, silence=0.5) as client:
        _, version = await client.list(NETWORK_POLICIES, namespace=sandbox)
        with pytest.raises(Unreachable, match="deadline"):
            async for _ in client.watch(NETWORK_POLICIES, namespace=sandbox, resource_version=version):
                pass


async def test_half_a_watch_line_is_never_taken_for_an_event(
    shaky: Client, client: Client, proxy: FaultProxy, sandbox: str
) -> None:
    _, version = await client.list(SERVICE_ACCOUNTS, namespace=sandbox)
    await client.create(account(sandbox, "one"))
    await client.create(account(sandbox, "two"))
    proxy.on("GET", "/serviceaccounts", faults.CutStream(events=1), watch=True)
    names = []
    with pytest.raises(Unreachable):
        async for event in shaky.watch(SERVICE_ACCOUNTS, namespace=sandbox, resource_version=version):
            names.append(event.object["metadata"]["name"])
    assert len(names) == 1


async def test_a_properly_ended_stream_with_half_a_line_is_an_error_too(
    shaky: Client, proxy: FaultProxy, sandbox: str
) -> None:
    proxy.on("GET", "/serviceaccounts", faults.Stream((b'{"type":"ADDED","obj',)), watch=True)
    with pytest.raises(Unreachable, match="midst"):
        async for _ in shaky.watch(SERVICE_ACCOUNTS, namespace=sandbox, resource_version="1"):
            pass


async def test_a_watch_from_too_old_a_version_says_that_it_is_gone(shaky: Client, proxy: FaultProxy) -> None:
    line = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    proxy.on("GET", "/namespaces", faults.Stream((line,)), watch=True)
    with pytest.raises(ApiError) as refused:
        async for _ in shaky.watch(NAMESPACES, resource_version="1"):
            pass
    assert refused.value.gone


async def test_a_watch_event_of_megabytes_arrives_whole(client: Client, sandbox: str) -> None:
    _, version = await client.list(SERVICE_ACCOUNTS, namespace=sandbox)
    # The API server's JSON writes "<" as six characters, so that this event is larger than any line buffer expects.
    text = "<" * 250_000
    obj = account(sandbox) | {"imagePullSecrets": [{"name": f"{number}{text}"} for number in range(4)]}
    await client.create(obj)
    async for event in client.watch(SERVICE_ACCOUNTS, namespace=sandbox, resource_version=version):
        if event.object["metadata"]["name"] == "agent":
            assert event.object["imagePullSecrets"] == obj["imagePullSecrets"]
            break


async def test_an_answer_changed_on_the_way_to_no_object_is_no_answer(
    shaky: Client, proxy: FaultProxy, sandbox: str
) -> None:
    proxy.on("GET", "/serviceaccounts", Rewrite(lambda document: {**document, "items": None}))
    assert await shaky.list(SERVICE_ACCOUNTS, namespace=sandbox) is not None
