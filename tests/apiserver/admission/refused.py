"""What each guard refuses to an administrator of the whole cluster: requests that RBAC lets through."""

from __future__ import annotations

from tests.apiserver.admission import objects
from tests.apiserver.admission.cluster import Request
from tests.apiserver.admission.objects import AGENTS, APPS, BATCH, CORE, DISCOVERY, NETWORK, RBAC

EVICTION = f"{CORE}/pods/standing/eviction"

REFUSED: dict[str, dict[str, Request]] = {
    "network-policies": {
        "another policy": Request("POST", f"{NETWORK}/networkpolicies", objects.network_policy()),
        "an edit of the deny-all": Request(
            "PATCH",
            f"{NETWORK}/networkpolicies/standing",
            {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}},
            "merge",
        ),
        "a deletion": Request("DELETE", f"{NETWORK}/networkpolicies/standing"),
        "a deletion of all": Request("DELETE", f"{NETWORK}/networkpolicies"),
    },
    "pods": {
        "a pod": Request("POST", f"{CORE}/pods", objects.pod()),
        "a label edit": Request("PATCH", f"{CORE}/pods/standing", {"metadata": {"labels": {"app": "x"}}}, "merge"),
        "a deletion": Request("DELETE", f"{CORE}/pods/standing"),
        "a deletion of all": Request("DELETE", f"{CORE}/pods"),
        "a deletion by label": Request("DELETE", f"{CORE}/pods?labelSelector=app%3Dprobe"),
        "an ephemeral container": Request(
            "PATCH",
            f"{CORE}/pods/standing/ephemeralcontainers",
            {"spec": {"ephemeralContainers": [{"name": "debug", "image": "example.test/debug:1"}]}},
            "merge",
        ),
        "a resize": Request(
            "PATCH",
            f"{CORE}/pods/standing/resize",
            {"spec": {"containers": [{**objects.CONTAINER, "resources": {"requests": {"cpu": "2"}}}]}},
            "merge",
        ),
        "a binding": Request(
            "POST", f"{CORE}/pods/standing/binding", objects.named("v1", "Binding", "standing", target={"name": "n1"})
        ),
        "a binding of the old kind": Request(
            "POST", f"{CORE}/bindings", objects.named("v1", "Binding", "standing", target={"name": "n1"})
        ),
        "exec": Request("POST", f"{CORE}/pods/standing/exec?command=id&stdout=true", connect=True),
        "attach": Request("POST", f"{CORE}/pods/standing/attach?stdout=true", connect=True),
        "portforward": Request("POST", f"{CORE}/pods/standing/portforward", connect=True),
        "proxy": Request("GET", f"{CORE}/pods/standing/proxy/", connect=True),
        "the proxy of a Service": Request("GET", f"{CORE}/services/standing/proxy/", connect=True),
    },
    "stateful-sets": {
        "a StatefulSet": Request("POST", f"{APPS}/statefulsets", objects.workload("StatefulSet")),
        "an edit": Request(
            "PATCH",
            f"{APPS}/statefulsets/standing",
            {"spec": {"template": {"metadata": {"labels": {"app": "probe", "extra": "1"}}}}},
            "merge",
        ),
        "a scale": Request("PATCH", f"{APPS}/statefulsets/standing/scale", {"spec": {"replicas": 5}}, "merge"),
        "a label edit through status": Request(
            "PATCH", f"{APPS}/statefulsets/standing/status", {"metadata": {"labels": {"a": "b"}}}, "merge"
        ),
        "a deletion that leaves its pods": Request("DELETE", f"{APPS}/statefulsets/standing?propagationPolicy=Orphan"),
        "a deletion of all": Request("DELETE", f"{APPS}/statefulsets"),
        "a revision": Request(
            "POST",
            f"{APPS}/controllerrevisions",
            objects.named("apps/v1", "ControllerRevision", "probe", revision=1, data={"a": "b"}),
        ),
    },
    "other-workloads": {
        "a Deployment": Request("POST", f"{APPS}/deployments", objects.workload("Deployment")),
        "a ReplicaSet": Request("POST", f"{APPS}/replicasets", objects.workload("ReplicaSet")),
        "a DaemonSet": Request("POST", f"{APPS}/daemonsets", objects.workload("DaemonSet")),
        "a Job": Request("POST", f"{BATCH}/jobs", objects.job()),
        "a CronJob": Request("POST", f"{BATCH}/cronjobs", objects.cron_job()),
        "a ReplicationController": Request(
            "POST",
            f"{CORE}/replicationcontrollers",
            objects.named(
                "v1", "ReplicationController", "probe", spec={"selector": objects.LABELS, "template": objects.TEMPLATE}
            ),
        ),
        "a PodTemplate": Request(
            "POST", f"{CORE}/podtemplates", objects.named("v1", "PodTemplate", "probe", template=objects.TEMPLATE)
        ),
    },
    "service-accounts": {
        "an account": Request("POST", f"{CORE}/serviceaccounts", objects.named("v1", "ServiceAccount", "probe")),
        "an identity by annotation": Request(
            "PATCH", f"{CORE}/serviceaccounts/standing", {"metadata": {"annotations": {"role": "admin"}}}, "merge"
        ),
        "an identity for default": Request(
            "PATCH", f"{CORE}/serviceaccounts/default", {"metadata": {"annotations": {"role": "admin"}}}, "merge"
        ),
        "a deletion": Request("DELETE", f"{CORE}/serviceaccounts/standing"),
        "a deletion of all": Request("DELETE", f"{CORE}/serviceaccounts"),
    },
    "tokens": {
        "a token": Request(
            "POST",
            f"{CORE}/serviceaccounts/standing/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["api"]}},
        ),
        "a Secret that gets a token": Request("POST", f"{CORE}/secrets", objects.token_secret()),
    },
    "lease-secrets": {
        "a Secret called as a lease's": Request("POST", f"{CORE}/secrets", objects.lease_secret()),
        "one with the label of what the operator makes": Request(
            "POST",
            f"{CORE}/secrets",
            {
                **objects.named("v1", "Secret", "probe"),
                "metadata": {"name": "probe", "labels": {"bulkhead.dev/agent-uid": "x"}},
            },
        ),
        "another value": Request("PATCH", f"{CORE}/secrets/agent-standing.db", {"data": {"user": "eQ=="}}, "merge"),
        "a deletion": Request("DELETE", f"{CORE}/secrets/agent-standing.db"),
        "a deletion of all": Request("DELETE", f"{CORE}/secrets"),
    },
    "endpoints": {
        "a slice": Request("POST", f"{DISCOVERY}/endpointslices", objects.endpoint_slice()),
        "endpoints": Request("POST", f"{CORE}/endpoints", objects.endpoints()),
    },
    "agent-status": {
        "a verdict": Request("PATCH", f"{AGENTS}/standing/status", {"status": {"state": "Running"}}, "merge"),
    },
    "evictions": {
        "one without grace": Request("POST", EVICTION, objects.eviction(0)),
        "one with less grace than a container is given in any case": Request("POST", EVICTION, objects.eviction(1)),
    },
    "orphans": {
        "a deletion": Request("DELETE", f"{AGENTS}/standing?propagationPolicy=Orphan"),
        "a deletion in the old words": Request("DELETE", f"{AGENTS}/standing?orphanDependents=true"),
        "a deletion of all": Request("DELETE", f"{AGENTS}?propagationPolicy=Orphan"),
        "a finalizer": Request("PATCH", f"{AGENTS}/standing", {"metadata": {"finalizers": ["orphan"]}}, "merge"),
        "an agent with the finalizer": Request(
            "POST",
            AGENTS,
            {
                "apiVersion": "bulkhead.dev/v1alpha1",
                "kind": "AgentDeployment",
                "metadata": {"name": "probe", "finalizers": ["orphan"]},
                "spec": {"owner": "team-a", "image": "example.test/agent:1"},
            },
        ),
    },
    "services": {
        "a LoadBalancer": Request("POST", f"{CORE}/services", objects.service(type="LoadBalancer")),
        "a NodePort": Request("POST", f"{CORE}/services", objects.service(type="NodePort")),
        "an ExternalName": Request(
            "POST",
            f"{CORE}/services",
            objects.named("v1", "Service", "probe", spec={"type": "ExternalName", "externalName": "db.example"}),
        ),
        "external addresses": Request("POST", f"{CORE}/services", objects.service(externalIPs=["10.200.0.10"])),
        "no selector": Request("POST", f"{CORE}/services", objects.service(selector=None)),
        "an edit to ExternalName": Request(
            "PATCH",
            f"{CORE}/services/standing",
            {"spec": {"type": "ExternalName", "externalName": "db.example"}},
            "merge",
        ),
        "an edit that takes the selector": Request(
            "PATCH", f"{CORE}/services/standing", {"spec": {"selector": None}}, "merge"
        ),
    },
}
"""By the guard that refuses. Objects called `standing` exist where a test sends the request."""

READ_ROLE = Request("POST", f"{RBAC}/roles", objects.role())
