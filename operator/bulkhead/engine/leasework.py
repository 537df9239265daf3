"""What is done with one lease: issued and delivered, renewed, revoked.

The order is the promise. A lease is written down before anything is valid; it is delivered before it is called active;
it is called retiring before it is revoked, so that an agent that comes back relies on nothing that is dead; and it goes
off the books last. Killed between any two of these, what is left is on the books and known for what it is.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import string
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bulkhead.cluster.backoff import Backoff
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.engine import leasesecrets
from bulkhead.engine.leasesecrets import SecretRefusedError
from bulkhead.engine.records import Records
from bulkhead.issuers.base import Credential, Issuer, IssuerError, NotRenewable, Refused, Request
from bulkhead.plan.books import Asked
from bulkhead.plan.lease import InvalidRecord, Lease, State
from bulkhead.plan.leases import Ending, Extension
from bulkhead.plan.leaseschedule import LEAST_GAIN

logger = logging.getLogger(__name__)

Object = dict[str, Any]

SETTLING = timedelta(seconds=60)
"""After a call to issue whose answer was lost, how long it may still take effect at the issuer."""
ID_LENGTH = 12
_ALPHABET = string.ascii_lowercase + string.digits
_ID = re.compile(rf"[a-z0-9]{{{ID_LENGTH}}}")


class NotWantedError(Exception):
    """What was being issued is not wanted any more, or not by this replica.

    Attributes:
        delivered: whether the Secret holds it, or may hold it. Then it is left prepared, which is what it is: an agent
            that runs on under another replica may be reading it.
    """

    def __init__(self, *, delivered: bool = False) -> None:
        """Keeps whether it was delivered."""
        super().__init__("not wanted any more")
        self.delivered = delivered


@dataclass(frozen=True, slots=True)
class Permits:
    """What a task that issues asks before it goes on.

    Attributes:
        wanted: whether the agent may still have it and this replica may still give it.
        hold: told the id of the lease as soon as it is on the books.
    """

    wanted: Callable[[], bool]
    hold: Callable[[str], None]


class LeaseWork:
    """The steps, each a coroutine that ends when its part of the promise is kept.

    Args:
        records: the books.
        issuer: gives an issuer by name; raises `Refused` where there is none.
        client: for what grows.
        urgent: for what cuts.
        installation: tells this Bulkhead from others at an issuer.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        records: Records,
        issuer: Callable[[str], Issuer],
        client: Client,
        urgent: Client,
        installation: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._records = records
        self._issuer = issuer
        self._client = client
        self._urgent = urgent
        self._installation = installation
        self._now = now

    async def issue(self, agent: Object, asked: Asked, permits: Permits) -> Lease:
        """Issues a credential and delivers it into its Secret.

        Raises:
            IssuerError: the issuer did not give it.
            ClusterError: it could not be written down or delivered.
            NotWantedError: it is not wanted any more; what was issued is noted as to be revoked.
        """
        issuer = self._issuer(asked.issuer)
        data = agent["metadata"]
        request = Request(
            lease=new_id(),
            agent_namespace=data["namespace"],
            agent=data["name"],
            agent_uid=data["uid"],
            credential=asked.credential,
            source=asked.source,
            ttl_seconds=asked.ttl_seconds,
            installation=self._installation(),
        )
        lease = Lease(
            id=request.lease,
            agent_namespace=request.agent_namespace,
            agent=request.agent,
            agent_uid=request.agent_uid,
            credential=asked.credential,
            issuer=asked.issuer,
            source=asked.source,
            ttl_seconds=asked.ttl_seconds,
            external=issuer.external,
            handle=await issuer.prepare(request),
            state=State.PREPARED,
            prepared_at=self._now(),
        )
        # Before the record can be seen: to whoever looks, a prepared lease that nobody holds is an orphan.
        permits.hold(lease.id)
        lease = await self._write_down(lease, issuer, permits)
        try:
            credential = await issuer.issue(request, lease.handle)
        except IssuerError as error:
            await self._abandon(replace(lease, unsure=not isinstance(error, Refused)))
            raise
        return await self._deliver(agent, lease, credential, permits)

    async def _write_down(self, lease: Lease, issuer: Issuer, permits: Permits) -> Lease:
        try:
            if not permits.wanted():
                raise NotWantedError
            return await self._records.create(self._client, lease)
        except (ClusterError, NotWantedError):
            # Nothing is valid, but some issuers hold something ready: Vault a token, which ends by itself as well.
            with suppress(IssuerError):
                await issuer.revoke(lease.handle)
            raise

    async def _deliver(self, agent: Object, lease: Lease, credential: Credential, permits: Permits) -> Lease:
        issued = replace(
            lease,
            unsure=False,
            handle=credential.handle,
            issued_at=self._now(),
            expires_at=credential.expires_at,
            description=credential.description,
        )
        try:
            if not permits.wanted():
                raise NotWantedError
            if lease.external and credential.handle != lease.handle:
                # What only issuing could tell is what the issuer revokes best by.
                issued = await self._records.write(self._client, issued)
            written = await self._write_secret(agent, issued, credential, permits)
        except (ClusterError, NotWantedError) as error:
            if not (isinstance(error, NotWantedError) and error.delivered):
                await self._abandon(issued)
            raise
        active = replace(
            issued,
            state=State.ACTIVE,
            delivered_at=self._now(),
            secret_uid=written.uid,
            secret_version=written.version,
        )
        return await self._note_delivered(active, permits)

    async def _write_secret(
        self, agent: Object, lease: Lease, credential: Credential, permits: Permits
    ) -> leasesecrets.Written:
        """Writes the Secret, again and again where nobody can say whether it was written: it may be what is read."""
        backoff = Backoff(first=0.5, limit=10.0)
        known = next((one.secret_uid for one in self._siblings(lease) if one.secret_uid), "")
        while True:
            try:
                return await leasesecrets.write(self._client, agent, lease, credential.values, known_uid=known)
            except SecretRefusedError:
                raise
            except ClusterError:
                if self._now() >= credential.expires_at:
                    raise
                await asyncio.sleep(backoff.next())
                if not permits.wanted():
                    raise NotWantedError(delivered=True) from None

    async def _note_delivered(self, lease: Lease, permits: Permits) -> Lease:
        """Notes that a lease was delivered; until that is written, whoever comes next takes it for an orphan."""
        backoff = Backoff(first=0.5, limit=10.0)
        while True:
            try:
                return await self._records.write(self._client, lease)
            except ClusterError as error:
                if isinstance(error, ApiError) and (error.conflict or error.not_found):
                    lease = await self._again(lease)
                    continue
                if not permits.wanted():
                    raise NotWantedError(delivered=True) from error
                await asyncio.sleep(backoff.next())

    async def _again(self, lease: Lease) -> Lease:
        """Reads the record of a lease again that was just delivered, and says how it can be written.

        Raises:
            NotWantedError: another replica is revoking it, or took it off the books believing that nothing was issued.
        """
        found = await self._records.read(self._client, lease.id)
        if found is None or found.state is not State.PREPARED:
            await self._abandon(lease)
            raise NotWantedError
        return replace(lease, record_uid=found.record_uid, record_version=found.record_version)

    async def _abandon(self, lease: Lease) -> None:
        """Notes that a lease is to be revoked at once. Where that fails it is an orphan, which comes to the same."""
        retiring = replace(lease, state=State.RETIRING, revoke_at=self._now())
        try:
            try:
                await self._records.write(self._client, retiring)
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    raise
                await self._rewrite(retiring)
        except ClusterError as error:
            logger.warning("lease %s is revoked, though its record does not say so yet: %s", lease.id, error)

    async def _rewrite(self, lease: Lease) -> None:
        found = await self._records.read(self._client, lease.id)
        if found is None:
            await self._records.create(self._client, lease)
        else:
            await self._records.write(
                self._client, replace(lease, record_uid=found.record_uid, record_version=found.record_version)
            )

    async def renew(self, extension: Extension) -> None:
        """Renews a lease and writes its new end down.

        Raises:
            NotRenewable: the issuer does not extend it, or by next to nothing.
            IssuerError: the issuer did not say.
            ClusterError: the new end could not be written down; the old one is the safer belief.
        """
        lease = extension.lease
        ends = await self._issuer(lease.issuer).renew(lease.handle, until=extension.until)
        if lease.expires_at is not None and ends - lease.expires_at < LEAST_GAIN:
            raise NotRenewable(f"issuer {lease.issuer} does not extend this credential any further")
        await self._records.write(self._client, replace(lease, expires_at=ends))

    async def retire(self, lease: Lease) -> None:
        """Notes that a lease is not used for long any more, and when it is to be revoked."""
        await self._records.write(self._client, lease)

    async def revoke(self, ending: Ending) -> None:
        """Revokes a lease, its Secret at the same time, and takes it off the books when both are dead.

        Raises:
            IssuerError: it may still be valid.
            ClusterError: its Secret may still be there, or its record is.
        """
        gone = asyncio.ensure_future(self._delete_secret(ending.lease)) if ending.with_secret else None
        try:
            lease = await self._revoke(ending)
        finally:
            # Whatever became of the one, the other is carried out.
            outcome = (await asyncio.gather(gone, return_exceptions=True))[0] if gone is not None else None
        if isinstance(outcome, BaseException):
            raise outcome
        if lease is None:
            return
        if lease.unsure:
            again = replace(lease, state=State.CONFIRMING, unsure=False, revoke_at=self._now() + SETTLING)
            await self._records.write(self._urgent, again)
        else:
            await self._records.remove(self._urgent, lease)

    async def _revoke(self, ending: Ending) -> Lease | None:
        """Revokes at the issuer; returns the lease as it is on the books then, None if it was taken off meanwhile."""
        lease: Lease | None = ending.lease
        if ending.again and ending.lease.state in (State.PREPARED, State.ACTIVE):
            lease = await self._note_retiring(ending.lease)
        # Also where it is off the books by now: nobody else need have known this handle.
        await self._issuer(ending.lease.issuer).revoke((lease or ending.lease).handle)
        return lease

    async def _note_retiring(self, lease: Lease) -> Lease | None:
        try:
            return await self._records.write(self._urgent, replace(lease, state=State.RETIRING, revoke_at=self._now()))
        except ApiError as error:
            if error.conflict or error.not_found:
                return await self._records.read(self._urgent, lease.id)
            logger.warning("lease %s is revoked, though its record does not say so: %s", lease.id, error)
        except ClusterError as error:
            # An API server that is away is no reason to let a credential live on.
            logger.warning("lease %s is revoked, though its record does not say so: %s", lease.id, error)
        return lease

    async def _delete_secret(self, lease: Lease) -> None:
        known = next((one.secret_uid for one in (lease, *self._siblings(lease)) if one.secret_uid), "")
        await leasesecrets.delete(self._urgent, lease, known_uid=known, is_over=self._is_over)

    async def _is_over(self, lease_id: str) -> bool:
        """Says whether a lease is off the books or on its way; read past the mirror, which may lack the newest."""
        if not _ID.fullmatch(lease_id):
            return True
        try:
            found = await self._records.read(self._urgent, lease_id)
        except InvalidRecord:
            return True
        return found is None or found.state in (State.RETIRING, State.CONFIRMING)

    def _siblings(self, lease: Lease) -> list[Lease]:
        """The agent's leases of the same credential, the newest first: they share a Secret."""
        found = self._records.of_agent(lease.agent_uid)
        return [one for one in reversed(found) if one.credential == lease.credential and one.id != lease.id]


def new_id() -> str:
    """Returns the id of a lease: 62 bits of chance, so that no two are ever the same."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
