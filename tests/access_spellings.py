"""Spellings of rules and of what a policy offers, each with what is to become of it.

The same tables are put to the plan (tests/unit) and, with a real API server's authorizer as the judge, to the Roles
that come of them (tests/apiserver). Rules are written `verbs, resources, groups, names`, each a text of words; `core`
is the core group. Requests are written `verb group resource[/subresource] [name]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Rule = dict[str, list[str]]

READ = "get list watch"
WRITE = "create update patch delete deletecollection"
EVERY = f"{READ} {WRITE}"
CORE = "core"


def r(verbs: str, resources: str, groups: str = CORE, names: str = "") -> Rule:
    """One rule."""
    rule = {
        "apiGroups": ["" if group == CORE else group for group in groups.split()],
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    return {**rule, "resourceNames": names.split()} if names else rule


@dataclass(frozen=True)
class Request:
    """One request to an API server, as its authorizer sees it."""

    verb: str
    group: str
    resource: str
    subresource: str
    name: str

    @classmethod
    def of(cls, text: str) -> Request:
        """Reads `verb group resource[/subresource] [name]`."""
        verb, group, path, *name = text.split()
        resource, _, subresource = path.partition("/")
        return cls(verb, "" if group == CORE else group, resource, subresource, name[0] if name else "")

    def attributes(self, namespace: str) -> dict[str, Any]:
        """The resourceAttributes of a SubjectAccessReview."""
        return {
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "version": "*",
            "resource": self.resource,
            "subresource": self.subresource,
            "name": self.name,
        }


@dataclass(frozen=True)
class Inside:
    """Rules that may be asked for."""

    asked: tuple[Rule, ...]
    offered: tuple[Rule, ...]


@dataclass(frozen=True)
class Over:
    """Rules that go beyond what is offered, and a request that shows it: theirs, and not the offer's."""

    asked: tuple[Rule, ...]
    offered: tuple[Rule, ...]
    request: str


@dataclass(frozen=True)
class Closed:
    """Rules that no offer makes acceptable, and a request that shows why: theirs, and nobody's to make."""

    asked: tuple[Rule, ...]
    request: str


def inside(asked: Rule | tuple[Rule, ...], *offered: Rule) -> Inside:
    """Rules inside of what is offered."""
    return Inside(asked if isinstance(asked, tuple) else (asked,), offered)


def over(request: str, asked: Rule | tuple[Rule, ...], *offered: Rule) -> Over:
    """Rules beyond what is offered."""
    return Over(asked if isinstance(asked, tuple) else (asked,), offered, request)


def closed(request: str, *asked: Rule) -> Closed:
    """Rules that are never accepted."""
    return Closed(asked, request)


INSIDE: dict[str, Inside] = {
    "the same rule": inside(r(READ, "configmaps"), r(READ, "configmaps")),
    "one verb of three": inside(r("list", "configmaps"), r(READ, "configmaps")),
    "verbs in another order": inside(r("watch get list", "configmaps"), r(READ, "configmaps")),
    "a verb twice": inside(r("get get", "configmaps"), r("get", "configmaps")),
    "one resource of two": inside(r("get", "services"), r("get", "configmaps services")),
    "one group of two": inside(r("get", "jobs", "batch"), r("get", "jobs", "batch apps")),
    "one name of two": inside(r("get", "configmaps", CORE, "a"), r("get", "configmaps", CORE, "b a")),
    "names where every name is offered": inside(r("get", "configmaps", CORE, "a b"), r("get", "configmaps")),
    "names of two rules, atom by atom": inside(
        r("get", "configmaps", CORE, "a b"), r("get", "configmaps", CORE, "a"), r("get", "configmaps", CORE, "b")
    ),
    "verbs of two rules, atom by atom": inside(
        r("get list", "configmaps"), r("get", "configmaps"), r("list", "configmaps")
    ),
    "resources of two rules, atom by atom": inside(
        r("get", "configmaps services"), r("get", "configmaps"), r("get", "services")
    ),
    "groups of two rules, atom by atom": inside(
        r("get", "leases jobs", "batch coordination.k8s.io"),
        r("get", "leases jobs", "batch"),
        r("get", "leases jobs", "coordination.k8s.io"),
    ),
    "one verb from every rule of four": inside(
        r("get list create delete", "configmaps"),
        *(r(verb, "configmaps") for verb in ("get", "list", "create", "delete")),
    ),
    "two rules inside of one": inside((r("get", "configmaps"), r("get", "services")), r("get", "configmaps services")),
    "two rules inside of two": inside(
        (r("get", "configmaps"), r("list", "services")), r("list", "services"), r("get", "configmaps")
    ),
    "a rule twice": inside((r("get", "configmaps"), r("get", "configmaps")), r("get", "configmaps")),
    "every verb is offered": inside(r(EVERY, "configmaps"), r("*", "configmaps")),
    "every resource is offered": inside(r("get", "configmaps"), r("get", "*")),
    "a subresource where every resource is offered": inside(r("get", "pods/log"), r("get", "*")),
    "every group is offered": inside(r("get", "configmaps"), r("get", "configmaps", "*")),
    "a group of its own where every group is offered": inside(
        r("get", "widgets", "toys.example"), r("get", "widgets", "*")
    ),
    "everything is offered": inside(r(EVERY, "configmaps leases", "core coordination.k8s.io"), r("*", "*", "*")),
    "a name where everything is offered": inside(r("get", "configmaps", CORE, "a"), r("*", "*", "*")),
    "a subresource by itself": inside(r("get", "pods/log"), r("get", "pods/log")),
    "a subresource of every resource is offered": inside(r("get", "pods/log"), r("get", "*/log")),
    "two subresources of every resource are offered": inside(
        r("get", "pods/log pods/status"), r("get", "*/log */status")
    ),
    "a wildcard for a subresource inside of the same": inside(
        r("update", "*/scale", "toys.example"), r("update", "*/scale", "toys.example")
    ),
    "a wildcard for a subresource where every resource is offered": inside(
        r("update", "*/scale", "toys.example"), r("update", "*", "toys.example")
    ),
    "a wildcard for a subresource to read, in a group whose writing is closed": inside(
        r("get", "*/scale", "apps"), r("get", "*/scale", "apps")
    ),
    "every resource of a group of its own": inside(r(EVERY, "*", "toys.example"), r(EVERY, "*", "toys.example")),
    "every resource of a group of its own, every verb offered": inside(
        r(EVERY, "*", "toys.example"), r("*", "*", "toys.example")
    ),
    "every resource of a group of its own, every group offered": inside(
        r("get", "*", "toys.example"), r("get", "*", "*")
    ),
    "every workload, to read": inside(r(READ, "*", "apps batch"), r(READ, "*", "apps batch autoscaling")),
    "every network policy, to read": inside(
        r(READ, "networkpolicies ingresses", "networking.k8s.io"), r(READ, "*", "networking.k8s.io")
    ),
    "pods, to read": inside(r(READ, "pods"), r(READ, "pods")),
    "the log of pods": inside(r("get", "pods/log"), r("get", "pods pods/log")),
    "the status of pods, to read": inside(r("get", "pods/status"), r("get", "pods/status")),
    "services and endpoints, to read": inside(r(READ, "services endpoints"), r(READ, "services endpoints pods")),
    "endpoint slices, to read": inside(
        r(READ, "endpointslices", "discovery.k8s.io"), r(READ, "endpointslices", "discovery.k8s.io")
    ),
    "events, to read, by both names of their group": inside(
        r(READ, "events", "core events.k8s.io"), r(READ, "events", "core events.k8s.io")
    ),
    "service accounts, to read": inside(r(READ, "serviceaccounts"), r(READ, "serviceaccounts")),
    "quotas and limits, to read": inside(r(READ, "resourcequotas limitranges"), r(READ, "resourcequotas limitranges")),
    "claims, to read": inside(r(READ, "persistentvolumeclaims"), r(READ, "persistentvolumeclaims")),
    "the namespace, to read": inside(r("get", "namespaces"), r("get", "namespaces")),
    "replication controllers, to read": inside(r(READ, "replicationcontrollers"), r(READ, "replicationcontrollers")),
    "config maps, to write": inside(r(EVERY, "configmaps"), r(EVERY, "configmaps")),
    "config maps, to write by name": inside(
        r("get update patch delete", "configmaps", CORE, "state"), r("get update patch delete", "configmaps")
    ),
    "a lease to be elected by": inside(
        r("get create update patch", "leases", "coordination.k8s.io"), r(EVERY, "leases", "coordination.k8s.io")
    ),
    "a kind of its own, to write": inside(r(EVERY, "widgets", "toys.example"), r(EVERY, "widgets", "toys.example")),
    "the status of a kind of its own": inside(
        r("update patch", "widgets/status", "toys.example"), r("update patch", "widgets/status", "toys.example")
    ),
    "the scale of a kind of its own": inside(
        r("get update", "widgets/scale", "toys.example"), r("get update", "*/scale", "toys.example")
    ),
    "a kind of its own that is called secrets": inside(
        r(EVERY, "secrets", "toys.example"), r(EVERY, "secrets", "toys.example")
    ),
    "a kind of its own with a subresource that is called exec": inside(
        r("create", "widgets/exec", "toys.example"), r("create", "*/exec", "toys.example")
    ),
    "a group that only ends like a closed one": inside(
        r(EVERY, "widgets", "not-bulkhead.dev"), r(EVERY, "widgets", "not-bulkhead.dev")
    ),
    "a group below a closed one": inside(
        r(EVERY, "widgets", "toys.bulkhead.dev"), r(EVERY, "widgets", "toys.bulkhead.dev")
    ),
    "a review of one's own rights": inside(
        r("create", "localsubjectaccessreviews", "authorization.k8s.io"),
        r("create", "localsubjectaccessreviews", "authorization.k8s.io"),
    ),
    "metrics of pods": inside(r("get list", "pods", "metrics.k8s.io"), r(READ, "pods", "metrics.k8s.io")),
    "workloads by name, to read": inside(r("get", "deployments", "apps", "web"), r("get", "deployments", "apps")),
    "the scale of a workload, to read": inside(r("get", "deployments/scale", "apps"), r("get", "*", "apps")),
    "a name with a colon and one with a dot": inside(
        r("get", "configmaps", CORE, "a:b c.d"), r("get", "configmaps", CORE, "c.d a:b")
    ),
    "names with a wildcard for verbs on offer": inside(
        r("get", "configmaps", CORE, "a"), r("*", "configmaps", CORE, "a b c")
    ),
    "thirty-two names": inside(
        r("get", "configmaps", CORE, " ".join(f"n{number}" for number in range(32))), r("get", "configmaps")
    ),
    "a listing by name": inside(r("list watch", "configmaps", CORE, "a"), r("list watch", "configmaps", CORE, "a")),
    "a product of all four, spread over four rules": inside(
        r("get list", "configmaps services", CORE, "a b"),
        r("get", "configmaps services", CORE, "a"),
        r("get", "configmaps services", CORE, "b"),
        r("list", "configmaps", CORE, "a b"),
        r("list", "services"),
    ),
    "workload kinds of two groups, each group with both": inside(
        r("get", "deployments jobs", "apps batch"), r("get", "deployments jobs", "apps batch")
    ),
    "with what is offered beside it": inside(
        r("get", "configmaps"), r("get", "pods"), r("*", "*", "toys.example"), r("get list", "configmaps")
    ),
}


OVER: dict[str, Over] = {
    "nothing is offered": over("get core configmaps a", r("get", "configmaps")),
    "another verb": over("list core configmaps", r("list", "configmaps"), r("get", "configmaps")),
    "one verb more": over("watch core configmaps", r(READ, "configmaps"), r("get list", "configmaps")),
    "writing where reading is offered": over(
        "update core configmaps a", r("update", "configmaps"), r(READ, "configmaps")
    ),
    "deleting many where deleting one is offered": over(
        "deletecollection core configmaps", r("deletecollection", "configmaps"), r("delete", "configmaps")
    ),
    "patching where updating is offered": over(
        "patch core configmaps a", r("patch", "configmaps"), r("update", "configmaps")
    ),
    "listing where getting is offered": over("list core pods", r("get list", "pods"), r("get", "pods")),
    "watching where listing is offered": over("watch core pods", r("watch", "pods"), r("get list", "pods")),
    "another resource": over("get core services a", r("get", "services"), r("get", "configmaps")),
    "one resource more": over("get core services a", r("get", "configmaps services"), r("get", "configmaps")),
    "another group": over("get batch jobs a", r("get", "jobs", "batch"), r("get", "jobs", "apps")),
    "one group more": over("get batch jobs a", r("get", "jobs", "batch apps"), r("get", "jobs", "apps")),
    "the core group where another is offered": over("get core jobs a", r("get", "jobs"), r("get", "jobs", "batch")),
    "another name": over("get core configmaps b", r("get", "configmaps", CORE, "b"), r("get", "configmaps", CORE, "a")),
    "one name more": over(
        "get core configmaps b", r("get", "configmaps", CORE, "a b"), r("get", "configmaps", CORE, "a")
    ),
    "every name where one is offered": over(
        "get core configmaps b", r("get", "configmaps"), r("get", "configmaps", CORE, "a")
    ),
    "a listing where names are offered": over(
        "list core configmaps", r("list", "configmaps"), r("list", "configmaps", CORE, "a")
    ),
    "a name that begins like the one offered": over(
        "get core configmaps ab", r("get", "configmaps", CORE, "ab"), r("get", "configmaps", CORE, "a")
    ),
    "a name in another case": over(
        "get core configmaps A", r("get", "configmaps", CORE, "A"), r("get", "configmaps", CORE, "a")
    ),
    "creating where names are offered": over(
        "create core configmaps", r("create", "configmaps"), r("create", "configmaps", CORE, "a")
    ),
    "a subresource where its resource is offered": over("get core pods/log a", r("get", "pods/log"), r("get", "pods")),
    "a resource where its subresource is offered": over("get core pods a", r("get", "pods"), r("get", "pods/log")),
    "another subresource": over("get core pods/status a", r("get", "pods/status"), r("get", "pods/log")),
    "a resource where a subresource of every one is offered": over(
        "get core pods a", r("get", "pods"), r("get", "*/log")
    ),
    "another subresource than that of every resource": over(
        "get core pods/status a", r("get", "pods/status"), r("get", "*/log")
    ),
    "a subresource that ends like the one offered": over(
        "get toys.example widgets/xlog a", r("get", "widgets/xlog", "toys.example"), r("get", "*/log", "toys.example")
    ),
    "a subresource of every resource where one is offered": over(
        "update toys.example gadgets/scale a",
        r("update", "*/scale", "toys.example"),
        r("update", "widgets/scale", "toys.example"),
    ),
    "another subresource of every resource": over(
        "update toys.example gadgets/status a",
        r("update", "*/status", "toys.example"),
        r("update", "*/scale", "toys.example"),
    ),
    "every resource where one is offered": over(
        "get toys.example gadgets a", r("get", "*", "toys.example"), r("get", "widgets", "toys.example")
    ),
    "every resource where many are offered": over(
        "get toys.example gizmos a", r("get", "*", "toys.example"), r("get", "widgets gadgets", "toys.example")
    ),
    "every resource where a subresource of every one is offered": over(
        "get toys.example widgets a", r("get", "*", "toys.example"), r("get", "*/log */status */scale", "toys.example")
    ),
    "every resource of another group": over("get apps deployments a", r("get", "*", "apps"), r("get", "*", "batch")),
    "every resource of a group that is offered by name": over(
        "get apps daemonsets a", r("get", "*", "apps"), r("get", "deployments statefulsets", "apps")
    ),
    "every resource, with one verb more": over(
        "list apps deployments", r("get list", "*", "apps"), r("get", "*", "apps")
    ),
    "every verb offered, on another resource": over("get core services a", r("get", "services"), r("*", "configmaps")),
    "every verb offered, in another group": over(
        "get batch configmaps a", r("get", "configmaps", "batch"), r("*", "configmaps")
    ),
    "every verb offered, for another name": over(
        "get core configmaps b", r("get", "configmaps", CORE, "b"), r("*", "configmaps", CORE, "a")
    ),
    "every resource offered, in another group": over("get batch jobs a", r("get", "jobs", "batch"), r("get", "*")),
    "every resource offered, for another verb": over("list core pods", r("list", "pods"), r("get", "*")),
    "every resource offered, for another name": over(
        "get core pods b", r("get", "pods", CORE, "b"), r("get", "*", CORE, "a")
    ),
    "every group offered, for another resource": over(
        "get core services a", r("get", "services"), r("get", "configmaps", "*")
    ),
    "every group offered, for another verb": over(
        "list core configmaps", r("list", "configmaps"), r("get", "configmaps", "*")
    ),
    "everything offered under one name": over("get core configmaps b", r("get", "configmaps"), r("*", "*", "*", "a")),
    "a verb of one rule on the resource of another": over(
        "list core configmaps",
        r("get list", "configmaps services"),
        r("get", "configmaps services"),
        r("list", "services"),
    ),
    "a resource of one rule in the group of another": over(
        "get apps jobs a",
        r("get", "jobs deployments", "apps batch"),
        r("get", "jobs", "batch"),
        r("get", "deployments", "apps"),
    ),
    "a name of one rule with the verb of another": over(
        "delete core configmaps a",
        r("get delete", "configmaps", CORE, "a b"),
        r("get", "configmaps", CORE, "a b"),
        r("delete", "configmaps", CORE, "b"),
    ),
    "a name of one rule on the resource of another": over(
        "get core services a",
        r("get", "configmaps services", CORE, "a b"),
        r("get", "configmaps", CORE, "a b"),
        r("get", "services", CORE, "b"),
    ),
    "every name where two rules offer two": over(
        "get core configmaps c",
        r("get", "configmaps"),
        r("get", "configmaps", CORE, "a"),
        r("get", "configmaps", CORE, "b"),
    ),
    "one rule of two": over(
        "get core services a", (r("get", "configmaps"), r("get", "services")), r("get", "configmaps")
    ),
    "the second of three rules": over(
        "delete core configmaps a",
        (r("get", "configmaps"), r("delete", "configmaps"), r("list", "configmaps")),
        r("get list", "configmaps"),
    ),
    "the last of many verbs and resources": over(
        "delete core configmaps a",
        r("get list watch delete", "widgets gadgets configmaps"),
        r("get list watch", "widgets gadgets configmaps"),
        r("delete", "widgets gadgets"),
    ),
    "the plural where the singular is offered": over(
        "get core configmaps a", r("get", "configmaps"), r("get", "configmap")
    ),
    "a resource that begins like the one offered": over(
        "get toys.example widgetsets a", r("get", "widgetsets", "toys.example"), r("get", "widgets", "toys.example")
    ),
    "a group that begins like the one offered": over(
        "get toys.example.org widgets a", r("get", "widgets", "toys.example.org"), r("get", "widgets", "toys.example")
    ),
    "a group that ends like the one offered": over(
        "get my-toys.example widgets a", r("get", "widgets", "my-toys.example"), r("get", "widgets", "toys.example")
    ),
    "the parent of the group that is offered": over(
        "get example widgets a", r("get", "widgets", "example"), r("get", "widgets", "toys.example")
    ),
    "events of the core group where the new group is offered": over(
        "get core events a", r("get", "events"), r("get", "events", "events.k8s.io")
    ),
    "events of the new group where the core group is offered": over(
        "get events.k8s.io events a", r("get", "events", "events.k8s.io"), r("get", "events")
    ),
    "the log by every verb of reading": over("list core pods/log", r(READ, "pods/log"), r("get", "pods/log")),
    "a status to write where it is offered to read": over(
        "patch toys.example widgets/status a",
        r("get patch", "widgets/status", "toys.example"),
        r("get", "widgets/status", "toys.example"),
    ),
    "the object where its status is offered": over(
        "patch toys.example widgets a",
        r("patch", "widgets", "toys.example"),
        r("patch", "widgets/status", "toys.example"),
    ),
    "the status where the object is offered": over(
        "patch toys.example widgets/status a",
        r("patch", "widgets/status", "toys.example"),
        r("patch", "widgets", "toys.example"),
    ),
    "a lease of every name where one is offered": over(
        "update coordination.k8s.io leases other",
        r("update", "leases", "coordination.k8s.io"),
        r("update", "leases", "coordination.k8s.io", "mine"),
    ),
    "thirty-two names of which one is not offered": over(
        "get core configmaps n31",
        r("get", "configmaps", CORE, " ".join(f"n{number}" for number in range(32))),
        r("get", "configmaps", CORE, " ".join(f"n{number}" for number in range(31))),
    ),
    "every resource under a name, without the name": over(
        "get toys.example widgets b", r("get", "*", "toys.example"), r("get", "*", "toys.example", "a")
    ),
    "every resource offered under two rules' names": over(
        "get toys.example widgets c",
        r("get", "*", "toys.example"),
        r("get", "*", "toys.example", "a"),
        r("get", "*", "toys.example", "b"),
    ),
    "a subresource with a name that is offered for the resource": over(
        "get core pods/log a", r("get", "pods/log", CORE, "a"), r("get", "pods", CORE, "a")
    ),
}


CLOSED: dict[str, Closed] = {
    "secrets": closed("get core secrets a", r("get", "secrets")),
    "a listing of secrets": closed("list core secrets", r("list", "secrets")),
    "a watch of secrets": closed("watch core secrets", r("watch", "secrets")),
    "secrets, to create": closed("create core secrets", r("create", "secrets")),
    "one secret by name": closed("get core secrets a", r("get", "secrets", CORE, "a")),
    "secrets among others": closed("get core secrets a", r("get", "configmaps secrets services")),
    "secrets in a product of groups": closed("get core secrets a", r("get", "deployments secrets", "apps core")),
    "secrets in the second rule": closed("delete core secrets a", r("get", "configmaps"), r("delete", "secrets")),
    "every core resource, to read": closed("get core secrets a", r("get", "*")),
    "every core resource under one name": closed("get core secrets a", r("get", "*", CORE, "a")),
    "every core resource, to patch": closed("patch core pods a", r("patch", "*")),
    "every group": closed("get rbac.authorization.k8s.io roles a", r("get", "roles", "*")),
    "every group for a harmless resource": closed(
        # An API server that serves a kind of this name in a closed group gives it away.
        "get bulkhead.dev configmaps a",
        r("get", "configmaps", "*"),
    ),
    "every group with the core group": closed("get core secrets a", r("get", "secrets", "core *")),
    "everything": closed("escalate rbac.authorization.k8s.io roles a", r("*", "*", "*")),
    "everything, to read": closed("list core secrets", r(READ, "*", "*")),
    "every verb": closed("impersonate core configmaps a", r("*", "configmaps")),
    "every verb among others": closed("bind toys.example widgets a", r("get *", "widgets", "toys.example")),
    "every verb on service accounts": closed("impersonate core serviceaccounts a", r("*", "serviceaccounts")),
    "escalate": closed(
        "escalate rbac.authorization.k8s.io roles a", r("escalate", "roles", "rbac.authorization.k8s.io")
    ),
    "bind": closed("bind rbac.authorization.k8s.io roles a", r("bind", "roles", "rbac.authorization.k8s.io")),
    "impersonate service accounts": closed(
        "impersonate core serviceaccounts default", r("impersonate", "serviceaccounts")
    ),
    "impersonate users": closed("impersonate core users admin", r("impersonate", "users")),
    "impersonate groups": closed(
        "impersonate core groups system:masters", r("impersonate", "groups", CORE, "system:masters")
    ),
    "impersonate what else there is of a user": closed(
        "impersonate authentication.k8s.io userextras/scopes a",
        r("impersonate", "userextras/scopes", "authentication.k8s.io"),
    ),
    "impersonate in a mode": closed(
        "impersonate:serviceaccount authentication.k8s.io serviceaccounts a",
        r("impersonate:serviceaccount", "serviceaccounts", "authentication.k8s.io"),
    ),
    "impersonate for one verb": closed(
        "impersonate-on:serviceaccount:get core pods a", r("impersonate-on:serviceaccount:get", "pods")
    ),
    "approve": closed("approve certificates.k8s.io signers a", r("approve", "signers", "certificates.k8s.io")),
    "sign": closed("sign certificates.k8s.io signers a", r("sign", "signers", "certificates.k8s.io")),
    "attest": closed("attest certificates.k8s.io signers a", r("attest", "signers", "certificates.k8s.io")),
    "approve in a group of its own": closed("approve toys.example widgets a", r("approve", "widgets", "toys.example")),
    "use of a pod security": closed(
        "use security.openshift.io securitycontextconstraints privileged",
        r("use", "securitycontextconstraints", "security.openshift.io", "privileged"),
    ),
    "a verb of an admission policy's": closed("bypass toys.example widgets a", r("bypass", "widgets", "toys.example")),
    "exec": closed("create core pods/exec a", r("create", "pods/exec")),
    "exec, by GET": closed("get core pods/exec a", r("get", "pods/exec")),
    "exec among what may be read": closed("get core pods/exec a", r("get", "pods pods/log pods/exec")),
    "attach": closed("create core pods/attach a", r("create", "pods/attach")),
    "port-forward": closed("create core pods/portforward a", r("create", "pods/portforward")),
    "a pod's proxy": closed("get core pods/proxy a", r("get", "pods/proxy")),
    "a service's proxy": closed("get core services/proxy a", r("get", "services/proxy")),
    "a node's proxy": closed("get core nodes/proxy a", r("get", "nodes/proxy")),
    "an ephemeral container": closed("patch core pods/ephemeralcontainers a", r("patch", "pods/ephemeralcontainers")),
    "a resize": closed("patch core pods/resize a", r("patch", "pods/resize")),
    "exec of every resource": closed("create core pods/exec a", r("create", "*/exec")),
    "proxy of every resource, to read": closed("get core services/proxy a", r("get", "*/proxy")),
    "exec of every resource of two groups": closed(
        "create core pods/exec a", r("create", "*/exec", "toys.example core")
    ),
    "token of every resource": closed("create core serviceaccounts/token a", r("create", "*/token")),
    "status of every resource, to write": closed("patch core pods/status a", r("patch", "*/status")),
    "scale of every workload": closed("update apps deployments/scale a", r("update", "*/scale", "apps")),
    "pods, to create": closed("create core pods", r("create", "pods")),
    "pods, to delete": closed("delete core pods a", r("delete", "pods")),
    "one pod by name, to patch": closed("patch core pods a", r("patch", "pods", CORE, "a")),
    "the status of pods, to write": closed("patch core pods/status a", r("get patch", "pods/status")),
    "an eviction": closed("create core pods/eviction a", r("create", "pods/eviction")),
    "a binding of a pod": closed("create core pods/binding a", r("create", "pods/binding")),
    "a binding": closed("create core bindings", r("create", "bindings")),
    "replication controllers": closed("create core replicationcontrollers", r("create", "replicationcontrollers")),
    "deployments": closed("create apps deployments", r("create", "deployments", "apps")),
    "one stateful set by name": closed("patch apps statefulsets a", r("patch", "statefulsets", "apps", "a")),
    "daemon sets among what may be read": closed("update apps daemonsets a", r("get update", "daemonsets", "apps")),
    "jobs": closed("create batch jobs", r("create", "jobs", "batch")),
    "cron jobs": closed("patch batch cronjobs a", r("patch", "cronjobs", "batch")),
    "every workload": closed("create batch jobs", r(EVERY, "*", "apps batch")),
    "autoscalers": closed(
        "create autoscaling horizontalpodautoscalers", r("create", "horizontalpodautoscalers", "autoscaling")
    ),
    "disruption budgets": closed("create policy poddisruptionbudgets", r("create", "poddisruptionbudgets", "policy")),
    "claims of devices": closed(
        "create resource.k8s.io resourceclaims", r("create", "resourceclaims", "resource.k8s.io")
    ),
    "tokens": closed("create core serviceaccounts/token a", r("create", "serviceaccounts/token")),
    "its own token": closed(
        "create core serviceaccounts/token agent-a", r("create", "serviceaccounts/token", CORE, "agent-a")
    ),
    "service accounts, to create": closed("create core serviceaccounts", r("create", "serviceaccounts")),
    "service accounts, to patch": closed("patch core serviceaccounts a", r("patch", "serviceaccounts")),
    "roles, to read": closed("get rbac.authorization.k8s.io roles a", r("get", "roles", "rbac.authorization.k8s.io")),
    "role bindings": closed(
        "create rbac.authorization.k8s.io rolebindings", r("create", "rolebindings", "rbac.authorization.k8s.io")
    ),
    "every resource of RBAC": closed(
        "list rbac.authorization.k8s.io roles", r("list", "*", "rbac.authorization.k8s.io")
    ),
    "agents": closed("patch bulkhead.dev agentdeployments a", r("patch", "agentdeployments", "bulkhead.dev")),
    "agents, to read": closed("get bulkhead.dev agentdeployments a", r("get", "agentdeployments", "bulkhead.dev")),
    "the scale of agents": closed(
        "update bulkhead.dev agentdeployments/scale a", r("update", "agentdeployments/scale", "bulkhead.dev")
    ),
    "the scale of every kind of ours": closed(
        "patch bulkhead.dev agentdeployments/scale a", r("patch", "*/scale", "bulkhead.dev")
    ),
    "policies": closed("delete bulkhead.dev sandboxpolicies a", r("delete", "sandboxpolicies", "bulkhead.dev")),
    "admission": closed(
        "delete admissionregistration.k8s.io validatingadmissionpolicies a",
        r("delete", "validatingadmissionpolicies", "admissionregistration.k8s.io"),
    ),
    "certificate requests": closed(
        "create certificates.k8s.io certificatesigningrequests",
        r("create", "certificatesigningrequests", "certificates.k8s.io"),
    ),
    "pod certificates": closed(
        "create certificates.k8s.io podcertificaterequests",
        r("create", "podcertificaterequests", "certificates.k8s.io"),
    ),
    "kinds": closed(
        "create apiextensions.k8s.io customresourcedefinitions",
        r("create", "customresourcedefinitions", "apiextensions.k8s.io"),
    ),
    "API services": closed(
        "create apiregistration.k8s.io apiservices", r("create", "apiservices", "apiregistration.k8s.io")
    ),
    "the namespace, to delete": closed("delete core namespaces lab", r("delete", "namespaces")),
    "the namespace by name, to relabel": closed("patch core namespaces lab", r("patch", "namespaces", CORE, "lab")),
    "the namespace's finalizers": closed("update core namespaces/finalize lab", r("update", "namespaces/finalize")),
    "services, to create": closed("create core services", r("create", "services")),
    "services, to change": closed("patch core services a", r("get patch", "services")),
    "the status of services": closed("patch core services/status a", r("patch", "services/status")),
    "endpoints": closed("update core endpoints a", r("update", "endpoints")),
    "endpoint slices": closed(
        "create discovery.k8s.io endpointslices", r("create", "endpointslices", "discovery.k8s.io")
    ),
    "network policies": closed(
        "create networking.k8s.io networkpolicies", r("create", "networkpolicies", "networking.k8s.io")
    ),
    "network policies, to delete": closed(
        "delete networking.k8s.io networkpolicies bulkhead-deny-all",
        r("delete", "networkpolicies", "networking.k8s.io", "bulkhead-deny-all"),
    ),
    "ingresses": closed("create networking.k8s.io ingresses", r("create", "ingresses", "networking.k8s.io")),
    "network policies of Cilium": closed(
        "create cilium.io ciliumnetworkpolicies", r("create", "ciliumnetworkpolicies", "cilium.io")
    ),
    "network policies of Calico": closed(
        "create crd.projectcalico.org networkpolicies", r("create", "networkpolicies", "crd.projectcalico.org")
    ),
    "network policies of Antrea": closed(
        "create crd.antrea.io networkpolicies", r("create", "networkpolicies", "crd.antrea.io")
    ),
    "routes of a gateway": closed(
        "create gateway.networking.k8s.io httproutes", r("create", "httproutes", "gateway.networking.k8s.io")
    ),
    "quotas": closed("delete core resourcequotas a", r("delete", "resourcequotas")),
    "limits": closed("patch core limitranges a", r("patch", "limitranges")),
    "claims, to delete": closed("delete core persistentvolumeclaims a", r("delete", "persistentvolumeclaims")),
    "snapshots": closed(
        "create snapshot.storage.k8s.io volumesnapshots", r("create", "volumesnapshots", "snapshot.storage.k8s.io")
    ),
    "events": closed("create core events", r("create", "events")),
    "events of the new group": closed("patch events.k8s.io events a", r("patch", "events", "events.k8s.io")),
}


DANGEROUS = tuple(dict.fromkeys(one.request for one in CLOSED.values()))
"""Requests that no agent may ever be allowed."""

MEANINGLESS: dict[str, tuple[Rule, str]] = {
    "a star for subresources": (r("get", "pods/*"), "get core pods/log a"),
    "a star after letters": (r("get", "config*"), "get core configmaps a"),
    "a resource in upper case": (r("get", "ConfigMaps"), "get core configmaps a"),
    "a kind": (r("get", "ConfigMap"), "get core configmaps a"),
    "a group with its version": (r("get", "deployments", "apps/v1"), "get apps deployments a"),
    "a star before letters of a group": (r("get", "widgets", "*.example"), "get toys.example widgets a"),
    "a verb in upper case": (r("GET", "configmaps"), "get core configmaps a"),
    "a method of HTTP": (r("post", "configmaps"), "create core configmaps"),
    "a star in a name": (r("get", "configmaps", CORE, "a*"), "get core configmaps ab"),
    "a star for every name": (r("get", "configmaps", CORE, "*"), "get core configmaps a"),
}
"""Rules that Kubernetes takes and that do not allow the request that they seem to."""
