"""What is known of the credentials of one agent at one moment: its leases, what was tried, and what is being done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from bulkhead.api.credentials import SECRET_ISSUER, Credential
from bulkhead.plan.lease import Lease

Doing = tuple[Literal["issue", "hold", "renew", "retire", "revoke", "release"], str]
"""What is being done or was tried: to `issue` a credential, by its name; to `hold` a lease that is being issued, to
`renew`, `retire` or `revoke` one, by its id; to `release` the agent from its finalizer, by nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One entry of `spec.credentials`, as plain data."""

    credential: str
    issuer: str
    source: Mapping[str, Any]
    ttl_seconds: int

    @property
    def external(self) -> bool:
        """Whether it must be taken to outlive its Secret. A third party's issuer may know better."""
        return self.issuer != SECRET_ISSUER

    def is_met_by(self, lease: Lease) -> bool:
        """Says whether a lease is of what is asked for. How long it lives may differ."""
        return lease.issuer == self.issuer and lease.source == self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of the tries so far, as long as none succeeded.

    Attributes:
        failures: tries that failed, one after the other.
        next_at: not tried again before.
        message: why the last one failed, for people; no value.
        refused: whether it will not change by itself.
        asked: what was tried, where it was to issue: another wish is tried at once.
    """

    failures: int
    next_at: datetime
    message: str
    refused: bool = False
    asked: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that is known of the leases of one agent at one moment.

    Attributes:
        leases: by its records.
        attempts: what failed last, by what was tried.
        busy: what is being done now.
        stale: ids of leases of which another is needed at once: their source changed, or their Secret is not as it was
            written.
    """

    leases: tuple[Lease, ...] = ()
    attempts: Mapping[Doing, Attempt] = field(default_factory=lambda: MappingProxyType({}))
    busy: frozenset[Doing] = frozenset()
    stale: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Says whether there is anything that is not revoked, or may not be."""
        return bool(self.leases or self.busy)

    def failure(self, asked: Asked) -> Attempt | None:
        """Returns what is in the way of issuing what is asked for; None if nothing is, or something else was tried."""
        found = self.attempts.get(("issue", asked.credential))
        return found if found is not None and found.asked == asked else None


EMPTY: Final = Books()


def asked(credentials: Iterable[Credential]) -> tuple[Asked, ...]:
    """Returns `spec.credentials` as plain data."""
    return tuple(
        Asked(credential=one.name, issuer=one.issuer, source=one.source, ttl_seconds=one.ttl_seconds)
        for one in credentials
    )
