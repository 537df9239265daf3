"""What no reconcile looks at: leases whose agent is gone, what an issuer has that no record knows, touched Secrets.

Only the leader sweeps. An agent counts as gone when the API server says so, and not because a cache has none: a cache
that is not filled yet would make orphans of all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Protocol

from bulkhead.api import conditions
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ClusterError
from bulkhead.engine import leasesecrets
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.records import Records
from bulkhead.issuers.base import Handle, IssuerError
from bulkhead.issuers.registry import Issuers
from bulkhead.plan import leases as lease_plan
from bulkhead.plan.books import Books
from bulkhead.plan.lease import Lease, State
from bulkhead.plan.leases import LeasePlan

logger = logging.getLogger(__name__)

Object = dict[str, Any]

TICK = 1.0
SWEEP_SECONDS = 180.0
"""Between two looks for orphans."""
VERIFY_SECONDS = 600.0
"""Between two looks at each Secret."""
FIRST_ROUND = 50
"""Secrets looked at in a second after a start, when nobody knows what was done to them meanwhile."""
AT_ONCE = 5


class Work(Protocol):
    """What the sweep asks of `Credentials`."""

    def books(self, agent: Object) -> Books:
        """Returns what is known of an agent's leases."""
        ...

    def start(self, agent: Object, plan: LeasePlan) -> None:
        """Begins what a plan says."""
        ...

    def outdate(self, lease: Lease) -> None:
        """Takes note that another is needed in place of a lease."""
        ...

    def is_being_issued(self, uid: str, credential: str) -> bool:
        """Says whether a credential is being issued or delivered."""
        ...

    def forget(self, known: set[str]) -> None:
        """Drops what was noted of agents that are gone."""
        ...


class Sweep:
    """Looks after the leases of one Bulkhead.

    Args:
        records: the books.
        issuers: the configured issuers.
        client: how to reach the API server.
        agents: the agents as last seen.
        installation: tells this Bulkhead from others at an issuer.
        is_leader: whether this replica holds the lease.
        credentials: what carries plans out.
        now: the time of day.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        records: Records,
        issuers: Issuers,
        client: Client,
        agents: AgentStore,
        installation: Callable[[], str],
        is_leader: Callable[[], bool],
        credentials: Work,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._issuers = issuers
        self._client = client
        self._agents = agents
        self._installation = installation
        self._is_leader = is_leader
        self._credentials = credentials
        self._now = now
        self._clock = clock
        self._suspects: dict[str, Object] = {}
        self._orphans: dict[str, Object] = {}
        self._looks: dict[str, float] = {}
        self._swept: float | None = None
        self._round: deque[str] = deque()
        self._round_began: float | None = None
        self._pace = FIRST_ROUND

    def concern(self, agent: Object) -> None:
        """Takes note that something was done for an agent that is not known any more."""
        self._suspects[agent["metadata"]["uid"]] = agent

    async def run(self) -> None:
        """Sweeps, as long as this replica leads, until it is cancelled."""
        while True:
            if not self._is_leader():
                self._swept = self._round_began = None
                self._pace = FIRST_ROUND
            else:
                try:
                    await self._tick()
                except ClusterError as error:
                    logger.warning("looking after leases: %s", error)
            await asyncio.sleep(TICK)

    async def _tick(self) -> None:
        if self._swept is None or self._clock() - self._swept >= SWEEP_SECONDS:
            began = self._clock()
            self._find_suspects()
            try:
                await self._ask_issuers()
                self._swept = began
            except ClusterError as error:
                # The next tick asks again: for want of an answer nothing unknown is to live on until the next look.
                logger.warning("what issuers have and no record knows could not be told: %s", error)
        for uid, agent in list(self._suspects.items()):
            if await self._is_gone(agent):
                self._orphans[uid] = agent
                self._looks[uid] = self._clock()
            del self._suspects[uid]
        for uid in [uid for uid, due in self._looks.items() if due <= self._clock()]:
            self._bury(uid)
        await self._verify()

    def _find_suspects(self) -> None:
        known = {agent["metadata"]["uid"] for agent in self._agents}
        for lease in self._records:
            if lease.agent_uid not in known:
                self._suspects[lease.agent_uid] = _tombstone(lease)
        self._credentials.forget(known | self._suspects.keys() | self._orphans.keys())

    async def _is_gone(self, agent: Object) -> bool:
        data = agent["metadata"]
        live = await self._client.get(resources.AGENTS, namespace=data["namespace"], name=data["name"])
        return live is None or live["metadata"]["uid"] != data["uid"]

    def _bury(self, uid: str) -> None:
        """Revokes what an agent that is gone has left, and looks again as long as there is something."""
        agent = self._orphans[uid]
        books = self._credentials.books(agent)
        if not books:
            del self._orphans[uid], self._looks[uid]
            return
        plan = lease_plan.plan((), books, agent=agent, runs=False, now=self._now(), patience=timedelta(0))
        self._credentials.start(agent, plan)
        wait = plan.next_look.total_seconds() if plan.next_look is not None and not plan.revoke else TICK
        self._looks[uid] = self._clock() + wait

    async def _ask_issuers(self) -> None:
        found = await asyncio.gather(*(self._unknown(name) for name in self._issuers.types))
        if not any(found):
            return
        # The mirror may be behind. What exists at an issuer was on the books before it existed: these are read now.
        on_books = [lease.handle for lease in await self._records.live(self._client)]
        for name, handles in zip(self._issuers.types, found, strict=True):
            for handle in handles:
                if not _is_known(handle, on_books):
                    await self._revoke_unknown(name, handle)

    async def _unknown(self, name: str) -> Collection[Handle]:
        """Returns the handles of what an issuer has of ours and the mirror has no record of."""
        try:
            handles = await self._issuers.get(name).outstanding(self._installation())
        except IssuerError as error:
            logger.info("%s cannot say what it has issued: %s", name, error)
            return ()
        if not handles:
            return ()
        # Of every issuer: two that share a system, one database of it each, are both told of what either has issued.
        known = [lease.handle for lease in self._records]
        return [handle for handle in handles if not _is_known(handle, known)]

    async def _revoke_unknown(self, name: str, handle: Handle) -> None:
        logger.warning(
            "issuer %s has what no record knows; it is revoked: %s", name, ", ".join(sorted(handle.values()))
        )
        try:
            await self._issuers.get(name).revoke(handle)
        except IssuerError as error:
            logger.warning("what issuer %s has and no record knows could not be revoked: %s", name, error)

    async def _verify(self) -> None:
        """Looks at some of the Secrets: whether each still is what was written into it."""
        if not self._round:
            if self._round_began is not None and self._clock() - self._round_began < VERIFY_SECONDS:
                return
            if self._round_began is not None:
                self._pace = max(1, ceil(len(self._records.informer) * TICK / VERIFY_SECONDS))
            self._round_began = self._clock()
            self._round.extend(lease.id for lease in self._records)
        chosen = [self._round.popleft() for _ in range(min(self._pace, len(self._round)))]
        for start in range(0, len(chosen), AT_ONCE):
            await asyncio.gather(*(self._verify_one(one) for one in chosen[start : start + AT_ONCE]))

    async def _verify_one(self, lease_id: str) -> None:
        lease = self._delivered(lease_id)
        if lease is None or await leasesecrets.is_as_written(self._client, lease):
            return
        # It may have been replaced while it was looked at.
        if self._delivered(lease_id) == lease:
            logger.warning(
                "Secret %s/%s is not as it was written; its credential is issued anew",
                lease.agent_namespace,
                lease.secret_name,
            )
            self._credentials.outdate(lease)

    def _delivered(self, lease_id: str) -> Lease | None:
        """Returns a lease if it is the one that its Secret must hold now."""
        lease = self._records.get(lease_id)
        if lease is None or lease.state is not State.ACTIVE or lease.agent_uid in self._orphans:
            return None
        if self._credentials.is_being_issued(lease.agent_uid, lease.credential):
            return None
        newest = [
            one
            for one in self._records.of_agent(lease.agent_uid)
            if one.credential == lease.credential and one.state is State.ACTIVE
        ]
        return lease if newest[-1].id == lease.id else None


def _is_known(handle: Handle, known: Collection[Handle]) -> bool:
    """Says whether a handle is one of those on the books: issuing may have completed the one or the other."""
    # An empty one would be part of all there are.
    return any(handle.items() <= one.items() or (one and one.items() <= handle.items()) for one in known)


def _tombstone(lease: Lease) -> Object:
    """Returns what is left of an agent: who it was, and that it is gone."""
    return {
        "apiVersion": f"{resources.AGENTS.api_version}",
        "kind": resources.AGENTS.kind,
        "metadata": {
            "namespace": lease.agent_namespace,
            "name": lease.agent,
            "uid": lease.agent_uid,
            "deletionTimestamp": conditions.format_time(lease.prepared_at),
        },
    }
