"""Stopping many agents at once: calls per namespace and step, not per agent.

What a suspension takes from one agent object by object (`actor`), this takes from all that are meant in a namespace by
one `deletecollection` for each kind (`plan.bulk` says by which). It is a first cut, not a suspension: what it leaves,
because somebody else's object is under our labels or because a call failed, the ordinary way finds and takes, and it
alone proves that nothing is left and writes it down.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.resources import Resource
from bulkhead.engine.queue import Key
from bulkhead.engine.view import View, agent_key
from bulkhead.plan import bulk
from bulkhead.plan.agent import CREDENTIALS, NETWORK, PROCESSES
from bulkhead.plan.observed import Cut

logger = logging.getLogger(__name__)

Object = dict[str, Any]

AT_ONCE = 64
"""Calls at the same time, and steps. With the first deletions begins the work of those who react to them, kubelets and
the garbage collector: with 16 calls they take the API server's time from what is still to be deleted. The networks of
1,000 agents in 50 namespaces were cut after 2.1 s by 16 and after 0.9 s by 64 (docs/performance.md)."""
CALL_SECONDS = 45.0
"""For one call: a thousand objects in one collection take an API server on two busy cores several seconds."""
TRIES = 5
"""Of a call that the API server answers. One that it does not is not sent again: whoever is left waits long enough."""
RETRY_MOST = 0.5
"""The longest wait, in seconds, before a call is tried again, whatever the API server asks for: it is a cut."""
PROMPT = 64
"""Up to so many agents are looked at by the ordinary way as soon as their cut is through. Of more, each is when all are
cut and its own pods are gone: what it would find before is that they are not."""
HELD_FEW = 5.0
HELD_MANY = 30.0
"""Seconds after which an agent, one of up to `PROMPT` or of more, is left to the ordinary way though the cut is not
through: a call can hang."""
LINGER = 1.0
"""Seconds beyond the grace for which an agent of many waits in any case for the end of its pods."""
POLL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a cut: kinds that are deleted together.

    Attributes:
        rank: of all that wait, the lowest goes first: all networks before anybody's processes.
        part: which time of `Cut` it belongs to.
        resources: the kinds.
        then: the steps that follow it.
    """

    rank: int
    part: str
    resources: tuple[Resource, ...]
    then: tuple[Step, ...] = ()


ACCOUNTS = Step(rank=2, part=CREDENTIALS, resources=(resources.SERVICE_ACCOUNTS, resources.ROLES))
BINDINGS = Step(rank=1, part=CREDENTIALS, resources=(resources.ROLE_BINDINGS,), then=(ACCOUNTS,))
# Where the StatefulSets are gone the pods are next, before the StatefulSets of others: then they are told to end.
PODS = Step(rank=3, part=PROCESSES, resources=(resources.PODS,))
WORKLOADS = Step(rank=4, part=PROCESSES, resources=(resources.STATEFUL_SETS,), then=(PODS,))
FIRST = Step(
    rank=0,
    part=NETWORK,
    resources=(resources.NETWORK_POLICIES, resources.CILIUM_NETWORK_POLICIES),
    then=(BINDINGS, WORKLOADS),
)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The agents of one namespace that are cut together."""

    namespace: str
    cut: Cut
    stops: Callable[[Key, str], bool]
    names: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    graces: dict[str, int] = field(default_factory=dict)
    """Of those that are still to be stopped."""
    steps: int = 1
    """Steps that are waiting or being done."""
    failed: set[str] = field(default_factory=set)
    done: bool = False
    ends: float = float("inf")
    """When its agents are looked at in any case, in the loop's seconds."""


class Fleet:
    """Cuts sets of agents. Every replica may, leader or not: what is gone already costs nobody anything.

    Call `run` in a task.

    Args:
        client: with connections of its own.
        view: the caches of what agents are made of.
        settled: told the key of each agent that was dealt with: the ordinary way looks at what is left, and verifies.
        now: the time of day.
        at_once: how many calls at the same time.
    """

    def __init__(
        self,
        client: Client,
        *,
        view: View,
        settled: Callable[[Key], None],
        now: Callable[[], datetime],
        at_once: int = AT_ONCE,
    ) -> None:
        self._client = client
        self._view = view
        self._settled = settled
        self._now = now
        self._at_once = at_once
        self._held: set[str] = set()
        self._keys: set[Key] = set()
        self._uids: dict[Key, str] = {}
        """Of the agents in `_cuts`."""
        self._cuts: dict[str, Cut] = {}
        self._fresh: dict[str, _Batch] = {}
        """Batches that have not begun: more agents of the same namespace can join."""
        self._batches: list[_Batch] = []
        self._work: asyncio.PriorityQueue[tuple[int, int, Step, _Batch]] = asyncio.PriorityQueue()
        self._number = 0
        self._gate = asyncio.Semaphore(at_once)

    async def run(self) -> None:
        """Works on what `cut` was told, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._at_once):
                group.create_task(self._worker(), name=f"fleet-{number}")
            group.create_task(self._settle(), name="fleet-settle")

    def cut(
        self,
        agents: Iterable[Object],
        *,
        graces: Mapping[str, int],
        stops: Callable[[Key, str], bool],
        delay: float = 0.0,
    ) -> None:
        """Begins to take everything from these agents; returns at once. Agents in work already are left out.

        Args:
            agents: AgentDeployments.
            graces: seconds for the processes of each, by the agent's UID.
            stops: asked before each step whether an agent, by key and UID, is still to be stopped: a replica that comes
                late to it may find that another has done it all, and that the agent runs again.
            delay: seconds to wait, so that of several replicas one does the work while it can. They are held meanwhile.
        """
        since = self._now()
        for agent in agents:
            data = agent["metadata"]
            if data["uid"] in self._held:
                continue
            batch = self._fresh.get(data["namespace"])
            if batch is None:
                batch = self._fresh[data["namespace"]] = _Batch(
                    namespace=data["namespace"], cut=Cut(since=since), stops=stops
                )
                self._batches.append(batch)
                if delay:
                    asyncio.get_running_loop().call_later(delay, self._put, FIRST, batch)
                else:
                    self._put(FIRST, batch)
            batch.names[data["uid"]], batch.graces[data["uid"]] = data["name"], graces[data["uid"]]
            batch.held.add(data["uid"])
            self._held.add(data["uid"])
            key = agent_key(data["namespace"], data["name"])
            self._keys.add(key)
            self._uids[key] = data["uid"]
            self._cuts[data["uid"]] = batch.cut

    def is_cutting(self) -> bool:
        """Says whether anybody is being cut here now."""
        return bool(self._batches)

    def holds(self, uid: str) -> bool:
        """Says whether the agent with this UID is being cut here: whoever else would stop it need not, yet."""
        return uid in self._held

    def holds_key(self, key: Key) -> bool:
        """Says whether an agent of this name is being cut here: its events need no look, `settled` is told of it."""
        return key in self._keys

    def has_cut(self, key: Key) -> bool:
        """Says whether the agent of this name was cut here, or is being: whoever was not goes first."""
        return self._uids.get(key) in self._cuts

    def cut_of(self, uid: str) -> Cut | None:
        """Returns when the steps of an agent's stop were done here, those that were; None where it is not cut here."""
        return self._cuts.get(uid)

    def forget(self, agent: Object) -> None:
        """Drops the times of an agent that runs again, or is gone."""
        data = agent["metadata"]
        key = agent_key(data["namespace"], data["name"])
        self._cuts.pop(data["uid"], None)
        if self._uids.get(key) == data["uid"]:
            del self._uids[key]

    def _put(self, step: Step, batch: _Batch) -> None:
        self._number += 1
        self._work.put_nowait((step.rank, self._number, step, batch))

    async def _worker(self) -> None:
        while True:
            _, _, step, batch = await self._work.get()
            if step is FIRST:
                self._fresh.pop(batch.namespace, None)
                most = HELD_MANY if len(self._held) > PROMPT else HELD_FEW
                batch.ends = asyncio.get_running_loop().time() + most
            for uid in [uid for uid in batch.graces if not batch.stops(self._key(uid, batch), uid)]:
                self._release(uid, batch)
            try:
                await self._do(step, batch)
            except Exception:
                # Agents must not stay held for ever, whatever is wrong here.
                logger.exception("cutting a fleet failed unexpectedly", extra={"namespace": batch.namespace})
                batch.failed.add(step.part)
            batch.steps += len(step.then) - 1
            for following in step.then:
                self._put(following, batch)
            if not batch.steps:
                self._done(batch)

    async def _do(self, step: Step, batch: _Batch) -> None:
        """Does one step for one namespace. A call that fails holds up no other: it is not even the same object."""
        worked = await asyncio.gather(*(self._delete(resource, step, batch) for resource in step.resources))
        batch.cut = replace(batch.cut, worked=batch.cut.worked or any(worked))
        if step.part not in batch.failed:
            # Of two steps of one part the later counts.
            done: dict[str, Any] = {step.part: self._now()}
            batch.cut = replace(batch.cut, **done)

    async def _delete(self, resource: Resource, step: Step, batch: _Batch) -> bool:
        planned = bulk.calls(self._known(resource, batch), batch.graces)
        if planned.odd:
            logger.warning(
                "objects that are not the operator's carry its labels; what these agents have goes one by one",
                extra={"namespace": batch.namespace, "kind": resource.kind, "agents": len(planned.odd)},
            )
            batch.failed.add(step.part)
        results = await asyncio.gather(*(self._call(resource, batch.namespace, call) for call in planned.calls))
        if not all(results):
            batch.failed.add(step.part)
        return any(results)

    async def _call(self, resource: Resource, namespace: str, call: bulk.Call) -> bool:
        """Sends a call, again where that may help; says whether it was carried out."""
        for attempt in range(1, TRIES + 1):
            try:
                async with self._gate:
                    await self._client.delete_collection(
                        resource,
                        namespace=namespace,
                        label_selector=call.selector,
                        grace_seconds=call.grace_seconds,
                        deadline=CALL_SECONDS,
                    )
                return True
            except ClusterError as error:
                if attempt == TRIES or not _may_pass(error):
                    logger.warning("%s: what is left goes one by one", error, extra={"namespace": namespace})
                    return False
                await asyncio.sleep(RETRY_MOST * (0.5 + 0.5 * random.SystemRandom().random()))
        return False

    def _known(self, resource: Resource, batch: _Batch) -> Iterator[Object]:
        """Gives what is known of a kind under the labels of the batch's agents, and it may be more."""
        view = self._view
        if resource is resources.PODS:
            # Their index is by marks, and a stranger's pod has none.
            yield from (pod for pod in view.pods if pod["metadata"]["namespace"] == batch.namespace)
            return
        informer = view.of_kind(resource.kind)
        if informer in (view.network_policies, view.cilium_policies):
            yield from informer.by_index(batch.namespace)
            return
        for uid in batch.names:
            yield from informer.by_index((batch.namespace, uid))

    def _done(self, batch: _Batch) -> None:
        for uid in batch.graces:
            if uid in self._cuts:
                self._cuts[uid] = batch.cut
        logger.info(
            "agents are cut",
            extra={
                "namespace": batch.namespace,
                "agents": len(batch.graces),
                "seconds": round((self._now() - batch.cut.since).total_seconds(), 3),
            },
        )
        batch.done = True
        now, grace = asyncio.get_running_loop().time(), max(batch.graces.values(), default=0)
        batch.ends = max(batch.ends, now + grace + LINGER) if len(self._held) > PROMPT else now

    async def _settle(self) -> None:
        """Hands agents over to the ordinary way."""
        while True:
            now = asyncio.get_running_loop().time()
            # What is written down of those who are cut waits for those who are not.
            cutting = not all(batch.done for batch in self._batches)
            for batch in self._batches:
                for uid in [uid for uid in batch.held if not self._waits(uid, batch, now, cutting=cutting)]:
                    self._hand_over(uid, batch)
            self._batches = [batch for batch in self._batches if batch.held]
            await asyncio.sleep(POLL)

    def _hand_over(self, uid: str, batch: _Batch) -> None:
        key = self._key(uid, batch)
        batch.held.discard(uid)
        self._held.discard(uid)
        self._keys.discard(key)
        self._settled(key)

    def _release(self, uid: str, batch: _Batch) -> None:
        """Leaves an agent alone that nothing stops any more."""
        del batch.graces[uid]
        self._cuts.pop(uid, None)
        if uid in batch.held:
            self._hand_over(uid, batch)

    @staticmethod
    def _key(uid: str, batch: _Batch) -> Key:
        return agent_key(batch.namespace, batch.names[uid])

    def _waits(self, uid: str, batch: _Batch, now: float, *, cutting: bool) -> bool:
        """Says whether the ordinary way would find nothing to do yet but to wait, or be in the way."""
        return now < batch.ends and (cutting or bool(self._view.pods.by_index((batch.namespace, uid))))


def _may_pass(error: ClusterError) -> bool:
    """Whether the same call may soon do better: the API server was busy, or lost a race."""
    return isinstance(error, ApiError) and (error.throttled or error.conflict or error.status >= 500)
