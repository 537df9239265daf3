"""A real Vault: it reviews tokens at a real API server, and makes roles in a real PostgreSQL."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bulkhead.issuers.vault import Vault
from devcluster import postgres, processes, vault
from devcluster.api import RunningCluster, running
from devcluster.ports import PortReservation
from devcluster.postgres import Login
from tests import leaks
from tests.issuers.vault.world import DATABASE, OPERATOR, Database, Doors, write_token

POLICY = {
    "database/creds/reader": ["read"],
    "database/creds/brief": ["read"],
    "database/creds/bounded": ["read"],
    "database/creds/lingering": ["read"],
    "database/creds/missing": ["read"],
    "database/config/orders": ["read"],
    "database/rotate-root/orders": ["read"],
    "kv/numbers": ["read"],
    "elsewhere/creds/reader": ["read"],
    "auth/token/renew-self": ["update"],
    "auth/token/revoke-self": ["update"],
    "auth/token/renew-accessor": ["update"],
    "auth/token/revoke-accessor": ["update"],
    "sys/leases/renew": ["update"],
    "sys/leases/revoke": ["update"],
}
SCHEMA = """
CREATE ROLE keeper NOLOGIN;
CREATE TABLE orders (id integer PRIMARY KEY, pieces integer NOT NULL);
INSERT INTO orders VALUES (1, 10);
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO keeper;
GRANT keeper TO vault_issuer WITH ADMIN OPTION;
GRANT pg_signal_backend TO vault_issuer;
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """An API server to review tokens."""
    name = f"{os.environ.get('BULKHEAD_TEST_CLUSTER', 'test')}-vault"
    with running("apiserver", name) as cluster:
        namespace, account = OPERATOR
        cluster.kubectl("create", "namespace", namespace)
        cluster.kubectl("create", "serviceaccount", account, f"--namespace={namespace}")
        cluster.kubectl("create", "serviceaccount", "somebody", f"--namespace={namespace}")
        yield cluster


@pytest.fixture(scope="session")
def database(cluster: RunningCluster) -> Database:
    """A database with a table, a template role and a role that may make members of it."""
    rules = [f"host {DATABASE} all 127.0.0.1/32 scram-sha-256"]
    # The port is held until it listens there.
    with PortReservation() as ports:
        port = ports.take()
        server = postgres.Server(cluster, DATABASE, port)
        server.start(addresses=["127.0.0.1"], netns=None, rules=rules, settings={"log_statement": "all"})
    password = server.create_role("vault_issuer", "CREATEROLE")
    server.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
    found = Database(server, Login(host="127.0.0.1", port=port, name=DATABASE, user="vault_issuer", password=password))
    found.ask(SCHEMA)
    leaks.follow("the log of Vault's PostgreSQL", processes.log_file(cluster, server.component))
    return found


@pytest.fixture(scope="session")
def real(cluster: RunningCluster, database: Database) -> vault.Server:
    """Vault, with a role `bulkhead` for the operator and database roles of several kinds."""
    cluster.binary("vault")
    server = vault.start(cluster)
    leaks.follow("Vault's log", processes.log_file(cluster, vault.COMPONENT))
    server.trust(cluster, in_cluster=False)
    server.serve_database(database.login, sslmode="disable")
    kinds: dict[str, dict[str, object]] = {
        "reader": {},
        "brief": {"default_ttl": "20s", "max_ttl": "20s"},
        "bounded": {"default_ttl": "2m", "max_ttl": "3m"},
        "lingering": {"revocation_statements": []},
    }
    for role, settings in kinds.items():
        server.issue_from(role, database=DATABASE, template="keeper", **settings)
    kept = secrets.token_hex(12)
    leaks.learn("a value of Vault's kv engine", kept)
    server.do("POST", "sys/mounts/kv", {"type": "kv"})
    server.do("POST", "kv/numbers", {"number": kept})
    server.write_policy("bulkhead", POLICY)
    namespace, account = OPERATOR
    server.admit("bulkhead", namespace=namespace, service_account=account, policies=["bulkhead"])
    return server


@pytest.fixture(scope="session")
def operator_token(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the operator's own token for Vault, as the kubelet would project it."""
    return write_token(cluster, tmp_path_factory.mktemp("operator") / "token")


@pytest.fixture
async def doors(real: vault.Server, operator_token: Path) -> AsyncIterator[Doors]:
    """What issuers are made by; they are closed after the test."""
    found = Doors(real, operator_token, [])
    yield found
    for issuer in found.made:
        await issuer.close()


@pytest.fixture
def issuer(doors: Doors) -> Vault:
    """An issuer as it should be configured."""
    return doors.open()
