"""Exact arithmetic on networks of both address families: what overlaps, what is left, what has to be excepted.

`ipaddress` compares two networks at a time. Here one is looked up among thousands (production, the floor, every node),
so they are kept by number: two networks are either nested or apart, never crossed, which makes the lookup a search.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_Interval = tuple[int, int]
"""The first and the last of a run of addresses of one family, as numbers."""
_Item = TypeVar("_Item")


def network(text: str) -> Network:
    """Reads a network.

    Raises:
        ValueError: it is none, or a bit is set after its prefix.
    """
    return ipaddress.ip_network(text)


def host(text: str) -> Network:
    """Returns the network of one address: a /32, or a /128.

    Raises:
        ValueError: it is no address.
    """
    return ipaddress.ip_network(ipaddress.ip_address(text))


def embedded(address: Network) -> tuple[Network, ...]:
    """Returns the IPv4 address that an IPv6 one such as ::ffff:203.0.113.5 stands for (RFC 4291, 2.5.5.2), if it does.

    What takes it for an external address takes the IPv4 one: both spell the same address to a host.
    """
    given = address.network_address
    mapped = given.ipv4_mapped if isinstance(given, ipaddress.IPv6Address) else None
    return (ipaddress.IPv4Network(mapped),) if mapped is not None else ()


def overlap(a: Network, b: Network) -> bool:
    """Says whether two networks have an address in common. Networks of different families have none."""
    return a.version == b.version and a.overlaps(b)


def inside(inner: Network, outer: Network) -> bool:
    """Says whether a network lies wholly in another, or is it."""
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.overlaps(outer)


def reaches(cidr: Network, excepts: Iterable[Network], forbidden: Network) -> bool:
    """Says whether any address of `cidr` that is in none of `excepts` lies in `forbidden`."""
    return bool(Table(((forbidden, None),)).reached(cidr, excepts))


def needed_exceptions(cidr: Network, forbidden: Iterable[Network]) -> tuple[Network, ...]:
    """Returns the shortest `except` with which nothing of `forbidden` is left in `cidr`, and nothing else is lost.

    It is `cidr` itself when nothing would be left of it: then there is none, for an exception has to be smaller.
    """
    return tuple(exceptions(cidr, forbidden))


def exceptions(cidr: Network, forbidden: Iterable[Network]) -> Iterator[Network]:
    """Yields what `needed_exceptions` returns, in the order of addresses; for when only the first are wanted."""
    parts = (one if inside(one, cidr) else cidr for one in forbidden if overlap(one, cidr))
    return _networks(_merged(parts), cidr.version)


def without(whole: Network, parts: Iterable[Network]) -> tuple[Network, ...]:
    """Returns what is left of a network when parts are taken out of it: the fewest networks, by address."""
    left, (start, last) = [], _interval(whole)
    for first, end in _merged(one for one in parts if inside(one, whole)):
        left.append((start, first - 1))
        start = end + 1
    left.append((start, last))
    return tuple(_networks((run for run in left if run[0] <= run[1]), whole.version))


def common(some: Iterable[Network], others: Sequence[Network]) -> tuple[Network, ...]:
    """Returns what lies in one of `some` and in one of `others` too; networks may be nested in each other."""
    shared = (one if inside(one, other) else other for one in some for other in others if overlap(one, other))
    return tuple(dict.fromkeys(shared))


class Table(Generic[_Item]):
    """Networks with something known about each, to find those that a network reaches.

    Args:
        entries: the networks, in any order, and what is known of each.
    """

    def __init__(self, entries: Iterable[tuple[Network, _Item]]) -> None:
        families: dict[int, list[tuple[int, int, int, _Item]]] = {4: [], 6: []}
        for order, (one, item) in enumerate(entries):
            first, last = _interval(one)
            # Wider ones come before those nested in them.
            families[one.version].append((first, -last, order, item))
        self._entries = {version: sorted(found, key=_place) for version, found in families.items()}
        self._firsts = {version: [entry[0] for entry in found] for version, found in self._entries.items()}
        self._sizes = {
            version: sorted({-entry[1] - entry[0] for entry in found}) for version, found in self._entries.items()
        }

    def reached(self, cidr: Network, excepts: Iterable[Network] = ()) -> tuple[_Item, ...]:
        """Returns what is known of the networks that `cidr` without `excepts` has an address in, by address."""
        first, last = _interval(cidr)
        gaps = _merged(one for one in excepts if one.version == cidr.version)
        return tuple(
            item
            for start, end, item in self._overlapping(cidr.version, first, last)
            if not _covered(max(start, first), min(end, last), gaps)
        )

    def holds(self, cidr: Network) -> bool:
        """Says whether `cidr` lies wholly inside of one of the networks, or is one."""
        return any(True for _ in self._around(cidr.version, *_interval(cidr)))

    def _overlapping(self, version: int, first: int, last: int) -> Iterator[tuple[int, int, _Item]]:
        yield from self._around(version, first, last)
        entries, firsts = self._entries[version], self._firsts[version]
        for at in range(bisect_left(firsts, first), bisect_right(firsts, last)):
            if -entries[at][1] < last or firsts[at] > first:
                yield firsts[at], -entries[at][1], entries[at][3]

    def _around(self, version: int, first: int, last: int) -> Iterator[tuple[int, int, _Item]]:
        """Yields the networks that a network lies in, and those equal to it."""
        entries, firsts = self._entries[version], self._firsts[version]
        for size in reversed(self._sizes[version]):
            if size < last - first:
                return
            # Where a network of this size begins, if it holds the first address.
            start = first & ~size
            for at in range(bisect_left(firsts, start), bisect_right(firsts, start)):
                if -entries[at][1] == start + size:
                    yield start, start + size, entries[at][3]


def _place(entry: tuple[int, int, int, object]) -> tuple[int, int, int]:
    return entry[:3]


def _interval(one: Network) -> _Interval:
    first = int(one.network_address)
    return first, first + (1 << (one.max_prefixlen - one.prefixlen)) - 1


def _merged(networks: Iterable[Network]) -> list[_Interval]:
    """Returns the runs of addresses that networks of one family make together, none touching the next."""
    runs: list[_Interval] = []
    for first, last in sorted(map(_interval, networks)):
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return runs


def _covered(first: int, last: int, runs: Sequence[_Interval]) -> bool:
    # The runs do not touch, so what they cover lies in a single one.
    return any(start <= first and last <= end for start, end in runs)


def _networks(runs: Iterable[_Interval], version: int) -> Iterator[Network]:
    bits, family = (32, ipaddress.IPv4Network) if version == 4 else (128, ipaddress.IPv6Network)
    for first, last in runs:
        while first <= last:
            # As many free bits as the first address has zeros at its end, and as the run has room for.
            free = min((first & -first).bit_length() - 1 if first else bits, (last - first + 1).bit_length() - 1)
            yield family((first, bits - free))
            first += 1 << free
