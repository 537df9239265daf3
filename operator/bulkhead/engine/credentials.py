"""Credentials as they happen: issuing, delivering, renewing and revoking, each as a task of its own.

A reconcile reads `books`, lets `plan.leases.plan` decide and hands the decision to `start`, which returns at once: a
slow issuer delays nobody. What a task did is told by `notify`, and the agent is looked at again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from bulkhead.api.credentials import SECRET_ISSUER
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.engine import finalizer, logs
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.finalizer import AgentGoneError
from bulkhead.engine.leasesecrets import SecretRefusedError
from bulkhead.engine.leasesweep import Sweep
from bulkhead.engine.leasework import LeaseWork, NotWantedError, Permits
from bulkhead.engine.queue import Key
from bulkhead.engine.records import Records
from bulkhead.engine.view import agent_key
from bulkhead.issuers.base import Handle, IssuerError, NotRenewable, Refused
from bulkhead.issuers.registry import Issuers
from bulkhead.plan.books import EMPTY, Asked, Attempt, Books, Doing
from bulkhead.plan.lease import InvalidRecord, Lease, State
from bulkhead.plan.leases import RELEASE, Ending, LeasePlan

logger = logging.getLogger(__name__)

Object = dict[str, Any]

FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
REFUSED_WAIT = 30.0
"""After a refusal, which somebody has to mend on either side without the operator being told."""
LONGEST_REFUSED_WAIT = 300.0
LONGEST_ASKED = 600.0
"""The longest wait that an issuer can ask for."""
CONFLICT_WAIT = 0.2
"""Until a watch has told what another replica wrote."""
_EVENTS: Mapping[str, str] = {"issue": "CredentialFailing", "revoke": "RevocationFailing"}


class Credentials:
    """Carries plans for credentials out, and looks for leases that belong to nobody.

    Args:
        records: the books.
        issuers: the configured issuers.
        client: for what grows.
        urgent: for what cuts: connections of its own.
        agents: the agents as last seen.
        installation: tells this Bulkhead from others at an issuer.
        is_leader: whether this replica holds the lease.
        is_outdated: whether the source of a copy, by its handle, is another by now.
        notify: told the key of an agent that is to be looked at again.
        recorder: writes events.
        now: the time of day.
        clock: monotonic seconds.
        jitter: a number in [0, 1) for each wait after a failure.
    """

    def __init__(
        self,
        *,
        records: Records,
        issuers: Issuers,
        client: Client,
        urgent: Client,
        agents: AgentStore,
        installation: Callable[[], str],
        is_leader: Callable[[], bool],
        is_outdated: Callable[[Handle], bool],
        notify: Callable[[Key], None],
        recorder: Recorder,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._records = records
        self._issuers = issuers
        self._client = client
        self._agents = agents
        self._is_leader = is_leader
        self._is_outdated = is_outdated
        self._notify = notify
        self._recorder = recorder
        self._now = now
        self._jitter = jitter
        self._work = LeaseWork(
            records=records,
            issuer=issuers.get,
            client=client,
            urgent=urgent,
            installation=installation,
            now=now,
        )
        self._sweep = Sweep(
            records=records,
            issuers=issuers,
            client=client,
            agents=agents,
            installation=installation,
            is_leader=is_leader,
            credentials=self,
            now=now,
            clock=clock,
        )
        self._tasks: defaultdict[str, dict[Doing, asyncio.Task[None]]] = defaultdict(dict)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._attempts: defaultdict[str, dict[Doing, Attempt]] = defaultdict(dict)
        self._stale: set[str] = set()
        self._stopped: set[str] = set()

    def books(self, agent: Object) -> Books:
        """Returns what is known of an agent's leases, from caches alone."""
        uid = agent["metadata"]["uid"]
        found = self._records.of_agent(uid)
        tasks = self._tasks.get(uid)
        attempts = self._attempts.get(uid)
        if not found and not tasks and not attempts:
            return EMPTY
        held: set[Doing] = {("hold", lease) for lease in self._held.get(uid, ())}
        return Books(
            leases=found,
            attempts=MappingProxyType(dict(attempts)) if attempts else EMPTY.attempts,
            busy=frozenset(held.union(tasks or ())),
            stale=frozenset(one.id for one in found if self._is_stale(one)),
        )

    def start(self, agent: Object, plan: LeasePlan) -> None:
        """Begins what a plan says and is not begun yet; returns at once.

        What grows, and what is done for an agent that may run, is the leader's. What an agent must not have any more,
        any replica revokes.

        Args:
            agent: the AgentDeployment; it may be gone already.
            plan: made from `books` of it.
        """
        uid = agent["metadata"]["uid"]
        if plan.runs:
            self._stopped.discard(uid)
            if not self._is_leader():
                return
        elif plan.revoke or plan.unrevoked:
            self._stopped.add(uid)
        for asked in plan.prepare:
            self._spawn(agent, ("issue", asked.credential), partial(self._issue, agent, asked), asked=asked)
        for extension in plan.extend:
            self._spawn(agent, ("renew", extension.lease.id), partial(self._work.renew, extension))
        for lease in plan.retire:
            self._spawn(agent, ("retire", lease.id), partial(self._work.retire, lease))
        for ending in plan.revoke:
            self._spawn(agent, ("revoke", ending.lease.id), partial(self._revoke, agent, ending))
        if (plan.release or plan.give_up) and self._is_leader():
            self._spawn(agent, RELEASE, partial(self._release, agent, plan))

    def source_changed(self, namespace: str, name: str) -> None:
        """Takes note that a Secret changed that leases of the `secret` issuer may be copies of."""
        for lease in self._records:
            source = lease.source.get("namespace"), lease.source.get("name")
            if lease.issuer == SECRET_ISSUER and source == (namespace, name) and self._is_stale(lease):
                self._notify(agent_key(lease.agent_namespace, lease.agent))

    def _is_stale(self, lease: Lease) -> bool:
        if lease.state is not State.ACTIVE:
            return False
        return lease.id in self._stale or (lease.issuer == SECRET_ISSUER and self._is_outdated(lease.handle))

    def outdate(self, lease: Lease) -> None:
        """Takes note that another is needed in place of a lease, without waiting for its time."""
        self._stale.add(lease.id)
        self._notify(agent_key(lease.agent_namespace, lease.agent))

    def is_being_issued(self, uid: str, credential: str) -> bool:
        """Says whether a credential of an agent is being issued or delivered now."""
        return ("issue", credential) in self._tasks.get(uid, ())

    def forget(self, known: set[str]) -> None:
        """Drops what was noted of agents that are gone and have no lease left.

        Args:
            known: UIDs of the agents that there are, and of those that have leases.
        """
        self._stopped &= known
        self._stale &= {lease.id for lease in self._records}
        for uid in self._attempts.keys() - known:
            del self._attempts[uid]

    def orphaned(self, agent: Object) -> None:
        """Takes note that an agent is gone and nobody looks at it any more: what it has left is looked after here."""
        if self.books(agent):
            self._sweep.concern(agent)

    def counts(self) -> Mapping[str, int]:
        """Returns how many leases there are, by state; `Unreadable` counts records about which nothing is done."""
        return self._records.counts()

    async def run(self) -> None:
        """Looks after what no reconcile does: orphans, and Secrets that somebody touched. Never returns.

        Whoever ends it ends every task that `start` began.
        """
        try:
            await self._sweep.run()
        finally:
            tasks = [task for doings in self._tasks.values() for task in doings.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(
        self, agent: Object, doing: Doing, work: Callable[[], Coroutine[Any, Any, None]], *, asked: Asked | None = None
    ) -> None:
        uid = agent["metadata"]["uid"]
        if doing not in self._tasks[uid]:
            name = f"{doing[0]} {doing[1]} of {agent['metadata']['name']}"
            self._tasks[uid][doing] = asyncio.create_task(self._done(agent, doing, work, asked), name=name)

    async def _done(
        self, agent: Object, doing: Doing, work: Callable[[], Coroutine[Any, Any, None]], asked: Asked | None
    ) -> None:
        data = agent["metadata"]
        uid = data["uid"]
        try:
            await work()
        except (IssuerError, ClusterError, InvalidRecord) as error:
            self._failed(agent, doing, error, asked)
        except (NotWantedError, AgentGoneError) as error:
            logger.debug("%s %s: %s", *doing, error, extra=logs.about(agent))
        except Exception as error:
            # Where, and not what: the text of an exception that nobody foresaw may hold anything.
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s %s failed unexpectedly (%s) at\n%s", *doing, type(error).__name__, where)
            self._failed(agent, doing, ClusterError(f"an error in the operator: {type(error).__name__}"), asked)
        else:
            if uid in self._attempts:
                self._attempts[uid].pop(doing, None)
        finally:
            self._ended(uid, doing)
        if self._agents.get(data["namespace"], data["name"]) is None:
            self._sweep.concern(agent)
        self._notify(agent_key(data["namespace"], data["name"]))

    def _ended(self, uid: str, doing: Doing) -> None:
        tasks = self._tasks[uid]
        tasks.pop(doing, None)
        if not tasks:
            del self._tasks[uid]

    async def _issue(self, agent: Object, asked: Asked) -> None:
        uid = agent["metadata"]["uid"]
        held: list[str] = []

        def hold(lease_id: str) -> None:
            held.append(lease_id)
            self._held[uid].add(lease_id)

        def wanted() -> bool:
            return self._is_leader() and uid not in self._stopped

        try:
            if self._issuers.get(asked.issuer).external:
                await finalizer.add(self._client, self._agents, agent)
            lease = await self._work.issue(agent, asked, Permits(wanted=wanted, hold=hold))
        finally:
            self._held[uid].difference_update(held)
            if not self._held[uid]:
                del self._held[uid]
        extra = {**logs.about(agent), "credential": asked.credential, "lease": lease.id}
        logger.info("credential issued: %s", lease.description, extra=extra)

    async def _revoke(self, agent: Object, ending: Ending) -> None:
        lease = ending.lease
        await self._work.revoke(ending)
        self._stale.discard(lease.id)
        self._attempts.get(agent["metadata"]["uid"], {}).pop(("renew", lease.id), None)
        extra = {**logs.about(agent), "credential": lease.credential, "lease": lease.id}
        logger.info("credential revoked: %s", lease.description or lease.issuer, extra=extra)

    async def _release(self, agent: Object, plan: LeasePlan) -> None:
        await finalizer.remove(self._client, self._agents, agent)
        if plan.give_up:
            note = "the deletion waited for credentials to be revoked and now goes on without; they are tried further: "
            self._tell(agent, "RevocationGivenUp", note + "; ".join(plan.unrevoked))

    def _failed(self, agent: Object, doing: Doing, error: Exception, asked: Asked | None) -> None:
        attempts = self._attempts[agent["metadata"]["uid"]]
        if isinstance(error, ApiError) and error.conflict:
            # Another replica was faster. What it wrote is looked at in a moment.
            next_at = self._now() + timedelta(seconds=CONFLICT_WAIT)
            attempts[doing] = Attempt(failures=1, next_at=next_at, message="the record has changed", asked=asked)
            logger.debug("%s %s: %s", *doing, error, extra=logs.about(agent))
            return
        before = attempts.get(doing)
        failures = before.failures + 1 if before is not None and before.asked == asked else 1
        refused = isinstance(error, Refused | NotRenewable | SecretRefusedError)
        first, longest = (REFUSED_WAIT, LONGEST_REFUSED_WAIT) if refused else (FIRST_WAIT, LONGEST_WAIT)
        ceiling = min(longest, first * 2.0 ** min(failures - 1, 16))
        told = min(getattr(error, "retry_after", None) or 0.0, LONGEST_ASKED)
        wait = max(told, ceiling * (0.5 + 0.5 * self._jitter()))
        attempts[doing] = Attempt(
            failures=failures,
            next_at=self._now() + timedelta(seconds=wait),
            message=str(error),
            refused=refused,
            asked=asked,
        )
        level = logging.WARNING if failures == 1 else logging.DEBUG
        logger.log(level, "%s %s: %s", *doing, error, extra={**logs.about(agent), "retryIn": round(wait, 2)})
        if failures == 1 and doing[0] in _EVENTS:
            self._tell(agent, _EVENTS[doing[0]], str(error))

    def _tell(self, agent: Object, reason: str, note: str) -> None:
        self._recorder.record(agent, reason=reason, note=note, action="Revoke", type="Warning")
