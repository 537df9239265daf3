"""Proving that nothing is left of many agents: the caches say when to look, the live API is what counts."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key
from bulkhead.engine.view import View
from bulkhead.plan import names, pods

Object = dict[str, Any]

PATIENCE = 10.0
"""Seconds for which the agents of a namespace that are gone by the cache wait for the others there, so that one look
serves all of them: each reads all its pods, from an API server that is busy with their end."""
AT_ONCE = 4
"""Namespaces that are looked at side by side."""


class Absence:
    """Knows of which agents it is proven that nothing runs, and none can.

    That is so when the API server, asked past every cache, has neither a pod with the agent's marks nor a StatefulSet
    that it owns. It ceases to be so as soon as a cache shows one.

    Args:
        client: to ask with.
        agents: the agents.
        view: the caches of what agents are made of.
        clock: monotonic seconds.
    """

    def __init__(self, client: Client, *, agents: AgentStore, view: View, clock: Callable[[], float]) -> None:
        self._client = client
        self._agents = agents
        self._view = view
        self._clock = clock
        self._proven: set[str] = set()
        self._refuted: set[str] = set()
        self._since: dict[str, float] = {}
        self._complete_at: float | None = None

    def forget(self) -> None:
        """Forgets what was proven."""
        self._proven.clear()
        self._refuted.clear()
        self._since.clear()

    def is_proven(self, uid: str, key: Key) -> bool:
        """Says whether it is proven that nothing runs of the agent with this UID, and no cache shows the contrary."""
        return uid in self._proven and not self._runs(uid, key)

    def is_refuted(self, uid: str) -> bool:
        """Says whether the last look at the live API found something of the agent with this UID."""
        return uid in self._refuted

    def is_connected(self, agent: Object) -> bool:
        """Says whether an agent has rules of the network of its own, as far as the caches know."""
        data = agent["metadata"]
        name = names.network_policy_name(data["name"])
        rules = (one.get(data["namespace"], name) for one in (self._view.network_policies, self._view.cilium_policies))
        return any(one is not None and meta.is_owned_by(one, data["uid"]) for one in rules)

    def is_idle(self, agent: Object) -> bool:
        """Says whether an agent has neither rules nor processes, as far as the caches know."""
        data = agent["metadata"]
        key = Key(meta.AGENT_KIND, data["namespace"], data["name"])
        return not self.is_connected(agent) and not self._runs(data["uid"], key)

    def knew_all(self, *, since: float) -> bool:
        """Says whether the store of agents is known to have been complete at that moment, by the clock, or later."""
        return self._complete_at is not None and self._complete_at >= since

    async def knows_all(self, *, since: float = -math.inf) -> bool:
        """Says whether the store of agents has been complete: kopf does not tell when its first list is over.

        Before, nothing can be said of how many agents a switch matches. An operator that had just been started called a
        fleet stopped of which it knew no agent yet; one that was behind with the watch, 37 of 48 agents.

        Args:
            since: by the clock, the moment from which on it must have been; any will do where none is given.

        Raises:
            ClusterError: the API server could not be asked.
        """
        if not self.knew_all(since=since):
            began = self._clock()
            listed, _ = await self._client.list(resources.AGENTS, metadata_only=True, shape=_head)
            known = {agent["metadata"]["uid"] for agent in self._agents}
            if not all(one["metadata"]["uid"] in known for one in listed):
                return False
            self._complete_at = began
        return True

    async def prove(self, concerned: Mapping[str, Key]) -> None:
        """Looks at what is left of agents, where the caches say that it may be nothing.

        Args:
            concerned: the key of each agent, by its UID. What is known of others is forgotten.

        Raises:
            ClusterError: the API server could not be asked. What was proven stays so.
        """
        running = {uid for uid, key in concerned.items() if self._runs(uid, key)}
        self._proven = (self._proven & concerned.keys()) - running
        self._refuted &= concerned.keys()
        asked: defaultdict[str, set[str]] = defaultdict(set)
        waiting: set[str] = set()
        for uid, key in concerned.items():
            if uid in running:
                waiting.add(key.namespace)
            elif uid not in self._proven:
                asked[key.namespace].add(uid)
        due = [namespace for namespace in asked if self._is_due(namespace, waits=namespace in waiting)]
        self._since = {namespace: at for namespace, at in self._since.items() if namespace in asked}
        gate = asyncio.Semaphore(AT_ONCE)

        async def look(namespace: str) -> None:
            async with gate:
                there = await self._live(namespace)
                self._proven |= asked[namespace] - there
                self._refuted = (self._refuted - asked[namespace]) | (asked[namespace] & there)
                self._since.pop(namespace, None)

        results = await asyncio.gather(*(look(namespace) for namespace in due), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _is_due(self, namespace: str, *, waits: bool) -> bool:
        since = self._since.setdefault(namespace, self._clock())
        return not waits or self._clock() - since >= PATIENCE

    def _runs(self, uid: str, key: Key) -> bool:
        stateful_set = self._view.stateful_sets.get(key.namespace, names.stateful_set_name(key.name))
        owned = stateful_set is not None and meta.is_owned_by(stateful_set, uid)
        return owned or bool(self._view.pods.by_index((key.namespace, uid)))

    async def _live(self, namespace: str) -> set[str]:
        """Returns the UIDs of the agents of which a namespace has a pod or a StatefulSet, by the live API.

        By no label: labels can be edited. In sandbox namespaces there is hardly anything else than agents.
        """
        (found, _), (sets, _) = await asyncio.gather(
            self._client.list(resources.PODS, namespace=namespace, shape=_marks_only),
            self._client.list(resources.STATEFUL_SETS, namespace=namespace, metadata_only=True, shape=_head),
        )
        return {one["agent"] for one in found} | _owners(sets)


def _owners(objects: Iterable[Object]) -> set[str]:
    return {str(reference.get("uid")) for one in objects for reference in meta.owner_references(one)}


def _marks_only(pod: Object) -> Object:
    marks = pods.agent_of(pod)
    return {"agent": marks.uid if marks is not None else ""}


def _head(obj: Object) -> Object:
    kept = ("uid", "ownerReferences")
    return {"metadata": {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}}
