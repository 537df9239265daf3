"""SandboxPolicies, and what they give together, for the tables of the plan's tests."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bulkhead.api.agentdeployment import AgentDeploymentSpec, parse_spec
from bulkhead.plan import addresses, policy
from bulkhead.plan.policy import Bounds, Forbidden, Policy, Violation
from tests.specs import minimal

NAMESPACE = "lab"


def raw_policy(name: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 2, "resourceVersion": "5"},
        "spec": spec,
    }


def sandbox_policy(name: str = "default", **spec: Any) -> Policy:
    found = policy.parse(raw_policy(name, **spec))
    assert not found.problems, found.problems
    return found


def broken_policy(name: str = "broken", **spec: Any) -> Policy:
    found = policy.parse(raw_policy(name, **{"unknown": True, **spec}))
    assert found.problems
    return found


def namespace(name: str = NAMESPACE, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}}


def sandbox(name: str = NAMESPACE, **labels: str) -> dict[str, Any]:
    return namespace(name, **{"bulkhead.dev/sandbox": "true", **labels})


def bounds_of(
    *policies: Policy, others: tuple[dict[str, Any], ...] = (), labels: Mapping[str, str] = MappingProxyType({})
) -> Bounds:
    mine = sandbox(**labels)
    return policy.bounds(policies, namespace=mine, namespaces=(mine, *others))


def spec_of(**fields: Any) -> AgentDeploymentSpec:
    return parse_spec(minimal(**fields), name="scout")


def nodes(*texts: str) -> tuple[Forbidden, ...]:
    return tuple(Forbidden(network=addresses.host(one), what=f"node at {one}", by=policy.THE_CLUSTER) for one in texts)


def refused(
    spec: AgentDeploymentSpec, bounds: Bounds, *, reserved: tuple[Forbidden, ...] = ()
) -> tuple[Violation, ...]:
    return policy.violations(spec, bounds, namespace=NAMESPACE, reserved=reserved)


IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def remains(cidr: str, excepts: list[str]) -> list[IpNetwork]:
    """A network without its exceptions, worked out with nothing but `ipaddress`."""
    left: list[IpNetwork] = [ipaddress.ip_network(cidr)]
    for text in excepts:
        left = [part for one in left for part in _minus(one, ipaddress.ip_network(text))]
    return left


def _minus(whole: IpNetwork, part: IpNetwork) -> list[IpNetwork]:
    if isinstance(whole, ipaddress.IPv4Network) and isinstance(part, ipaddress.IPv4Network):
        if whole.subnet_of(part):
            return []
        return list(whole.address_exclude(part)) if part.subnet_of(whole) else [whole]
    if isinstance(whole, ipaddress.IPv6Network) and isinstance(part, ipaddress.IPv6Network):
        if whole.subnet_of(part):
            return []
        return list(whole.address_exclude(part)) if part.subnet_of(whole) else [whole]
    return [whole]


def touch(a: IpNetwork, b: IpNetwork) -> bool:
    return a.version == b.version and a.overlaps(b)
