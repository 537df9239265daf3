"""Which of the optional kinds of network policy the cluster serves.

A CustomResourceDefinition comes and goes while the operator runs, so the API server is asked again and again: a
discovery document is 1 kB, and a watch on CRDs would need a right that nothing else here needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from bulkhead.cluster.backoff import Backoff
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ClusterError
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import (
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CILIUM_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    Resource,
)

log = logging.getLogger(__name__)

OPTIONAL: tuple[Resource, ...] = (
    CILIUM_NETWORK_POLICIES,
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
)
"""The kinds that one cluster serves and another does not."""
INTERVAL = 60.0
"""Seconds between two looks."""

LOOK = 1.0
"""Seconds between two looks for a kind that is waited for."""

OnChange = Callable[[frozenset[Resource]], None]


class Discovery:
    """Knows which of some resources the cluster serves. Call `run` in a task.

    Attributes:
        known: Set once the API server has answered for all of them; stays set.
        served: The resources that are served, as of the last answer. Empty until `known` is set.
    """

    def __init__(
        self,
        client: Client,
        resources: Iterable[Resource] = OPTIONAL,
        *,
        on_change: OnChange = lambda served: None,
        interval: float = INTERVAL,
    ) -> None:
        """Starts with nothing known.

        Args:
            client: How to reach the API server.
            resources: What to ask for.
            on_change: Told what is served after the first answer, and whenever that changes. It must be quick.
            interval: Seconds between two looks.
        """
        self.known = asyncio.Event()
        self.served: frozenset[Resource] = frozenset()
        self._client = client
        self._resources = tuple(resources)
        self._on_change = on_change
        self._interval = interval
        self._backoff = Backoff(first=0.2, limit=min(10.0, interval))
        self._changed = asyncio.Event()

    def serves(self, resource: Resource) -> bool:
        """Tells whether the cluster serves a resource, as of the last answer."""
        return resource in self.served

    async def until(self, resource: Resource, *, served: bool) -> None:
        """Returns when the cluster serves a resource, or when it does not; at once if that is so already."""
        while self.serves(resource) is not served or not self.known.is_set():
            await self._changed.wait()

    async def run(self) -> None:
        """Asks until cancelled; after an error, with what was known, again and sooner."""
        while True:
            try:
                await self.look()
            except ClusterError as error:
                delay = self._backoff.next()
                level = logging.WARNING if self._backoff.failures == 1 else logging.DEBUG
                log.log(level, "discovery: %s; trying again in %.1f s", error, delay)
            except Exception:
                delay = self._interval
                log.exception("discovery failed unexpectedly")
            else:
                self._backoff.reset()
                delay = self._interval
            await asyncio.sleep(delay)

    async def look(self) -> frozenset[Resource]:
        """Asks once and returns what is served.

        Raises:
            ClusterError: The API server did not answer for one of the groups; what was known before stays.
        """
        found: set[Resource] = set()
        for group, version in sorted({(one.group, one.version) for one in self._resources}):
            listed = await self._client.served(group, version)
            found |= {one for one in self._resources if (one.group, one.version) == (group, version)} & listed
        served = frozenset(found)
        if served != self.served or not self.known.is_set():
            log.info("served: %s", ", ".join(sorted(str(one) for one in served)) or "none of the optional kinds")
            self.served = served
            self.known.set()
            self._changed.set()
            self._changed = asyncio.Event()
            self._on_change(served)
        return served


async def run_while_served(informer: Informer, discovery: Discovery) -> None:
    """Runs an informer as long as its kind is served, and empties it when it no longer is."""
    while True:
        await discovery.until(informer.resource, served=True)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(informer.run())
            await discovery.until(informer.resource, served=False)
            running.cancel()
        informer.clear()


async def until_named(
    client: Client, resource: Resource, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Returns once the API server both names a resource's API group and serves the resource.

    Who looks only once, as kopf does, sees the kind from then on. What the API server answers instead is waited out.

    Args:
        client: How to reach the API server.
        resource: What is waited for.
        sleep: Waits for some seconds.
    """
    told = False
    while True:
        reason = "it is not served"
        try:
            named = f"{resource.group}/{resource.version}" in await client.versions()
            if named and resource in await client.served(resource.group, resource.version):
                return
        except ClusterError as error:
            reason = str(error)
        if not told:
            log.warning("waiting for %s: %s", resource, reason)
            told = True
        await sleep(LOOK)
