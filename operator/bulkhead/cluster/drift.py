"""How a live object differs from what is wanted: pure, on plain dicts.

What the server adds on its own is not drift, but nobody says which fields these are: the builders write out the
defaults they know, and what a server puts back although we removed it is learned (`Accepted`).
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from bulkhead.api import meta
from bulkhead.cluster.resources import Object


class _Absent:
    """The value of a field that is not there, which null is not."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = _Absent()

_HEAD = frozenset({"apiVersion", "kind", "metadata", "status"})
_OURS = (meta.GROUP, meta.MANAGED_BY_LABEL.partition("/")[0])
"""Prefixes of labels and annotations that only Bulkhead sets on its objects."""


class Difference(NamedTuple):
    """One place where a live object is not what is wanted.

    Attributes:
        path: Field names from the root, joined by `/`; an item of a list is `*`.
        wanted: The value that is wanted, or `ABSENT`.
        found: The value that is there, or `ABSENT`.
    """

    path: str
    wanted: Any
    found: Any

    @property
    def section(self) -> str:
        """The part of the object that has to be written to settle it: a top-level field, or one of metadata's."""
        first, _, rest = self.path.partition("/")
        return f"metadata/{rest.partition('/')[0]}" if first == "metadata" else first


def differences(wanted: Object, found: Object) -> list[Difference]:
    """Compares all that belongs to us: every field but status, and of metadata only our own part.

    In metadata everybody may add labels and annotations; ours (`bulkhead.dev/`, `app.kubernetes.io/`) are not theirs
    to change. Owner references must be exactly the wanted ones, for another owner would keep the object alive.
    """
    result = list(_metadata(wanted["metadata"], found["metadata"]))
    for section in sections(wanted, found):
        result.extend(_walk(wanted.get(section, ABSENT), found.get(section, ABSENT), section))
    return result


def sections(wanted: Object, found: Object) -> list[str]:
    """Gives the top-level fields that either has, without the head and the status."""
    return sorted((wanted.keys() | found.keys()) - _HEAD)


def merged(wanted: Object, found: Object, field: str) -> dict[str, str]:
    """Gives the labels or annotations that an object shall have: ours as wanted, everybody else's as found."""
    theirs = {key: value for key, value in (found["metadata"].get(field) or {}).items() if not _is_ours(key)}
    return theirs | (wanted["metadata"].get(field) or {})


def fingerprint(obj: Object) -> bytes:
    """Digests an object's content, whatever the order of its keys."""
    return _digest(obj)


class Accepted:
    """Differences that the server insists on, learned per kind, path and value.

    A difference is learned only from the answer to a write that had settled it, so only the API server itself
    (defaults, normal forms, mutating admission) can teach one: what somebody else adds later, with another value or
    elsewhere, is drift. The oldest are forgotten beyond `limit`, and then cost one write to learn again.
    """

    def __init__(self, *, limit: int = 1024) -> None:
        """Starts with nothing learned."""
        self._limit = limit
        self._known: OrderedDict[tuple[str, str, bytes, bytes], None] = OrderedDict()

    def learn(self, kind: str, difference: Difference) -> None:
        """Accepts a difference from now on."""
        self._known[self._key(kind, difference)] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def remaining(self, kind: str, found: Iterable[Difference]) -> list[Difference]:
        """Gives the differences that are not accepted."""
        return [difference for difference in found if self._key(kind, difference) not in self._known]

    def __len__(self) -> int:
        """Counts what was learned."""
        return len(self._known)

    @staticmethod
    def _key(kind: str, difference: Difference) -> tuple[str, str, bytes, bytes]:
        return kind, difference.path, _digest(difference.wanted), _digest(difference.found)


def _metadata(wanted: Object, found: Object) -> Iterator[Difference]:
    for field in ("labels", "annotations"):
        mine, theirs = wanted.get(field) or {}, found.get(field) or {}
        for key in sorted(mine.keys() | theirs.keys()):
            if key in mine or _is_ours(key):
                yield from _walk(mine.get(key, ABSENT), theirs.get(key, ABSENT), f"metadata/{field}/{key}")
    yield from _walk(_owners(wanted), _owners(found), "metadata/ownerReferences")


def _owners(metadata: Object) -> list[Object]:
    return sorted(metadata.get("ownerReferences") or [], key=lambda owner: str(owner["uid"]))


def _walk(wanted: Any, found: Any, path: str) -> Iterator[Difference]:
    if wanted == found:
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            yield from _walk(wanted.get(key, ABSENT), found.get(key, ABSENT), f"{path}/{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for mine, theirs in zip(wanted, found, strict=True):
            yield from _walk(mine, theirs, f"{path}/*")
    else:
        yield Difference(path, wanted, found)


def _is_ours(key: str) -> bool:
    return key.partition("/")[0] in _OURS


def _digest(value: Any) -> bytes:
    text = b"" if value is ABSENT else json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=16).digest()
