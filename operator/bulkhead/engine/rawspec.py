"""Reading specs as they are stored: any JSON at all, for what must be known before or without parsing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def wanted_services(agent: Object, *, dns_service: str) -> tuple[str, ...]:
    """Returns the Services that an agent names, as `namespace/name`; the DNS Service where it asks for DNS."""
    network = _mapping(_mapping(agent.get("spec")).get("network"))
    found = [_mapping(_mapping(one).get("to")).get("service") for one in _items(network.get("egress"))]
    wanted = [one for one in found if isinstance(one, str) and one.count("/") == 1]
    return tuple(dict.fromkeys([*wanted, *([dns_service] if network.get("dns") == "Cluster" else [])]))


def names_addresses(agent: Object) -> bool:
    """Says whether an agent asks for any network by its addresses."""
    network = _mapping(_mapping(agent.get("spec")).get("network"))
    peers = [
        _mapping(_mapping(one).get(field))
        for direction, field in (("egress", "to"), ("ingress", "from"))
        for one in _items(network.get(direction))
    ]
    return any("cidr" in one for one in peers)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def wants_rules(agent: Object) -> bool:
    """Says whether an agent asks for anything that needs a NetworkPolicy of its own."""
    network = _mapping(_mapping(agent.get("spec")).get("network"))
    asks = network.get("egress") or network.get("ingress") or network.get("dns") == "Cluster"
    return bool(asks) or wants_api(agent)


def wants_api(agent: Object) -> bool:
    """Says whether an agent asks for rights on the API server, and so for a Role of its own."""
    identity = _mapping(_mapping(agent.get("spec")).get("identity"))
    return bool(_items(_mapping(identity.get("kubernetesApi")).get("rules")))
