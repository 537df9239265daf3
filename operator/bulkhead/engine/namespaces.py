"""Sandbox namespaces: their deny-all comes first and goes last."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.apply import Applier, Conflict
from bulkhead.cluster.client import Client
from bulkhead.engine.queue import Key, WorkQueue
from bulkhead.engine.view import MANAGED
from bulkhead.engine.world import World
from bulkhead.plan import names, network, pods
from bulkhead.plan.observed import Object

logger = logging.getLogger(__name__)

LAST_LOOK = 2.0
"""Seconds between looks at whether the last pod of a namespace that is no sandbox any more has gone."""
CONFLICT_LOOK = 10.0


class NamespaceReconciler:
    """Keeps the deny-all policy of every sandbox namespace, agents or not.

    Args:
        client: for what is read live and deleted.
        applier: creates and updates what is ours.
        world: the caches.
        queue: where keys go back to.
        is_leader: asked before the policy is written. Taking it away needs it too: that opens something.
    """

    def __init__(
        self,
        client: Client,
        applier: Applier,
        *,
        world: World,
        queue: WorkQueue,
        is_leader: Callable[[], bool],
    ) -> None:
        self._client = client
        self._applier = applier
        self._world = world
        self._queue = queue
        self._is_leader = is_leader

    async def reconcile(self, key: Key) -> None:
        """Brings one namespace's deny-all to what it should be.

        Raises:
            ClusterError: what may be different the next time.
        """
        if not self._is_leader():
            return
        namespace = self._world.sandbox(key.name)
        policy = self._world.network_policies.get(key.name, names.DENY_ALL)
        if namespace is None:
            if policy is not None:
                await self._open(key, policy)
        elif not pods.is_being_deleted(namespace):
            await self._shut(key, namespace, policy)

    async def _shut(self, key: Key, namespace: Object, policy: Object | None) -> None:
        try:
            applied = await self._applier.ensure(
                network.deny_all(namespace), live=policy, owner_uid=namespace["metadata"]["uid"]
            )
        except Conflict as conflict:
            # Each agent there says so in its conditions; here it only has to be tried again.
            logger.warning("%s", conflict, extra={"namespace": key.name})
            self._queue.add_after(key, CONFLICT_LOOK)
            return
        if applied.changed:
            self._world.network_policies.observe(applied.object)
            logger.info("deny-all is in place", extra={"namespace": key.name, "how": applied.how})
        if applied.how == "terminating":
            self._queue.add_after(key, LAST_LOOK)

    async def _open(self, key: Key, policy: Object) -> None:
        """Takes the deny-all away from a namespace that is no sandbox any more, once nothing of ours runs there."""
        live = await self._client.get(resources.NAMESPACES, name=key.name)
        if live is None or meta.is_sandbox(live) or not meta.is_owned_by(policy, live["metadata"]["uid"]):
            return
        left, _ = await self._client.list(resources.PODS, namespace=key.name, label_selector=MANAGED)
        if left:
            self._queue.add_after(key, LAST_LOOK)
            return
        data = policy["metadata"]
        await self._client.delete(resources.NETWORK_POLICIES, namespace=key.name, name=data["name"], uid=data["uid"])
        logger.info("deny-all is removed: no sandbox namespace any more", extra={"namespace": key.name})
