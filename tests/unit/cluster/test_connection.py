"""Where the API server is and how this process is let in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml

from bulkhead.cluster.connection import REFRESH_SECONDS, Connection
from bulkhead.cluster.errors import NotConfigured
from devcluster.pki import Authority


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pod:
    """What a pod's service account volume and environment hold."""

    folder: Path
    host: str = "10.96.0.1"

    def __post_init__(self) -> None:
        self.token.write_text("first\n")
        self.trust("one")

    def trust(self, name: str) -> None:
        """Puts the certificate of an authority in, as the kubelet does when the cluster has another one."""
        self.ca.write_bytes(Authority(self.folder, name).files.certificate.read_bytes())

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    async def connect(self, clock: Clock) -> Connection:
        environ = {"KUBERNETES_SERVICE_HOST": self.host, "KUBERNETES_SERVICE_PORT": "443"}
        return await Connection.load(environ=environ, token_file=str(self.token), ca_file=str(self.ca), clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def kubeconfig(path: Path, user: dict[str, Any], *, proxy: str | None = None) -> Path:
    cluster = {"server": "http://127.0.0.1:1/"} | ({"proxy-url": proxy} if proxy else {})
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
    ids=["IPv4", "IPv6"],
)
async def test_in_a_pod_the_address_needs_no_name_to_be_resolved(
    tmp_path: Path, clock: Clock, host: str, server: str
) -> None:
    connection = await Pod(tmp_path, host).connect(clock)
    assert connection.server == server
    assert await connection.authorization() == "Bearer first"


async def test_a_token_that_the_kubelet_replaced_is_taken_up_within_a_minute(pod: Pod, clock: Clock) -> None:
    connection = await pod.connect(clock)
    pod.token.write_text("second")
    assert await connection.authorization() == "Bearer first"
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer second"


async def test_a_refused_token_is_read_anew_at_once_and_only_once(pod: Pod, clock: Clock) -> None:
    connection = await pod.connect(clock)
    assert await connection.renew("Bearer first") is False, "the file still holds the token that was refused"
    pod.token.write_text("second")
    assert await connection.renew("Bearer first") is True
    assert await connection.authorization() == "Bearer second"
    pod.token.unlink()
    assert await connection.renew("Bearer first") is True, "another request had renewed it already"


async def test_credentials_that_cannot_be_refreshed_are_kept(pod: Pod, clock: Clock) -> None:
    connection = await pod.connect(clock)
    pod.token.unlink()
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer first"
    assert await connection.renew("Bearer first") is False


async def test_a_changed_authority_calls_for_a_new_transport_and_a_changed_token_does_not(
    pod: Pod, clock: Clock
) -> None:
    connection = await pod.connect(clock)
    generation = connection.generation
    pod.token.write_text("second")
    await connection.renew("Bearer first")
    assert connection.generation == generation
    pod.trust("another")
    clock.now += REFRESH_SECONDS
    await connection.authorization()
    assert connection.generation == generation + 1


@pytest.mark.parametrize("text", ["", "no certificate", None], ids=["empty", "nonsense", "missing"])
async def test_an_authority_that_cannot_be_used_leaves_the_old_one_and_the_old_token(
    pod: Pod, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    connection = await pod.connect(clock)
    generation = connection.generation
    pod.token.write_text("s3cond")
    if text is None:
        pod.ca.unlink()
    else:
        pod.ca.write_text(text)
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer first"
    assert connection.generation == generation
    assert "could not be refreshed" in caplog.text
    assert "s3cond" not in caplog.text
    pod.trust("another")
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer s3cond"
    assert connection.generation == generation + 1


async def test_requests_that_are_refused_at_the_same_time_read_the_token_once(pod: Pod, clock: Clock) -> None:
    connection = await pod.connect(clock)
    pod.token.write_text("second")
    assert all(await asyncio.gather(*(connection.renew("Bearer first") for _ in range(8))))
    assert await connection.authorization() == "Bearer second"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pod: pod.token.write_text(""), "does not hold a token"),
        (lambda pod: pod.token.write_text("s3cret twice s3cret"), "does not hold a token"),
        (lambda pod: pod.token.write_bytes(b"s3cret\xff"), "UnicodeDecodeError"),
        (lambda pod: pod.ca.unlink(), "FileNotFoundError"),
        (lambda pod: pod.ca.write_text(""), "SSLError"),
    ],
    ids=["an empty token", "two tokens", "no text", "no CA", "an empty CA"],
)
async def test_a_service_account_that_is_not_whole_is_refused_in_words_and_without_its_token(
    pod: Pod, clock: Clock, spoil: Callable[[Pod], Any], reason: str
) -> None:
    spoil(pod)
    with pytest.raises(NotConfigured, match=reason) as refused:
        await pod.connect(clock)
    assert "s3cret" not in str(refused.value)


async def test_a_pods_environment_without_a_port_is_refused(pod: Pod) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": pod.host}
    with pytest.raises(NotConfigured, match="KUBERNETES_SERVICE_PORT"):
        await Connection.load(environ=environ, token_file=str(pod.token), ca_file=str(pod.ca))


async def test_a_kubeconfigs_token_file_is_followed(tmp_path: Path, clock: Clock) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    path = kubeconfig(tmp_path / "config", {"tokenFile": str(token)})
    connection = await Connection.load(kubeconfig=path, clock=clock)
    assert await connection.authorization() == "Bearer first"
    token.write_text("second")
    assert await connection.renew("Bearer first") is True
    assert await connection.authorization() == "Bearer second"
    token.write_text("third")
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer third"


async def test_a_credential_plugin_is_run_again_only_when_what_it_gave_runs_out_or_is_refused(
    tmp_path: Path, clock: Clock
) -> None:
    runs = tmp_path / "runs"
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        f"""
import json, pathlib
runs = pathlib.Path({str(runs)!r})
count = len(runs.read_text()) + 1 if runs.exists() else 1
runs.write_text("x" * count)
status = {{"token": f"token-{{count}}", "expirationTimestamp": "2999-01-01T00:00:00Z"}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""
    )
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(plugin)]}
    connection = await Connection.load(kubeconfig=kubeconfig(tmp_path / "config", {"exec": command}), clock=clock)
    assert await connection.authorization() == "Bearer token-1"
    clock.now += REFRESH_SECONDS
    assert await connection.authorization() == "Bearer token-1"
    assert await connection.renew("Bearer token-1") is True
    assert await connection.authorization() == "Bearer token-2"


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "secret"}, "Bearer secret"),
        ({"username": "a", "password": "b"}, "Basic YTpi"),
        ({}, None),
    ],
    ids=["token", "password", "nobody"],
)
async def test_each_way_to_be_somebody_becomes_its_header(
    tmp_path: Path, user: dict[str, str], header: str | None
) -> None:
    connection = await Connection.load(kubeconfig=kubeconfig(tmp_path / "config", user))
    assert await connection.authorization() == header


async def test_the_environments_kubeconfig_wins_over_the_pods_service_account(pod: Pod, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", {"token": "secret"})
    environ = {"KUBECONFIG": str(path), "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    connection = await Connection.load(environ=environ, token_file=str(pod.token), ca_file=str(pod.ca))
    assert connection.server == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "text", ["", "clusters: 5", "]", "current-context: nothing\ncontexts: []\nclusters: []\nusers: []"]
)
async def test_a_kubeconfig_that_makes_no_sense_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NotConfigured, match="cannot be used"):
        await Connection.load(kubeconfig=path)


async def test_a_missing_kubeconfig_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="set KUBECONFIG, or run in a pod"):
        await Connection.load(kubeconfig=tmp_path / "nothing")


async def test_no_credential_is_ever_printed(pod: Pod, clock: Clock) -> None:
    pod.token.write_text("s3cret")
    connection = await pod.connect(clock)
    assert "s3cret" not in repr(connection)
    assert "s3cret" not in repr(connection._access)
    assert "s3cret" not in repr(connection.kopf_connection())


async def test_the_password_of_a_proxy_is_never_printed(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", {}, proxy="http://me:s3cret@127.0.0.1:9")
    connection = await Connection.load(kubeconfig=path)
    assert connection.kopf_connection().proxy_url == "http://me:s3cret@127.0.0.1:9"
    assert "s3cret" not in repr(connection._access)
    assert "s3cret" not in repr(connection.kopf_connection())


async def test_kopf_logs_in_with_the_same_credentials(pod: Pod, clock: Clock) -> None:
    connection = await pod.connect(clock)
    info = kopf.ConnectionInfo(**asdict(connection.kopf_connection()))
    assert info.server == connection.server
    assert info.ca_path == str(pod.ca)
    assert info.as_http_headers() == {"Authorization": "Bearer first"}


async def test_who_has_a_kubeconfig_and_nothing_to_read_it_with_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kubernetes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(NotConfigured, match=r"pip install 'bulkhead\[kubeconfig\]'"):
        await Connection.load(kubeconfig=kubeconfig(tmp_path / "config", {"token": "secret"}))
