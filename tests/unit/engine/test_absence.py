"""What is proven of agents' end, and what a look at the live API shows to be otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.resources import Resource
from bulkhead.engine.absence import Absence
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key
from bulkhead.engine.view import View, agent_key

KEY: Key = agent_key("lab", "scout")
UID = "u1"


class Cluster:
    """What the API server has of one agent, and what the caches show of it."""

    def __init__(self) -> None:
        self.owned: list[dict[str, Any]] = []
        self.cached_pods: list[dict[str, Any]] = []

    async def list(self, resource: Resource, **_: Any) -> tuple[list[dict[str, Any]], str]:
        return (self.owned if resource is resources.STATEFUL_SETS else []), "1"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def absence(cluster: Cluster) -> Absence:
    view = SimpleNamespace(
        stateful_sets=SimpleNamespace(get=lambda namespace, name: None),
        pods=SimpleNamespace(by_index=lambda key: cluster.cached_pods),
    )
    agents = AgentStore(clock=lambda: 0.0, on_change=lambda old, new: None)
    return Absence(cast("Client", cluster), agents=agents, view=cast("View", view), clock=lambda: 0.0)


async def test_what_only_the_live_api_shows_is_no_end_and_known_until_it_is_gone(
    cluster: Cluster, absence: Absence
) -> None:
    cluster.owned = [{"metadata": {"uid": "s1", "ownerReferences": [{"uid": UID}]}}]
    await absence.prove({UID: KEY})
    assert (absence.is_proven(UID, KEY), absence.is_refuted(UID)) == (False, True)
    cluster.owned = []
    await absence.prove({UID: KEY})
    assert (absence.is_proven(UID, KEY), absence.is_refuted(UID)) == (True, False)


async def test_what_was_proven_is_so_no_more_when_a_cache_shows_something(cluster: Cluster, absence: Absence) -> None:
    await absence.prove({UID: KEY})
    assert absence.is_proven(UID, KEY)
    cluster.cached_pods = [{}]
    assert not absence.is_proven(UID, KEY)
