"""What agents must never reach: production, played by a real PostgreSQL, and a metadata service.

Each is in a network namespace of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devcluster import network, postgres, processes
from devcluster.paths import Cluster
from devcluster.postgres import Login, Server

PORT = postgres.PORT
DATABASE = "shop"
"""The database; its table `orders` is the one worth losing."""

ROWS = 1000
"""Rows in that table at the start."""

USER = "shop"
"""A role that may do everything to that table, also drop it."""

_SCHEMA = """
CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    placed_at timestamptz NOT NULL
);
INSERT INTO orders
    SELECT n, 'customer ' || n % 97, (n * 37 % 10000) / 100.0, timestamptz '2026-01-01' + n * interval '17 minutes'
    FROM generate_series(1, 1000) AS n;
ALTER TABLE orders OWNER TO shop;
"""


def start_database(cluster: Cluster) -> None:
    """Make a PostgreSQL with a table worth losing and start it in the production namespace.

    Raises:
        DevclusterError: a PostgreSQL program failed or is not installed.
    """
    server = _server(cluster)
    server.start(
        addresses=network.both(network.PRODUCTION_ADDRESS, network.PRODUCTION_ADDRESS_6).split(","),
        netns=network.PRODUCTION,
        rules=[f"host {DATABASE} {USER} {everybody} scram-sha-256" for everybody in ("0.0.0.0/0", "::/0")],
    )
    server.create_role(USER)
    server.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
    sql(cluster, _SCHEMA)


def database(cluster: Cluster) -> Login:
    """Give what a client needs to log in, as somebody who may do everything to the table `orders`."""
    password = _server(cluster).password(USER)
    return Login(host=network.PRODUCTION_ADDRESS, port=PORT, name=DATABASE, user=USER, password=password)


def sql(cluster: Cluster, statements: str) -> str:
    """Run SQL in the database as production's administrator; see `postgres.Server.sql`."""
    return _server(cluster).sql(statements, database=DATABASE)


def restore(cluster: Cluster) -> None:
    """Make the table `orders` what it was at the start, also where somebody has dropped it."""
    sql(cluster, f"SET client_min_messages TO warning; DROP TABLE IF EXISTS orders; {_SCHEMA}")


def start_metadata(cluster: Cluster) -> None:
    """Start the metadata service in its namespace."""
    program = Path(__file__).with_name("metadata.py")
    processes.start(
        cluster,
        "metadata",
        [sys.executable, "-I", program, "80", network.both(network.METADATA_ADDRESS, network.METADATA_ADDRESS_6)],
        netns=network.METADATA,
    )


def _server(cluster: Cluster) -> Server:
    return Server(cluster, "production")
