"""Bringing one object of ours to what is wanted, without touching anybody else's.

`docs/apply.md` gives the rules and the reasons.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from bulkhead.api import meta
from bulkhead.cluster.client import Client
from bulkhead.cluster.drift import ABSENT, Accepted, Difference, differences, fingerprint, merged
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.resources import Object, name_of, namespace_of, resource_of, uid_of

log = logging.getLogger(__name__)

How = Literal["unchanged", "created", "updated", "terminating"]
"""What was done: `terminating` means nothing, because the object is being deleted and has to be gone first."""


TRIES = 3
"""Looks at an object that others write at the same moment, as controllers do its status, before backing off."""


class Conflict(ClusterError):  # noqa: N818 - the word that conditions use
    """An object of the wanted name exists and is not ours; it was left as it is.

    Attributes:
        kind: The object's kind.
        namespace: The object's namespace; None for a cluster-scoped one.
        name: The object's name.
        owner: Whose it is, in words: `nobody`, or the kind and name of its owners.
    """

    def __init__(self, *, kind: str, namespace: str | None, name: str, owner: str) -> None:
        """Keeps the parts."""
        self.kind, self.namespace, self.name, self.owner = kind, namespace, name, owner
        super().__init__(f"{kind} {name} exists and is not ours (owned by {owner})")


@dataclass(frozen=True, slots=True)
class Applied:
    """What `Applier.ensure` left behind.

    Attributes:
        object: The object as the API server has it now.
        changed: Whether anything was written.
        how: What was done.
    """

    object: Object
    changed: bool
    how: How


class Applier:
    """Creates and updates our objects, and remembers which of them need nothing."""

    def __init__(self, client: Client, *, remembered: int = 20_000) -> None:
        """Starts with nothing remembered.

        Args:
            client: How to reach the API server.
            remembered: Objects to remember; of more, those looked at longest ago are compared again.
        """
        self._client = client
        self._remembered = remembered
        self._settled: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._accepted = Accepted()

    async def ensure(self, desired: Object, *, live: Object | None, owner_uid: str) -> Applied:
        """Brings one object to `desired`.

        Args:
            desired: The whole of what is wanted: head, metadata with ownerReferences, and every field that matters,
                server defaults included.
            live: The object as a cache has it; None when it has none. A cache that is behind costs one more read.
            owner_uid: The UID by which an object is ours: it must be among its ownerReferences.

        Raises:
            Conflict: The object of this name is not ours.
            ApiError: The API server refused; `conflict` when the object keeps changing: look again.
            Unreachable: Whether it was written is unknown: look again.
        """
        for _ in range(TRIES):
            if live is None:
                break
            try:
                return await self._settle(desired, live, owner_uid, how="unchanged")
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    raise
            live = await self._read(desired)  # the cache was behind: it changed, was replaced or is gone
        if live is None:
            try:
                # Creation is a POST. A server-side apply would as gladly overwrite a stranger's object of this name,
                # which a cache selected by label does not show.
                created = await self._client.create(desired)
            except ApiError as error:
                if not error.already_exists:
                    raise
                live = await self._read(desired)
                if live is None:
                    raise
            else:
                return await self._settle(desired, created, owner_uid, how="created")
        return await self._settle(desired, live, owner_uid, how="unchanged")

    async def _settle(self, desired: Object, live: Object, owner_uid: str, *, how: How) -> Applied:
        if not meta.is_owned_by(live, owner_uid):
            raise conflict_with(live, desired)
        if live["metadata"].get("deletionTimestamp"):
            return Applied(live, how == "created", "terminating")
        digest = fingerprint(desired)
        if self._settled.get(uid_of(live)) == (live["metadata"]["resourceVersion"], digest):
            self._settled.move_to_end(uid_of(live))
            return Applied(live, False, how)
        kind = str(desired["kind"])
        drift = self._accepted.remaining(kind, differences(desired, live))
        if any(difference.wanted is not ABSENT for difference in drift):
            live = await self._client.apply(desired, uid=uid_of(live))
            how = "updated" if how == "unchanged" else how
            drift = self._accepted.remaining(kind, differences(desired, live))
        if drift:
            live = await self._overwrite(desired, live, drift)
            how = "updated" if how == "unchanged" else how
            for difference in self._accepted.remaining(kind, differences(desired, live)):
                # Our own write said otherwise a moment ago, so it is the server that wants this: a default or a normal
                # form, or, where a value of ours was changed, an admission controller that somebody should know of.
                level = logging.INFO if difference.wanted is ABSENT else logging.WARNING
                log.log(level, "%s %s: the API server insists on its own %s", kind, name_of(live), difference.path)
                self._accepted.learn(kind, difference)
        self._remember(live, digest)
        return Applied(live, how != "unchanged", how)

    async def _overwrite(self, desired: Object, live: Object, drift: list[Difference]) -> Object:
        """Writes the sections that differ as a whole.

        Server-side apply takes away only what its own manager once applied: a field that somebody added stays, and so
        does one of ours from the creating POST, which counts as an update by another manager.
        """
        operations: list[dict[str, Any]] = []
        for section in sorted({difference.section for difference in drift}):
            first, _, field = section.partition("/")
            path = f"/{section}"
            if field in ("labels", "annotations"):
                operations.append({"op": "add", "path": path, "value": merged(desired, live, field)})
            elif first == "metadata":
                value = desired["metadata"].get(field, [])
                operations.append({"op": "add", "path": path, "value": value})
            elif section in desired:
                operations.append({"op": "add", "path": path, "value": desired[section]})
            else:
                operations.append({"op": "remove", "path": path})
        return await self._client.json_patch(
            resource_of(desired),
            namespace=namespace_of(desired),
            name=name_of(desired),
            operations=operations,
            uid=uid_of(live),
            resource_version=live["metadata"]["resourceVersion"],
        )

    async def _read(self, desired: Object) -> Object | None:
        return await self._client.get(resource_of(desired), namespace=namespace_of(desired), name=name_of(desired))

    def _remember(self, live: Object, digest: bytes) -> None:
        uid = uid_of(live)
        self._settled[uid] = (live["metadata"]["resourceVersion"], digest)
        self._settled.move_to_end(uid)
        if len(self._settled) > self._remembered:
            self._settled.popitem(last=False)


def conflict_with(obj: Object, desired: Object) -> Conflict:
    """Makes the error for an object that has a name of ours and belongs to somebody else."""
    owners = [f"{owner.get('kind')} {owner.get('name')}" for owner in meta.owner_references(obj)]
    return Conflict(
        kind=str(desired["kind"]), namespace=namespace_of(obj), name=name_of(obj), owner=", ".join(owners) or "nobody"
    )
