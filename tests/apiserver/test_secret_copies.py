"""Leased copies of Secrets, from a real API server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.resources import SECRETS
from bulkhead.issuers.base import NotRenewable, Refused, Request, Unavailable
from bulkhead.issuers.secret import SecretCopies
from devcluster.api import RunningCluster
from tests import leaks
from tests.apiserver.rest import Rest
from tests.faults import Answer, FaultProxy, eventually


@pytest.fixture
async def client(apiserver: RunningCluster) -> AsyncIterator[Client]:
    async with Client(await Connection.load(kubeconfig=apiserver.kubeconfig)) as client:
        yield client


@pytest.fixture
def source(rest: Rest) -> Iterator[str]:
    """A namespace that agents cannot see."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "source-"}}
    name = str(rest.post("/api/v1/namespaces", body).body["metadata"]["name"])
    yield name
    rest.delete(f"/api/v1/namespaces/{name}")


def secret(namespace: str, name: str = "keys", **data: bytes) -> dict[str, Any]:
    for value in data.values():
        leaks.learn("a key that is copied", value)
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": encoded,
    }


def value() -> bytes:
    return secrets.token_hex(16).encode() + b"\x00\xff\n"


def request(namespace: str, *keys: str, name: str = "keys") -> Request:
    return Request(
        lease="abcdefabcdef",
        agent_namespace="team-a",
        agent="writer",
        agent_uid="c0ffee00-0000-4000-8000-000000000000",
        credential="model",
        source={"namespace": namespace, "name": name, "keys": list(keys)},
        ttl_seconds=600,
        installation="test1234",
    )


def copies(client: Client, *namespaces: str, sandboxes: tuple[str, ...] = (), heard: list[str] | None = None) -> Any:
    changes = heard if heard is not None else []
    return SecretCopies(
        client,
        namespaces=namespaces,
        is_sandbox=lambda namespace: namespace in sandboxes,
        on_change=lambda namespace, name: changes.append(f"{namespace}/{name}"),
    )


@contextlib.asynccontextmanager
async def following(issuer: SecretCopies) -> AsyncIterator[None]:
    task = asyncio.create_task(issuer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_named_keys_are_copied_and_no_other(client: Client, source: str) -> None:
    one, two = value(), value()
    created = await client.create(secret(source, one=one, two=two, three=value()))
    issuer = copies(client, source)
    asked = request(source, "one", "two")
    handle = await issuer.prepare(asked)
    before = datetime.now(UTC)
    issued = await issuer.issue(asked, handle)
    assert handle == {"secret": f"{source}/keys"}
    assert issued.handle == handle | {"resourceVersion": created["metadata"]["resourceVersion"]}
    assert set(issued.values) == {"one", "two"}
    assert issued.values["one"] == one and issued.values["two"] == two
    assert before + timedelta(seconds=600) <= issued.expires_at <= datetime.now(UTC) + timedelta(seconds=600)
    assert issued.description == f"copy of Secret {source}/keys"
    assert issuer.external is False


async def test_a_sandbox_is_no_source(client: Client, source: str) -> None:
    with pytest.raises(
        Refused, match=f"namespace {source} is a sandbox, .* accepted is a Secret in a namespace that no"
    ):
        await copies(client, source, sandboxes=(source,)).prepare(request(source, "one"))


async def test_a_namespace_that_the_operator_was_not_given_is_no_source(client: Client, source: str) -> None:
    with pytest.raises(
        Refused, match="Secrets of namespace kube-system are not copied; accepted namespaces are: source"
    ):
        await copies(client, source).prepare(request("kube-system", "one"))
    with pytest.raises(Refused, match="accepted namespaces are: none"):
        await copies(client).prepare(request(source, "one"))


async def test_a_key_that_is_missing_is_named(client: Client, source: str) -> None:
    await client.create(secret(source, one=value(), two=value()))
    issuer = copies(client, source)
    asked = request(source, "one", "three", "four")
    with pytest.raises(Refused, match=f"Secret {source}/keys has no key three, four; accepted are: one, two"):
        await issuer.issue(asked, await issuer.prepare(asked))


async def test_a_secret_that_is_missing_is_named(client: Client, source: str) -> None:
    issuer = copies(client, source)
    asked = request(source, "one", name="absent")
    with pytest.raises(Refused, match=f"there is no Secret {source}/absent"):
        await issuer.issue(asked, await issuer.prepare(asked))


async def test_a_namespace_that_may_not_be_read_is_named(
    apiserver: RunningCluster, source: str, tmp_path: Path
) -> None:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
        async with Client(connection, deadline=5.0) as client:
            issuer = copies(client, source)
            asked = request(source, "one")
            handle = await issuer.prepare(asked)
            proxy.on("GET", "/secrets/", Answer(403), times=None)
            with pytest.raises(
                Refused, match=f"may not read Secrets of namespace {source}; accepted is a namespace with"
            ):
                await issuer.issue(asked, handle)
            proxy.clear()
            proxy.on("GET", "/secrets/", Answer(503), times=None)
            with pytest.raises(Unavailable):
                await issuer.issue(asked, handle)


async def test_a_copy_lives_on_as_long_as_its_source_exists(client: Client, source: str) -> None:
    created = await client.create(secret(source, one=value()))
    issuer = copies(client, source)
    asked = request(source, "one")
    handle = (await issuer.issue(asked, await issuer.prepare(asked))).handle
    until = datetime.now(UTC) + timedelta(seconds=900)
    assert await issuer.renew(handle, until=until) == until
    await client.delete(SECRETS, namespace=source, name="keys", uid=created["metadata"]["uid"])
    with pytest.raises(NotRenewable, match="there is no Secret"):
        await issuer.renew(handle, until=until)


@pytest.mark.parametrize("withdrawn", ["one", "two"])
async def test_a_copy_of_what_the_source_was_before_a_change_does_not_live_on(
    client: Client, source: str, withdrawn: str
) -> None:
    await client.create(secret(source, one=value(), two=value()))
    issuer = copies(client, source)
    asked = request(source, "one")
    until = datetime.now(UTC) + timedelta(seconds=900)
    before = await issuer.issue(asked, await issuer.prepare(asked))
    await client.merge_patch(SECRETS, namespace=source, name="keys", patch={"data": {withdrawn: None}})
    with pytest.raises(NotRenewable, match=f"Secret {source}/keys has changed since it was copied; accepted is"):
        await issuer.renew(before.handle, until=until)
    if withdrawn == "two":
        # Another key's change costs no agent its credential: what is copied anew is renewed.
        after = await issuer.issue(asked, await issuer.prepare(asked))
        assert await issuer.renew(after.handle, until=until) == until


async def test_a_change_of_the_source_is_told_and_makes_the_copy_stale(client: Client, source: str) -> None:
    created = await client.create(secret(source, one=value()))
    heard: list[str] = []
    issuer = copies(client, source, heard=heard)
    asked = request(source, "one")
    issued = await issuer.issue(asked, await issuer.prepare(asked))
    assert not issuer.stale(issued.handle)
    async with following(issuer):
        await eventually(lambda: f"{source}/keys" in heard, "the change is told")
        assert not issuer.stale(issued.handle)
        heard.clear()
        await client.merge_patch(
            SECRETS, namespace=source, name="keys", patch={"data": secret(source, one=value())["data"]}
        )
        await eventually(lambda: f"{source}/keys" in heard, "the change is told")
        assert issuer.stale(issued.handle)
        again = await issuer.issue(asked, await issuer.prepare(asked))
        assert not issuer.stale(again.handle)
        heard.clear()
        await client.delete(SECRETS, namespace=source, name="keys", uid=created["metadata"]["uid"])
        await eventually(lambda: f"{source}/keys" in heard, "the change is told")
        assert issuer.stale(again.handle)


async def test_a_change_that_nobody_watched_is_seen_after_a_restart(client: Client, source: str) -> None:
    await client.create(secret(source, one=value()))
    asked = request(source, "one")
    before = copies(client, source)
    issued = await before.issue(asked, await before.prepare(asked))
    await client.merge_patch(
        SECRETS, namespace=source, name="keys", patch={"data": secret(source, one=value())["data"]}
    )
    after = copies(client, source)
    async with following(after):
        await eventually(lambda: after.stale(issued.handle), "it is stale")


async def test_a_namespace_that_cannot_be_listed_holds_up_no_other(
    apiserver: RunningCluster, source: str, rest: Rest, tmp_path: Path
) -> None:
    heard: list[str] = []
    with FaultProxy(apiserver.kubeconfig) as proxy:
        proxy.on("GET", "/namespaces/forbidden/secrets", Answer(403), times=None)
        connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
        async with Client(connection, deadline=5.0) as client:
            issuer = copies(client, "forbidden", source, heard=heard)
            async with following(issuer):
                await client.create(secret(source, one=value()))
                await eventually(lambda: f"{source}/keys" in heard, "the change is told")
            assert not issuer.stale({"secret": "forbidden/keys", "resourceVersion": "1"})


async def test_no_value_is_kept_of_what_is_followed(client: Client, source: str) -> None:
    kept = value()
    await client.create(secret(source, one=kept))
    heard: list[str] = []
    issuer = copies(client, source, heard=heard)
    async with following(issuer):
        await eventually(lambda: f"{source}/keys" in heard, "the change is told")
        mirrored = [obj for informer in issuer._informers.values() for obj in informer]
    assert [set(obj) for obj in mirrored] == [{"apiVersion", "kind", "metadata"}] * len(mirrored) != []
    assert all(set(obj["metadata"]) == {"name", "namespace", "uid", "resourceVersion"} for obj in mirrored)


async def test_nothing_outlives_its_copy(client: Client, source: str) -> None:
    issuer = copies(client, source)
    assert list(await issuer.outstanding("test1234")) == []
    await issuer.revoke({"secret": f"{source}/keys"})
