"""Which replica may let things grow: a Lease (coordination.k8s.io/v1), held like client-go's leader election.

Cutting needs no leadership. Growing asks `is_leader()` before each act: it is true only while the own clock says that
no other replica can have taken the Lease yet, whatever the API server or the network does meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bulkhead.api.conditions import format_micro_time
from bulkhead.cluster.backoff import Backoff
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.resources import LEASES, Object, uid_of

log = logging.getLogger(__name__)


class Leadership:
    """One replica's claim to the Lease. Call `run` in a task, and `is_leader` before each act that lets something grow.

    A replica judges another's claim by how long it has itself seen the Lease unchanged, never by the times written in
    it: clocks of two nodes need not agree.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_change: Callable[[bool], None] = lambda leads: None,
        duration: float = 6.0,
        renew_every: float = 2.0,
        retry_every: float = 1.0,
        margin: float = 1.0,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares a claim.

        Args:
            client: How to reach the API server.
            namespace: The Lease's namespace.
            name: The Lease's name.
            identity: Who claims. The same identity takes its Lease back at once, so it must be unique to a pod and
                survive a restart of its container: the pod's UID.
            on_change: Called with True when leadership was won, with False when it was lost.
            duration: Seconds for which a renewal holds; whole seconds, as the Lease stores them.
            renew_every: Seconds between renewals.
            retry_every: Seconds between attempts to win or to renew after a failure.
            margin: Seconds by which the holder stops before others may start: for clocks that run at different speeds
                and for an act that was allowed just before the end.
            patience: Seconds of real time for one attempt; those between renewals by default.
            clock: Seconds that only grow.
            now: The time of day to write into the Lease; only people read it.
        """
        if duration != int(duration) or not 0 < renew_every < duration - margin:
            raise ValueError("a lease needs whole seconds, and a renewal before the holder has to stop")
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._name = name
        self._on_change = on_change
        self._duration = duration
        self._renew_every = renew_every
        self._margin = margin
        self._patience = renew_every if patience is None else patience
        self._clock = clock
        self._now = now
        self._backoff = Backoff(first=retry_every, limit=retry_every)
        self._valid_until = float("-inf")
        self._leads_as_told = False
        self._seen: tuple[str, str] | None = None
        self._seen_at = float("-inf")

    def is_leader(self) -> bool:
        """Whether this replica may let things grow at this moment."""
        return self._clock() < self._valid_until

    async def run(self) -> None:
        """Wins, keeps and wins back the Lease until the task is cancelled, then gives it up."""
        try:
            while True:
                delay = await self.step()
                self._tell()
                if self._leads_as_told:  # the moment of losing it is told when it comes, not at the next attempt
                    delay = min(delay, max(0.0, self._valid_until - self._clock()))
                await asyncio.sleep(delay)
                self._tell()
        finally:
            await self.release()

    async def step(self) -> float:
        """Makes one attempt to win or to renew the Lease.

        Returns:
            Seconds until the next one is due.
        """
        sent = self._clock()
        try:
            async with asyncio.timeout(self._patience):
                held = await self._attempt()
        except (ClusterError, TimeoutError) as error:
            if not (isinstance(error, ApiError) and (error.conflict or error.already_exists)):
                log.warning("the lease %s/%s could not be had: %s", self._namespace, self._name, error or "no answer")
            held = False
        if held:
            if self._leads_as_told:
                # It can have run out while this was under way. What was dropped for it begins anew only by being told.
                self._tell()
            # Counted from before the request was sent: the API server may have had it at any moment since.
            self._valid_until = sent + self._duration - self._margin
            self._backoff.reset()
            return self._renew_every
        return self._backoff.next()

    async def release(self) -> None:
        """Gives the Lease up if it is ours, so that another replica need not wait for its end."""
        held, self._valid_until = self._valid_until > float("-inf"), float("-inf")
        self._tell()
        if not held:
            return
        try:
            async with asyncio.timeout(self._patience):
                lease = await self._client.get(LEASES, namespace=self._namespace, name=self._name)
                if lease is not None and _spec(lease).get("holderIdentity") == self.identity:
                    await self._write(lease, {**_spec(lease), "holderIdentity": "", "leaseDurationSeconds": 1})
        except (ClusterError, TimeoutError) as error:
            log.warning("the lease could not be given up and will run out by itself: %s", error or "no answer")

    async def _attempt(self) -> bool:
        """Writes our claim if the Lease is ours, free or run out; says whether it is ours now."""
        lease = await self._client.get(LEASES, namespace=self._namespace, name=self._name)
        stamp = format_micro_time(self._now())
        claim: Object = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._duration),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": 0,
        }
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            head = {"apiVersion": LEASES.api_version, "kind": LEASES.kind}
            await self._client.create({**head, "metadata": metadata, "spec": claim})
            return True
        spec = _spec(lease)
        if not self._may_take(spec):
            return False
        if spec.get("holderIdentity") == self.identity:
            claim["acquireTime"] = spec.get("acquireTime") or stamp
            claim["leaseTransitions"] = spec.get("leaseTransitions") or 0
        else:
            claim["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1
        await self._write(lease, claim)
        return True

    def _may_take(self, spec: Object) -> bool:
        holder = str(spec.get("holderIdentity") or "")
        if holder in ("", self.identity):
            return True
        seen = (holder, str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        return self._clock() >= self._seen_at + float(spec.get("leaseDurationSeconds") or self._duration)

    async def _write(self, lease: Object, spec: Object) -> None:
        """Writes the Lease only if nobody else has since it was read."""
        await self._client.json_patch(
            LEASES,
            namespace=self._namespace,
            name=self._name,
            operations=[{"op": "add", "path": "/spec", "value": spec}],
            uid=uid_of(lease),
            resource_version=lease["metadata"]["resourceVersion"],
        )

    def _tell(self) -> None:
        leads = self.is_leader()
        if leads == self._leads_as_told:
            return
        self._leads_as_told = leads
        log.info("this replica %s", "leads now" if leads else "does not lead any more")
        try:
            self._on_change(leads)
        except Exception:
            log.exception("the listener for leadership failed")


def _spec(lease: Object) -> dict[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}
