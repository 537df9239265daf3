"""The part of the floor that only a look at the cluster gives: its nodes, and its API server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.refusals import THE_CLUSTER, Forbidden


def reserved(*, nodes: Mapping[str, Iterable[str]], api_server: Iterable[str]) -> tuple[Forbidden, ...]:
    """Returns the addresses of the cluster itself, in the order of address and name.

    Args:
        nodes: addresses of each node, as its status has them.
        api_server: addresses of the API server: those it publishes, and the cluster IPs of its Service.
    """
    found = {
        Forbidden(network=network, what=f"node {name}", by=THE_CLUSTER)
        for name, texts in nodes.items()
        for network in _readable(texts)
    }
    found |= {Forbidden(network=network, what="the API server", by=THE_CLUSTER) for network in _readable(api_server)}
    return tuple(sorted(found, key=lambda one: (one.network.version, one.network, one.what)))


def _readable(texts: Iterable[str]) -> Iterator[Network]:
    """Yields addresses. What is none is left out: nobody can reach it, and one bad node must not stop all agents."""
    for text in texts:
        try:
            yield addresses.host(text)
        except ValueError:
            continue
