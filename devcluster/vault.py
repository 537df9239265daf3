"""A real Vault: on loopback beside the tier `apiserver`, or in a pod of the tier `cluster`.

It keeps everything in memory, speaks TLS with a certificate of the cluster's authority, and knows its database engine
(for PostgreSQL), the kv engine and the kubernetes auth method. It is not part of any tier: who wants it starts it.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devcluster import images, network, pki, processes, vaultpod
from devcluster.api import RunningCluster
from devcluster.errors import DevclusterError
from devcluster.paths import write_atomically
from devcluster.ports import PortReservation
from devcluster.postgres import Login
from devcluster.progress import Progress

COMPONENT = "vault"
"""Its name among the cluster's processes, where it is one."""

_READY_SECONDS = 60.0
_NOT_INITIALIZED = 501

_TERMINATE = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{{name}}'"""


@dataclass(frozen=True)
class Server:
    """A Vault, as its administrator uses it.

    Attributes:
        url: `https://HOST:PORT`, reachable from the machine itself.
        ca_file: certificate of who signed its own.
        root_token: may do everything.
        unseal_key: the only share of its key.
    """

    url: str
    ca_file: Path
    root_token: str = field(default="", repr=False)
    unseal_key: str = field(default="", repr=False)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Send one request as its administrator.

        Args:
            method: GET, POST, PUT, DELETE or LIST.
            path: below /v1/.
            body: sent as JSON.

        Returns:
            HTTP status and the answer; empty where there was none.

        Raises:
            OSError: it cannot be reached.
        """
        parts = urlsplit(self.url)
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, context=tls, timeout=30)
        headers = {"X-Vault-Token": self.root_token} if self.root_token else {}
        try:
            content = None if body is None else json.dumps(dict(body)).encode()
            connection.request(method, f"/v1/{path}", body=content, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else {}

    def do(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one request that must succeed; see `ask`.

        Raises:
            DevclusterError: it did not; the text says what Vault says.
        """
        status, answer = self.ask(method, path, body)
        if status not in (200, 204):
            raise DevclusterError(f"Vault: {method} {path}: {status} {answer.get('errors')}")
        return answer

    def seal(self) -> None:
        """Seal it: it answers nobody until `unseal`."""
        self.do("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it."""
        self.do("PUT", "sys/unseal", {"key": self.unseal_key})

    def write_policy(self, name: str, rules: Mapping[str, Sequence[str]]) -> None:
        """Write a policy: path to capabilities. Done again, the new one replaces it."""
        text = "\n".join(
            f'path "{path}" {{ capabilities = {json.dumps(list(wanted))} }}' for path, wanted in rules.items()
        )
        self.do("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def trust(self, cluster: RunningCluster, *, in_cluster: bool, mount: str = "kubernetes") -> None:
        """Let it review tokens at the cluster's API server, by a service account of its own.

        Args:
            cluster: whose tokens.
            in_cluster: whether it runs in a pod there, with that service account; else it is given a token of it.
            mount: where the auth method is mounted.
        """
        self.do("POST", f"sys/auth/{mount}", {"type": "kubernetes"})
        if in_cluster:
            # By address: not every cluster of this tier has DNS.
            config: dict[str, Any] = {"kubernetes_host": f"https://{network.API_SERVICE_ADDRESS}"}
        else:
            manifest = {"apiVersion": "v1", "kind": "List", "items": vaultpod.identity()}
            cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(manifest))
            account = ("token", vaultpod.NAME, f"--namespace={vaultpod.NAMESPACE}", "--duration=24h")
            config = {
                "kubernetes_host": cluster.server,
                "kubernetes_ca_cert": cluster.ca_file.read_text(),
                "token_reviewer_jwt": cluster.kubectl("create", *account).strip(),
                "disable_local_ca_jwt": True,
            }
        self.do("POST", f"auth/{mount}/config", config)

    def admit(
        self, role: str, *, namespace: str, service_account: str, policies: Sequence[str], **settings: object
    ) -> None:
        """Write a role of the kubernetes auth method; who may log in to it shows a token with audience `vault`."""
        bound = {
            "bound_service_account_names": [service_account],
            "bound_service_account_namespaces": [namespace],
            "audience": "vault",
            "token_policies": list(policies),
        }
        self.do(
            "POST", f"auth/kubernetes/role/{role}", {**bound, "token_ttl": "30m", "token_max_ttl": "24h", **settings}
        )

    def serve_database(self, login: Login, *, sslmode: str) -> None:
        """Mount the database engine at `database/` and connect it, as a login that may make roles.

        The verifier of a password is made here and not by the database, whose log would otherwise have it.
        """
        self.do("POST", "sys/mounts/database", {"type": "database"})
        address = f"{login.host}:{login.port}/{login.name}?sslmode={sslmode}"
        config = {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{address}",
            "username": login.user,
            "password": login.password,
            "password_authentication": "scram-sha-256",
        }
        self.do("POST", f"database/config/{login.name}", config)

    def issue_from(self, role: str, *, database: str, template: str, **settings: object) -> None:
        """Write a role of the database engine: its leases are members of a template role and lose their sessions.

        Args:
            role: below database/creds/.
            database: the database's name.
            template: the role whose rights they have.
            settings: of the role, such as `default_ttl`, in place of those here.
        """
        known = {
            "db_name": database,
            "creation_statements": [
                f"CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' "
                f"CONNECTION LIMIT 4 IN ROLE {template}"
            ],
            "revocation_statements": [_TERMINATE, 'DROP ROLE IF EXISTS "{{name}}"'],
            "default_ttl": "1h",
            "max_ttl": "24h",
        }
        self.do("POST", f"database/roles/{role}", {**known, **settings})


def start(cluster: RunningCluster) -> Server:
    """Start it on loopback, unsealed. Where it runs already, that one is given.

    Args:
        cluster: of tier `apiserver`; it ends with it.

    Raises:
        DevclusterError: it could not be built or does not get ready.
    """
    if any(record.component == COMPONENT and processes.is_alive(record) for record in processes.records(cluster)):
        return find(cluster)
    program = cluster.binary("vault")
    serving = pki.cluster_authority(cluster).server("vault", ["127.0.0.1"])
    with PortReservation() as ports:
        address = f"127.0.0.1:{ports.take()}"
        arguments = [f"-address={address}", f"-tls-cert={serving.certificate}", f"-tls-key={serving.key}"]
        record = processes.start(cluster, COMPONENT, [program, *arguments])
        server = Server(f"https://{address}", cluster.ca_file)
        processes.wait_until(
            lambda: _answers(server), cluster=cluster, record=record, seconds=_READY_SECONDS, what="answer"
        )
    return _initialized(cluster, server)


def install(cluster: RunningCluster, *, progress: Progress) -> Server:
    """Start it in a pod, behind the Service vault/vault at `vaultpod.ADDRESS`, unsealed. Once, for each cluster.

    Args:
        cluster: of tier `cluster`.
        progress: told about it.

    Raises:
        DevclusterError: it could not be built or does not get ready.
    """
    archive = images.of_program(cluster.binary("vault"), vaultpod.IMAGE, progress=progress)
    with progress.step("starting Vault"):
        images.load(cluster, archive)
        names = [vaultpod.ADDRESS, network.NODE_ADDRESS, f"{vaultpod.NAME}.{vaultpod.NAMESPACE}.svc"]
        serving = pki.cluster_authority(cluster).server("vault", names)
        manifest = {"apiVersion": "v1", "kind": "List", "items": vaultpod.manifests(serving)}
        cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(manifest))
        rollout = ("rollout", "status", f"deployment/{vaultpod.NAME}", f"--namespace={vaultpod.NAMESPACE}")
        cluster.kubectl(*rollout, "--timeout=60s")
        server = Server(f"https://{network.NODE_ADDRESS}:{vaultpod.NODE_PORT}", cluster.ca_file)
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(server):  # a Service leads to its pods some time after they are ready
            if time.monotonic() > deadline:
                raise DevclusterError(f"Vault does not answer at {server.url}")
            time.sleep(0.1)
        return _initialized(cluster, server)


def is_installed(cluster: RunningCluster) -> bool:
    """Whether one was started for a cluster, in a pod or on loopback."""
    return _keys(cluster).exists()


def find(cluster: RunningCluster) -> Server:
    """Give the Vault that was started for a cluster."""
    kept = json.loads(_keys(cluster).read_text())
    return Server(kept["url"], cluster.ca_file, root_token=kept["root_token"], unseal_key=kept["unseal_key"])


def _initialized(cluster: RunningCluster, server: Server) -> Server:
    made = server.do("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    keys = {"url": server.url, "root_token": made["root_token"], "unseal_key": made["keys_base64"][0]}
    write_atomically(_keys(cluster), json.dumps(keys), mode=0o600)
    ready = find(cluster)
    ready.unseal()
    return ready


def _answers(server: Server) -> bool:
    try:
        return server.ask("GET", "sys/health")[0] == _NOT_INITIALIZED
    except (OSError, http.client.HTTPException):
        return False


def _keys(cluster: RunningCluster) -> Path:
    return cluster.state_dir / "vault.json"
