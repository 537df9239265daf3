"""The one finalizer: agents with leases outside of the cluster are gone only when these are revoked."""

from __future__ import annotations

from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError
from bulkhead.engine.agents import AgentStore
from bulkhead.plan.leases import FINALIZER, has_finalizer

Object = dict[str, Any]

TRIES = 4
"""Its status is written at the same moment, by this very operator; each such write is a new version."""


class AgentGoneError(Exception):
    """The agent is gone, or going: nothing is issued for it any more."""


async def add(client: Client, agents: AgentStore, agent: Object) -> None:
    """Sees to it that the agent has the finalizer.

    Raises:
        AgentGoneError: it is being deleted, and the API server takes no new finalizer then; or it is gone.
        ClusterError: it could not be written.
    """
    await _set(client, agents, agent, wanted=True)


async def remove(client: Client, agents: AgentStore, agent: Object) -> None:
    """Sees to it that the agent does not have the finalizer.

    Raises:
        ClusterError: it could not be written.
    """
    try:
        await _set(client, agents, agent, wanted=False)
    except AgentGoneError:
        return


async def _set(client: Client, agents: AgentStore, agent: Object, *, wanted: bool) -> None:
    data = agent["metadata"]
    current: Object | None = agents.get(data["namespace"], data["name"])
    for left in reversed(range(TRIES)):
        if current is None or current["metadata"]["uid"] != data["uid"]:
            raise AgentGoneError
        if has_finalizer(current) is wanted:
            return
        if wanted and current["metadata"].get("deletionTimestamp"):
            raise AgentGoneError
        try:
            agents.answered(await _patch(client, current, wanted=wanted))
        except ApiError as error:
            if not (error.conflict or error.not_found) or not left:
                raise
        else:
            return
        current = await client.get(resources.AGENTS, namespace=data["namespace"], name=data["name"])


async def _patch(client: Client, agent: Object, *, wanted: bool) -> Object:
    data = agent["metadata"]
    others = [one for one in data.get("finalizers") or () if one != FINALIZER]
    return await client.merge_patch(
        resources.AGENTS,
        namespace=data["namespace"],
        name=data["name"],
        patch={
            "metadata": {
                "uid": data["uid"],
                "resourceVersion": data["resourceVersion"],
                "finalizers": [*others, FINALIZER] if wanted else others,
            }
        },
    )
