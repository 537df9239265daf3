"""The kinds that Bulkhead reads and writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bulkhead.api import meta

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it: plain dicts, lists and scalars."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource: what a URL and an object's head need.

    Attributes:
        group: API group; empty for the core group.
        version: API version within the group, such as `v1`.
        plural: The resource's name in URLs.
        kind: The kind of its objects.
        namespaced: Whether its objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Gives `group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Gives the URL path of one object, or of a collection when `name` is None.

        A namespaced resource without a namespace is the collection across all namespaces.

        Raises:
            ValueError: A namespace for a cluster-scoped resource, a name without the namespace it needs, an empty
                name, or a subresource of a collection: each would address something else than was meant.
        """
        if namespace is not None and not self.namespaced:
            raise ValueError(f"{self.kind} is cluster-scoped, but the namespace {namespace!r} was given")
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        if name == "" or namespace == "":
            raise ValueError(f"a name or namespace of {self.kind} is empty")
        if subresource is not None and name is None:
            raise ValueError(f"the subresource {subresource!r} of {self.kind} needs a name")
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        """Gives `plural.group`, as kubectl prints a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


AGENTS = Resource(meta.GROUP, meta.VERSION, meta.AGENT_PLURAL, meta.AGENT_KIND)
SANDBOX_POLICIES = Resource(meta.GROUP, meta.VERSION, "sandboxpolicies", "SandboxPolicy", namespaced=False)
KILL_SWITCHES = Resource(meta.GROUP, meta.VERSION, meta.KILL_SWITCH_PLURAL, meta.KILL_SWITCH_KIND, namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
VALIDATING_ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
VALIDATING_ADMISSION_POLICY_BINDINGS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
CILIUM_NETWORK_POLICIES = Resource("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy")
CILIUM_CLUSTERWIDE_NETWORK_POLICIES = Resource(
    "cilium.io",
    "v2",
    "ciliumclusterwidenetworkpolicies",
    "CiliumClusterwideNetworkPolicy",
    namespaced=False,
)
CLUSTER_NETWORK_POLICIES = Resource(
    "policy.networking.k8s.io",
    "v1alpha2",
    "clusternetworkpolicies",
    "ClusterNetworkPolicy",
    namespaced=False,
)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CORE_EVENTS = Resource("", "v1", "events", "Event")
"""The same objects under their old name: only there can the API server select by the object that an event is about."""

KNOWN: tuple[Resource, ...] = (
    AGENTS,
    SANDBOX_POLICIES,
    KILL_SWITCHES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    SERVICE_ACCOUNTS,
    ROLES,
    ROLE_BINDINGS,
    SECRETS,
    CONFIG_MAPS,
    CLAIMS,
    NETWORK_POLICIES,
    CILIUM_NETWORK_POLICIES,
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
    CLUSTER_NETWORK_POLICIES,
    ENDPOINT_SLICES,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    STATEFUL_SETS,
    LEASES,
    EVENTS,
)
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in KNOWN}


def resource_of(obj: Object) -> Resource:
    """Gives the resource that serves `obj`, by its `apiVersion` and `kind`.

    Raises:
        LookupError: The kind is none that Bulkhead handles.
    """
    key = (obj.get("apiVersion"), obj.get("kind"))
    resource = _BY_KIND.get(key)  # type: ignore[arg-type]
    if resource is None:
        known = ", ".join(sorted(item.kind for item in KNOWN))
        raise LookupError(f"no known resource serves apiVersion {key[0]!r}, kind {key[1]!r}; known kinds: {known}")
    return resource


def name_of(obj: Object) -> str:
    """Gives the object's name."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str | None:
    """Gives the object's namespace; None for a cluster-scoped object."""
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


def uid_of(obj: Object) -> str:
    """Gives the object's UID; empty when the API server has not given it one yet."""
    return str(obj["metadata"].get("uid") or "")


def version_of(obj: Object) -> int:
    """Gives the object's resourceVersion as a number.

    Resource versions of one resource are comparable as integers (KEP-5504): the larger is the newer.

    Raises:
        ValueError: The API server sent something that is not a number.
    """
    return int(obj["metadata"]["resourceVersion"])
