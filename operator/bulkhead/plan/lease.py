"""One lease: what the operator has on its books about one credential, and the ConfigMap that is its record.

A record is written before anything valid exists and goes after everything is dead. It lives in the operator's own
namespace, so that the end of the agent, of its namespace or of its status loses no lease. It holds no value: the handle
by which the credential can be revoked is all that the issuer's side needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from bulkhead.api import conditions, meta
from bulkhead.plan import names
from bulkhead.plan.observed import Object

T = TypeVar("T")

PREFIX: Final = "bulkhead-lease-"
"""Of the names of records."""


class State(StrEnum):
    """How far a lease has got."""

    PREPARED = "Prepared"
    """It can be revoked. Whether anything was issued under it only the task that issues it knows."""
    ACTIVE = "Active"
    """Issued, and written into the agent's Secret."""
    RETIRING = "Retiring"
    """Not used any more, or not for long: revoked at `revoke_at`."""
    CONFIRMING = "Confirming"
    """Revoked, and revoked once more at `revoke_at`: a call to issue whose answer was lost may take effect late."""


class InvalidRecord(ValueError):  # noqa: N818 (it says what it is)
    """A ConfigMap that is marked as a lease's record cannot be read as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One credential of one agent, from before it exists until after it is dead.

    Attributes:
        id: 12 of `[a-z0-9]`, never used twice; part of every name that the issuer makes for it.
        agent_namespace: namespace of the agent.
        agent: name of the agent.
        agent_uid: UID of the AgentDeployment.
        credential: the name under `spec.credentials`.
        issuer: name of the issuer.
        source: what was asked for, with the API's field names.
        ttl_seconds: how long it was to live, in seconds.
        external: whether it lives outside of the cluster, and so outlives its Secret.
        handle: by what the issuer finds and revokes it; no secret.
        state: how far it has got.
        prepared_at: when the record was made.
        issued_at: when it was issued; None as long as nobody knows that it was.
        delivered_at: when it was written into the agent's Secret.
        expires_at: when it ends by itself.
        revoke_at: when it is to be revoked, while it retires or is to be confirmed.
        unsure: whether a call to issue it may still take effect after a revocation: its answer never came.
        description: who it is at the issuer; no value.
        secret_uid: UID of the Secret that it was written into.
        secret_version: resourceVersion of that Secret as it was written.
        record_uid: UID of the record; empty before there is one.
        record_version: resourceVersion of the record.
    """

    id: str
    agent_namespace: str
    agent: str
    agent_uid: str
    credential: str
    issuer: str
    source: Mapping[str, Any]
    ttl_seconds: int
    external: bool
    handle: Mapping[str, str]
    state: State
    prepared_at: datetime
    issued_at: datetime | None = None
    delivered_at: datetime | None = None
    expires_at: datetime | None = None
    revoke_at: datetime | None = None
    unsure: bool = True
    description: str = ""
    secret_uid: str = ""
    secret_version: str = ""
    record_uid: str = field(default="", compare=False)
    record_version: str = field(default="", compare=False)

    @property
    def secret_name(self) -> str:
        """The Secret that it is written into."""
        return names.lease_secret_name(self.agent, self.credential)


def record_name(lease_id: str) -> str:
    """Returns the name of a lease's record."""
    return f"{PREFIX}{lease_id}"


def record_labels() -> dict[str, str]:
    """Returns the labels that every record has; together with `meta.LEASE_LABEL`, whatever its value, they select."""
    return names.managed_labels()


RECORD_SELECTOR: Final = f"{names.label_selector(names.managed_labels())},{meta.LEASE_LABEL}"
"""Selects the records."""


def to_record(lease: Lease, *, namespace: str) -> Object:
    """Returns the whole record of a lease, as it is created and as it is written anew.

    It has no owner: an owner in another namespace cannot be, and one in this namespace would take the books with it.

    Args:
        lease: the lease.
        namespace: the operator's own.
    """
    data = {
        "agentNamespace": lease.agent_namespace,
        "agent": lease.agent,
        "agentUID": lease.agent_uid,
        "credential": lease.credential,
        "issuer": lease.issuer,
        "source": json.dumps(lease.source, sort_keys=True),
        "ttlSeconds": str(lease.ttl_seconds),
        "external": json.dumps(lease.external),
        "handle": json.dumps(dict(lease.handle), sort_keys=True),
        "state": lease.state.value,
        "preparedAt": conditions.format_micro_time(lease.prepared_at),
        "unsure": json.dumps(lease.unsure),
        "description": lease.description,
        "secretUID": lease.secret_uid,
        "secretVersion": lease.secret_version,
    }
    for key, time in (
        ("issuedAt", lease.issued_at),
        ("deliveredAt", lease.delivered_at),
        ("expiresAt", lease.expires_at),
        ("revokeAt", lease.revoke_at),
    ):
        if time is not None:
            data[key] = conditions.format_micro_time(time)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "namespace": namespace,
            "name": record_name(lease.id),
            "labels": {
                **record_labels(),
                meta.LEASE_LABEL: lease.id,
                meta.AGENT_UID_LABEL: lease.agent_uid,
            },
        },
        "data": data,
    }


def from_record(record: Object) -> Lease:
    """Reads a lease from its record.

    Raises:
        InvalidRecord: something is missing or is not what it should be; which, is told.
    """
    metadata, data = record["metadata"], record.get("data") or {}
    name = metadata["name"]

    def read(key: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(data[key])
        except KeyError:
            raise InvalidRecord(f"ConfigMap {name} has no {key}") from None
        except ValueError:
            raise InvalidRecord(f"{key} of ConfigMap {name} is not what the record of a lease says") from None

    def time(key: str) -> datetime | None:
        return read(key, conditions.parse_time) if key in data else None

    if not name.startswith(PREFIX):
        raise InvalidRecord(f"ConfigMap {name} is not named {PREFIX} and the lease's id")
    return Lease(
        id=name.removeprefix(PREFIX),
        agent_namespace=read("agentNamespace", str),
        agent=read("agent", str),
        agent_uid=read("agentUID", str),
        credential=read("credential", str),
        issuer=read("issuer", str),
        source=read("source", _mapping),
        ttl_seconds=read("ttlSeconds", int),
        external=read("external", _boolean),
        handle=read("handle", _handle),
        state=read("state", State),
        prepared_at=read("preparedAt", conditions.parse_time),
        issued_at=time("issuedAt"),
        delivered_at=time("deliveredAt"),
        expires_at=time("expiresAt"),
        revoke_at=time("revokeAt"),
        unsure=read("unsure", _boolean),
        description=data.get("description", ""),
        secret_uid=data.get("secretUID", ""),
        secret_version=data.get("secretVersion", ""),
        record_uid=metadata.get("uid", ""),
        record_version=metadata.get("resourceVersion", ""),
    )


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found


def _handle(text: str) -> dict[str, str]:
    found = _mapping(text)
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError(text)
    return found


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse(text)


def _refuse(text: str) -> bool:
    raise ValueError(text)
