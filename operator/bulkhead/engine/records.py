"""The records of leases: ConfigMaps in the operator's own namespace, mirrored, written and removed.

A record goes through its life by writes that name the version they were decided on. Who loses such a race reads again:
another replica may be revoking the same lease.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.informer import Informer
from bulkhead.cluster.resources import Object, uid_of
from bulkhead.engine.queue import Key
from bulkhead.engine.view import agent_key
from bulkhead.plan import lease as leases
from bulkhead.plan.lease import InvalidRecord, Lease, State

logger = logging.getLogger(__name__)

OPTIONAL_TIMES = ("issuedAt", "deliveredAt", "expiresAt", "revokeAt")


class Records:
    """Every lease that is on the books.

    Attributes:
        informer: mirrors the records; who makes this runs it.
    """

    def __init__(self, client: Client, *, namespace: str, on_change: Callable[[Key], None]) -> None:
        """Prepares the mirror.

        Args:
            client: for the informer.
            namespace: the operator's own.
            on_change: told the key of an agent of whose leases another replica, or a person, changed the record.
        """
        self._namespace = namespace
        self._on_change = on_change
        self._ended: set[str] = set()
        self.informer = Informer(
            client,
            resources.CONFIG_MAPS,
            namespace=namespace,
            label_selector=leases.RECORD_SELECTOR,
            on_change=self._changed,
            transform=_kept,
            index=_by_agent,
        )

    def of_agent(self, uid: str) -> tuple[Lease, ...]:
        """Returns the leases of the agent with this UID, the oldest first."""
        return tuple(sorted(self._read(self.informer.by_index(uid)), key=lambda one: one.prepared_at))

    def get(self, lease_id: str) -> Lease | None:
        """Returns the lease with this id, if it is on the books."""
        record = self.informer.get(self._namespace, leases.record_name(lease_id))
        return next(self._read([record]), None) if record is not None else None

    def __iter__(self) -> Iterator[Lease]:
        """Yields every lease."""
        return self._read(self.informer)

    def counts(self) -> Mapping[str, int]:
        """Returns how many leases there are, by what their records say of their state; nothing else of them is read."""
        return Counter(_state(record) for record in self.informer if uid_of(record) not in self._ended)

    async def create(self, client: Client, lease: Lease) -> Lease:
        """Writes a lease down for the first time.

        Raises:
            ClusterError: whether there is a record is unknown, or there is none.
        """
        return self._observe(await client.create(leases.to_record(lease, namespace=self._namespace)))

    async def write(self, client: Client, lease: Lease) -> Lease:
        """Writes down what has become of a lease, unless its record was changed since it was read.

        Raises:
            ApiError: `conflict` when it was, `not_found` when there is none any more.
            ClusterError: whether it was written is unknown, or it was not.
        """
        record = leases.to_record(lease, namespace=self._namespace)
        data = {**dict.fromkeys(OPTIONAL_TIMES), **record["data"]}
        patch = {"metadata": {"uid": lease.record_uid, "resourceVersion": lease.record_version}, "data": data}
        written = await client.merge_patch(
            resources.CONFIG_MAPS, namespace=self._namespace, name=leases.record_name(lease.id), patch=patch
        )
        return self._observe(written)

    async def read(self, client: Client, lease_id: str) -> Lease | None:
        """Reads a lease past the mirror; None when it is not on the books.

        Raises:
            InvalidRecord: there is a record that cannot be read.
        """
        name = leases.record_name(lease_id)
        found = await client.get(resources.CONFIG_MAPS, namespace=self._namespace, name=name)
        return self._observe(found) if found is not None else None

    async def remove(self, client: Client, lease: Lease) -> None:
        """Takes a dead lease off the books, unless its record was changed since it was read.

        Raises:
            ApiError: `conflict` when it was.
        """
        await client.delete(
            resources.CONFIG_MAPS,
            namespace=self._namespace,
            name=leases.record_name(lease.id),
            uid=lease.record_uid,
            resource_version=lease.record_version,
        )
        if self.informer.get(self._namespace, leases.record_name(lease.id)) is not None:
            self._ended.add(lease.record_uid)

    async def live(self, client: Client) -> tuple[Lease, ...]:
        """Reads all records past the mirror."""
        found, _ = await client.list(
            resources.CONFIG_MAPS, namespace=self._namespace, label_selector=leases.RECORD_SELECTOR
        )
        return tuple(self._read(found))

    def _observe(self, record: Object) -> Lease:
        # The mirror keeps the object that it is given, and what its transform left of it.
        lease = leases.from_record(record)
        self.informer.observe(record)
        return lease

    def _read(self, records: Informer | list[Object]) -> Iterator[Lease]:
        for record in records:
            if uid_of(record) in self._ended:
                continue
            try:
                yield leases.from_record(record)
            except InvalidRecord as error:
                logger.debug("%s", error)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        record = new or old or {}
        if new is None and uid_of(record) in self._ended:
            # Our own doing, which was told of already.
            self._ended.discard(uid_of(record))
            return
        try:
            lease = leases.from_record(record)
        except InvalidRecord as error:
            logger.warning("%s; what it says is not done, and the lease ends by itself", error)
            return
        self._on_change(agent_key(lease.agent_namespace, lease.agent))


def _state(record: Object) -> str:
    state = str((record.get("data") or {}).get("state"))
    return state if state in set(State) else "Unreadable"


def _kept(record: Object) -> Object:
    data = record["metadata"]
    kept = {key: data[key] for key in ("namespace", "name", "uid", "resourceVersion", "labels") if key in data}
    return {**record, "metadata": kept}


def _by_agent(record: Object) -> Hashable | None:
    return meta.labels_of(record).get(meta.AGENT_UID_LABEL)
