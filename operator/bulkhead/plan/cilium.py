"""What a CiliumNetworkPolicy of somebody else's opens (cilium.io/v2, read at Cilium 1.15).

Its rules add to those of NetworkPolicies. An entity, a name of DNS, a cloud's group or a whole Service stands for
addresses that nobody here knows, so each of them counts as reaching everything, as does any field that is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bulkhead.plan.limits import Limits
from bulkhead.plan.openings import SIDES, Opening, everything, items, network, own_pods, unknown
from bulkhead.plan.refusals import SHOWN, listed

NAMESPACE_KEY: Final = "io.kubernetes.pod.namespace"
"""The label of an endpoint that pins its namespace; a selector without it is about the policy's own."""

_DERIVED: Final = ("io.cilium.", "io.kubernetes.", "reserved:")
"""Beginnings of the keys of labels that Cilium gives endpoints by itself, of those that are not pods too."""


def cilium_network_policy(policy: Mapping[str, Any], limits: Limits) -> Iterator[Opening]:
    """Yields what a CiliumNetworkPolicy opens; nothing for one that only denies."""
    for spec in specs(policy):
        if not isinstance(spec, Mapping) or not isinstance(spec.get("endpointSelector"), Mapping):
            yield unknown("rules that cannot be read")
            continue
        for direction, side in SIDES:
            for rule in items(spec.get(direction)):
                yield from _rule(rule, f"{direction} {side}", side, limits)


def specs(policy: Mapping[str, Any]) -> list[Any]:
    """Returns the rules of a policy, of which it may have one (`spec`) and any number (`specs`)."""
    return [*items(policy.get("spec")), *items(policy.get("specs"))]


def selector_of_pods(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the label selector of the pods that a policy is about; `{}`, every pod, where that cannot be told."""
    found = [spec.get("endpointSelector") if isinstance(spec, Mapping) else None for spec in specs(policy)]
    if len(found) != 1 or not isinstance(found[0], Mapping) or not found[0].keys() <= {"matchLabels"}:
        return {}
    labels = _labels(found[0])
    if labels is None or any(key.startswith(_DERIVED) for key in labels):
        return {}
    return {"matchLabels": labels} if labels else {}


def _rule(rule: Any, where: str, side: str, limits: Limits) -> Iterator[Opening]:
    if rule == {}:
        # Selects no peer: that is how a policy denies by default.
        return
    if not isinstance(rule, Mapping):
        yield unknown(f"{where} a peer that cannot be read: {rule}")
        return
    fields = {name: value for name, value in rule.items() if name.startswith(side) and name != "toPorts"}
    if not fields:
        yield everything(where)
    for name, value in fields.items():
        yield from _peers(name.removeprefix(side), value, where, limits)
    for name in rule.keys() - fields.keys() - {"toPorts", "icmps", "authentication"}:
        yield unknown(f"{where} what {name} stands for")


def _peers(kind: str, value: Any, where: str, limits: Limits) -> Iterator[Opening]:
    given = items(value)
    if kind == "Endpoints" and given:
        yield from (_endpoints(one, where, limits) for one in given)
    elif kind == "CIDR" and given:
        yield from (network(where, one, None, limits) for one in given)
    elif kind == "CIDRSet" and given:
        yield from (_cidr_set(one, where, limits) for one in given)
    elif kind == "Entities" and given:
        yield from (unknown(f"{where} the entity {one}") for one in given if one != "none")
    elif kind == "FQDNs" and given:
        names = [one.get("matchName") or one.get("matchPattern") if isinstance(one, Mapping) else one for one in given]
        yield unknown(f"{where} whatever DNS gives for {listed(names, most=SHOWN)}")
    else:
        yield unknown(f"{where} {kind.lower() or 'a peer'} that cannot be told")


def _endpoints(selector: Any, where: str, limits: Limits) -> Opening:
    if not isinstance(selector, Mapping) or not selector.keys() <= {"matchLabels", "matchExpressions"}:
        return unknown(f"{where} endpoints by a selector that cannot be read")
    labels, expressions = _labels(selector), items(selector.get("matchExpressions"))
    if labels is None or not all(isinstance(one, Mapping) for one in expressions):
        return unknown(f"{where} endpoints by a selector that cannot be read")
    keys = [*labels, *(_plain(one.get("key")) for one in expressions)]
    named = labels.get(NAMESPACE_KEY)
    odd = [key for key in keys if key.startswith(_DERIVED) and not (key == NAMESPACE_KEY and named)]
    if odd:
        return unknown(f"{where} endpoints by {listed(odd, most=SHOWN)}")
    if named is None or named == limits.own:
        return own_pods(where, limits)
    closed = limits.is_production(named)
    return Opening(f"{where} pods of namespace {named}{', which is production' if closed else ''}", critical=closed)


def _cidr_set(given: Any, where: str, limits: Limits) -> Opening:
    if not isinstance(given, Mapping) or not given.keys() <= {"cidr", "except"}:
        return unknown(f"{where} a set of networks that cannot be told")
    return network(where, given.get("cidr"), given.get("except"), limits)


def _labels(selector: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the labels that a selector asks for, by plain key; None if they cannot be read."""
    given = selector.get("matchLabels") or {}
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        return None
    return {_plain(key): value for key, value in given.items()}


def _plain(key: Any) -> str:
    """Returns the key of a label without the source that Cilium lets one put before it, if pods have labels of it."""
    source, colon, rest = str(key).partition(":")
    if not colon:
        return source
    return rest if source in ("k8s", "any") else f"reserved:{rest}"
