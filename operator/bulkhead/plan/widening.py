"""What somebody else's objects open in a sandbox namespace beyond the plan.

Network policies only add up, so any allow that is not ours widens what an agent can reach or who can reach it. Critical
is what could reach production, the floor or the cluster's own addresses, or everything, and what cannot be understood.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bulkhead.api import meta
from bulkhead.plan import cilium, names, selectors
from bulkhead.plan.limits import Limits
from bulkhead.plan.observed import Object
from bulkhead.plan.openings import Opening, could_match, items, network_policy, unknown
from bulkhead.plan.policy import Bounds
from bulkhead.plan.refusals import Forbidden, listed
from bulkhead.plan.reserved import PODS

SHOWN: Final = 3
"""Openings of one object in a sentence."""

SET_BY_CONTROLLERS: Final = frozenset(
    {"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash"}
)
"""Labels of an agent's pods that differ from pod to pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One foreign object that opens something."""

    kind: str
    name: str
    message: str
    """What it opens, in words."""
    critical: bool
    """Whether it could reach production or the floor, or cannot be understood."""
    touches: Object
    """Label selector of the pods it is about (metav1.LabelSelector); empty for every pod."""


def opened(
    foreign: Iterable[Object], *, bounds: Bounds, reserved: tuple[Forbidden, ...], namespace: Object
) -> tuple[Opened, ...]:
    """Returns what objects that are not ours open, by kind and name.

    Args:
        foreign: NetworkPolicies, CiliumNetworkPolicies, Services and EndpointSlices of the namespace. The caller has
            left out what the operator made, which it knows by UID.
        bounds: what the policies of the namespace give together.
        reserved: the addresses of the nodes, their pods and the API server.
        namespace: the sandbox namespace.
    """
    own = str((namespace.get("metadata") or {}).get("name") or "")
    limits = Limits(own=own, bounds=bounds, reserved=reserved)
    found = [one for obj in foreign if (one := _opened(obj, limits)) is not None]
    return tuple(sorted(found, key=lambda one: (one.kind, one.name)))


def touches(one: Opened, agent: Object) -> bool:
    """Says whether what was opened concerns an agent's pods. What is critical concerns every agent of the namespace.

    A selector by labels that differ from pod to pod counts as concerning them.
    """
    if one.critical:
        return True
    try:
        selector = selectors.read(one.touches)
    except ValueError:
        return True
    return could_match(selector, _labels(agent), settled=lambda key: key not in SET_BY_CONTROLLERS)


def _labels(agent: Object) -> dict[str, str]:
    """Returns the labels of an agent's pods. The spec is read raw: it may be one that cannot be parsed."""
    raw = agent.get("spec")
    spec = raw if isinstance(raw, dict) else {}
    given = {meta.WORKFLOW_LABEL: spec.get("workflow") or agent["metadata"]["name"]}
    given[meta.TENANT_LABEL] = spec.get("tenant")
    return {**names.identity_labels(agent), **{key: value for key, value in given.items() if isinstance(value, str)}}


def _opened(obj: Object, limits: Limits) -> Opened | None:
    kind = obj.get("kind") or "object"
    read = _READERS.get(kind, _unknown_kind)
    found, pods = read(obj, limits)
    openings = sorted(found, key=lambda one: not one.critical)
    if not openings:
        return None
    return Opened(
        kind=kind,
        name=obj["metadata"]["name"],
        message=f"it opens {listed(dict.fromkeys(one.what for one in openings), most=SHOWN)}",
        critical=any(one.critical for one in openings),
        touches=pods,
    )


_Read = tuple[list[Opening], Object]


def _network_policy(obj: Object, limits: Limits) -> _Read:
    spec = obj.get("spec")
    pods = spec.get("podSelector") if isinstance(spec, Mapping) else None
    return list(network_policy(spec, limits)), pods or {}


def _cilium(obj: Object, limits: Limits) -> _Read:
    return list(cilium.cilium_network_policy(obj, limits)), cilium.selector_of_pods(obj)


def _service(obj: Object, limits: Limits) -> _Read:
    """Reads a Service. One that is only an address for pods by their labels opens nothing."""
    spec = obj.get("spec")
    if not isinstance(spec, Mapping):
        return [unknown("what cannot be read")], {}
    kind, selector = spec.get("type", "ClusterIP"), spec.get("selector")
    found = [_address("an external IP", address, limits) for address in items(spec.get("externalIPs"))]
    if kind == "ExternalName":
        found.append(Opening(f"a name for whatever DNS gives for {spec.get('externalName')}", critical=False))
    elif kind in ("NodePort", "LoadBalancer"):
        found.append(Opening(f"a port to the outside of the cluster (type {kind})", critical=False))
    elif kind != "ClusterIP":
        found.append(unknown(f"a Service of type {kind}"))
    if not selector and kind != "ExternalName":
        found.append(Opening("an address for endpoints written by hand, without a selector", critical=False))
    return found, {"matchLabels": selector} if selector else {}


def _endpoint_slice(obj: Object, limits: Limits) -> _Read:
    addresses = [
        address
        for endpoint in items(obj.get("endpoints"))
        for address in (items(endpoint.get("addresses")) if isinstance(endpoint, Mapping) else [endpoint])
    ]
    found = [_address("an endpoint", address, limits, of_pods=True) for address in addresses]
    return [one for one in found if one.critical] or found[:1], {}


def _address(what: str, text: Any, limits: Limits, *, of_pods: bool = False) -> Opening:
    """An opening by an address that somebody wrote by hand, where it may be one of pods or not."""
    try:
        address = ipaddress.ip_network(ipaddress.ip_address(text if isinstance(text, str) else ""))
    except ValueError:
        return unknown(f"{what} that cannot be read: {text}")
    # A pod's address is what endpoints are for; whether the agent gets there is decided by rules for pods.
    reached = [one for one in limits.closed(address) if not (of_pods and one.what == PODS)]
    where = f", which lies in {listed(reached[:1])}" if reached else ", written by hand"
    return Opening(f"{what} at {text}{where}", critical=bool(reached))


def _unknown_kind(obj: Object, _: Limits) -> _Read:
    return [unknown("what cannot be told: its kind is not known")], {}


_READERS: Final[dict[str, Callable[[Object, Limits], _Read]]] = {
    "NetworkPolicy": _network_policy,
    "CiliumNetworkPolicy": _cilium,
    "Service": _service,
    "EndpointSlice": _endpoint_slice,
}
