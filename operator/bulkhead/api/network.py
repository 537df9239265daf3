"""The part of an AgentDeployment's spec that says whom the agent may talk to. What is not named is not reachable.

Peers have the few forms that a rule can be planned and proven for: a Service, pods by labels in one namespace, a
network. There is no form that selects namespaces, and none that selects every pod of one.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from bulkhead.api.cidrs import Cidr, within
from bulkhead.api.fields import (
    ATOMIC,
    DNS_LABEL_PATTERN,
    Keyed,
    Model,
    PortNumber,
    Rule,
    Text,
    matches,
)
from bulkhead.api.selectors import label_map_rules

MAX_RULES: Final = 32
"""Entries of egress, and of ingress."""
MAX_EXCEPT: Final = 64
MAX_PORTS: Final = 16

_LABEL_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

NamespaceName = Annotated[
    str,
    Text(63, rules=(matches(DNS_LABEL_PATTERN, "accepted is the name of a namespace"),)),
]
ServiceReference = Annotated[
    str,
    Text(
        127,
        rules=(matches(f"{_LABEL_NAME}/{_LABEL_NAME}", "accepted is NAMESPACE/NAME, as in tools/search"),),
    ),
]
ExceptList = Annotated[list[Cidr], Field(max_length=MAX_EXCEPT, json_schema_extra=ATOMIC)]

_EXCEPT_RULES: Final = (
    Rule(
        "!has(self.except) || self.except.size() == 0 || has(self.cidr)",
        "accepted is except together with cidr only",
        lambda peer: not peer.except_ or peer.cidr is not None,
    ),
    # The API server refuses a NetworkPolicy whose exception is not a strict subset of its network.
    Rule(
        "!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || "
        "(e != self.cidr && cidr(self.cidr).containsCIDR(e)))",
        "accepted in except are networks inside of cidr and smaller than it",
        lambda peer: peer.cidr is None or all(part != peer.cidr and within(part, peer.cidr) for part in peer.except_),
    ),
)


class PodPeer(Model):
    """Pods by their labels, in one namespace."""

    namespace: NamespaceName | None = None
    """Namespace of the pods; the agent's own if not given."""
    labels: Annotated[
        dict[Annotated[str, Text(317)], Annotated[str, Text(63, shortest=0)]],
        Field(min_length=1, max_length=8),
    ]
    """Labels that a pod must have, all of them. At least one: nobody may be given every pod of a namespace."""

    RULES = label_map_rules("labels", "labels")


class NetworkPort(Model):
    """A port, or a range of ports, of one protocol."""

    port: PortNumber
    """Port number; the first of a range."""
    end_port: PortNumber | None = None
    """Last port of a range. Of pods and networks only."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """Transport protocol."""

    RULES = (
        Rule(
            "!has(self.endPort) || self.endPort >= self.port",
            "accepted is an endPort that is not below port",
            lambda port: port.end_port is None or port.end_port >= port.port,
        ),
    )


NetworkPorts = Annotated[list[NetworkPort], Field(max_length=MAX_PORTS), Keyed("port", "protocol")]


class EgressTo(Model):
    """Whom the agent may call: exactly one of service, pods and cidr."""

    service: ServiceReference | None = None
    """A Service as NAMESPACE/NAME. What is reachable are the pods that it selects, on its target ports."""
    pods: PodPeer | None = None
    """Pods by labels in one namespace."""
    cidr: Cidr | None = None
    """A network outside of the cluster, of either address family."""
    except_: Annotated[ExceptList, Field(alias="except")] = Field(default_factory=list)
    """Parts of the network that stay closed."""

    RULES = (
        Rule(
            "[has(self.service), has(self.pods), has(self.cidr)].filter(given, given).size() == 1",
            "accepted is exactly one of service, pods and cidr",
            lambda to: sum(peer is not None for peer in (to.service, to.pods, to.cidr)) == 1,
        ),
        *_EXCEPT_RULES,
    )


class Egress(Model):
    """One peer that the agent may call, and on which ports."""

    to: EgressTo
    """Whom the agent may call."""
    ports: NetworkPorts = Field(default_factory=list)
    """Ports. Of a Service its own ports, all of them if none is given; for pods and cidr at least one is required."""

    RULES = (
        Rule(
            "has(self.to.service) || (has(self.ports) && self.ports.size() > 0)",
            "accepted with pods and cidr is at least one port",
            lambda egress: egress.to.service is not None or bool(egress.ports),
        ),
        Rule(
            "!has(self.to.service) || !has(self.ports) || !self.ports.exists(p, has(p.endPort))",
            "accepted for a Service are single ports of it, without endPort",
            lambda egress: egress.to.service is None or all(port.end_port is None for port in egress.ports),
        ),
    )


class IngressFrom(Model):
    """Who may call the agent: exactly one of pods and cidr."""

    pods: PodPeer | None = None
    """Pods by labels in one namespace."""
    cidr: Cidr | None = None
    """A network outside of the cluster, of either address family."""
    except_: Annotated[ExceptList, Field(alias="except")] = Field(default_factory=list)
    """Parts of the network that stay closed."""

    RULES = (
        Rule(
            "has(self.pods) != has(self.cidr)",
            "accepted is exactly one of pods and cidr",
            lambda from_: (from_.pods is None) != (from_.cidr is None),
        ),
        *_EXCEPT_RULES,
    )


class Ingress(Model):
    """One peer that may call the agent, and on which of its ports."""

    from_: Annotated[IngressFrom, Field(alias="from")]
    """Who may call the agent."""
    ports: NetworkPorts = Field(default_factory=list)
    """Which of spec.ports; all of them if none is given."""

    RULES = (
        Rule(
            "!has(self.ports) || !self.ports.exists(p, has(p.endPort))",
            "accepted in ingress are single ports of spec.ports, without endPort",
            lambda ingress: all(port.end_port is None for port in ingress.ports),
        ),
    )


class Network(Model):
    """Whom the agent may call, who may call it, and whether it has DNS."""

    egress: Annotated[list[Egress], Field(max_length=MAX_RULES, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """Whom the agent may call. Nothing else leaves its pods."""
    ingress: Annotated[list[Ingress], Field(max_length=MAX_RULES, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Who may call the agent. Nothing else reaches its pods."""
    dns: Literal["None", "Cluster"] = "None"
    """None: Services of egress are found through /etc/hosts, no query leaves. Cluster: cluster DNS, where allowed."""


NETWORK_RULES: Final = (
    Rule(
        "!has(self.network) || !has(self.network.ingress) || self.network.ingress.all(i, !has(i.ports) || "
        "i.ports.all(p, has(self.ports) && "
        "self.ports.exists(q, q.containerPort == p.port && q.protocol == p.protocol)))",
        "accepted in network.ingress are ports of spec.ports, with their protocol",
        lambda spec: (
            {(port.port, port.protocol) for ingress in spec.network.ingress for port in ingress.ports}
            <= {(port.container_port, port.protocol) for port in spec.ports}
        ),
    ),
    # "All of spec.ports" would otherwise be written as "no ports", which a NetworkPolicy takes for every port.
    Rule(
        "!has(self.network) || !has(self.network.ingress) || self.network.ingress.size() == 0 || "
        "(has(self.ports) && self.ports.size() > 0)",
        "accepted with network.ingress is at least one port in spec.ports",
        lambda spec: not spec.network.ingress or bool(spec.ports),
    ),
)
"""Rules of the spec as a whole: callers reach the agent on ports that it has."""
