"""The agent's own NetworkPolicy: what its spec asks for, and nothing that could reach production or the floor.

Of the cluster's own addresses an agent with rights in the API server is let to that (`plan.apiroute`), and no other is.

The namespace's deny-all is what holds; this policy only adds to it (NetworkPolicies are a union). Every peer has one of
three forms: pods by labels here, pods by labels in one namespace by its name, or an `ipBlock`. What may not be granted
is left out, whoever else refuses the spec for it, and the finished policy is looked through once more.

What is built is what the API server would return: its defaults are written out, so that a difference between the two is
drift and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.meta import owner_reference
from bulkhead.api.network import Egress, EgressTo, Ingress, IngressFrom, NetworkPort, PodPeer
from bulkhead.plan import addresses, apiroute
from bulkhead.plan.addresses import Network
from bulkhead.plan.identity import wants_api
from bulkhead.plan.limits import NAMESPACE_NAME_LABEL, Limits, strays
from bulkhead.plan.names import child_labels, network_policy_name, pod_selector
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Bounds
from bulkhead.plan.refusals import Forbidden, Violation
from bulkhead.plan.services import Backend, backend, dns_ports

CLUSTER_DOMAIN: Final = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the network part of a spec comes to."""

    policy: Object | None
    """The agent's NetworkPolicy; None where there is no rule to write."""
    cilium: Object | None = None
    """The agent's CiliumNetworkPolicy, which opens the API server where only that can; None without one."""
    host_aliases: tuple[Object, ...] = ()
    """`hostAliases` of the agent's pods, so that declared Services have their names without DNS."""
    problems: tuple[Violation, ...] = ()
    """What cannot be granted as it is asked for."""
    notes: tuple[str, ...] = ()
    """What is granted and has no effect yet, or another one than it may seem, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one entry of the spec comes to."""

    rules: tuple[Object, ...] = ()
    entity_ports: tuple[int, ...] = ()
    """Ports of the API server's own that are opened."""
    aliases: tuple[Object, ...] = ()
    problems: tuple[Violation, ...] = ()
    notes: tuple[str, ...] = ()


_NOTHING: Final = _Part()


def wanted_services(spec: AgentDeploymentSpec, *, dns_service: str) -> tuple[str, ...]:
    """Returns the Services whose state the rules depend on, as sorted `namespace/name`."""
    named = {entry.to.service for entry in spec.network.egress if entry.to.service is not None}
    if spec.network.dns == "Cluster":
        named.add(dns_service)
    return tuple(sorted(named))


def rules(
    agent: Object,
    spec: AgentDeploymentSpec,
    *,
    bounds: Bounds,
    reserved: tuple[Forbidden, ...],
    services: Mapping[str, Object | None],
    dns_service: str,
    api_endpoints: Iterable[tuple[str, int]] = (),
    api_service: Iterable[tuple[str, int]] = (),
    serves_cilium: bool = False,
) -> Rules:
    """Plans the agent's NetworkPolicy.

    What a policy does not let an agent ask for is `plan.policy.violations`' to tell; here it gives no rule, and no
    problem. Where the policies cannot be made sense of, nothing is granted at all.

    Args:
        agent: the AgentDeployment.
        spec: its parsed spec.
        bounds: what the policies of its namespace give together.
        reserved: the addresses of the nodes, their pods and the API server.
        services: the Services of `wanted_services` by `namespace/name`; None, or absent, for one that does not exist.
        dns_service: `namespace/name` of the cluster's DNS Service.
        api_endpoints: addresses and ports of the API server. They are opened to an agent that has rights there, and to
            no other.
        api_service: addresses and ports of the Service in front of it, likewise.
        serves_cilium: whether CiliumNetworkPolicies are served.
    """
    endpoints = apiroute.exact(api_endpoints) if wants_api(spec) else frozenset()
    service = apiroute.exact(api_service) if wants_api(spec) else frozenset()
    limits = Limits(
        own=agent["metadata"]["namespace"], bounds=bounds, reserved=reserved, api_server=endpoints | service
    )
    if not limits.grants:
        return Rules(policy=None)
    parts = [_egress(index, entry, limits, services) for index, entry in enumerate(spec.network.egress)]
    if spec.network.dns == "Cluster":
        parts.append(_dns(dns_service, limits, services))
    if wants_api(spec):
        parts.append(_api(limits, endpoints=endpoints))
    problems = [problem for part in parts for problem in part.problems]
    policy = _network_policy(
        agent,
        spec,
        ingress=[rule for entry in spec.network.ingress if (rule := _ingress(entry, spec, limits)) is not None],
        egress=[rule for part in parts for rule in part.rules],
    )
    ports = {port for part in parts for port in part.entity_ports}
    cilium = apiroute.cilium_policy(agent, spec, ports) if ports and serves_cilium else None
    # No way here is known. Should there be one, nothing of the policy is trusted.
    if policy is not None and (found := list(strays(policy, limits=limits))):
        policy = cilium = None
        problems.append(_last_word(found))
    return Rules(
        policy=policy,
        cilium=cilium,
        host_aliases=_distinct(alias for part in parts for alias in part.aliases) if spec.network.dns == "None" else (),
        problems=tuple(problems),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _egress(index: int, entry: Egress, limits: Limits, services: Mapping[str, Object | None]) -> _Part:
    to = entry.to
    if to.service is not None:
        return _service(f"spec.network.egress[{index}]", to.service, entry.ports, limits, services)
    peer = _peer(to, limits)
    return _NOTHING if peer is None else _Part(rules=({"to": [peer], "ports": _ports(entry.ports)},))


def _ingress(entry: Ingress, spec: AgentDeploymentSpec, limits: Limits) -> Object | None:
    peer = _peer(entry.from_, limits)
    own = [NetworkPort(port=port.container_port, protocol=port.protocol) for port in spec.ports]
    ports = _ports(entry.ports or own)
    # Without ports a rule would mean every port.
    return {"from": [peer], "ports": ports} if peer is not None and ports else None


def _service(
    field: str, name: str, ports: Sequence[NetworkPort], limits: Limits, services: Mapping[str, Object | None]
) -> _Part:
    namespace, _, plain = name.partition("/")
    if not limits.namespace(namespace):
        return _NOTHING
    service = services.get(name)
    if service is None:
        return _Part(notes=(f"Service {name} does not exist yet; its rule and its name are given once it does",))
    found = backend(name, service, ports)
    problems = tuple(Violation(policy="", field=f"{field}.{part}", message=why) for part, why in found.refusals)
    problems = problems or tuple(_closed_addresses(f"{field}.to.service", name, found, limits))
    if problems:
        return _Part(problems=problems)
    names = [f"{plain}.{namespace}.svc.{CLUSTER_DOMAIN}", f"{plain}.{namespace}.svc", f"{plain}.{namespace}"]
    if namespace == limits.own:
        names.append(plain)
    return _Part(
        rules=(_to_backend(namespace, found, limits),),
        aliases=tuple({"ip": address, "hostnames": names} for address in found.addresses),
        notes=found.notes,
    )


def _closed_addresses(field: str, name: str, found: Backend, limits: Limits) -> Iterable[Violation]:
    """Yields why a Service's own addresses cannot be handed to an agent.

    A plugin replaces them by those of the pods before it applies rules, but they are what the agent dials, and what is
    production by name is not dialled at all.
    """
    for address in found.addresses:
        for closed in limits.closed(addresses.host(address))[:1]:
            yield Violation(
                policy=closed.policy,
                field=field,
                message=f"Service {name} has the address {address}, which lies in {closed}, closed by {closed.by}; "
                f"accepted is a Service with an address outside of it",
            )


def _dns(name: str, limits: Limits, services: Mapping[str, Object | None]) -> _Part:
    """Opens the ports 53 of the DNS Service to exactly its pods, whatever number they have there."""
    namespace = name.partition("/")[0]
    if limits.bounds.cluster_dns:
        return _NOTHING
    for policy in limits.bounds.production_namespaces.get(namespace, ()):
        return _no_dns(
            f"the cluster's DNS is in namespace {namespace}, which is production by the "
            f"spec.production.namespaceSelector of SandboxPolicy {policy}; accepted is None",
            policy=policy,
        )
    service = services.get(name)
    if service is None:
        return _Part(notes=(f"the DNS Service {name} does not exist; no name is resolved until it does",))
    ports = dns_ports(service)
    found = backend(name, service, ports)
    if found.refusals:
        return _no_dns(found.refusals[0][1])
    if not ports:
        return _no_dns(f"the DNS Service {name} has no port 53; accepted is one with port 53 over UDP or TCP")
    return _Part(rules=(_to_backend(namespace, found, limits),))


def _api(limits: Limits, *, endpoints: frozenset[tuple[Network, int]]) -> _Part:
    """Opens the API server to an agent with rights there."""
    problems = tuple(apiroute.problems(limits))
    if problems:
        return _Part(problems=problems)
    unknown = "the addresses of the API server are not known yet; the way there is opened once they are"
    return _Part(
        rules=tuple(apiroute.rules(limits)),
        entity_ports=tuple(sorted({port for _, port in endpoints})),
        notes=() if endpoints else (unknown,),
    )


def _no_dns(why: str, *, policy: str = "") -> _Part:
    return _Part(problems=(Violation(policy=policy, field="spec.network.dns", message=why),))


def _to_backend(namespace: str, found: Backend, limits: Limits) -> Object:
    return {"to": [_pods(namespace, found.selector, limits)], "ports": [dict(port) for port in found.ports]}


def _peer(asked: EgressTo | IngressFrom, limits: Limits) -> Object | None:
    if asked.cidr is not None:
        if not limits.network(asked.cidr, asked.except_):
            return None
        return {"ipBlock": {"cidr": asked.cidr, **({"except": list(asked.except_)} if asked.except_ else {})}}
    return _pod_peer(asked.pods, limits) if asked.pods is not None else None


def _pod_peer(asked: PodPeer, limits: Limits) -> Object | None:
    namespace = asked.namespace or limits.own
    return _pods(namespace, asked.labels, limits) if limits.namespace(namespace) else None


def _pods(namespace: str, labels: Mapping[str, str], limits: Limits) -> Object:
    peer: Object = {"podSelector": {"matchLabels": dict(labels)}}
    if namespace != limits.own:
        # Both in one peer: two peers would mean either.
        peer["namespaceSelector"] = {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}}
    return peer


def _ports(asked: Sequence[NetworkPort]) -> list[Object]:
    return [
        {
            "protocol": port.protocol,
            "port": port.port,
            **({"endPort": port.end_port} if port.end_port is not None else {}),
        }
        for port in asked
    ]


def _network_policy(
    agent: Object, spec: AgentDeploymentSpec, *, ingress: list[Object], egress: list[Object]
) -> Object | None:
    """Builds the NetworkPolicy. It isolates in both directions whatever it opens, even where deny-all is gone."""
    if not ingress and not egress:
        return None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": network_policy_name(agent["metadata"]["name"]),
            "namespace": agent["metadata"]["namespace"],
            "labels": child_labels(agent, spec),
            "ownerReferences": [owner_reference(agent)],
        },
        "spec": {
            "podSelector": {"matchLabels": pod_selector(agent)},
            **({"ingress": ingress} if ingress else {}),
            **({"egress": egress} if egress else {}),
            "policyTypes": ["Ingress", "Egress"],
        },
    }


def _last_word(found: Sequence[str]) -> Violation:
    return Violation(
        policy="",
        field="spec.network",
        message=f"the NetworkPolicy made from it was thrown away, because it would have opened what is closed "
        f"({found[0]}); accepted are rules that name neither production nor the floor",
    )


def _distinct(aliases: Iterable[Object]) -> tuple[Object, ...]:
    by_address = {alias["ip"]: alias for alias in aliases}
    return tuple(by_address[address] for address in by_address)
