"""Writing an agent's status, in one request, and telling what it says that was not so before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError
from bulkhead.cluster.events import Recorder
from bulkhead.engine import logs
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.evidence import Evidence
from bulkhead.engine.unwritten import Unwritten
from bulkhead.plan import breakerchanges, status
from bulkhead.plan.agent import Plan
from bulkhead.plan.observed import Cut, Object, Observed, Outcome

logger = logging.getLogger(__name__)


class StatusWriter:
    """Writes statuses where this replica leads, and tells of each transition once: events, logs, notifications.

    An answer can be lost on its way, and the status be stored all the same. So a transition is told as soon as the
    status is known to be stored, whoever says so: without that, a breaker opened and nobody was notified.

    Args:
        agents: told what writes returned.
        opened: the open breakers that are on no record yet.
        evidence: tells who asked to be told what breakers did.
        recorder: writes events.
        is_leader: whether this replica holds the lease.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        agents: AgentStore,
        opened: Unwritten,
        evidence: Evidence,
        recorder: Recorder,
        is_leader: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._agents = agents
        self._opened = opened
        self._evidence = evidence
        self._recorder = recorder
        self._is_leader = is_leader
        self._now = now
        self._told: dict[str, Object] = {}
        """The status that was last told of, by the agent's UID, while it is unknown whether another is stored."""

    async def write(
        self, client: Client, plan: Plan, observed: Observed, outcome: Outcome, cut: Cut | None
    ) -> Object | None:
        """Writes the status if anything of it changed; returns the agent as it is then.

        Args:
            client: of the lane.
            plan: what was planned.
            observed: what it was planned from.
            outcome: what came of it.
            cut: when the steps of a stop were done; None where the agent may run.

        Raises:
            ClusterError: whether it was written is unknown, or it was not.
        """
        agent = observed.agent
        uid = agent["metadata"]["uid"]
        if not self._is_leader():
            self._told.pop(uid, None)
            return None
        previous: Object = agent.get("status") or {}
        current = status.status(observed, plan, outcome, cut=cut, now=self._now())
        if current == previous:
            if uid in self._told:
                self._announce(agent, self._told.pop(uid), current)
            return None
        self._told.setdefault(uid, previous)
        written = await self._replace(client, agent, current)
        told = self._told.pop(uid)
        if written is None:
            return None
        self._opened.drop(uid)
        self._agents.answered(written)
        self._announce(agent, told, current)
        return written

    def forget(self, uid: str) -> None:
        """Forgets an agent that is gone."""
        self._told.pop(uid, None)

    async def _replace(self, client: Client, agent: Object, current: Object) -> Object | None:
        """Writes a status; gives the agent with it, or None where the agent was deleted, or made again, meanwhile."""
        data = agent["metadata"]
        try:
            return await client.replace_status(
                resources.AGENTS,
                namespace=data["namespace"],
                name=data["name"],
                uid=data["uid"],
                status=current,
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            if await self._exists(client, agent):
                raise
            self._agents.remove(data["namespace"], data["name"], uid=data["uid"])
            return None

    async def _exists(self, client: Client, agent: Object) -> bool:
        """Asks the API server whether the agent, and not another of its name, is there: a refusal alone is no proof."""
        data = agent["metadata"]
        live = await client.get(resources.AGENTS, namespace=data["namespace"], name=data["name"])
        return live is not None and bool(live["metadata"]["uid"] == data["uid"])

    def _announce(self, agent: Object, previous: Object, current: Object) -> None:
        for one in status.transitions(previous, current):
            level = logging.WARNING if one.type == "Warning" else logging.INFO
            logger.log(level, one.note, extra={**logs.about(agent), "reason": one.reason})
            self._recorder.record(agent, reason=one.reason, note=one.note, action="Reconcile", type=one.type)
        for notice in breakerchanges.notices(agent, previous, current):
            self._evidence.tell(notice)
