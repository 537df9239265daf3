"""A mirror of one collection, kept by list and watch, and by what our own writes returned.

kopf watches the operator's own kinds; it never notices a delete that it missed across a relist, and its indices take
quadratic time. This informer replaces its store on each list and tells what disappeared.

Everything here runs in one event loop and nothing is locked: a method that does not await cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import aclosing

from bulkhead.api.meta import AGENT_UID_LABEL
from bulkhead.cluster.backoff import Backoff
from bulkhead.cluster.client import Client, WatchEvent
from bulkhead.cluster.errors import ApiError, ClusterError, Unreachable
from bulkhead.cluster.interning import interned
from bulkhead.cluster.resources import Object, Resource, name_of, namespace_of, uid_of, version_of

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""
OnChange = Callable[[Object | None, Object | None], None]
Index = Callable[[Object], Hashable | None]
Transform = Callable[[Object], Object]

YIELD_EVERY = 20
"""Events after which other tasks get a turn: a burst of 40,000 held up a suspension for 0.9 s where none did."""
STEADY_SECONDS = 1.0
"""A watch that lived this long was in order: what follows is a new streak of failures."""
RELIST_AFTER = 5
"""Failures in a row after which the collection is listed anew."""
SILENT_SECONDS = 60.0
"""A watch that failed after this long without even a bookmark, of which an idle one has some, had no good position."""
RETRY_LIMIT = 30.0
"""The longest wait that a server can ask an informer for."""


def by_agent(obj: Object) -> Hashable | None:
    """Indexes an object by its namespace and the UID of the agent that its labels name."""
    uid = (obj["metadata"].get("labels") or {}).get(AGENT_UID_LABEL)
    return (namespace_of(obj) or "", uid) if uid else None


def key_of(obj: Object) -> Key:
    """Gives the key of an object in an informer's store."""
    return namespace_of(obj) or "", name_of(obj)


class Informer:
    """Mirrors one collection. Call `run` in a task, wait for `synced`, read with `get` and `by_index`.

    The objects it gives are the store's own: do not change them.

    Attributes:
        resource: What is mirrored.
        synced: Set once the first list is in the store; stays set, until `clear`.
        relists: How often the store was replaced.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        on_change: OnChange,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        transform: Transform | None = None,
        index: Index = by_agent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares an informer.

        Args:
            client: How to reach the API server.
            resource: What to mirror.
            on_change: Called with the old and the new object: no old one for what appeared, no new one for what is
                gone. It must be quick and must not await.
            namespace: The namespace to mirror, or all.
            label_selector: Labels that objects must have. One that loses them is gone from here, though not from the
                cluster.
            field_selector: Fields that objects must have, of those the API server can select on.
            transform: Makes of an object what is kept of it; `managedFields` are dropped before. What it returns must
                keep `metadata` with name, namespace, uid and resourceVersion, and what `index` reads.
            index: Gives an object's value in the secondary index, or None.
            clock: Seconds that only grow.
        """
        self.resource = resource
        self.synced = asyncio.Event()
        self.relists = 0
        self._client = client
        self._on_change = on_change
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._transform = transform
        self._index = index
        self._clock = clock
        self._objects: dict[Key, Object] = {}
        self._indexed: dict[Hashable, dict[Key, Object]] = {}
        self._latest: Object = {}
        self._heard: float | None = None
        self._progress = -1
        self._outdated = True
        self._backoff = Backoff(first=0.1, limit=3.0)

    def get(self, namespace: str | None, name: str) -> Object | None:
        """Gives the object of that name, if there is one."""
        return self._objects.get((namespace or "", name))

    def by_index(self, value: Hashable) -> list[Object]:
        """Gives the objects whose index value this is."""
        return list(self._indexed.get(value, {}).values())

    def __iter__(self) -> Iterator[Object]:
        """Goes over a snapshot of all objects."""
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        """Counts the objects."""
        return len(self._objects)

    @property
    def age(self) -> float:
        """Seconds since the API server last said anything about this collection; infinite before it ever did.

        An idle collection gets a bookmark about once a minute.
        """
        return float("inf") if self._heard is None else self._clock() - self._heard

    def observe(self, obj: Object, *, is_ours: bool = True) -> None:
        """Takes in what a write of our own returned, ahead of the watch.

        A reconcile that follows at once then sees what the one before wrote, and neither this call nor the watch's echo
        of the write wakes the writer again. What the watch has already passed is ignored: the answer to a write can
        arrive after the watch told that the object was deleted, and would bring it back to life.

        Args:
            obj: The object as the API server returned it.
            is_ours: Whether all of it that matters is what was written. Of what others write as well, as people do the
                spec of which the status was written, the answer may be the first to show their change, and the watch's
                echo is then no news: `on_change` is called for it.
        """
        if version_of(obj) > self._progress:
            self._put(self._shape(obj), notify=not is_ours)

    def clear(self) -> None:
        """Empties the store, telling of each object that it is gone: the kind is not served any more.

        `run` may be called again; it begins with a list.
        """
        self.synced.clear()
        self._progress, self._outdated, self._heard = -1, True, None
        for key in list(self._objects):
            self._remove(key)

    async def run(self) -> None:
        """Keeps the mirror until the task is cancelled; no error of the API server ends it."""
        while True:
            started = self._clock()
            failure: ClusterError | None = None
            try:
                if self._outdated:
                    await self._relist()
                await self._follow()
            except ClusterError as error:
                failure = error
                if isinstance(error, ApiError) and error.gone:
                    self._outdated = True
            if self._clock() - started >= STEADY_SECONDS:
                self._backoff.reset()
                if failure is None:
                    continue  # the server ended a watch that was in order, as it was asked to
            await self._pause(failure)

    async def _pause(self, failure: ClusterError | None) -> None:
        asked = failure.retry_after or 0.0 if isinstance(failure, ApiError) else 0.0
        delay = self._backoff.next(at_least=min(asked, RETRY_LIMIT))
        if self._backoff.failures >= RELIST_AFTER:
            # A position that the server cannot serve is not always answered with 410: after etcd was restored from a
            # backup it lies in the future, and the watch times out each time.
            self._outdated = True
        if failure is not None:
            level = logging.WARNING if self._backoff.failures in (1, RELIST_AFTER) else logging.DEBUG
            log.log(level, "watching %s: %s; trying again in %.1f s", self.resource, failure, delay)
        await asyncio.sleep(delay)

    async def _relist(self) -> None:
        """Replaces the store by what a list gives, and tells what appeared, changed and disappeared."""
        objects, version = await self._client.list(
            self.resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            shape=self._shape,
        )
        reached = _number(version)
        # Time runs backwards only when etcd was restored from a backup; then nothing that we hold counts.
        restored = reached < self._progress
        self._progress, self._outdated, self._heard = reached, False, self._clock()
        listed: set[Key] = set()
        for count, obj in enumerate(objects, start=1):
            listed.add(key_of(obj))
            self._put(obj, always=restored)
            if count % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        for key, obj in list(self._objects.items()):
            # What we wrote after the list was read is not in it, and is not gone.
            if key not in listed and (restored or version_of(obj) <= reached):
                self._remove(key)
        self.relists += 1
        self.synced.set()

    async def _follow(self) -> None:
        """Takes in a watch's events until it ends."""
        events = self._client.watch(
            self.resource,
            resource_version=str(self._progress),
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        count, began = 0, self._clock()
        try:
            async with aclosing(events):
                async for event in events:
                    try:
                        self._take(event)
                    except (KeyError, TypeError, ValueError) as error:
                        self._outdated = True
                        raise Unreachable(f"watching {self.resource}: an event is malformed: {error!r}") from error
                    self._backoff.reset()
                    count += 1
                    if count % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
        except ClusterError:
            if count == 0 and self._clock() - began >= SILENT_SECONDS:
                # After etcd was restored from a backup our position lies in the future, where nothing ever happens.
                # Such a watch lives too long to be one of a streak of failures.
                self._outdated = True
            raise

    def _take(self, event: WatchEvent) -> None:
        version = version_of(event.object)
        if event.type in ("ADDED", "MODIFIED"):
            self._put(self._shape(event.object))
        elif event.type == "DELETED":
            current = self._objects.get(key_of(event.object))
            # A successor that we wrote ourselves can be here before the watch tells of its predecessor's end.
            if current is not None and uid_of(current) == uid_of(event.object) and version_of(current) <= version:
                self._remove(key_of(event.object))
        self._progress = max(self._progress, version)
        self._heard = self._clock()

    def _shape(self, obj: Object) -> Object:
        obj["metadata"].pop("managedFields", None)
        if self._transform is not None:
            obj = self._transform(obj)
        # Most like it is what it was before; of what is new, often the one that came just before.
        self._latest = interned(obj, like=self._objects.get(key_of(obj), self._latest))
        return self._latest

    def _put(self, obj: Object, *, notify: bool = True, always: bool = False) -> None:
        """Stores an object unless what is stored is as new, whatever its UID: versions compare across objects."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None:
            if version_of(old) >= version_of(obj) and not always:
                return
            self._unindex(key, old)
        self._objects[key] = obj
        value = self._index(obj)
        if value is not None:
            self._indexed.setdefault(value, {})[key] = obj
        if notify:
            self._notify(old, obj)

    def _remove(self, key: Key) -> None:
        old = self._objects.pop(key)
        self._unindex(key, old)
        self._notify(old, None)

    def _unindex(self, key: Key, old: Object) -> None:
        value = self._index(old)
        entries = self._indexed.get(value) if value is not None else None
        if entries is not None:
            entries.pop(key, None)
            if not entries:
                del self._indexed[value]

    def _notify(self, old: Object | None, new: Object | None) -> None:
        try:
            self._on_change(old, new)
        except Exception:
            # The store is right whatever its listener does; one bad object must not blind the operator to all others.
            log.exception("a listener for %s failed", self.resource)


def _number(version: str) -> int:
    try:
        return int(version)
    except ValueError as error:
        raise Unreachable(f"the API server gave the resourceVersion {version!r}, which is not a number") from error
