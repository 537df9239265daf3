"""The way to the API server, for an agent that has rights there: its addresses and ports, and nothing else.

The addresses lie among those that no agent may be let to (`plan.reserved`), so this is the one exception, and an exact
one. A NetworkPolicy opens them under most plugins. Under Cilium no network of addresses reaches an API server or a
node: only the entity does, which only Cilium's own kind can name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.meta import owner_reference
from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.limits import Limits
from bulkhead.plan.names import child_labels, cilium_policy_name, pod_selector
from bulkhead.plan.observed import Object
from bulkhead.plan.refusals import Violation

FIELD: Final = "spec.identity.kubernetesApi"
ENTITY: Final = "kube-apiserver"
CILIUM_LABEL_SOURCE: Final = "k8s:"
"""Before the key of a label, so that Cilium takes it for one of the pod and of nothing else."""


def exact(api_server: Iterable[tuple[str, int]]) -> frozenset[tuple[Network, int]]:
    """Returns the API server's addresses as networks of one address, each with its port; unreadable ones not."""
    return frozenset(_readable(api_server))


def _readable(api_server: Iterable[tuple[str, int]]) -> Iterator[tuple[Network, int]]:
    for address, port in api_server:
        try:
            yield addresses.host(address), port
        except ValueError:
            continue


def rules(limits: Limits) -> list[Object]:
    """Builds the egress rules of a NetworkPolicy: for each port the addresses that have it.

    Args:
        limits: what the agent's rules may name, the API server among it.
    """
    by_port: dict[int, list[Network]] = {}
    for network, port in limits.api_server:
        by_port.setdefault(port, []).append(network)
    return [
        {
            "to": [{"ipBlock": {"cidr": str(one)}} for one in sorted(by_port[port], key=_order)],
            "ports": [{"protocol": "TCP", "port": port}],
        }
        for port in sorted(by_port)
    ]


def problems(limits: Limits) -> Iterator[Violation]:
    """Yields why the API server cannot be opened: its own address is production, or on the floor."""
    for network, port in sorted(limits.api_server, key=lambda one: (_order(one[0]), one[1])):
        for closed in limits.bounds.closed.reached(network, ())[:1]:
            yield Violation(
                policy=closed.policy,
                field=FIELD,
                message=f"the API server has the address {network.network_address} (port {port}), which lies in "
                f"{closed}, closed by {closed.by}; accepted is an agent without kubernetesApi, or production that "
                "leaves the API server out",
            )


def cilium_policy(agent: Object, spec: AgentDeploymentSpec, ports: Iterable[int]) -> Object:
    """Builds the CiliumNetworkPolicy that opens the API server to the agent's pods, on these ports alone.

    Args:
        agent: the AgentDeployment.
        spec: its parsed spec.
        ports: of the API server itself. Cilium replaces the Service's address and port before it applies rules; the
            Service's port would open that of the nodes that API servers are on (measured with Cilium 1.15).
    """
    name = agent["metadata"]["name"]
    labels = {f"{CILIUM_LABEL_SOURCE}{key}": value for key, value in pod_selector(agent).items()}
    listed = [{"port": str(port), "protocol": "TCP"} for port in sorted(set(ports))]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {
            "name": cilium_policy_name(name),
            "namespace": agent["metadata"]["namespace"],
            "labels": child_labels(agent, spec),
            "ownerReferences": [owner_reference(agent)],
        },
        "spec": {
            "endpointSelector": {"matchLabels": labels},
            "egress": [{"toEntities": [ENTITY], "toPorts": [{"ports": listed}]}],
        },
    }


def _order(network: Network) -> tuple[int, int]:
    """Returns what networks of both families are sorted by."""
    return network.version, int(network.network_address)
