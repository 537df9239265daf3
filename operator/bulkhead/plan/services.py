"""What a Service comes to as a network rule: the pods behind it, on their own ports.

A NetworkPolicy is applied after the Service's address was replaced by that of a pod (KEP-2079, and the Kubernetes
documentation of NetworkPolicy), so a rule names pods and target ports, never the Service's address. What has no pods of
its own choosing behind it, because its endpoints are written by hand or by a DNS server, cannot be planned for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bulkhead.api.network import NetworkPort
from bulkhead.plan.observed import Object

DNS_PORT: Final = 53
DNS_PROTOCOLS: Final = ("UDP", "TCP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where connections to a Service end."""

    selector: dict[str, str] = field(default_factory=dict)
    """Labels of its pods; at least one."""
    ports: tuple[Object, ...] = ()
    """Ports of the pods, as in a NetworkPolicy."""
    addresses: tuple[str, ...] = ()
    """The Service's own addresses, of either family; none for a headless one."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Why it cannot be granted: a field below the rule's, and a sentence. Empty when it can."""
    notes: tuple[str, ...] = ()
    """What people should know of it."""


def backend(name: str, service: Object, wanted: Sequence[NetworkPort]) -> Backend:
    """Resolves a Service to its pods and their ports.

    Args:
        name: `namespace/name` of the Service, for sentences.
        service: the Service as the API server sends it.
        wanted: which of its ports; all of them if empty.
    """
    spec = service.get("spec") or {}
    refusal = _unplannable(name, spec)
    if refusal:
        return Backend(refusals=(("to.service", refusal),))
    offered = list(spec.get("ports") or ())
    if not offered:
        return Backend(
            refusals=(
                ("to.service", f"Service {name} has no ports; accepted is one with ports, or its pods with ports"),
            )
        )
    chosen, refusals = _chosen(name, offered, wanted)
    if refusals:
        return Backend(refusals=refusals)
    addresses = _addresses(spec)
    return Backend(
        selector=dict(spec["selector"]),
        ports=_distinct([_target(port) for port in chosen]),
        addresses=addresses,
        notes=_notes(name, spec, chosen, addresses),
    )


def dns_ports(service: Object) -> list[NetworkPort]:
    """Returns those of a DNS Service's ports on which it answers queries: 53, over UDP and TCP (RFC 7766)."""
    offered = (service.get("spec") or {}).get("ports") or ()
    return [
        NetworkPort(port=DNS_PORT, protocol=protocol)
        for protocol in DNS_PROTOCOLS
        if any(port.get("port") == DNS_PORT and port.get("protocol", "TCP") == protocol for port in offered)
    ]


def is_headless(service: Object) -> bool:
    """Says whether a Service has no address of its own by choice: DNS gives those of its pods."""
    return (service.get("spec") or {}).get("clusterIP") == "None"


def _unplannable(name: str, spec: Object) -> str:
    if spec.get("type") == "ExternalName":
        return (
            f"Service {name} is of type ExternalName: it is a name for whatever a DNS server answers; accepted is a "
            f"Service that selects pods, or the address itself as to.cidr"
        )
    if not spec.get("selector"):
        return (
            f"Service {name} has no selector: its endpoints are written by hand and could be anything; accepted is a "
            f"Service that selects pods, or the address itself as to.cidr"
        )
    return ""


def _chosen(
    name: str, offered: Sequence[Object], wanted: Sequence[NetworkPort]
) -> tuple[list[Object], tuple[tuple[str, str], ...]]:
    if not wanted:
        return list(offered), ()
    by_port = {(port["port"], port.get("protocol", "TCP")): port for port in offered}
    accepted = ", ".join(f"{port}/{protocol}" for port, protocol in by_port)
    refusals = tuple(
        (
            f"ports[{index}]",
            f"Service {name} has no port {port.port}/{port.protocol}; accepted are its ports: {accepted}",
        )
        for index, port in enumerate(wanted)
        if (port.port, port.protocol) not in by_port
    )
    return [by_port[port.port, port.protocol] for port in wanted if (port.port, port.protocol) in by_port], refusals


def _target(port: Object) -> Object:
    """Returns the port of the pods. A name stands for whatever number each pod gives it (Pod `ports[].name`)."""
    return {"protocol": port.get("protocol", "TCP"), "port": port.get("targetPort") or port["port"]}


def _addresses(spec: Object) -> tuple[str, ...]:
    """Returns the cluster IPs: two where the Service is dual-stack (KEP-563), none where it is headless or new."""
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return tuple(address for address in listed if address and address != "None")


def _notes(name: str, spec: Object, chosen: Sequence[Object], addresses: Sequence[str]) -> tuple[str, ...]:
    if addresses:
        return ()
    if spec.get("clusterIP") != "None":
        return (f"Service {name} has no address yet",)
    ports = ", ".join(f"{one['port']}/{one['protocol']}" for one in _distinct([_target(port) for port in chosen]))
    return (f"Service {name} is headless: its pods are reached at their own addresses, on {ports}",)


def _distinct(items: Sequence[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return tuple(kept)
