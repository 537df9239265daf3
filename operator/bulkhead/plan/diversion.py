"""Addresses that an agent was granted and that a Service of the cluster has taken for itself.

A Service may claim any address (`externalIPs`, CVE-2020-8554; a load balancer's address likewise), and kube-proxy sends
what goes there to the Service's endpoints. Measured with Cilium 1.15 and kube-proxy: policies see the address that was
dialled, so that a grant of 203.0.113.0/24 led to a database in production through a stranger's Service with an external
address in that network and a hand-written EndpointSlice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Bounds
from bulkhead.plan.refusals import listed
from bulkhead.plan.widening import Opened

EXTERNAL = "externalAddresses"
"""Key of a cached Service under which the addresses are that it has besides its cluster IPs, as text."""


def diverted(policy: Object | None, exposed: Iterable[Object], *, bounds: Bounds) -> tuple[Opened, ...]:
    """Returns the Services that divert what an agent may reach by its address.

    What a Service without a selector leads to is whatever somebody wrote into EndpointSlices, which may carry any
    label; so it counts as leading to production, as does a Service in a production namespace.

    Args:
        policy: the agent's own NetworkPolicy; None where it has none.
        exposed: the Services of the cluster that have external addresses.
        bounds: what the policies of the agent's namespace give together.
    """
    granted = list(_granted(policy)) if policy is not None else []
    if not granted:
        return ()
    found = []
    for service in exposed:
        taken = [text for text in service[EXTERNAL] if _inside(text, granted)]
        if taken:
            found.append(_opened(service, taken, bounds=bounds))
    return tuple(sorted(found, key=lambda one: one.name))


def _granted(policy: Object) -> Iterator[tuple[Network, tuple[Network, ...]]]:
    for rule in policy["spec"].get("egress") or ():
        for peer in rule.get("to") or ():
            block = peer.get("ipBlock")
            if block is not None:
                yield addresses.network(block["cidr"]), tuple(map(addresses.network, block.get("except") or ()))


def _inside(text: str, granted: Iterable[tuple[Network, tuple[Network, ...]]]) -> bool:
    try:
        address = addresses.host(text)
    except ValueError:
        # The API server takes spellings that can be read in more than one way, such as 010.0.0.1. It might be inside.
        return True
    mapped = addresses.embedded(address)
    return any(addresses.reaches(cidr, excepts, one) for cidr, excepts in granted for one in (address, *mapped))


def _opened(service: Object, taken: list[str], *, bounds: Bounds) -> Opened:
    data, selector = service["metadata"], service["spec"].get("selector")
    namespace = data["namespace"]
    where = f"it has taken {listed(taken)}, which the agent may reach, and "
    if namespace in bounds.production_namespaces:
        where += f"leads from there to namespace {namespace}, which is production"
    elif not selector:
        where += "leads from there to whatever its EndpointSlices say, for it has no selector"
    else:
        where += f"leads from there to pods of namespace {namespace}"
    return Opened(
        kind="Service",
        name=f"{namespace}/{data['name']}",
        message=where,
        critical=namespace in bounds.production_namespaces or not selector,
        touches={},
    )
