"""What no agent may do on the Kubernetes API, whatever a policy says: one table, with a reason each.

The table is read in two places: by `plan.access`, and by who writes it down for admission in CEL. It is a table of
products: any of its groups with any of its resources and any of its verbs is closed.

Only what lies in a namespace matters, since an agent has a Role and no ClusterRole. There is one exception: a request
for a Namespace by its name counts as one inside of that namespace (`RequestInfoFactory.NewRequestInfo`), so a Role can
let its holder relabel or delete the namespace that it is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

READS: Final = ("get", "list", "watch")
WRITES: Final = ("create", "update", "patch", "delete", "deletecollection")
VERBS: Final = (*READS, *WRITES)
"""The only verbs that may be asked for.

Every other one is a right of its own kind: `escalate`, `bind`, `impersonate` and its variants by user, group and mode
(KEP-5284), `approve`, `sign` and `attest` of certificates.k8s.io, `use` of pod security in OpenShift, and whatever an
admission policy asks its authorizer about.
"""

ANY: Final = ("*",)
"""Every resource of a group, subresources included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """One part of the floor: each of the groups with each of the resources and each of the verbs."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    """Resources and `resource/subresource`, or `ANY`. A resource does not include its subresources."""
    verbs: tuple[str, ...]
    why: str
    """Why nobody gets it: a clause."""
    accepted: str
    """What would be accepted instead: the end of a sentence that begins with `accepted is`."""


FLOOR: Final = (
    Closed(
        groups=("",),
        resources=("secrets",),
        verbs=VERBS,
        why="Secrets hold what others are trusted with, and the tokens of service accounts",
        accepted="a credential in spec.credentials",
    ),
    Closed(
        groups=("",),
        resources=(
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "pods/proxy",
            "pods/ephemeralcontainers",
            "pods/resize",
            "services/proxy",
            "nodes/proxy",
        ),
        # Reading counts too: streams are opened by GET, and what a proxy passes on is any request at all.
        verbs=VERBS,
        why="it is a way into pods, or past the network rules through the API server",
        accepted="pods/log and pods/status to read",
    ),
    Closed(
        groups=("",),
        resources=(
            "pods",
            "pods/binding",
            "pods/eviction",
            # The gate's proof of isolation is read there.
            "pods/status",
            "bindings",
            "podtemplates",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
        ),
        verbs=WRITES,
        why="whoever writes pods decides what runs in the namespace and under which account",
        accepted="reading them",
    ),
    Closed(
        groups=(
            "apps",
            "batch",
            "extensions",
            "autoscaling",
            "policy",
            "scheduling.k8s.io",
            "resource.k8s.io",
        ),
        resources=ANY,
        verbs=WRITES,
        why="controllers make, scale and keep pods for whoever writes workloads",
        accepted="reading them",
    ),
    Closed(
        groups=("",),
        resources=("serviceaccounts/token",),
        verbs=VERBS,
        why="a token is the account that it was made for",
        accepted="a token in spec.identity.tokens",
    ),
    Closed(
        groups=("",),
        resources=("serviceaccounts",),
        verbs=WRITES,
        why="accounts are what permissions, tokens and image pull secrets hang on",
        accepted="reading them",
    ),
    Closed(
        groups=("rbac.authorization.k8s.io", "authorization.openshift.io"),
        resources=ANY,
        verbs=VERBS,
        why="Roles and bindings decide what everybody may do",
        accepted="a rule for what is needed itself",
    ),
    Closed(
        groups=("bulkhead.dev",),
        resources=ANY,
        verbs=VERBS,
        why="agents, policies and kill switches are what confines the agent",
        accepted="no rule for it",
    ),
    Closed(
        groups=(
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "apiregistration.k8s.io",
            "certificates.k8s.io",
            "flowcontrol.apiserver.k8s.io",
        ),
        resources=ANY,
        verbs=VERBS,
        why="admission, certificates, API services and the kinds themselves are the cluster's own",
        accepted="no rule for it",
    ),
    Closed(
        groups=("",),
        resources=("namespaces", "namespaces/finalize", "namespaces/status"),
        verbs=WRITES,
        why="a Role reaches the namespace that it is in, whose labels make it a sandbox and whose deletion takes "
        "everything with it",
        accepted="reading it",
    ),
    Closed(
        groups=("",),
        resources=("services", "services/status", "endpoints", "endpoints/restricted"),
        verbs=WRITES,
        why="Services and their endpoints decide where connections end, inside and outside of the cluster",
        accepted="reading them",
    ),
    Closed(
        groups=(
            "discovery.k8s.io",
            "networking.k8s.io",
            "policy.networking.k8s.io",
            "gateway.networking.k8s.io",
            "cilium.io",
            "isovalent.com",
            "crd.projectcalico.org",
            "projectcalico.org",
            "crd.antrea.io",
            "controlplane.antrea.io",
            "kubeovn.io",
            "k8s.ovn.org",
            "k8s.cni.cncf.io",
            "networking.gke.io",
            "networking.k8s.aws",
            "networking.istio.io",
            "security.istio.io",
            "policy.linkerd.io",
        ),
        resources=ANY,
        verbs=WRITES,
        why="network policies only add up, and routes, gateways and endpoints lead past them",
        accepted="reading them; what the agent may reach is asked for in spec.network",
    ),
    Closed(
        groups=("",),
        resources=("resourcequotas", "resourcequotas/status", "limitranges"),
        verbs=WRITES,
        why="quotas hold the namespace within its share",
        accepted="reading them",
    ),
    Closed(
        groups=("",),
        resources=("persistentvolumeclaims", "persistentvolumeclaims/status"),
        verbs=WRITES,
        why="claims are the workspaces of the agents in the namespace, known by their names and annotations",
        accepted="spec.workspace",
    ),
    Closed(
        groups=("storage.k8s.io", "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"),
        resources=ANY,
        verbs=WRITES,
        why="snapshots and storage capacity are about the workspaces of all agents in the namespace",
        accepted="reading them",
    ),
    Closed(
        groups=("", "events.k8s.io"),
        resources=("events",),
        verbs=WRITES,
        why="an event says of itself who reports it, and people read the operator's there",
        accepted="reading them",
    ),
)
