"""Looking at every agent again, slowly and for ever: what no watch told must not stay unknown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ClusterError, Unreachable
from bulkhead.engine import logs
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.view import agent_key

Object = dict[str, Any]

logger = logging.getLogger(__name__)

RESYNC_SECONDS = 600.0
"""Every agent is looked at this often even when nothing happens."""


class RestoredError(Exception):
    """The API server went back in time, as after etcd was restored from a backup.

    kopf's watch goes on from a position in the future, is silent, and cannot be told to begin anew; and what is held of
    the agents is newer than what is so. Only a restart of the process helps, and this ends the part that finds it out,
    so that the kubelet does that.
    """


class Resync:
    """Lists the agents and puts each into the queue. Call `run` in a task.

    Args:
        client: lists them.
        agents: the agents as the watch showed them.
        queue: where their keys go.
        lane_of: gives the lane of a key.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: Client,
        *,
        agents: AgentStore,
        queue: WorkQueue,
        lane_of: Callable[[Key], Lane],
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._agents = agents
        self._queue = queue
        self._lane_of = lane_of
        self._clock = clock

    async def run(self) -> None:
        """Goes through all agents, spread over half of the time, until cancelled.

        Raises:
            RestoredError: The API server went back in time.
        """
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self._compare()
            except ClusterError as error:
                logger.warning("could not list agents: %s", error)
            keys = [agent_key(one["metadata"]["namespace"], one["metadata"]["name"]) for one in self._agents]
            for number, key in enumerate(keys):
                self._queue.add_after(key, RESYNC_SECONDS / 2 * number / len(keys), self._lane_of(key))

    async def _compare(self) -> None:
        """Drops agents whose deletion kopf's watch missed, and takes in what else it missed."""
        before, newest = self._clock(), self._agents.newest()
        known = {agent["metadata"]["uid"] for agent in self._agents}
        listed, version = await self._client.list(resources.AGENTS, metadata_only=True, shape=_head)
        if not version.isdigit():
            raise Unreachable(f"a list of agents without a version came: {version!r}")
        if int(version) < newest:
            message = (
                f"the cluster is at version {version} and was at {newest} before: it was restored from a backup, and "
                "agents can only be followed after a restart of the operator, which ends itself for it"
            )
            logger.critical("%s", message)
            raise RestoredError(message)
        uids = {agent["metadata"]["uid"] for agent in listed}
        for agent in self._agents.keep_only(uids, seen_before=before):
            logger.info("an agent is gone whose deletion no watch showed", extra=logs.about(agent))
        # The watch can tell of a deletion while the list, which was read before it, is on its way.
        deleted = known - {agent["metadata"]["uid"] for agent in self._agents}
        for head in listed:
            if head["metadata"]["uid"] not in deleted and not self._agents.confirm(head):
                await self._take_in(head)

    async def _take_in(self, head: Object) -> None:
        """Reads an agent of which the list has a newer version, or which is not known at all."""
        data = head["metadata"]
        was_known = self._agents.get(data["namespace"], data["name"]) is not None
        live = await self._client.get(resources.AGENTS, namespace=data["namespace"], name=data["name"])
        is_known = self._agents.get(data["namespace"], data["name"]) is not None
        if live is not None and is_known >= was_known:  # else the watch told meanwhile that it was deleted
            self._agents.observe(live)


def _head(agent: Object) -> Object:
    """What is compared. Whole agents, all at the same time, would be more than all that is kept of them."""
    return {"metadata": {key: agent["metadata"][key] for key in ("namespace", "name", "uid", "resourceVersion")}}
