"""What an allow rule of somebody else's opens, and whether that could reach what is closed.

Judged by what a rule says, not by what answers there at the moment: labels and addresses of others change without a
word. What cannot be told, counts as reaching everything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bulkhead.plan import selectors
from bulkhead.plan.limits import NAMESPACE_NAME_LABEL, Limits
from bulkhead.plan.refusals import listed
from bulkhead.plan.selectors import Selector

SIDES: Final = (("egress", "to"), ("ingress", "from"))
SHOWN: Final = 2


@dataclass(frozen=True, slots=True)
class Opening:
    """One thing that is let through.

    Attributes:
        what: as the end of `opens …`.
        critical: whether it could reach production, the floor or the cluster's own addresses, or cannot be told.
    """

    what: str
    critical: bool


def network_policy(spec: Any, limits: Limits) -> Iterator[Opening]:
    """Yields what the spec of a NetworkPolicy opens; nothing for one that only denies."""
    if not isinstance(spec, Mapping):
        yield unknown("rules that cannot be read")
        return
    types = spec.get("policyTypes")
    for direction, side in SIDES:
        # Rules of a direction that the policy does not list have no effect.
        if types and direction.capitalize() not in types:
            continue
        for rule in items(spec.get(direction)):
            yield from _rule(rule, f"{direction} {side}", side, limits)


def _rule(rule: Any, where: str, side: str, limits: Limits) -> Iterator[Opening]:
    peers = rule.get(side) if isinstance(rule, Mapping) else None
    if not peers:
        yield everything(where)
    for peer in items(peers):
        yield _peer(peer, where, limits)


def _peer(peer: Any, where: str, limits: Limits) -> Opening:
    if not isinstance(peer, Mapping) or not peer or not peer.keys() <= {"ipBlock", "podSelector", "namespaceSelector"}:
        return unknown(f"{where} a peer that cannot be read: {peer}")
    if "ipBlock" in peer:
        block = peer["ipBlock"] if isinstance(peer["ipBlock"], Mapping) else {}
        return network(where, block.get("cidr"), block.get("except"), limits)
    if peer.get("namespaceSelector") is None:
        return own_pods(where, limits)
    return pods(where, peer["namespaceSelector"], limits)


def everything(where: str) -> Opening:
    """An opening of a direction as a whole."""
    return Opening(f"{where} everything", critical=True)


def unknown(what: str) -> Opening:
    """An opening that cannot be told."""
    return Opening(what, critical=True)


def own_pods(where: str, limits: Limits) -> Opening:
    """An opening of pods of the same namespace."""
    return Opening(f"{where} pods of this namespace", critical=limits.is_production(limits.own))


def network(where: str, cidr: Any, excepts: Any, limits: Limits) -> Opening:
    """An opening of a network without some of its parts; the API server takes networks with host bits, too."""
    try:
        asked = ipaddress.ip_network(_text(cidr), strict=False)
        left_out = [ipaddress.ip_network(_text(one), strict=False) for one in items(excepts)]
    except ValueError:
        return unknown(f"{where} a network that cannot be read: {cidr}")
    reached = limits.closed(asked, left_out)
    without = f" without {len(left_out)} parts of it" if left_out else ""
    reaching = f", which reaches {listed(reached, most=SHOWN)}" if reached else ""
    return Opening(f"{where} {asked}{without}{reaching}", critical=bool(reached) or asked.prefixlen == 0)


def pods(where: str, namespaces: Any, limits: Limits) -> Opening:
    """An opening of pods in the namespaces that a selector selects.

    A selector that does not tell namespaces by name may select one more whenever somebody edits a label: where there
    is production in the cluster, it could be that.
    """
    try:
        selector = selectors.read(namespaces)
    except ValueError:
        return unknown(f"{where} pods of namespaces by a selector that cannot be read")
    if not selector.requirements:
        return Opening(f"{where} pods of every namespace", critical=True)
    named = _only_name(selector)
    if named is not None:
        closed = limits.is_production(named)
        return Opening(f"{where} pods of namespace {named}{', which is production' if closed else ''}", critical=closed)
    hit = [
        name
        for name in limits.bounds.production_namespaces
        if could_match(selector, {NAMESPACE_NAME_LABEL: name}, settled=NAMESPACE_NAME_LABEL.__eq__)
    ]
    if hit:
        what = f"pods of namespaces by labels, which production could have: {listed(hit, most=SHOWN)}"
        return Opening(f"{where} {what}", critical=True)
    return Opening(f"{where} pods of other namespaces by their labels", critical=False)


def could_match(selector: Selector, labels: Mapping[str, str], *, settled: Callable[[str], bool]) -> bool:
    """Says whether a selector could match when some labels may change or are not known.

    Args:
        selector: the selector.
        labels: those that are known.
        settled: says of a key whether `labels` is the last word on it; what others have could be anything.
    """
    return selector.requirements is not None and all(
        one.met(labels) for one in selector.requirements if settled(one.key)
    )


def _only_name(selector: Selector) -> str | None:
    """Returns the name of the one namespace that a selector pins, None if it pins none or several."""
    for one in selector.requirements or ():
        if one.key == NAMESPACE_NAME_LABEL and one.operator == "In" and len(one.values) == 1:
            return next(iter(one.values))
    return None


def items(value: Any) -> list[Any]:
    """Returns a list as it is, and anything else that is there as one item, for the reader of items to refuse."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    # `ip_network` takes numbers for addresses.
    if not isinstance(value, str):
        raise ValueError("accepted is a string")
    return value
