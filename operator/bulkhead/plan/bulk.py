"""What of many agents can be deleted by one call for a kind, and what must go object by object.

A collection is deleted by labels (`deletecollection`), and there is no precondition on an owner. So a call is planned
only where everything known under its labels belongs to the agents that are meant. Objects of the namespace itself (its
deny-all) carry no agent's UID, and no selector here reaches them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bulkhead.api import meta
from bulkhead.plan import pods
from bulkhead.plan.observed import Object

MANAGED: Final = f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY_VALUE}"
AGENTS_IN_CALL: Final = 100
"""An API server deletes the objects of one collection one after the other (`--delete-collection-workers`, by default
1), and each waits for etcd's disk: many agents of one namespace go by several calls side by side. It is also what fits:
a UID takes 39 characters of the URL, of which servers and proxies in between accept 8,192 at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One `deletecollection` in one namespace.

    Attributes:
        selector: of labels.
        grace_seconds: for pods; None for all else.
    """

    selector: str
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What to call for one kind in one namespace.

    Attributes:
        calls: in any order.
        odd: UIDs of the agents under whose labels somebody else's objects are: theirs go one by one, by UID.
    """

    calls: tuple[Call, ...] = ()
    odd: frozenset[str] = frozenset()


def calls(objects: Iterable[Object], graces: Mapping[str, int]) -> Calls:
    """Plans the calls that delete what agents have of one kind in one namespace.

    Args:
        objects: everything of the kind in the namespace that is known under the labels of these agents.
        graces: seconds for the processes of each agent that is meant, by its UID.
    """
    strangers: set[str] = set()
    wanted: dict[str, int | None] = {}
    for obj in objects:
        labels = meta.labels_of(obj)
        uid = labels.get(meta.AGENT_UID_LABEL, "")
        if uid not in graces or labels.get(meta.MANAGED_BY_LABEL) != meta.MANAGED_BY_VALUE:
            continue
        if not _is_of(obj, uid):
            strangers.add(uid)
        elif not pods.is_being_deleted(obj) or pods.is_allowed_longer(obj, graces[uid]):
            wanted[uid] = graces[uid] if obj["kind"] == "Pod" else None
    groups: dict[int | None, list[str]] = defaultdict(list)
    for uid in sorted(wanted.keys() - strangers):
        groups[wanted[uid]].append(uid)
    return Calls(
        calls=tuple(
            Call(selector=f"{MANAGED},{meta.AGENT_UID_LABEL} in ({','.join(some)})", grace_seconds=grace)
            for grace, uids in groups.items()
            for some in _chunks(uids)
        ),
        odd=frozenset(strangers),
    )


def _is_of(obj: Object, uid: str) -> bool:
    """Says whether an object belongs to an agent: a pod by its marks, which cannot be edited, all else by its owner."""
    if obj["kind"] == "Pod":
        marks = pods.agent_of(obj)
        return marks is not None and marks.uid == uid
    return meta.is_owned_by(obj, uid)


def _chunks(uids: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(uids), AGENTS_IN_CALL):
        yield uids[first : first + AGENTS_IN_CALL]
