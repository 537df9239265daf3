"""What tests of leases of a real Vault are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg

from bulkhead.issuers.base import Credential, Request
from bulkhead.issuers.vault import Vault
from bulkhead.issuers.vaultsettings import VaultSettings
from devcluster import postgres, vault
from devcluster.api import RunningCluster
from devcluster.postgres import Login
from tests import leaks

DATABASE = "orders"
OPERATOR = ("bulkhead-system", "bulkhead")


@dataclass(frozen=True)
class Database:
    """The PostgreSQL whose roles Vault makes."""

    server: postgres.Server
    login: Login

    def ask(self, question: str) -> str:
        """Run SQL as its administrator."""
        return self.server.sql(question, database=DATABASE)

    def connect(self, values: dict[str, str]) -> psycopg.Connection[tuple[object, ...]]:
        """Open a session with what a lease holds."""
        opened: psycopg.Connection[tuple[object, ...]] = psycopg.connect(
            host=self.login.host,
            port=self.login.port,
            dbname=DATABASE,
            user=values["username"],
            password=values["password"],
            autocommit=True,
            connect_timeout=10,
        )
        return opened

    def roles(self) -> set[str]:
        """Those that Vault made and that exist."""
        return set(self.ask("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'").split())

    def valid(self) -> set[str]:
        """Those of them that anybody could log in as, now or later."""
        return set(
            self.ask(
                "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%' AND rolcanlogin "
                "AND (rolvaliduntil IS NULL OR rolvaliduntil > now())"
            ).split()
        )


@dataclass(frozen=True)
class Doors:
    """Makes issuers as the operator's configuration would."""

    server: vault.Server
    token_file: Path
    made: list[Vault]

    def open(self, **settings: object) -> Vault:
        """An issuer; settings by their names in the configuration take the place of those that work."""
        known = {
            "address": self.server.url,
            "role": "bulkhead",
            "tokenFile": str(self.token_file),
            "caFile": str(self.server.ca_file),
        }
        issuer = Vault(VaultSettings.model_validate({**known, **settings}))
        self.made.append(issuer)
        return issuer


def write_token(cluster: RunningCluster, file: Path, *, account: str = OPERATOR[1], audience: str = "vault") -> Path:
    """Write a token of a service account of the operator's namespace into a file."""
    wanted = ("token", account, f"--namespace={OPERATOR[0]}", f"--audience={audience}", "--duration=1h")
    file.write_text(cluster.kubectl("create", *wanted))
    leaks.learn("the operator's token for Vault", file.read_text().strip())
    return file


def asked(path: str = "database/creds/reader", *, ttl: int = 900) -> Request:
    """What an agent asks for."""
    return Request(
        lease="abcdefghijkl",
        agent_namespace="agents",
        agent="researcher",
        agent_uid="a1b2",
        credential="warehouse",
        source={"path": path},
        ttl_seconds=ttl,
        installation="abcd1234",
    )


async def lease(issuer: Vault, path: str = "database/creds/reader", *, ttl: int = 900) -> Credential:
    """Prepare and issue, as the engine does."""
    wanted = asked(path, ttl=ttl)
    return learned(await issuer.issue(wanted, await issuer.prepare(wanted)))


def learned(credential: Credential) -> Credential:
    """Take note of a credential's password, which is to be found nowhere."""
    leaks.learn("a password of Vault's", credential.values["password"])
    return credential


def texts(credential: Credential) -> dict[str, str]:
    """Its values as text."""
    return {key: value.decode() for key, value in credential.values.items()}
