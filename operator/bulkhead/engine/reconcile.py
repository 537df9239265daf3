"""One reconcile of one agent: gather, plan, carry out, status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.engine import logs
from bulkhead.engine.actor import Actor, NotLeadingError
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.credentials import Credentials
from bulkhead.engine.evidence import Evidence
from bulkhead.engine.fleet import Fleet
from bulkhead.engine.gather import Gatherer
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.statuswriter import StatusWriter
from bulkhead.engine.switches import Switches
from bulkhead.engine.unwritten import Unwritten
from bulkhead.plan import agent as agent_plan
from bulkhead.plan import circuit, leases, pods, suspension
from bulkhead.plan.agent import Plan
from bulkhead.plan.observed import Cut, Object, Observed, Outcome

logger = logging.getLogger(__name__)

CONFIRM_AFTER = 5.0
"""Seconds after which a cached agent is read again before anything is built from nothing for it."""
WAIT_FOR_PREDECESSOR = 0.25
"""Seconds until an agent is looked at again whose predecessor of the same name is still ending."""


class RefusedError(ClusterError):
    """The API server refused a child for a reason of substance; the agent's status says so, and it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTools:
    """What a lane works with: connections of its own, so that it never waits for the other's."""

    client: Client
    gatherer: Gatherer
    actor: Actor


class AgentReconciler:
    """Reconciles agents. Every replica stops agents; only the leader builds and writes status.

    Args:
        agents: the agents as last seen.
        queue: where keys come from and go back to.
        tools: of each lane.
        credentials: issues and revokes, beside everything else.
        fleet: stops many at once.
        switches: the kill switches.
        evidence: what tells breakers from outside, and who is told what they did.
        recorder: writes events.
        is_leader: whether this replica holds the lease.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        agents: AgentStore,
        queue: WorkQueue,
        tools: dict[Lane, LaneTools],
        credentials: Credentials,
        fleet: Fleet,
        switches: Switches,
        evidence: Evidence,
        recorder: Recorder,
        is_leader: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._agents = agents
        self._queue = queue
        self._tools = tools
        self._credentials = credentials
        self._fleet = fleet
        self._switches = switches
        self._evidence = evidence
        self._is_leader = is_leader
        self._now = now
        self._cuts: dict[str, Cut] = {}
        self._leaving: dict[Key, Object] = {}
        self._opened = Unwritten(now=now)
        self._statuses = StatusWriter(
            agents=agents, opened=self._opened, evidence=evidence, recorder=recorder, is_leader=is_leader, now=now
        )
        self._suspects: set[Key] = set()
        self._alarms: set[Key] = set()
        self._resuming: set[Key] = set()

    def lane_of(self, key: Key) -> Lane:
        """Returns the lane for a key: the urgent one as soon as anything says that its agent must not run.

        The record of a suspension in its status says so too, but no longer once the agent was found free to run. The
        record stays until the run is written down, and each child that is made meanwhile is news of the agent: in the
        urgent lane such news would cancel the very work that makes the children.
        """
        if key in self._leaving or key in self._alarms:
            return Lane.URGENT
        agent = self._agents.get(key.namespace, key.name)
        if agent is None:
            return Lane.NORMAL
        spec = agent.get("spec")
        wants_stop = isinstance(spec, dict) and bool(spec.get("suspend"))
        held = key not in self._resuming and bool((agent.get("status") or {}).get("suspension"))
        stops = wants_stop or held or pods.is_being_deleted(agent) or bool(self._switches.of(agent))
        return Lane.URGENT if stops else Lane.NORMAL

    def suspect(self, key: Key) -> None:
        """Takes note that the next look at an agent's pods must not rest on a cache."""
        self._suspects.add(key)

    def alarm(self, key: Key) -> None:
        """Takes note that an agent's isolation is lost: the next look at it is urgent."""
        self._alarms.add(key)

    def gone(self, key: Key, agent: Object) -> None:
        """Takes note that an agent was deleted: what it had still has to end."""
        metadata = {**agent["metadata"]}
        metadata.setdefault("deletionTimestamp", metadata.get("creationTimestamp"))
        self._leaving[key] = {**agent, "metadata": metadata}
        self._resuming.discard(key)

    async def reconcile(self, key: Key, lane: Lane) -> None:
        """Brings one agent to what it should be.

        Raises:
            ClusterError: what may be different the next time; the caller backs off.
        """
        leaving = self._leaving.get(key)
        if leaving is not None:
            await self._let_go(key, leaving)
            return
        agent = self._agents.get(key.namespace, key.name)
        if agent is None:
            self._alarms.discard(key)
            return
        agent = self._with_circuit(agent)
        if self._fleet.holds(agent["metadata"]["uid"]):
            # It is being cut with many others, and comes back here to be verified. What it has elsewhere is not cut
            # there, and can be in use from elsewhere.
            if self._switches.of(agent):
                books = self._credentials.books(agent)
                self._credentials.start(agent, leases.revocation(books, agent=agent, now=self._now()))
            return
        # Before the look: what comes up meanwhile is another suspicion.
        live, dealt_with = key in self._suspects, False
        self._suspects.discard(key)
        try:
            dealt_with = await self._look(key, agent, lane, live=live)
        finally:
            if live and not dealt_with:
                # No cache shows what it is about, so a look that failed is not made up for by the next ordinary one.
                self._suspects.add(key)

    async def _look(self, key: Key, agent: Object, lane: Lane, *, live: bool) -> bool:
        """Looks at one agent; says whether what was found was dealt with."""
        tools = self._tools[lane]
        observed = await tools.gatherer.gather(agent, live=live)
        self._alarms.discard(key)
        plan = self._plan(observed)
        if plan.suspends:
            self._resuming.discard(key)
            return await self._suspend(key, plan, observed, tools)
        if lane is Lane.URGENT:
            # The urgent lane only cuts. What is to grow again waits its turn.
            self._resuming.add(key)
            # A look at the stop that was still to come would cut into the run.
            self._queue.cancel_delay(key)
            self._queue.add(key, Lane.NORMAL)
            return False
        return await self._run(key, plan, observed, tools)

    def _plan(self, observed: Observed) -> Plan:
        return agent_plan.plan(observed, now=self._now())

    async def _suspend(self, key: Key, plan: Plan, observed: Observed, tools: LaneTools) -> bool:
        if plan.rests_on_this_replica and not self._is_leader():
            # A standby that cannot reach a canary would take away, again and again, what the leader builds. It looks
            # again when the canary answers, and when it leads.
            return False
        if plan.opens:
            plan, observed = await self._put_on_record(plan, observed, tools)
        plan, observed, cut, errors = await self._stop(plan, observed, tools)
        refused = tuple(str(error) for error in errors)
        agent = await self._statuses.write(tools.client, plan, observed, Outcome(refused=refused), cut)
        await self._settle(plan)
        if errors:
            raise errors[0]
        if plan.delete_agent and self._is_leader():
            await self._delete_expired(agent or observed.agent, tools)
        elif plan.next_look is not None:
            self._queue.add_after(key, plan.next_look.total_seconds(), Lane.URGENT)
        return True

    async def _put_on_record(self, plan: Plan, observed: Observed, tools: LaneTools) -> tuple[Plan, Observed]:
        """Cuts the network of an agent whose breaker opens, and writes that down before its pods go.

        They are the evidence: planned again without them and without the record, nothing would hold the agent. Where it
        cannot be written down, by a replica that does not lead for one, that is no reason to let the agent run on: it
        is kept here until it can be.
        """
        uid = observed.agent["metadata"]["uid"]
        if plan.breaker is not None:
            self._opened.note(observed.agent, circuit.write(plan.breaker.circuit))
        if not self._is_leader():
            return plan, observed
        network = tuple(one for one in plan.phases if one.step == agent_plan.NETWORK)
        cut, errors = await tools.actor.take_away(network, self._cuts.get(uid) or Cut(since=self._now()))
        self._cuts[uid] = cut
        try:
            written = await self._statuses.write(tools.client, plan, observed, Outcome(), cut)
        except ClusterError as error:
            logger.warning("an open breaker is not on record yet: %s", error, extra=logs.about(observed.agent))
            written = None
        if not errors:
            plan = replace(plan, phases=tuple(one for one in plan.phases if one not in network))
        return plan, replace(observed, agent=written or self._with_circuit(observed.agent))

    def _with_circuit(self, agent: Object) -> Object:
        """Returns an agent with the open breaker that is not in its status yet, where it is on us to write it."""
        return self._opened.applied(agent) if self._is_leader() else agent

    async def _settle(self, plan: Plan) -> None:
        """Takes alerts off their records that the status has."""
        if plan.settled_alerts and self._is_leader():
            await self._evidence.alerts.settle(plan.settled_alerts)

    async def _stop(
        self, plan: Plan, observed: Observed, tools: LaneTools
    ) -> tuple[Plan, Observed, Cut, list[ClusterError]]:
        """Takes everything away, and asks the API server whether anything is left once the caches know of nothing."""
        uid = observed.agent["metadata"]["uid"]
        cut = self._cuts.get(uid) or self._fleet.cut_of(uid) or Cut(since=self._now())
        if cut.stopped is not None and (observed.pods or observed.stateful_set):
            # It had stopped, and something of it is there again: this is a new suspension.
            cut = Cut(since=self._now())
        # First, so that revoking begins while the network is being cut: its tasks run as soon as this one waits.
        self._credentials.start(observed.agent, plan.leases)
        cut, errors = await tools.actor.take_away(plan.phases, cut)
        if not errors and not observed.pods:
            observed = await tools.gatherer.gather(observed.agent, live=True)
            again = self._plan(observed)
            plan = again if again.suspends else replace(plan, next_look=agent_plan.STOP_LOOK)
            if suspension.is_stopped(observed):
                cut = replace(cut, stopped=cut.stopped or self._now())
            else:
                cut, errors = await tools.actor.take_away(plan.phases, cut)
        if plan.leases.unrevoked:
            # The step is done with the last lease, wherever that lives.
            cut = replace(cut, credentials=None)
        self._cuts[uid] = cut
        return plan, observed, cut, errors

    async def _run(self, key: Key, plan: Plan, observed: Observed, tools: LaneTools) -> bool:
        # Those of an earlier stop are no times of the next, whoever leads then.
        self._cuts.pop(observed.agent["metadata"]["uid"], None)
        self._fleet.forget(observed.agent)
        if not self._is_leader() or plan.spec is None:
            return False
        if observed.stateful_set is None and not await self._is_current(observed.agent, tools):
            self._queue.add(key, self.lane_of(key))
            return False
        self._credentials.start(observed.agent, plan.leases)
        _, errors = await tools.actor.take_away(plan.phases, Cut(since=self._now()))
        try:
            outcome = await self._build(observed, plan, tools)
        except NotLeadingError:
            return False
        observed = replace(observed, warned=await tools.gatherer.warned(observed, wanted=plan.spec.replicas))
        await self._statuses.write(tools.client, plan, observed, outcome, None)
        await self._settle(plan)
        self._resuming.discard(key)
        if errors:
            raise errors[0]
        self._look_again(key, plan, outcome)
        return True

    async def _build(self, observed: Observed, plan: Plan, tools: LaneTools) -> Outcome:
        if observed.stateful_set is None:
            taken = await tools.gatherer.taken_claims(observed.agent)
            if taken:
                return Outcome(taken=taken)
        outcome = await tools.actor.build_up(plan.desired)
        if plan.spec is not None:
            await tools.actor.settle_claims(observed, plan.spec)
        return outcome

    def _look_again(self, key: Key, plan: Plan, outcome: Outcome) -> None:
        if outcome.taken:
            # With the conflict in its status the agent is looked at as one that must not run, names looked up live.
            self._queue.add(key, Lane.NORMAL)
        elif outcome.refused:
            raise RefusedError("; ".join(outcome.refused))
        elif plan.next_look is not None:
            self._queue.add_after(key, plan.next_look.total_seconds())

    async def _is_current(self, agent: Object, tools: LaneTools) -> bool:
        """Makes sure that an agent still is as it was seen, before anything is built from nothing for it.

        A deletion that kopf's watch missed leaves a copy behind, and one that a broken watch holds back may say that an
        agent runs which somebody suspended meanwhile.
        """
        data = agent["metadata"]
        if self._agents.age(data["namespace"], data["name"]) < CONFIRM_AFTER:
            return True
        live = await tools.client.get(resources.AGENTS, namespace=data["namespace"], name=data["name"])
        if live is None:
            self._agents.remove(data["namespace"], data["name"], uid=data["uid"])
            return False
        # The watch can have told meanwhile that it was deleted: what was read before that must not bring it back.
        self._agents.answered(live)
        known = self._agents.get(data["namespace"], data["name"]) is not None
        return known and bool(live["metadata"]["resourceVersion"] == data["resourceVersion"])

    async def _let_go(self, key: Key, agent: Object) -> None:
        """Ends what a deleted agent still has. Garbage collection does so too, but later."""
        tools = self._tools[Lane.URGENT]
        observed = await tools.gatherer.gather(agent, live=False)
        plan, observed, cut, errors = await self._stop(self._plan(observed), observed, tools)
        if errors:
            raise errors[0]
        if plan.spec is not None and self._is_leader():
            await tools.actor.settle_claims(observed, plan.spec, leaving=True)
        if cut.stopped is None:
            self._queue.add_after(key, agent_plan.STOP_LOOK.total_seconds(), Lane.URGENT)
            return
        self._leaving.pop(key, None)
        self._cuts.pop(agent["metadata"]["uid"], None)
        self._fleet.forget(agent)
        self._opened.drop(agent["metadata"]["uid"])
        self._statuses.forget(agent["metadata"]["uid"])
        # Where its deletion did not wait for an issuer any longer, the next try is a while away.
        self._credentials.orphaned(agent)
        logger.info("agent is deleted and gone", extra=logs.about(agent))
        if self._agents.get(key.namespace, key.name) is not None:
            self._queue.add(key, self.lane_of(key))

    async def _delete_expired(self, agent: Object, tools: LaneTools) -> None:
        data = agent["metadata"]
        logger.info("lifetime reached, deleting the AgentDeployment as its spec says", extra=logs.about(agent))
        await tools.client.delete(
            resources.AGENTS,
            namespace=data["namespace"],
            name=data["name"],
            uid=data["uid"],
            resource_version=data["resourceVersion"],
        )
