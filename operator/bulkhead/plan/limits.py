"""What rules may name at all: asked before a rule is written, and once more of the finished policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Bounds
from bulkhead.plan.refusals import Forbidden, reserved_table

NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""The label of a namespace that holds its name. The API server sets it and keeps it (KEP-2161)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules of one agent may name.

    Attributes:
        own: the agent's namespace.
        bounds: what the policies of that namespace give together.
        reserved: the addresses of the nodes, their pods and the API server.
        api_server: of these, what an agent with rights in the API server is let to: addresses with their ports.
    """

    own: str
    bounds: Bounds
    reserved: tuple[Forbidden, ...]
    api_server: frozenset[tuple[Network, int]] = frozenset()

    @property
    def grants(self) -> bool:
        """Whether anything may be granted: there is a policy, and all of them make sense together."""
        return bool(self.bounds.policies) and not self.bounds.problems

    def is_production(self, namespace: str) -> bool:
        """Says whether a namespace is production."""
        return namespace in self.bounds.production_namespaces

    def namespace(self, name: str) -> bool:
        """Says whether pods and Services of a namespace may be named."""
        if self.is_production(name):
            return False
        return name == self.own or all(
            one.spec is not None and name in one.spec.network.namespaces for one in self.bounds.policies
        )

    def network(self, cidr: str, excepts: Iterable[str]) -> bool:
        """Says whether a network without its exceptions may be named: all policies offer it and nothing closes it."""
        asked = addresses.network(cidr)
        offered = all(one.askable.holds(asked) for one in self.bounds.policies)
        return offered and not self.closed(asked, map(addresses.network, excepts))

    def closed(self, network: Network, excepts: Iterable[Network] = ()) -> tuple[Forbidden, ...]:
        """Returns what of production, the floor and the cluster's own addresses a network reaches."""
        left_out = tuple(excepts)
        return (
            *self.bounds.closed.reached(network, left_out),
            *reserved_table(self.reserved).reached(network, left_out),
        )


def strays(policy: Object, *, limits: Limits) -> Iterator[str]:
    """Yields what a finished NetworkPolicy has in it that it may not, in words; nothing if it may be written.

    A peer has one of the three forms that can be judged. A rule without peers or ports is no form: it means everything.

    Args:
        policy: the NetworkPolicy.
        limits: what its agent's rules may name.
    """
    spec = policy["spec"]
    for direction, side in (("egress", "to"), ("ingress", "from")):
        for index, rule in enumerate(spec.get(direction) or ()):
            where = f"{direction}[{index}]"
            if not rule.get(side) or not rule.get("ports"):
                yield f"{where} names no peer or no port"
            for peer in rule.get(side) or ():
                if direction == "egress" and _is_api_server(peer, rule.get("ports") or (), limits):
                    continue
                stray = _stray(peer, limits)
                if stray:
                    yield f"{where}: {stray}"


def _is_api_server(peer: Object, ports: Iterable[Object], limits: Limits) -> bool:
    """Says whether a peer is one address of the API server, with no port but its own, and neither is closed."""
    if set(peer) != {"ipBlock"} or set(peer["ipBlock"]) != {"cidr"}:
        return False
    network = addresses.network(peer["ipBlock"]["cidr"])
    return not limits.bounds.closed.reached(network, ()) and all(
        set(port) == {"protocol", "port"} and port["protocol"] == "TCP" and (network, port["port"]) in limits.api_server
        for port in ports
    )


def _stray(peer: Object, limits: Limits) -> str:
    if set(peer) == {"ipBlock"}:
        return _stray_block(peer["ipBlock"], limits)
    if not (peer.get("podSelector") or {}).get("matchLabels"):
        return f"the peer {peer} selects no pods by their labels"
    if set(peer) == {"podSelector"}:
        namespace = limits.own
    elif set(peer) == {"podSelector", "namespaceSelector"}:
        labels = peer["namespaceSelector"].get("matchLabels") or {}
        if set(peer["namespaceSelector"]) != {"matchLabels"} or set(labels) != {NAMESPACE_NAME_LABEL}:
            return f"the peer {peer} selects namespaces otherwise than by name"
        namespace = labels[NAMESPACE_NAME_LABEL]
    else:
        return f"the peer {peer} has a form of its own"
    return f"pods of {namespace}, which is production" if limits.is_production(namespace) else ""


def _stray_block(block: Object, limits: Limits) -> str:
    excepts = map(addresses.network, block.get("except") or ())
    reached = limits.closed(addresses.network(block["cidr"]), excepts)
    return f"{block['cidr']} reaches {reached[0]}" if reached else ""
