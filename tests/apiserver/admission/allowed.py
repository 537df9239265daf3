"""Whom the guards let through: what a cluster's own parts and the operator do in a sandbox namespace."""

from __future__ import annotations

from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Request
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, DISCOVERY, NETWORK

STANDING_POD = f"{CORE}/pods/standing"
STATUS = {"status": {"phase": "Pending", "message": "seen"}}

LET_THROUGH: dict[str, tuple[str, Request]] = {
    "the scheduler binds": (
        "scheduler",
        Request(
            "POST",
            f"{STANDING_POD}/binding",
            objects.named("v1", "Binding", "standing", target={"kind": "Node", "name": "n1"}),
        ),
    ),
    "the scheduler tells why it does not": ("scheduler", Request("PATCH", f"{STANDING_POD}/status", STATUS, "merge")),
    "the StatefulSet controller makes a pod": (
        "statefulset-controller",
        Request("POST", f"{CORE}/pods", objects.pod()),
    ),
    "the StatefulSet controller deletes a pod": ("statefulset-controller", Request("DELETE", STANDING_POD)),
    "the pod garbage collector": ("pod-garbage-collector", Request("DELETE", STANDING_POD)),
    "the node controller marks a pod": ("node-controller", Request("PATCH", f"{STANDING_POD}/status", STATUS, "merge")),
    "the garbage collector takes a policy": (
        "generic-garbage-collector",
        Request("DELETE", f"{NETWORK}/networkpolicies/standing"),
    ),
    "the garbage collector takes a finalizer": (
        "generic-garbage-collector",
        Request("PATCH", f"{APPS}/statefulsets/standing", {"metadata": {"finalizers": []}}, "merge"),
    ),
    "the namespace controller deletes all accounts": (
        "namespace-controller",
        Request("DELETE", f"{CORE}/serviceaccounts"),
    ),
    "the namespace controller deletes all policies": (
        "namespace-controller",
        Request("DELETE", f"{NETWORK}/networkpolicies"),
    ),
    "the service account controller": (
        "service-account-controller",
        Request("POST", f"{CORE}/serviceaccounts", objects.named("v1", "ServiceAccount", "probe")),
    ),
    "the publisher of the root certificate": (
        "root-ca-cert-publisher",
        Request("POST", f"{CORE}/configmaps", objects.named("v1", "ConfigMap", "probe")),
    ),
    "the EndpointSlice controller": (
        "endpointslice-controller",
        Request("POST", f"{DISCOVERY}/endpointslices", objects.endpoint_slice()),
    ),
    "the endpoints controller": ("endpoint-controller", Request("POST", f"{CORE}/endpoints", objects.endpoints())),
    "the operator writes a policy": (
        "operator",
        Request("POST", f"{NETWORK}/networkpolicies", objects.owned(objects.network_policy("agent-scout"))),
    ),
    "the operator ends a pod": ("operator", Request("DELETE", STANDING_POD)),
    "the operator ends all pods": ("operator", Request("DELETE", f"{CORE}/pods")),
    "the operator writes a status": (
        "operator",
        Request("PATCH", f"{AGENTS}/standing/status", {"status": {"state": "Running"}}, "merge"),
    ),
}
"""Who sends what: `operator`, `scheduler`, or a controller by the name of its account."""
