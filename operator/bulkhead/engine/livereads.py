"""Reading workloads and pods past every cache: one by one, or for many agents of a namespace by the same two lists.

Only the live API proves that nothing is left of an agent. When a fleet is stopped, thousands of agents want that proof
at the same time, and the API server goes through all pods of a namespace for each of them: it cannot index them by
service account. Whoever asks while others do waits for a list that begins after it asked, and shares it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.plan import names, pods

Object = dict[str, Any]
Found = tuple[Object | None, tuple[Object, ...]]

ALONE = 2
"""Reads in one namespace that are sent by themselves. What comes while so many are under way is read together."""


class LiveReads:
    """Reads what agents run from the API server.

    Args:
        client: to read with.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._under_way: defaultdict[str, int] = defaultdict(int)
        self._waiting: dict[str, list[tuple[Object, asyncio.Future[Found]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Ends what is read for many, and returns when it has ended; whoever waits for it is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def read(self, agent: Object) -> Found:
        """Returns the agent's own StatefulSet and its own pods, as they were after this was called.

        Raises:
            ClusterError: they could not be read.
        """
        namespace = agent["metadata"]["namespace"]
        if namespace not in self._waiting and self._under_way[namespace] < ALONE:
            self._under_way[namespace] += 1
            try:
                return await self._alone(agent)
            finally:
                self._leave(namespace)
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(namespace, []).append((agent, future))
        return await future

    async def _alone(self, agent: Object) -> Found:
        """Reads of one agent.

        Pods are found by the service account that they run under, which cannot be edited, and not by labels, which can.
        """
        namespace, name = agent["metadata"]["namespace"], agent["metadata"]["name"]
        account = names.service_account_name(name)
        stateful_set, (found, _) = await asyncio.gather(
            self._client.get(resources.STATEFUL_SETS, namespace=namespace, name=names.stateful_set_name(name)),
            self._client.list(resources.PODS, namespace=namespace, field_selector=f"spec.serviceAccountName={account}"),
        )
        return _of(agent, [] if stateful_set is None else [stateful_set], found)

    def _leave(self, namespace: str) -> None:
        self._under_way[namespace] -= 1
        if not self._under_way[namespace]:
            del self._under_way[namespace]
        waiting = [(agent, future) for agent, future in self._waiting.pop(namespace, ()) if not future.done()]
        if waiting:
            self._under_way[namespace] += 1
            task = asyncio.get_running_loop().create_task(self._together(namespace, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _together(self, namespace: str, waiting: list[tuple[Object, asyncio.Future[Found]]]) -> None:
        try:
            (sets, _), (found, _) = await asyncio.gather(
                self._client.list(resources.STATEFUL_SETS, namespace=namespace),
                self._client.list(resources.PODS, namespace=namespace),
            )
            by_agent: defaultdict[str, list[Object]] = defaultdict(list)
            for pod in found:
                marks = pods.agent_of(pod)
                if marks is not None:
                    by_agent[marks.uid].append(pod)
            by_name = {one["metadata"]["name"]: one for one in sets}
            for agent, future in waiting:
                own = by_name.get(names.stateful_set_name(agent["metadata"]["name"]))
                if not future.done():
                    future.set_result(_of(agent, [own] if own else [], by_agent[agent["metadata"]["uid"]]))
        except Exception as error:
            # Whatever it is, it is the answer to each of those who wait.
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in waiting:
                future.cancel()
            self._leave(namespace)


def _of(agent: Object, sets: list[Object], found: list[Object]) -> Found:
    uid = agent["metadata"]["uid"]
    own = next((one for one in sets if meta.is_owned_by(one, uid)), None)
    return own, tuple(pod for pod in found if (marks := pods.agent_of(pod)) is not None and marks.uid == uid)
