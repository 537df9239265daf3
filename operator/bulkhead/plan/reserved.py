"""The part of the floor that only a look at the cluster gives: its nodes, their pods, and its API server."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.refusals import THE_CLUSTER, Forbidden

PODS: Final = "pods of the cluster"


def hosts(*, nodes: Mapping[str, Iterable[str]], api_server: Iterable[str]) -> tuple[Forbidden, ...]:
    """Returns the addresses of nodes and of the API server, in the order of address and name.

    Args:
        nodes: addresses of each node, as its status has them.
        api_server: addresses of the API server: those it publishes, and the cluster IPs of its Service.
    """
    found = {
        Forbidden(network=network, what=f"node {name}", by=THE_CLUSTER)
        for name, texts in nodes.items()
        for network in _readable(texts, addresses.host)
    }
    found |= {
        Forbidden(network=network, what="the API server", by=THE_CLUSTER)
        for network in _readable(api_server, addresses.host)
    }
    return tuple(sorted(found, key=lambda one: (one.network.version, one.network, one.what)))


def pods(networks: Iterable[str]) -> tuple[Forbidden, ...]:
    """Returns the networks that pods have their addresses from, those that lie side by side as one.

    Whether an `ipBlock` applies to pods is left to the network plugin (NetworkPolicy v1, "Behavior of ipBlock"). Where
    it does, a network around them would lead to pods of every namespace, production too.

    Args:
        networks: `spec.podCIDRs` of the nodes. Plugins with an address management of their own need not keep to them.
    """
    known = list(_readable(networks, addresses.network))
    # Of one family at a time: collapse_addresses refuses a mixture.
    found: list[Network] = []
    found += ipaddress.collapse_addresses(one for one in known if isinstance(one, ipaddress.IPv4Network))
    found += ipaddress.collapse_addresses(one for one in known if isinstance(one, ipaddress.IPv6Network))
    return tuple(Forbidden(network=one, what=PODS, by=THE_CLUSTER) for one in found)


def _readable(texts: Iterable[str], parse: Callable[[str], Network]) -> Iterator[Network]:
    """Yields what can be parsed. The rest is left out: nobody reaches it, and one bad node must not stop all agents."""
    for text in texts:
        try:
            yield parse(text)
        except ValueError:
            continue
