"""The end of a lease's role: nobody gets in, nobody stays in, nothing is left.

A session does not end with its role: one that is open when the role is dropped goes on. So the role is shut first, then
its sessions are ended, then what it made is removed, and then it is dropped. Each step can be repeated, by anybody, and
by two at once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import LiteralString

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier, Literal

from bulkhead.issuers.base import IssuerError, Unavailable
from bulkhead.issuers.postgressession import LEASE_ROLE, explained, session
from bulkhead.issuers.postgressettings import PostgresSettings

ATTEMPTS = 8
"""How often two revocations of one role may get in each other's way."""
ENDING_SECONDS = 6.0
"""For sessions to end that were told to."""
UNLINKED_AT_ONCE = 1000
"""Large objects. A server with the settings it comes with has room for some 6400 locks, for everybody together."""

_COLLISIONS = (
    errors.InternalError_,
    errors.UndefinedObject,
    errors.InvalidParameterValue,
    errors.UniqueViolation,
    errors.ObjectInUse,
    errors.DeadlockDetected,
)
"""What the loser of two revocations at once is told: "tuple concurrently updated", "role does not exist", and so on."""

_GIVERS: LiteralString = """
SELECT DISTINCT r.rolname FROM pg_shdepend given JOIN pg_shdepend owned USING (dbid, classid, objid)
JOIN pg_roles r ON r.oid = owned.refobjid
WHERE given.refclassid = 'pg_authid'::regclass AND given.refobjid = %(role)s AND given.deptype = 'a'
AND owned.refclassid = 'pg_authid'::regclass AND owned.deptype = 'o'
AND given.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
AND r.rolname ~ %(pattern)s AND NOT pg_has_role(r.oid, 'USAGE')
ORDER BY r.rolname
"""
"""The leases that gave the role rights here, without those that this session is a member of already: what another
revocation made it, that one needs, and a superuser needs nothing."""


class Revocation:
    """The revocation of one role."""

    def __init__(self, settings: PostgresSettings, role: str, *, maker: str) -> None:
        """Prepares it.

        Args:
            settings: of the server.
            role: the lease's role.
            maker: name of the session in which the role is made.
        """
        self._settings = settings
        self._role = role
        self._maker = maker

    async def run(self) -> None:
        """Carries it out; a role that is not there is done.

        Raises:
            IssuerError: the role may still be alive.
        """
        async with session(self._settings, name="bulkhead revokes") as connection:
            with explained(f"revoking role {self._role}"):
                await self._end_makers(connection)
                for attempt in range(ATTEMPTS):
                    try:
                        if await self._step(connection):
                            return
                    except _COLLISIONS:
                        await asyncio.sleep(0.02 * (attempt + 1))
        raise Unavailable(f"revoking role {self._role}: somebody else changes it again and again")

    async def _step(self, connection: AsyncConnection) -> bool:
        await connection.execute("RESET ROLE")  # what collided may have been done as the lease's role
        cursor = await connection.execute("SELECT oid FROM pg_roles WHERE rolname = %s", (self._role,))
        row = await cursor.fetchone()
        if row is None:
            return True
        await self._shut(connection, row[0])
        await self._end_sessions(connection, row[0])
        await self._roll_back_prepared(connection)
        await self._remove_what_it_made(connection, row[0])
        await connection.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(self._role)))
        return True

    async def _end_makers(self, connection: AsyncConnection) -> None:
        """Ends a call to make the role that was given up here while the server carries it out.

        Its first statement was answered under this name, so a session that is not seen has sent nothing that counts.
        An advisory lock would do the same, but the lease itself could hold it.
        """
        deadline = time.monotonic() + ENDING_SECONDS
        while True:
            cursor = await connection.execute(
                "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid "
                "WHERE a.application_name = %s AND r.rolname = current_user AND a.pid <> pg_backend_pid()",
                (self._maker,),
            )
            if not await cursor.fetchall():
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"revoking role {self._role}: the session that makes it does not end")
            await asyncio.sleep(0.02)

    async def _shut(self, connection: AsyncConnection, oid: int) -> None:
        """Lets nobody in any more, and takes the template's rights from whoever is in."""
        role = Identifier(self._role)
        cursor = await connection.execute(
            "SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = %s", (oid,)
        )
        memberships = [name for (name,) in await cursor.fetchall()]
        async with connection.transaction():
            await connection.execute(
                SQL("ALTER ROLE {} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'").format(role)
            )
            await connection.execute(SQL("SET LOCAL client_min_messages TO error"))
            for group in memberships:
                # What somebody else granted may not be this one's to take: it goes with the role, and shuts no less.
                with suppress(errors.InsufficientPrivilege):
                    async with connection.transaction():
                        await connection.execute(SQL("REVOKE {} FROM {}").format(Identifier(group), role))
            # Only its members may end a role's sessions and remove what it made. This goes with the role.
            await connection.execute(SQL("GRANT {} TO CURRENT_USER").format(role) + self._options(connection))

    async def _end_sessions(self, connection: AsyncConnection, oid: int) -> None:
        """Ends every session of the role, also those that are still being opened.

        A login is checked a moment before its session can be seen in pg_stat_activity, and whoever logs in can make
        that moment long (`post_auth_delay` is for everybody to set). Meanwhile it holds the lock of its own
        transaction, so whoever has such a lock and is not seen is told to end too, by the role itself, which may end
        its own sessions and nobody else's. Whoever comes later finds the role shut and is not waited for: somebody who
        knocks again and again, at whatever role's door, would hold up the revocation for ever.
        """
        deadline = time.monotonic() + ENDING_SECONDS
        strangers: set[int] = set()
        await connection.execute(SQL("SET ROLE {}").format(Identifier(self._role)))
        inside, entering = await self._alive(connection, oid)
        while alive := (inside | entering) - strangers:
            for pid in alive:
                try:
                    await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
                except errors.InsufficientPrivilege:
                    strangers.add(pid)
            if time.monotonic() > deadline:
                raise IssuerError(
                    f"revoking role {self._role}: {len(alive)} of its sessions do not end; it cannot log in any more"
                )
            await asyncio.sleep(0.01)
            inside, newly = await self._alive(connection, oid)
            entering &= newly
        await connection.execute("RESET ROLE")

    async def _alive(self, connection: AsyncConnection, oid: int) -> tuple[set[int], set[int]]:
        """Gives the role's sessions, and those that are being opened by nobody knows whom."""
        cursor = await connection.execute(
            "SELECT pid, true FROM pg_stat_activity WHERE usesysid = %s UNION "
            "SELECT l.pid, false FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'virtualxid' AND l.pid IS NOT NULL "
            # From 18 on a session that is being opened is seen, without its user. This role may not see of which type.
            "AND (a.pid IS NULL OR a.usesysid IS NULL)",
            (oid,),
        )
        found = await cursor.fetchall()
        return {pid for pid, is_seen in found if is_seen}, {pid for pid, is_seen in found if not is_seen}

    async def _roll_back_prepared(self, connection: AsyncConnection) -> None:
        """Rolls back its two-phase transactions, which no session holds and which keep their locks for ever."""
        cursor = await connection.execute("SELECT gid, database FROM pg_prepared_xacts WHERE owner = %s", (self._role,))
        for gid, database in await cursor.fetchall():
            async with session(self._settings, name="bulkhead revokes", database=database) as there:
                # Only who prepared it may end it.
                await there.execute(SQL("SET ROLE {}").format(Identifier(self._role)))
                await there.execute(SQL("ROLLBACK PREPARED {}").format(Literal(gid)))

    async def _remove_what_it_made(self, connection: AsyncConnection, oid: int) -> None:
        """Removes objects that it owns and rights that others gave it, in every database where there are any.

        A role that may create nothing can still make large objects, for which no privilege is needed, and that in every
        database that lets everybody in.
        """
        cursor = await connection.execute(
            "SELECT DISTINCT CASE WHEN s.dbid = 0 THEN current_database() ELSE d.datname END FROM pg_shdepend s "
            "LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s",
            (oid,),
        )
        for (database,) in await cursor.fetchall():
            if database == connection.info.dbname:
                await self._remove_here(connection, oid)
                continue
            async with session(self._settings, name="bulkhead revokes", database=database) as there:
                await self._remove_here(there, oid)

    async def _remove_here(self, connection: AsyncConnection, oid: int) -> None:
        """Removes what there is in the session's database.

        Other leases may have given the role rights on what is theirs, and only their members can take such away. What
        makes this one's session a member of them is never committed, so nobody else comes across it.
        """
        await self._unlink(connection, oid)
        async with connection.transaction():
            await connection.execute(SQL("SET LOCAL client_min_messages TO error"))
            cursor = await connection.execute(_GIVERS, {"role": oid, "pattern": LEASE_ROLE})
            givers = [Identifier(name) for (name,) in await cursor.fetchall()]
            for giver in givers:
                await connection.execute(SQL("GRANT {} TO CURRENT_USER").format(giver) + self._options(connection))
            await connection.execute(SQL("DROP OWNED BY {}").format(Identifier(self._role)))
            for giver in givers:
                await connection.execute(SQL("REVOKE {} FROM CURRENT_USER").format(giver))

    @staticmethod
    async def _unlink(connection: AsyncConnection, oid: int) -> None:
        """Removes the role's large objects, some at a time: each takes a lock, and the server has room for so many.

        What is removed stays removed, so a revocation that takes too long is gone on with by the next.
        """
        removed = 1
        while removed:
            try:
                cursor = await connection.execute(
                    "SELECT count(lo_unlink(oid)) FROM "
                    "(SELECT oid FROM pg_largeobject_metadata WHERE lomowner = %s LIMIT %s) AS found",
                    (oid, UNLINKED_AT_ONCE),
                )
            except errors.UndefinedObject:
                continue  # another revocation was quicker
            row = await cursor.fetchone()
            removed = row[0] if row else 0

    @staticmethod
    def _options(connection: AsyncConnection) -> SQL:
        """How the session makes itself a member of a role."""
        return SQL(" WITH INHERIT TRUE, SET TRUE") if connection.info.server_version >= 160000 else SQL("")
