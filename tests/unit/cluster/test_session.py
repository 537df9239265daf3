"""Whom a client's sessions trust, what they show of themselves, and which way they go, against servers on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import ApiError, Unreachable
from bulkhead.cluster.resources import NAMESPACES
from devcluster.pki import Authority, KeyPair
from tests.faults import eventually
from tests.loopback import listening

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}


@dataclass
class Server:
    """Answers everything with a namespace, and remembers what it was asked."""

    status: int = 200
    url: str = ""
    targets: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    permits: asyncio.Semaphore | None = None
    """Where there is one, each answer waits for a permit."""

    async def answer(self, request: web.Request) -> web.Response:
        self.targets.append(request.raw_path)
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.read())
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        if certificate:
            self.users.append(dict(part[0] for part in certificate["subject"])["commonName"])
        if self.permits is not None:
            await self.permits.acquire()
        return web.json_response(NAMESPACE, status=self.status, headers={"Set-Cookie": "route=1"})


@asynccontextmanager
async def serving(pair: KeyPair | None = None, *, clients: Path | None = None) -> AsyncIterator[Server]:
    """A server, with TLS if it has a certificate, for whom the authority of `clients` vouches if that is given."""
    server, tls = Server(), None
    if pair is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        tls.load_cert_chain(pair.certificate, pair.key)
        tls.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
    async with listening(server.answer, tls=tls) as server.url:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@asynccontextmanager
async def client_of(
    folder: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None, *, connections: int = 64
) -> AsyncIterator[Client]:
    """A client of the cluster, and as the user, that a kubeconfig describes."""
    path = folder / "kubeconfig"
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    async with Client(await Connection.load(kubeconfig=path), deadline=10.0, pool_size=connections) as client:
        yield client


async def read(client: Client) -> None:
    assert await client.get(NAMESPACES, name="default") == NAMESPACE


async def test_a_server_is_trusted_whom_the_clusters_authority_vouches_for_and_no_other(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path, "other").files.certificate
    async with serving(authority.server("api", ["127.0.0.1"])) as server:
        ours = {"server": server.url, "certificate-authority": str(authority.files.certificate)}
        async with client_of(tmp_path, ours) as client:
            await read(client)
        for cluster in ({"server": server.url, "certificate-authority": str(other)}, {"server": server.url}):
            async with client_of(tmp_path, cluster) as client:
                with pytest.raises(Unreachable, match="Certificate"):
                    await read(client)
        async with client_of(tmp_path, {"server": server.url, "insecure-skip-tls-verify": True}) as client:
            await read(client)


async def test_a_certificate_for_another_name_is_good_only_where_that_name_was_given(
    tmp_path: Path, authority: Authority
) -> None:
    async with serving(authority.server("api", ["api.example.test"])) as server:
        cluster = {"server": server.url, "certificate-authority": str(authority.files.certificate)}
        async with client_of(tmp_path, cluster) as client:
            with pytest.raises(Unreachable, match="Certificate"):
                await read(client)
        async with client_of(tmp_path, cluster | {"tls-server-name": "api.example.test"}) as client:
            await read(client)


async def test_a_client_certificate_is_shown_and_its_successor_is_taken_up_with_the_next_look(
    tmp_path: Path, authority: Authority
) -> None:
    ca = authority.files.certificate
    async with serving(authority.server("api", ["127.0.0.1"]), clients=ca) as server:
        pair = authority.client("me", user="first")
        cluster = {"server": server.url, "certificate-authority": str(ca)}
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        async with client_of(tmp_path, cluster, user) as client:
            await read(client)
            authority.client("me", user="second")
            server.status = 401  # who is refused looks for other credentials, and tries once more with them
            with pytest.raises(ApiError):
                await client.get(NAMESPACES, name="default")
        assert server.users == ["first", "first", "second"]


async def test_who_waits_for_a_connection_when_another_certificate_is_taken_up_is_told_to_try_again(
    tmp_path: Path, authority: Authority
) -> None:
    ca = authority.files.certificate
    async with serving(authority.server("api", ["127.0.0.1"]), clients=ca) as server:
        pair = authority.client("me", user="first")
        cluster = {"server": server.url, "certificate-authority": str(ca)}
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        async with client_of(tmp_path, cluster, user, connections=1) as client:
            server.status, server.permits = 401, asyncio.Semaphore(0)
            refused, next_one, waiting = (asyncio.create_task(client.get(NAMESPACES, name="default")) for _ in range(3))
            await eventually(lambda: len(server.targets) == 1, "the first is sent")
            authority.client("me", user="second")
            server.permits.release()
            # Refused, the first takes up the other certificate; the second has got its connection, the third has none.
            await eventually(lambda: "second" in server.users, "the first is sent again")
            with pytest.raises(Unreachable):
                await next_one
            with pytest.raises(Unreachable, match="closed while it waited"):
                await waiting
            server.permits.release()
            server.permits.release()
            with pytest.raises(ApiError):
                await refused


async def test_requests_go_through_the_kubeconfigs_proxy(tmp_path: Path) -> None:
    async with serving() as proxy:
        cluster = {"server": "http://api.example.test:8080", "proxy-url": proxy.url}
        async with client_of(tmp_path, cluster, {"token": "secret"}) as client:
            await read(client)
    assert proxy.targets == ["http://api.example.test:8080/api/v1/namespaces/default"]
    assert proxy.headers[0]["Authorization"] == "Bearer secret"


async def test_a_body_is_sent_as_what_it_is_and_no_cookie_comes_back(tmp_path: Path) -> None:
    async with serving() as server, client_of(tmp_path, {"server": server.url}) as client:
        await read(client)
        await client.create(NAMESPACE)
        await client.apply(NAMESPACE, uid="1")
    assert [one.get("Content-Type") for one in server.headers] == [
        None,
        "application/json",
        "application/apply-patch+yaml",
    ]
    assert not any("Cookie" in one or "Authorization" in one for one in server.headers)
    assert server.bodies[:2] == [b"", b'{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}']
