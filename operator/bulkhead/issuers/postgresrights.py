"""What a template role may do besides reading and writing data: everything found here is refused.

A lease is a member of its template, so it may do what the template may, whatever the template is a member of may, and
what everybody may (`PUBLIC`). Memberships count whether or not they are inherited: before PostgreSQL 16 a member can
always `SET ROLE`. The list of what is accepted is short, and a privilege that a later version of PostgreSQL adds is
refused until somebody has thought about it.

The catalogs are described at https://www.postgresql.org/docs/current/catalogs.html, the letters of access control lists
in section 5.8, "Privileges".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, LiteralString

from psycopg import AsyncConnection

from bulkhead.issuers.postgressession import LEASE_ROLE

ACCEPTED: Final[Mapping[str, tuple[str, ...]]] = {
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"),
    "column": ("SELECT", "INSERT", "UPDATE"),
    "sequence": ("SELECT", "UPDATE", "USAGE"),
    "schema": ("USAGE",),
    "database": ("CONNECT", "TEMPORARY"),
    "function": ("EXECUTE",),
    "type": ("USAGE",),
    "language": ("USAGE",),
}
"""Kind of object to the privileges on it that are about data. `TRIGGER`, `REFERENCES` and `MAINTAIN` on tables and
`CREATE` on anything are about the schema; tablespaces, foreign servers and parameters have nothing that is about data.
What a lease owns, what is temporary, large objects and the default privileges of those who may create nothing do not
count: any lease can make such things and give rights on them, and would have every template of the server refused.
"""

SHOWN: Final = 6
"""Rights that a message names."""

_HELD: LiteralString = """
WITH RECURSIVE held (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = %(role)s
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN held ON m.member = held.oid
)
"""
"""The template and all that it is a member of, however far."""

_TEMPORARY: LiteralString = "(pg_identify_object(s.classid, s.objid, s.objsubid)).schema ~ '^pg_temp(_[0-9]+)?$'"

_NOT_OF_A_LEASE: LiteralString = """
AND s.classid <> 'pg_largeobject'::regclass AND NOT EXISTS (
    SELECT FROM pg_shdepend own JOIN pg_roles lease ON lease.oid = own.refobjid
    WHERE own.refclassid = 'pg_authid'::regclass AND own.deptype = 'o' AND lease.rolname ~ %(leases)s
    AND (own.dbid, own.classid, own.objid) = (s.dbid, s.classid, s.objid))
"""
"""Of what is in another database nothing is known but its kind and its owner."""

_ATTRIBUTES: LiteralString = (
    _HELD
    + """
SELECT r.rolname, v.attribute FROM pg_roles r JOIN held USING (oid), LATERAL (VALUES
    ('is SUPERUSER', r.rolsuper), ('has CREATEROLE', r.rolcreaterole), ('has CREATEDB', r.rolcreatedb),
    ('has REPLICATION', r.rolreplication), ('has BYPASSRLS', r.rolbypassrls),
    ('is a predefined role of the server', r.oid < 16384)) AS v (attribute, has)
WHERE v.has
UNION ALL
SELECT r.rolname, 'may make others members of ' || granted.rolname
FROM pg_auth_members m JOIN held ON m.member = held.oid JOIN pg_roles r ON r.oid = held.oid
JOIN pg_roles granted ON granted.oid = m.roleid WHERE m.admin_option
"""
)
"""Oids below 16384 are those that initdb gave."""

_OWNED: LiteralString = (
    _HELD
    + """
SELECT r.rolname, CASE WHEN s.dbid IN (0, d.oid) THEN 'owns ' || pg_describe_object(s.classid, s.objid, s.objsubid)
    ELSE 'owns objects in database ' || other.datname END
FROM pg_shdepend s JOIN held ON s.refobjid = held.oid JOIN pg_roles r ON r.oid = held.oid
JOIN pg_database d ON d.datname = current_database() LEFT JOIN pg_database other ON other.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND s.classid <> 'pg_default_acl'::regclass
AND NOT (s.dbid = d.oid AND coalesce("""
    + _TEMPORARY
    + """, false))"""
    + _NOT_OF_A_LEASE
    + """
UNION
SELECT r.rolname, 'has privileges in database ' || other.datname || ', which cannot be checked from here'
FROM pg_shdepend s JOIN held ON s.refobjid = held.oid JOIN pg_roles r ON r.oid = held.oid
JOIN pg_database other ON other.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a' AND other.datname <> current_database()
"""
    + _NOT_OF_A_LEASE
    + "LIMIT 20"
)

_PRIVILEGES: LiteralString = (
    _HELD  # noqa: S608 (all parts are written here)
    + """, named AS (
    SELECT s.classid, s.objid, s.objsubid FROM pg_shdepend s JOIN held ON s.refobjid = held.oid
    WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a'
    AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND NOT coalesce("""
    + _TEMPORARY
    + """, false)"""
    + _NOT_OF_A_LEASE
    + """
), lists (kind, name, acl, own) AS (
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, c.oid::regclass::text, c.relacl,
        c.relnamespace = 'pg_catalog'::regnamespace
    FROM pg_class c WHERE c.relacl IS NOT NULL AND c.relpersistence <> 't'
    UNION ALL
    SELECT 'column', a.attrelid::regclass || '.' || a.attname, a.attacl, c.relnamespace = 'pg_catalog'::regnamespace
    FROM named n JOIN pg_attribute a ON a.attrelid = n.objid AND a.attnum = n.objsubid
    JOIN pg_class c ON c.oid = n.objid WHERE n.classid = 'pg_class'::regclass AND n.objsubid <> 0
    UNION ALL
    SELECT 'schema', nspname, nspacl, false FROM pg_namespace
    UNION ALL
    SELECT 'database', datname, datacl, false FROM pg_database
    UNION ALL
    SELECT 'tablespace', spcname, spcacl, false FROM pg_tablespace
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, p.proacl, p.pronamespace = 'pg_catalog'::regnamespace
    FROM named n JOIN pg_proc p ON p.oid = n.objid WHERE n.classid = 'pg_proc'::regclass
    UNION ALL
    SELECT 'type', t.oid::regtype::text, t.typacl, false
    FROM named n JOIN pg_type t ON t.oid = n.objid WHERE n.classid = 'pg_type'::regclass
    UNION ALL
    SELECT 'language', l.lanname, l.lanacl, false
    FROM named n JOIN pg_language l ON l.oid = n.objid WHERE n.classid = 'pg_language'::regclass
    UNION ALL
    SELECT CASE f.defaclobjtype WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'function'
        WHEN 'T' THEN 'type' WHEN 'n' THEN 'schema' ELSE 'object' END, 'to come (default privileges)',
        f.defaclacl, false
    FROM named n JOIN pg_default_acl f ON f.oid = n.objid WHERE n.classid = 'pg_default_acl'::regclass
    AND (has_database_privilege(f.defaclrole, current_database(), 'CREATE') OR EXISTS (
        SELECT FROM pg_namespace p WHERE p.nspname !~ '^pg_temp_' AND f.defaclnamespace IN (0, p.oid)
        AND has_schema_privilege(f.defaclrole, p.oid, 'CREATE')))
), granted AS (
    SELECT l.kind, l.name, l.own, a.grantee, a.privilege_type, a.is_grantable
    FROM lists l, LATERAL aclexplode(l.acl) AS a
    WHERE l.acl IS NOT NULL AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM held))
)
SELECT coalesce(r.rolname, 'PUBLIC'), 'has ' || g.privilege_type || ' on ' || g.kind || ' ' || g.name || CASE
    WHEN g.own AND r.oid IS NOT NULL THEN ', which is the server''s own'
    WHEN g.is_grantable THEN ' and may pass it on' ELSE '' END
FROM granted g LEFT JOIN pg_roles r ON r.oid = g.grantee
LEFT JOIN unnest(%(kinds)s::text[], %(privileges)s::text[]) AS fine (kind, privilege)
    ON fine.kind = g.kind AND fine.privilege = g.privilege_type
WHERE fine.kind IS NULL OR g.is_grantable OR (g.own AND r.oid IS NOT NULL)
UNION ALL
SELECT NULL, 'has privileges on ' || pg_describe_object(n.classid, n.objid, n.objsubid)
FROM named n WHERE n.classid NOT IN (
    'pg_class'::regclass, 'pg_namespace'::regclass, 'pg_database'::regclass, 'pg_tablespace'::regclass,
    'pg_proc'::regclass, 'pg_type'::regclass, 'pg_language'::regclass,
    'pg_default_acl'::regclass, 'pg_auth_members'::regclass)
LIMIT 20
"""
)
"""Lists of access that name one of the roles, found by the server's index of dependencies; of tables and schemas, which
can be opened to everybody, all of them. A member of any of the roles is refused rights on what is the server's own,
such as pg_authid and pg_read_file, which initdb keeps from everybody."""


async def excess(connection: AsyncConnection, template: str) -> tuple[str, ...]:
    """Finds what a template role may do that a lease may not.

    Args:
        connection: to the database that the lease is for.
        template: the role; it exists.

    Returns:
        A clause for each right, as in "has CREATE on schema public, as PUBLIC"; empty when the role is acceptable.
    """
    pairs = [(kind, privilege) for kind, privileges in ACCEPTED.items() for privilege in privileges]
    parameters = {
        "role": template,
        "leases": LEASE_ROLE,
        "kinds": [kind for kind, _ in pairs],
        "privileges": [privilege for _, privilege in pairs],
    }
    found: list[str] = []
    for query in (_ATTRIBUTES, _OWNED, _PRIVILEGES):
        cursor = await connection.execute(query, parameters)
        for holder, right in await cursor.fetchall():
            found.append(right if holder in (template, None) else f"{right} (as {holder})")
    return tuple(dict.fromkeys(found))


def refusal(template: str, found: tuple[str, ...]) -> str:
    """Says what was found and what would be accepted."""
    shown = "; ".join(found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"the template role {template} may do more than read and write data: it {shown}{more}. Accepted is a role that "
        f"owns nothing and has only SELECT, INSERT, UPDATE, DELETE and TRUNCATE on tables, USAGE on schemas and "
        f"sequences, EXECUTE on functions and CONNECT on databases, none of it to pass on"
    )
