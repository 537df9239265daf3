"""Leases as tests ask for them, and sessions opened with them."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import AsyncConnection

from bulkhead.issuers.base import Credential, Request
from bulkhead.issuers.postgres import Postgres
from tests import leaks

INSTALLATION = "test1234"
_LETTERS = string.ascii_lowercase + string.digits


def request(template: str, *, ttl_seconds: int = 900, installation: str = INSTALLATION) -> Request:
    """A request for a lease with an id of its own."""
    return Request(
        lease="".join(secrets.choice(_LETTERS) for _ in range(12)),
        agent_namespace="team-a",
        agent="it's an agent",
        agent_uid="c0ffee00-0000-4000-8000-000000000000",
        credential="warehouse",
        source={"role": template},
        ttl_seconds=ttl_seconds,
        installation=installation,
    )


async def issued(issuer: Postgres, asked: Request) -> Credential:
    """A credential, after the whole way."""
    handle = await issuer.prepare(asked)
    credential = await issuer.issue(asked, handle)
    leaks.learn("the password of a lease", credential.values["password"])
    return credential


async def entered(credential: Credential, **more: Any) -> AsyncConnection:
    """A session that is opened with the files of a lease alone."""
    return await AsyncConnection.connect(credential.values["uri"].decode(), autocommit=True, **more)


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds, for a minute at most."""
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 60 s: {what}")


async def refused(credential: Credential) -> str:
    """The message with which a login is refused; the test fails when it is not."""
    try:
        await (await entered(credential)).close()
    except psycopg.OperationalError as error:
        return str(error)
    raise AssertionError("the login was not refused")
