"""Clusterwide denies of production and the floor, in the dialects that some clusters serve above NetworkPolicy.

A NetworkPolicy only allows. Where a cluster has a kind that denies, above anything a namespace can write, each
SandboxPolicy gets objects of it for the sandbox namespaces that it selects:

- CiliumClusterwideNetworkPolicy (cilium.io/v2): a deny there beats every allow, of whichever kind.
- ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2, network-policy-api 0.2): tier Admin, priority 0. Every rule
  of ours denies, so that policies of ours with one priority do not depend on their order.

Several policies on one namespace deny the union of what each denies, which is what the strictest wants.

Nodes and the API server are denied to every pod but those of agents with rights in the API server: a deny cannot be
opened again, and what is one address to a network plugin may be both. Those agents are kept from the nodes by the
namespace's deny-all, and the gate in their pods goes on trying the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal, TypeVar

from bulkhead.api import meta
from bulkhead.api.floor import FLOOR
from bulkhead.api.sandboxpolicy import SandboxPolicySpec
from bulkhead.plan import addresses
from bulkhead.plan.addresses import Network
from bulkhead.plan.names import managed_labels
from bulkhead.plan.observed import Object
from bulkhead.plan.policy import Policy
from bulkhead.plan.refusals import Forbidden

Dialect = Literal["cilium", "clusternetworkpolicy"]
_Item = TypeVar("_Item")

CILIUM_NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace"
CILIUM_NAMESPACE_LABELS: Final = "k8s:io.cilium.k8s.namespace.labels."
"""The labels of a pod's namespace, as Cilium's selectors name them."""
CILIUM_POD_LABELS: Final = "k8s:"
"""Before the key of a label of the pod itself."""
CILIUM_NODES: Final = ("host", "remote-node", "kube-apiserver")
"""Nodes and API servers are entities there: no CIDR reaches them, and none closes them."""

_EVERYTHING: Final = (addresses.network("0.0.0.0/0"), addresses.network("::/0"))

NODES: Final = ".nodes"
"""End of the name of a ClusterNetworkPolicy that denies the nodes: no SandboxPolicy has a dot in its name."""
MOST: Final = 25
"""Rules of a ClusterNetworkPolicy, peers of a rule, and networks of a peer, each at most."""


class UnwritableError(ValueError):
    """What is to be denied cannot be said in a dialect; the text says why, and what would be accepted."""


def denies(policy: Policy, *, dialect: Dialect, hosts: tuple[Forbidden, ...]) -> tuple[Object, ...]:
    """Builds the clusterwide policies that deny production and the floor to the namespaces of a SandboxPolicy.

    What calls an agent from its node stays open in every dialect: these are the kubelet's probes.

    Args:
        policy: the SandboxPolicy.
        dialect: the kind to write.
        hosts: the addresses of the nodes and of the API server.

    Raises:
        UnwritableError: the policy could not be understood, or cannot be said in this dialect.
    """
    if policy.spec is None:
        raise UnwritableError(f"SandboxPolicy {policy.name} cannot be understood: {' '.join(policy.problems)}")
    head, specs = _DIALECTS[dialect]
    names = object_names(policy.name, dialect=dialect, hosts=hosts)
    owner = {
        "apiVersion": meta.API_VERSION,
        "kind": meta.POLICY_KIND,
        "metadata": {"name": policy.name, "uid": policy.uid},
    }
    return tuple(
        {
            **head,
            "metadata": {
                "name": name,
                "labels": managed_labels(),
                "ownerReferences": [meta.owner_reference(owner)],
            },
            **body,
        }
        for name, body in zip(names, specs(policy, policy.spec, hosts), strict=False)
    )


def object_names(policy: str, *, dialect: Dialect, hosts: tuple[Forbidden, ...]) -> tuple[str, ...]:
    """Returns the names of what `denies` builds for the policy of this name."""
    first = f"bulkhead-{policy}"
    return (first, first + NODES) if dialect == "clusternetworkpolicy" and hosts else (first,)


def _cilium(policy: Policy, spec: SandboxPolicySpec, _: Sequence[Forbidden]) -> Iterator[Object]:
    """Gives the one CiliumClusterwideNetworkPolicy, of two specs. A rule has one kind of peer."""
    networks = _texts(one.network for one in policy.production)
    namespaces = spec.production.namespace_selector
    pods = _cilium_selector(namespaces.plain(), _exists(CILIUM_NAMESPACE)) if namespaces is not None else None
    egress: list[Object] = [{"toCIDR": _texts(_floor(policy))}]
    ingress: list[Object] = []
    if networks:
        egress.append({"toCIDR": networks})
        ingress.append({"fromCIDR": networks})
    if pods is not None:
        egress.append({"toEndpoints": [pods]})
        ingress.append({"fromEndpoints": [pods]})
    closed = {
        "description": f"Production and the floor, closed by SandboxPolicy {policy.name}. Bulkhead writes this.",
        "endpointSelector": _cilium_selector(_subject(spec)),
        "egressDeny": egress,
        **({"ingressDeny": ingress} if ingress else {}),
    }
    nodes = {
        "description": "Nodes and API servers, closed to all but agents with rights in the API server.",
        "endpointSelector": _cilium_selector(_subject(spec), _without_api(CILIUM_POD_LABELS)),
        "egressDeny": [{"toEntities": list(CILIUM_NODES)}],
    }
    yield {"specs": [closed, nodes]}


def _cilium_selector(selector: Object, *more: Object) -> Object:
    """Translates a selector of namespaces into one of pods by the labels of their namespace."""
    labels = {_cilium_key(key): value for key, value in (selector.get("matchLabels") or {}).items()}
    expressions = [{**one, "key": _cilium_key(one["key"])} for one in selector.get("matchExpressions") or ()]
    expressions += more
    return {
        **({"matchLabels": labels} if labels else {}),
        **({"matchExpressions": expressions} if expressions else {}),
    }


def _cilium_key(key: str) -> str:
    """Returns the key of a namespace's label.

    Cilium checks a selector's keys as those of labels (`validation.ValidateLabelSelector` on `k8s.` and the key), and
    ignores a policy with another one: without a prefix 63 characters in all, the prefix at most 253.
    """
    whole = CILIUM_NAMESPACE_LABELS + key
    prefix, slash, name = whole.rpartition("/")
    if len(name) > 63 or (slash and len(prefix) > 253):
        raise UnwritableError(
            f"the label {key} of namespaces is too long a key for a selector of Cilium's; accepted are keys of up to "
            f"{63 - len(CILIUM_NAMESPACE_LABELS)} characters, or with a prefix of up to "
            f"{253 - len(CILIUM_NAMESPACE_LABELS)}"
        )
    return whole


def _cluster_network_policies(policy: Policy, spec: SandboxPolicySpec, hosts: Sequence[Forbidden]) -> Iterator[Object]:
    """Gives the ClusterNetworkPolicies. Each has one subject; its rules for ingress know no networks."""
    egress, ingress = [], []
    namespaces = spec.production.namespace_selector
    if namespaces is not None:
        peer = {"namespaces": namespaces.plain()}
        egress.append({"name": "production-namespaces", "action": "Deny", "to": [peer]})
        ingress.append({"name": "production-namespaces", "action": "Deny", "from": [peer]})
    egress += _network_rules("production", (one.network for one in policy.production))
    egress += _network_rules("floor", _floor(policy))
    yield _cluster_network_policy({"namespaces": _subject(spec)}, egress, ingress)
    nodes = list(_network_rules("nodes-and-api-server", (one.network for one in hosts)))
    if len(nodes) > MOST:
        raise UnwritableError(
            f"the cluster has {len(hosts)} addresses of nodes and API servers; a ClusterNetworkPolicy takes "
            f"{MOST * MOST * MOST}"
        )
    if nodes:
        pods = {
            "namespaceSelector": _subject(spec),
            "podSelector": {"matchExpressions": [_without_api("")]},
        }
        yield _cluster_network_policy({"pods": pods}, nodes, [])


def _cluster_network_policy(subject: Object, egress: list[Object], ingress: list[Object]) -> Object:
    return {
        "spec": {
            "tier": "Admin",
            "priority": 0,
            "subject": subject,
            "egress": egress,
            **({"ingress": ingress} if ingress else {}),
        }
    }


def _network_rules(name: str, networks: Iterable[Network]) -> Iterator[Object]:
    peers = ({"networks": part} for part in _batches(_texts(networks)))
    for number, part in enumerate(_batches(peers), start=1):
        yield {"name": name if number == 1 else f"{name}-{number}", "action": "Deny", "to": part}


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Yields the items in lists as long as one may be, the last as long as it comes."""
    left = iter(items)
    while part := list(islice(left, MOST)):
        yield part


def _subject(spec: SandboxPolicySpec) -> dict[str, Any]:
    """Returns the selector of the sandbox namespaces that a policy selects."""
    selector = spec.namespace_selector.plain()
    sandbox = {"key": meta.SANDBOX_LABEL, "operator": "In", "values": [meta.SANDBOX_VALUE]}
    return {**selector, "matchExpressions": [*selector.get("matchExpressions", ()), sandbox]}


def _without_api(prefix: str) -> Object:
    """Returns a requirement that a pod is not one of an agent with rights in the API server."""
    return {"key": f"{prefix}{meta.KUBERNETES_API_LABEL}", "operator": "NotIn", "values": ["true"]}


def _exists(key: str) -> Object:
    """Returns a requirement that a label exists.

    A selector that only says what must not be there would otherwise select what has no labels at all, in Cilium the
    world outside and the nodes.
    """
    return {"key": key, "operator": "Exists"}


def _floor(policy: Policy) -> Iterator[Network]:
    """Yields the floor without what this policy opens of the shared address space."""
    for entry in FLOOR:
        network = addresses.network(entry.cidr)
        yield from addresses.without(network, policy.opened) if entry.openable else (network,)


def _texts(networks: Iterable[Network]) -> list[str]:
    """Returns the fewest networks that cover the same addresses, by family and address.

    IPv4-mapped ones are left out: no packet has such an address (RFC 4291 2.5.5.2 is about sockets), and neither
    dialect takes them.
    """
    known = [one for one in networks if one.version == 4 or one.network_address.ipv4_mapped is None]
    return [str(one) for whole in _EVERYTHING for one in addresses.exceptions(whole, known)]


_DIALECTS: Final = {
    "cilium": ({"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"}, _cilium),
    "clusternetworkpolicy": (
        {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"},
        _cluster_network_policies,
    ),
}
