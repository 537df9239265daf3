"""Short-lived roles of a PostgreSQL database, for those who have no Vault.

A lease is a login role of its own, named `bulkhead_INSTALLATION_LEASE`, that is a member of a template role and of
nothing else. Its password is random, and only its SCRAM verifier (RFC 5803) is ever sent: whatever the server logs,
no password is in it. `VALID UNTIL` ends logins by itself if nobody is there to revoke; it does not end sessions, which
is why revoking does, before it drops the role.

https://www.postgresql.org/docs/current/sql-createrole.html, .../role-removal.html, and for what changed about
CREATEROLE https://www.postgresql.org/docs/release/16.0/.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composed, Identifier, Literal

from bulkhead.issuers import postgresrights
from bulkhead.issuers.base import Credential, Handle, NotRenewable, Refused, Request, Unavailable
from bulkhead.issuers.postgresrevoke import Revocation
from bulkhead.issuers.postgressession import LEASE_ROLE, explained, session
from bulkhead.issuers.postgressettings import VERIFYING, PostgresSettings
from bulkhead.plan.mounts import CREDENTIALS_PATH

ROLE = "role"
"""The one entry of a handle."""

CA_FILE = "ca.crt"

_LEASE_ROLE = re.compile(LEASE_ROLE)
_INSTALLATION = re.compile(r"[a-z0-9]{8}")


class Postgres:
    """One database, entered by a role that may make others."""

    external = True

    def __init__(self, settings: PostgresSettings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Connects to nothing yet.

        Args:
            settings: of the database.
            now: the time here; what is valid until when is counted by the server's own clock.
        """
        self._settings = settings
        self._now = now

    def describe(self) -> str:
        """Says which database."""
        return f"PostgreSQL at {self._settings.host}:{self._settings.port}, database {self._settings.database}"

    async def prepare(self, request: Request) -> Handle:
        """Names the role. Nothing is asked of the server: a name is all that revoking needs."""
        role = f"bulkhead_{request.installation}_{request.lease}"
        if not _LEASE_ROLE.fullmatch(role):
            raise Refused(f"{role} is no name for a lease's role")
        return {ROLE: role}

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Makes the role in one transaction: it is there as a whole or not at all."""
        role, template = handle[ROLE], str(request.source.get("role", ""))
        asked_at = self._now()
        password = secrets.token_urlsafe(32)
        # The session's name is how a revocation finds a call that was given up while the server still carries it out.
        async with session(self._settings, name=maker(role)) as connection:
            with explained(f"making role {role}"):
                await _check_template(connection, template)
                until = await _server_time(connection) + timedelta(seconds=request.ttl_seconds)
                about = f"Bulkhead: agent {request.agent_namespace}/{request.agent}, credential {request.credential}"
                async with connection.transaction():
                    await connection.execute(self._create(connection, role, password, until))
                    await connection.execute(_grant(connection, template, role))
                    await connection.execute(SQL("COMMENT ON ROLE {} IS {}").format(Identifier(role), Literal(about)))
                    await _check_entry(connection, role, template)
        return Credential(
            values=self._files(request, role, password),
            expires_at=asked_at + timedelta(seconds=request.ttl_seconds),
            handle=handle,
            description=f"role {role} of {self.describe()}",
        )

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Moves `VALID UNTIL`, by as much as is asked for from now; never nearer."""
        role = handle.get(ROLE, "")
        asked_at = self._now()
        async with session(self._settings, name="bulkhead renews") as connection:
            with explained(f"renewing role {role}"):
                cursor = await connection.execute(
                    "SELECT clock_timestamp(), rolcanlogin AND isfinite(rolvaliduntil), CASE WHEN "
                    "isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil - clock_timestamp())::float8 END "
                    "FROM pg_roles WHERE rolname = %s",
                    (role,),
                )
                row = await cursor.fetchone()
                if row is None or not row[1]:
                    raise NotRenewable(f"role {role} is not there any more")
                server_time, _, left = row
                wanted = (until - asked_at).total_seconds()
                if wanted <= left:
                    return asked_at + timedelta(seconds=left)
                await connection.execute(
                    SQL("ALTER ROLE {} VALID UNTIL {}").format(
                        Identifier(role), Literal(_text(server_time + timedelta(seconds=wanted)))
                    )
                )
        return until

    async def revoke(self, handle: Handle) -> None:
        """Shuts the role out, ends its sessions, and drops it with whatever it has made."""
        role = handle.get(ROLE, "")
        if not _LEASE_ROLE.fullmatch(role):
            return  # `prepare` never gave such a handle, and a role that is not a lease's is never touched
        await Revocation(self._settings, role, maker=maker(role)).run()

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Gives every role that is named as this installation's, also those made for other databases of the server."""
        if not _INSTALLATION.fullmatch(installation):
            raise Refused(f"{installation!r} is no installation's id")
        async with session(self._settings, name="bulkhead looks") as connection:
            with explained("listing roles"):
                cursor = await connection.execute(
                    "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (f"bulkhead_{installation}_",)
                )
                names = [name for (name,) in await cursor.fetchall()]
        return [{ROLE: name} for name in names if _LEASE_ROLE.fullmatch(name)]

    async def close(self) -> None:
        """Does nothing: a session lives for one call."""

    def _create(self, connection: AsyncConnection, role: str, password: str, until: datetime) -> Composed:
        # The server takes a verifier in place of a password, and neither logs nor checks what it stands for.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        return SQL("CREATE ROLE {} LOGIN INHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {}").format(
            Identifier(role), Literal(self._settings.connection_limit), Literal(verifier), Literal(_text(until))
        )

    def _files(self, request: Request, role: str, password: str) -> dict[str, bytes]:
        settings = self._settings
        query: dict[str, str] = {"sslmode": settings.sslmode}
        files: dict[str, bytes] = {}
        if settings.ca_file is not None and settings.sslmode in VERIFYING:
            query["sslrootcert"] = f"{CREDENTIALS_PATH}/{request.credential}/{CA_FILE}"
            files[CA_FILE] = _contents(settings)
        host = f"[{settings.host}]" if ":" in settings.host else quote(settings.host, safe="")
        options = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
        uri = f"postgresql://{role}:{password}@{host}:{settings.port}/{quote(settings.database, safe='')}?{options}"
        texts = {
            "host": settings.host,
            "port": str(settings.port),
            "database": settings.database,
            "username": role,
            "password": password,
            "sslmode": settings.sslmode,
            "uri": uri,
        }
        return files | {name: text.encode() for name, text in texts.items()}


def maker(role: str) -> str:
    """Gives the name of the session that makes a role."""
    return f"bulkhead makes {role}"


async def _check_template(connection: AsyncConnection, template: str) -> None:
    cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (template,))
    if await cursor.fetchone() is None or _LEASE_ROLE.fullmatch(template):
        raise Refused(
            f"there is no template role {template}; accepted is a role that a database administrator has made"
        )
    found = await postgresrights.excess(connection, template)
    if found:
        raise Refused(postgresrights.refusal(template, found))


async def _check_entry(connection: AsyncConnection, role: str, template: str) -> None:
    cursor = await connection.execute("SELECT has_database_privilege(%s, current_database(), 'CONNECT')", (role,))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise Refused(
            f"members of {template} may not connect to database {connection.info.dbname}; accepted is a role that was "
            f"granted CONNECT on it"
        )


def _grant(connection: AsyncConnection, template: str, role: str) -> Composed:
    # From 16 on a member need not be able to become the role it is a member of: what it made as that role would stay.
    options = SQL(" WITH INHERIT TRUE, SET FALSE") if connection.info.server_version >= 160000 else SQL("")
    return SQL("GRANT {} TO {}").format(Identifier(template), Identifier(role)) + options


async def _server_time(connection: AsyncConnection) -> datetime:
    cursor = await connection.execute("SELECT clock_timestamp()")
    row = await cursor.fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise Unavailable("the server does not tell the time")
    return row[0]


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _contents(settings: PostgresSettings) -> bytes:
    try:
        return settings.ca_file.read_bytes() if settings.ca_file else b""
    except OSError as error:
        raise Unavailable(f"the file {settings.ca_file} cannot be read ({type(error).__name__})") from None
