"""The operator's picture of what surrounds the agents: policies, namespaces, Services, nodes, admission.

What an agent may do turns on objects that are not its own. Each change of one is turned into the keys of the agents
that it can concern; what is derived from many objects (bounds, reserved addresses) is kept until one of them changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.informer import Informer
from bulkhead.engine import rawspec, transforms
from bulkhead.engine.admission import AdmissionWatch
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key
from bulkhead.engine.settings import Settings
from bulkhead.engine.view import agent_key, namespace_key, policy_key
from bulkhead.plan import names, network, policy, reserved
from bulkhead.plan.diversion import EXTERNAL
from bulkhead.plan.isolation import Control, ControlKey, Gate, Target
from bulkhead.plan.policy import Bounds, Forbidden, Policy
from bulkhead.plan.surroundings import NETWORK_POLICY, Surroundings

Object = dict[str, Any]
Notify = Callable[[Key], None]

KUBERNETES = ("default", "kubernetes")
"""The Service and the EndpointSlice in which the API server publishes its own addresses."""
NOT_BY_CONTROLLER = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io"
"""Selects the EndpointSlices that were not derived from a Service's selector."""


class World:
    """Caches of everything around the agents.

    Args:
        client: for the informers.
        agents: the agents.
        settings: of the operator.
        notify: told the key of what a change concerns; must be quick.
        retarget: told when there may be other canaries.
        controls: gives the state of the canaries.
        layers: gives the kinds of network policy in force for agents under these policies.
        serves: says whether the cluster serves an optional kind.
        issuers: gives the types of the issuers of credentials, by name.
    """

    def __init__(
        self,
        client: Client,
        *,
        agents: AgentStore,
        settings: Settings,
        notify: Notify,
        retarget: Callable[[], None],
        controls: Callable[[], Mapping[ControlKey, Control]],
        layers: Callable[[Iterable[str]], tuple[str, ...]],
        serves: Callable[[resources.Resource], bool],
        issuers: Callable[[], Mapping[str, str]],
    ) -> None:
        self.agents = agents
        self._settings = settings
        self._notify = notify
        self._retarget = retarget
        self._controls = controls
        self._layers = layers
        self._serves = serves
        self._issuers = issuers
        self.namespaces = Informer(
            client, resources.NAMESPACES, on_change=self._namespace_changed, transform=transforms.metadata_only
        )
        self.policies = Informer(client, resources.SANDBOX_POLICIES, on_change=self._policy_changed)
        self.network_policies = Informer(
            client, resources.NETWORK_POLICIES, on_change=self._network_policy_changed, index=_by_namespace
        )
        self.services = Informer(
            client,
            resources.SERVICES,
            on_change=self._service_changed,
            transform=transforms.addressing_only,
            index=_by_namespace,
        )
        self.slices = Informer(
            client,
            resources.ENDPOINT_SLICES,
            label_selector=NOT_BY_CONTROLLER,
            on_change=self._slice_changed,
            index=_by_namespace,
        )
        self.nodes = Informer(client, resources.NODES, on_change=self._node_changed, transform=transforms.node_facts)
        self.cilium = Informer(
            client, resources.CILIUM_NETWORK_POLICIES, on_change=self._network_policy_changed, index=_by_namespace
        )
        """Run only where the kind is served."""
        self.admission = AdmissionWatch(client, expected=settings.admission, on_change=self.everyone)
        self._parsed: dict[str, Policy] = {}
        self._bounds: dict[str, Bounds] = {}
        self._hosts: tuple[Forbidden, ...] | None = None
        self._reserved: tuple[Forbidden, ...] | None = None
        self._exposed: tuple[Object, ...] | None = None
        self._canary: Target | None = None
        self._users: dict[str, set[Key]] = {}

    @property
    def informers(self) -> tuple[Informer, ...]:
        """Every informer of kinds that each cluster serves, to be run and waited for."""
        return (
            self.namespaces,
            self.policies,
            self.network_policies,
            self.services,
            self.slices,
            self.nodes,
            *self.admission.informers,
        )

    def installation(self) -> str:
        """Returns eight characters that stand for this cluster wherever several clusters share an issuer."""
        system = self.namespaces.get(None, "kube-system") or {}
        uid = str((system.get("metadata") or {}).get("uid", ""))
        if not uid:
            raise LookupError("there is no namespace kube-system, whose UID stands for the cluster")
        return hashlib.sha256(uid.encode()).hexdigest()[:8]

    def sandbox(self, name: str) -> Object | None:
        """Returns the namespace if it is labelled as a sandbox."""
        found = self.namespaces.get(None, name)
        return found if found is not None and meta.is_sandbox(found) else None

    def sandboxes(self) -> Iterator[Object]:
        """Yields the sandbox namespaces."""
        return (one for one in self.namespaces if meta.is_sandbox(one))

    def has_user_namespaces(self) -> bool:
        """Says whether every node runs pods in user namespaces, as the kubelet reports of its runtime (KEP-127)."""
        nodes = list(self.nodes)
        return bool(nodes) and all(node["userNamespaces"] for node in nodes)

    def parsed_policies(self) -> tuple[Policy, ...]:
        """Returns every SandboxPolicy, parsed; each version of one is parsed once."""
        found = []
        for obj in self.policies:
            data = obj["metadata"]
            known = self._parsed.get(data["uid"])
            # The generation, not the resourceVersion: our own writes of status move that.
            if known is None or known.generation != data.get("generation", 0):
                known = self._parsed[data["uid"]] = policy.parse(obj)
            found.append(known)
        return tuple(sorted(found, key=lambda one: one.name))

    def bounds(self, namespace: Object) -> Bounds:
        """Returns what the policies give together for a namespace."""
        name = namespace["metadata"]["name"]
        if name not in self._bounds:
            self._bounds[name] = policy.bounds(
                self.parsed_policies(), namespace=namespace, namespaces=tuple(self.namespaces)
            )
        return self._bounds[name]

    def hosts(self) -> tuple[Forbidden, ...]:
        """Returns the addresses of the nodes and of the API server."""
        if self._hosts is None:
            own = [address for address, _ in (*self.api_service(), *self.api_endpoints())]
            nodes = {node["metadata"]["name"]: node["addresses"] for node in self.nodes}
            self._hosts = reserved.hosts(nodes=nodes, api_server=own)
        return self._hosts

    def reserved(self) -> tuple[Forbidden, ...]:
        """Returns what of the cluster no agent may be let to by address: nodes, the API server, and pods."""
        if self._reserved is None:
            networks = (network for node in self.nodes for network in node["podNetworks"])
            self._reserved = (*self.hosts(), *reserved.pods(networks))
        return self._reserved

    def exposed(self) -> tuple[Object, ...]:
        """Returns the Services of the cluster that have addresses besides their cluster IPs."""
        if self._exposed is None:
            self._exposed = tuple(one for one in self.services if one.get(EXTERNAL))
        return self._exposed

    def api_endpoints(self) -> tuple[tuple[str, int], ...]:
        """Returns the addresses and ports of the API server, as it publishes them itself."""
        return transforms.endpoint_addresses(self.slices.get(*KUBERNETES) or {})

    def api_service(self) -> tuple[tuple[str, int], ...]:
        """Returns the addresses and ports of the Service in front of the API server."""
        return transforms.service_addresses(self.services.get(*KUBERNETES) or {})

    def gate(self) -> Gate | None:
        """Returns how the gate is run; None without an image."""
        settings = self._settings
        if not settings.gate_image:
            return None
        return Gate(image=settings.gate_image, pull_policy=settings.gate_pull_policy, canary=self.canary())

    def canary(self) -> Target | None:
        """Returns the operator's own canary: the Service's address, which outlives the pods behind it.

        While the Service is gone its last address stays, where nobody answers: nothing is proven then. Without it every
        agent would get another pod, at once.
        """
        if self._settings.canary is not None or not self._settings.canary_service:
            return self._settings.canary
        service = self.services.get(*_split(self._settings.canary_service))
        spec = (service or {}).get("spec") or {}
        if spec.get("ports") and spec.get("clusterIP", "None") not in ("None", ""):
            address, port = spec["clusterIP"], int(spec["ports"][0]["port"])
            self._canary = Target(name="operator", protocol="TCP", address=address, port=port)
        return self._canary

    def surroundings(self, agent: Object, namespace: Object) -> Surroundings:
        """Returns what a decision about an agent reads; remembers which Services it names."""
        bounds = self.bounds(namespace)
        return Surroundings(
            bounds=bounds,
            reserved=self.reserved(),
            services=self._services_of(agent),
            dns_service=self._settings.dns_service,
            foreign=self.foreign(namespace),
            exposed=self.exposed(),
            gate=self.gate(),
            api_endpoints=self.api_endpoints(),
            api_service=self.api_service(),
            api_audiences=self._settings.api_audiences,
            issuers=self._issuers(),
            serves_cilium=self._serves(resources.CILIUM_NETWORK_POLICIES),
            controls=self._controls(),
            admission=self.admission.problems(),
            layers=(NETWORK_POLICY, *self._layers(one.name for one in bounds.policies)),
        )

    def foreign(self, namespace: Object) -> tuple[Object, ...]:
        """Returns what in a sandbox namespace is not the operator's and may open something."""
        name = namespace["metadata"]["name"]
        ours = self._ours(namespace)
        found = [
            one for informer in (self.network_policies, self.cilium) for one in informer.by_index(name) if not ours(one)
        ]
        for informer in (self.services, self.slices):
            found += informer.by_index(name)
        return tuple(found)

    def _ours(self, namespace: Object) -> Callable[[Object], bool]:
        data = namespace["metadata"]
        agents = {one["metadata"]["uid"]: one["metadata"]["name"] for one in self.agents.in_namespace(data["name"])}
        return partial(network.is_ours, namespace_uid=data["uid"], agents=agents)

    def _services_of(self, agent: Object) -> dict[str, Object | None]:
        data = agent["metadata"]
        key = agent_key(data["namespace"], data["name"])
        wanted = rawspec.wanted_services(agent, dns_service=self._settings.dns_service)
        for reference in wanted:
            self._users.setdefault(reference, set()).add(key)
        return {reference: self.services.get(*_split(reference)) for reference in wanted}

    def _agents_in(self, namespace: str) -> None:
        for agent in self.agents.in_namespace(namespace):
            self._notify(agent_key(namespace, agent["metadata"]["name"]))

    def everyone(self) -> None:
        """Queues every agent."""
        for agent in self.agents:
            self._notify(agent_key(agent["metadata"]["namespace"], agent["metadata"]["name"]))

    def _policy_changed(self, old: Object | None, new: Object | None) -> None:
        if transforms.unchanged(old, new, transforms.generation):
            return
        self._bounds.clear()
        changed = [policy.parse(one) for one in (old, new) if one is not None]
        if new is None and old is not None:
            self._parsed.pop(old["metadata"]["uid"], None)
        self._retarget()
        self._notify(policy_key(changed[-1].name))
        for namespace in self.sandboxes():
            if any(policy.covers(one, namespace) for one in changed):
                self._agents_in(namespace["metadata"]["name"])

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        known = new or old
        if known is None or (
            old is not None and new is not None and transforms.identity(old) == transforms.identity(new)
        ):
            return
        name = known["metadata"]["name"]
        self._bounds.clear()
        if any(one is not None and meta.is_sandbox(one) for one in (old, new)):
            self._notify(namespace_key(name))
            self._agents_in(name)
        for one in self.parsed_policies():
            if _selection(one, old) != _selection(one, new):
                self._notify(policy_key(one.name))
                self._agents_under(one)

    def policy_concerns(self, name: str) -> None:
        """Queues the agents of the namespaces that a policy selects."""
        for one in self.parsed_policies():
            if one.name == name:
                self._agents_under(one)

    def _agents_under(self, one: Policy) -> None:
        for namespace in self.sandboxes():
            if policy.covers(one, namespace):
                self._agents_in(namespace["metadata"]["name"])

    def _network_policy_changed(self, old: Object | None, new: Object | None) -> None:
        known = new or old or {}
        data = known["metadata"]
        if data["name"] == names.DENY_ALL:
            self._notify(namespace_key(data["namespace"]))
        owner = meta.labels_of(known).get(meta.AGENT_LABEL)
        if owner:
            self._notify(agent_key(data["namespace"], owner))
        self._foreign_changed(old, new)

    def _foreign_changed(self, old: Object | None, new: Object | None) -> None:
        known = new or old or {}
        namespace = self.sandbox(known["metadata"]["namespace"])
        if namespace is None or (
            old is not None and new is not None and transforms.content(old) == transforms.content(new)
        ):
            return
        ours = self._ours(namespace)
        if not all(ours(one) for one in (old, new) if one is not None):
            self._agents_in(namespace["metadata"]["name"])

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        claimed = [one.get(EXTERNAL) for one in (old or {}, new or {})]
        if old is not None and new is not None and old["spec"] == new["spec"] and claimed[0] == claimed[1]:
            return
        data = (new or old or {})["metadata"]
        if any(claimed):
            self._exposed = None
            self._everyone_with_addresses()
        reference = f"{data['namespace']}/{data['name']}"
        if (data["namespace"], data["name"]) == KUBERNETES:
            self._reserved_changed()
            self.everyone()
        elif reference == self._settings.canary_service:
            self._retarget()
            self.everyone()
        for key in self._users.get(reference, ()):
            self._notify(key)
        self._foreign_changed(old, new)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        data = (new or old or {})["metadata"]
        if (data["namespace"], data["name"]) == KUBERNETES:
            if transforms.content(old or {}) != transforms.content(new or {}):
                self._reserved_changed()
                self.everyone()
            return
        self._foreign_changed(old, new)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if all((old or {}).get(key) == (new or {}).get(key) for key in ("addresses", "podNetworks")):
            return
        self._reserved_changed()
        self._everyone_with_addresses()

    def _reserved_changed(self) -> None:
        """Drops what was derived; clusterwide denies name these addresses too."""
        self._hosts = self._reserved = None
        for one in self.policies:
            self._notify(policy_key(one["metadata"]["name"]))

    def _everyone_with_addresses(self) -> None:
        for agent in self.agents:
            if rawspec.names_addresses(agent):
                self._notify(agent_key(agent["metadata"]["namespace"], agent["metadata"]["name"]))


def _selection(one: Policy, namespace: Object | None) -> tuple[bool, bool]:
    """Whether a policy covers a namespace, and whether it counts it as production."""
    if namespace is None:
        return (False, False)
    return (
        meta.is_sandbox(namespace) and policy.covers(one, namespace),
        one.production_namespaces.matches(meta.labels_of(namespace)),
    )


def _split(reference: str) -> tuple[str, str]:
    namespace, _, name = reference.partition("/")
    return namespace, name


def _by_namespace(obj: Object) -> str:
    return str(obj["metadata"]["namespace"])
