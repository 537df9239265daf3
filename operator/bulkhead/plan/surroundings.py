"""What a decision about an agent reads of the world around it: the policies, and what they are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulkhead.plan.isolation import Control, ControlKey, Gate
    from bulkhead.plan.observed import Object
    from bulkhead.plan.policy import Bounds, Forbidden
    from bulkhead.plan.signals import Signals

NETWORK_POLICY = "NetworkPolicy"
"""The layer that is always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything outside of an agent that decides whether it may run and what it may reach."""

    bounds: Bounds
    """What the SandboxPolicies of its namespace give together."""
    reserved: tuple[Forbidden, ...] = ()
    """Nodes, their pods and the API server: the part of the floor that only a look at the cluster gives."""
    services: Mapping[str, Object | None] = field(default_factory=dict)
    """The Services that the agent names, by `namespace/name`; None for one that does not exist."""
    dns_service: str = "kube-system/kube-dns"
    foreign: tuple[Object, ...] = ()
    """What others have put into the namespace that could open something: policies, Services, EndpointSlices."""
    exposed: tuple[Object, ...] = ()
    """The Services of the whole cluster that have external addresses (`diversion.EXTERNAL`)."""
    gate: Gate | None = None
    """How the gate is run; None where the operator was not told: then nothing can be proven."""
    api_endpoints: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of the API server."""
    api_service: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of the Service in front of it."""
    api_audiences: tuple[str, ...] = ()
    """Audiences that it takes as its own."""
    issuers: Mapping[str, str] = field(default_factory=dict)
    """The issuers of credentials that there are: their types by name."""
    serves_cilium: bool = False
    """Whether CiliumNetworkPolicies are served: only these open the API server under Cilium."""
    controls: Mapping[ControlKey, Control] = field(default_factory=dict)
    """Whether the operator itself reaches the canaries, by protocol, address and port."""
    admission: tuple[str, ...] | None = None
    """What is wrong with the admission policies; None where the operator does not know what they should be."""
    layers: tuple[str, ...] = (NETWORK_POLICY,)
    """The kinds of network policy that hold this agent."""
    signals: Signals | None = None
    """What the queries of the policies tell about the agent; None on a replica that does not evaluate them."""
