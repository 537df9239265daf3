"""A database that agents may be granted: a PostgreSQL on somebody else's network that is nobody's production.

It is not part of the tier `cluster`: who wants it starts it. It speaks TLS, with a certificate of the cluster's
authority, to those who ask for it. All statements it is given are in its log.

Its schema is its administrator's. Agents get roles that are members of `TEMPLATE`, made by `ISSUER`.
"""

from __future__ import annotations

from pathlib import Path

from devcluster import network, pki, postgres
from devcluster.paths import Cluster
from devcluster.postgres import Login, Server

ADDRESS = network.OUTSIDE_ADDRESSES[0]
PORT = postgres.PORT
DATABASE = "warehouse"

ITEMS = 100
"""Rows of its table `stock` at the start; each is of ten pieces."""

TEMPLATE = "stock_keeper"
"""A role that may read and write the rows of its tables, and do nothing else. Nobody can log in as it."""

OWNER = "warehouse_owner"
"""A role that owns the tables: who is a member of it may also drop them."""

ISSUER = "bulkhead_issuer"
"""A role that may make members of `TEMPLATE`."""

VAULT_ISSUER = "vault_issuer"
"""Another such role, for a Vault; see `vault_issuer`."""

_SCHEMA = """
REVOKE ALL ON DATABASE warehouse FROM PUBLIC;
CREATE ROLE warehouse_owner NOLOGIN;
CREATE ROLE stock_keeper NOLOGIN;
GRANT stock_keeper TO bulkhead_issuer WITH ADMIN OPTION;
GRANT CONNECT ON DATABASE warehouse TO stock_keeper, warehouse_owner, bulkhead_issuer;
CREATE TABLE stock (item integer PRIMARY KEY, pieces integer NOT NULL CHECK (pieces >= 0));
CREATE TABLE journal (entry bigint GENERATED ALWAYS AS IDENTITY, who text DEFAULT current_user, what text NOT NULL);
INSERT INTO stock SELECT n, 10 FROM generate_series(1, 100) AS n;
ALTER TABLE stock OWNER TO warehouse_owner;
ALTER TABLE journal OWNER TO warehouse_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON stock, journal TO stock_keeper;
"""


def start(cluster: Cluster) -> None:
    """Start it with its tables and roles. Where it runs already, nothing happens.

    Args:
        cluster: of tier `cluster`.

    Raises:
        DevclusterError: a PostgreSQL program failed or is not installed.
    """
    server = _server(cluster)
    if server.runs:
        return
    server.start(
        addresses=network.both(ADDRESS, network.OUTSIDE_ADDRESS_6).split(","),
        netns=network.OUTSIDE,
        rules=[f"host {DATABASE} all {everybody} scram-sha-256" for everybody in ("0.0.0.0/0", "::/0")],
        settings={"log_statement": "all"},
        serving=pki.cluster_authority(cluster).server("warehouse", [ADDRESS, network.OUTSIDE_ADDRESS_6]),
    )
    server.create_role(ISSUER, "CREATEROLE")
    server.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
    sql(cluster, _SCHEMA)


def issuer(cluster: Cluster) -> Login:
    """Give what who issues credentials needs to log in."""
    password = _server(cluster).password(ISSUER)
    return Login(host=ADDRESS, port=PORT, name=DATABASE, user=ISSUER, password=password)


def vault_issuer(cluster: Cluster) -> Login:
    """Let a Vault issue credentials too, by a role of its own that may end everybody's sessions, and give its login."""
    server = _server(cluster)
    if not sql(cluster, f"SELECT 1 FROM pg_roles WHERE rolname = '{VAULT_ISSUER}'"):  # noqa: S608 - our own name
        server.create_role(VAULT_ISSUER, "CREATEROLE")
        sql(
            cluster,
            f"GRANT {TEMPLATE} TO {VAULT_ISSUER} WITH ADMIN OPTION; GRANT pg_signal_backend TO {VAULT_ISSUER}; "
            f"GRANT CONNECT ON DATABASE {DATABASE} TO {VAULT_ISSUER}",
        )
    return Login(host=ADDRESS, port=PORT, name=DATABASE, user=VAULT_ISSUER, password=server.password(VAULT_ISSUER))


def password_file(cluster: Cluster) -> Path:
    """The file with that role's password and nothing else."""
    return _server(cluster).password_file(ISSUER)


def sql(cluster: Cluster, statements: str) -> str:
    """Run SQL in the database as its administrator; see `postgres.Server.sql`."""
    return _server(cluster).sql(statements, database=DATABASE)


def _server(cluster: Cluster) -> Server:
    return Server(cluster, "warehouse")
