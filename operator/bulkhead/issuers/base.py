"""What an issuer of credentials is, and the guard that every issuer stands behind.

An issuer gives short-lived credentials of one external system. The order of its calls is the promise that nothing is
ever lost from the books: `prepare` gives a handle by which whatever comes later can be revoked, the handle is recorded,
and only then does `issue` make something that is valid. A crash between any two of these leaves a record with a handle,
never a credential that nobody knows.

Errors are few, so that who calls can act on them: `Refused` waits for somebody to change something, `Unavailable` is
tried again, `NotRenewable` means that a new credential is needed. Their messages are for people and hold no value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

Handle = Mapping[str, str]
"""What an issuer needs to find and revoke what it issued. It is recorded in plain sight, so it holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One credential that one agent asks for.

    Attributes:
        lease: the id of the lease: 12 of `[a-z0-9]`, never used twice.
        agent_namespace: namespace of the agent.
        agent: name of the agent.
        agent_uid: UID of the AgentDeployment.
        credential: the name under `spec.credentials`.
        source: what that entry says below the kind of its source, with the API's field names: `{"path": …}`.
        ttl_seconds: how long the credential is to live, in seconds.
        installation: 8 of `[a-z0-9]`: which Bulkhead this is. What is named at the issuer carries it, so that two
            clusters that share an issuer never revoke each other's.
    """

    lease: str
    agent_namespace: str
    agent: str
    agent_uid: str
    credential: str
    source: Mapping[str, Any]
    ttl_seconds: int
    installation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What was issued.

    Attributes:
        values: file name to content. The only place in the operator where values are; never printed.
        expires_at: when it ends by itself, whoever forgets it; with a time zone.
        handle: the prepared handle, completed by what only issuing could tell.
        description: who this is at the issuer, for status and logs; no value.
    """

    values: Mapping[str, bytes] = field(repr=False)
    expires_at: datetime
    handle: Handle
    description: str


class IssuerError(Exception):
    """An issuer could not do what was asked.

    Attributes:
        message: for people: what failed, why, and what would be accepted. Never a value.
        retry_after: seconds that the issuer asks to be left alone; None where it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Refused(IssuerError):  # noqa: N818 (the word of the interface)
    """It will not change by itself: an unknown role, too many rights, a missing key. Somebody must change something."""


class NotRenewable(IssuerError):  # noqa: N818 (the word of the interface)
    """This credential cannot be extended, now or later; a new one can be asked for."""


class Unavailable(IssuerError):  # noqa: N818 (the word of the interface)
    """Nobody can say whether it was done: a timeout, a broken connection, an answer that makes no sense."""


class Issuer(Protocol):
    """One source of short-lived credentials.

    Every call may be cancelled at any point and called again; `revoke` must then be able to undo whatever half exists,
    by the prepared handle alone. Calls run side by side on one event loop: none may block it.
    """

    @property
    def external(self) -> bool:
        """Says whether what is issued lives outside of the cluster, and so outlives the Secret that carries it."""
        ...

    async def prepare(self, request: Request) -> Handle:
        """Gives the handle by which everything issued under it can be revoked. Nothing that is valid exists yet.

        Raises:
            Refused: the request can be seen to be unacceptable.
            Unavailable: the issuer did not answer.
        """
        ...

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Makes the credential, valid from now for at most `request.ttl_seconds`.

        Whatever it raises, the handle is revoked afterwards: what it names may exist in part.

        Raises:
            Refused: the issuer does not give this.
            Unavailable: nobody can say whether it exists.
        """
        ...

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Extends the credential and gives its new expiry, which may be sooner than `until`.

        Raises:
            NotRenewable: it cannot be extended.
            Unavailable: the issuer did not answer; the old expiry counts.
        """
        ...

    async def revoke(self, handle: Handle) -> None:
        """Ends the credential and all that was opened with it; returns only when it is dead.

        Idempotent: what the handle names may be complete, half made, expired or gone already.

        Raises:
            IssuerError: it may still be alive.
        """
        ...

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Gives the handles of everything that exists at the issuer and is this installation's.

        Empty where the issuer cannot tell. What has no record is revoked by these.

        Raises:
            Unavailable: the issuer did not answer.
        """
        ...

    def describe(self) -> str:
        """Says which system this is, for status, events and logs; no value."""
        ...

    async def close(self) -> None:
        """Lets go of connections. What was issued stays."""
        ...
