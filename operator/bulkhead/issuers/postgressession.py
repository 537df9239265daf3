"""Sessions at a PostgreSQL server, and its errors in words that hold no value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import AsyncConnection, errors

from bulkhead.issuers.base import IssuerError, Refused, Unavailable
from bulkhead.issuers.postgressettings import PostgresSettings

STATEMENT_SECONDS = 8
"""What the server gives one statement: less than the guard gives a call, so that the server itself tidies up."""
LOCK_SECONDS = 4
IDLE_SECONDS = 10
"""What the server gives an open transaction whose client fell silent."""

LEASE_ROLE = "^bulkhead_[a-z0-9]{8}_[a-z0-9]{12}$"
"""What the names of leases' roles match, here and at the server."""

_LONGEST = 200


@asynccontextmanager
async def session(
    settings: PostgresSettings, *, name: str, database: str | None = None
) -> AsyncIterator[AsyncConnection]:
    """Opens a session for one task and closes it again.

    The password is proven by SCRAM alone: a server that asks to be sent it, as one would that was put in the real one's
    place, gets nothing.

    Args:
        settings: of the server.
        name: how pg_stat_activity calls it, at most 63 characters.
        database: another than the one configured.

    Raises:
        Unavailable: no session could be opened.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        password = settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"the password file {settings.password_file} cannot be read ({type(error).__name__})"
        ) from None
    chosen = {
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        # Whoever may create in a schema that is searched could have this role call functions and operators of theirs.
        "search_path": "pg_catalog,pg_temp",
    }
    connection: AsyncConnection | None = None
    told = ""
    try:
        connection = await AsyncConnection.connect(
            host=settings.host,
            port=settings.port,
            dbname=database or settings.database,
            user=settings.user,
            password=password,
            sslmode=settings.sslmode,
            sslrootcert=str(settings.ca_file) if settings.ca_file else None,
            gssencmode="disable",
            require_auth="scram-sha-256",
            connect_timeout=settings.connect_timeout,
            application_name=name,
            # Only what is written here counts: the environment may have PGOPTIONS for somebody else.
            options=" ".join(f"-c {option}={value}" for option, value in chosen.items()),
            client_encoding="utf8",
            autocommit=True,
            prepare_threshold=None,  # each session lives for one task
        )
    except psycopg.Error as error:
        told = _first_line(str(error)) or type(error).__name__
    if connection is None:
        raise Unavailable(f"no session at {where}: {told}")
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns the driver's errors into the issuer's.

    A driver quotes the statement that failed, and statements hold the proof of a password; so the server's own short
    message is all that is passed on.

    Args:
        doing: what is being done, as in "making role x".
    """
    failed: psycopg.Error | None = None
    try:
        yield
    except psycopg.Error as error:
        failed = error
    if failed is not None:
        raise _as_issuer_error(doing, failed)


def _as_issuer_error(doing: str, error: psycopg.Error) -> IssuerError:
    primary = error.diag.message_primary
    text = f"{doing}: {_first_line(primary) if primary else type(error).__name__}"
    if isinstance(error, errors.InsufficientPrivilege):
        return Refused(
            f"{text}; the operator's role needs CREATEROLE, and from PostgreSQL 16 on ADMIN OPTION on every template"
        )
    if isinstance(error, errors.DependentObjectsStillExist):
        return IssuerError(
            f"{text}: {_first_line(error.diag.message_detail or '')}; it cannot log in any more; "
            f"revoke what others granted to it"
        )
    return Unavailable(text)


def _first_line(text: str) -> str:
    line = " ".join(text.split("\n", maxsplit=1)[0].split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
