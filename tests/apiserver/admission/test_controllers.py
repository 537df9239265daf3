"""The cluster goes on working: controllers that really run, a kubelet's credentials, deletions that come to an end."""

from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by
from tests.apiserver.admission.objects import AGENTS, APPS, CORE, DISCOVERY, NETWORK
from tests.apiserver.admission.test_guards import furnish
from tests.operator_process import eventually

OWN = {"app.kubernetes.io/managed-by": "bulkhead"}


def names(guarded: Guarded, collection: str, namespace: str) -> set[str]:
    answer = guarded.admin.get(collection.replace("{ns}", namespace))
    assert answer.ok, answer.message
    return {item["metadata"]["name"] for item in answer.body["items"]}


def workload(guarded: Guarded, namespace: str, **spec: Any) -> Object:
    """An agent with a StatefulSet of one pod that it owns, made as the operator makes it."""
    agent = guarded.make(AGENTS.replace("{ns}", namespace), objects.agent(**spec))
    for child in ordinary.children(agent).values():
        guarded.make(ordinary.COLLECTIONS[child["kind"]].replace("{ns}", namespace), child, guarded.operator)
    eventually(lambda: "scout-0" in names(guarded, f"{CORE}/pods", namespace), "the StatefulSet controller makes a pod")
    return agent


def test_a_sandbox_gets_its_default_account_and_the_clusters_certificate(guarded: Guarded, sandbox: str) -> None:
    eventually(lambda: "default" in names(guarded, f"{CORE}/serviceaccounts", sandbox), "the account default")
    eventually(lambda: "kube-root-ca.crt" in names(guarded, f"{CORE}/configmaps", sandbox), "the root certificate")


def test_what_an_agent_owned_is_collected_when_it_is_deleted(guarded: Guarded, sandbox: str) -> None:
    workload(guarded, sandbox)
    for policy in ("Foreground", "Background"):
        path = f"{AGENTS}/scout".replace("{ns}", sandbox)
        assert guarded.admin.delete(path, {"propagationPolicy": policy}).ok
        # The garbage collector looks for new kinds every thirty seconds, and knows no agents before.
        eventually(lambda: not names(guarded, AGENTS, sandbox), "the agent is gone", within=90)
        eventually(lambda: not names(guarded, f"{APPS}/statefulsets", sandbox), "its StatefulSet is")
        eventually(lambda: not names(guarded, f"{NETWORK}/networkpolicies", sandbox), "its NetworkPolicy is")
        eventually(
            lambda: "agent-scout" not in names(guarded, f"{CORE}/serviceaccounts", sandbox), "its ServiceAccount is"
        )
        eventually(lambda: "agent-scout.db" not in names(guarded, f"{CORE}/secrets", sandbox), "its lease is")
        eventually(lambda: not names(guarded, f"{CORE}/pods", sandbox), "its pod is", within=60)
        if policy == "Foreground":
            workload(guarded, sandbox)


def test_a_pod_that_was_ended_is_made_again_and_a_workload_scales(guarded: Guarded, sandbox: str) -> None:
    workload(guarded, sandbox)
    path = f"{CORE}/pods/scout-0".replace("{ns}", sandbox)
    first = guarded.admin.get(path).body["metadata"]["uid"]
    assert guarded.operator.delete(path).ok
    eventually(lambda: guarded.admin.get(path).body["metadata"].get("uid", first) != first, "another pod")
    replicas = Request("PATCH", f"{APPS}/statefulsets/scout", {"spec": {"replicas": 2}}, "merge")
    answer = guarded.send(guarded.operator, replicas, sandbox, dry=False)
    assert answer.ok, answer.message
    status = f"{APPS}/statefulsets/scout".replace("{ns}", sandbox)
    eventually(lambda: guarded.admin.get(status).body["status"].get("observedGeneration") == 2, "the status is written")
    assert names(guarded, f"{APPS}/controllerrevisions", sandbox)


def test_slices_and_endpoints_of_a_service_are_written_by_their_controllers(guarded: Guarded, sandbox: str) -> None:
    guarded.make(f"{CORE}/services".replace("{ns}", sandbox), objects.service(), guarded.admin)
    eventually(lambda: names(guarded, f"{DISCOVERY}/endpointslices", sandbox), "a slice")
    eventually(lambda: "probe" in names(guarded, f"{CORE}/endpoints", sandbox), "endpoints")
    assert guarded.admin.delete(f"{CORE}/services/probe".replace("{ns}", sandbox)).ok
    eventually(lambda: not names(guarded, f"{DISCOVERY}/endpointslices", sandbox), "the slice goes")


def test_a_namespace_with_everything_in_it_can_be_deleted(guarded: Guarded) -> None:
    with guarded.sandbox() as namespace:
        furnish(guarded, namespace)
        workload(guarded, namespace)
        for path, body in (
            (f"{DISCOVERY}/endpointslices", objects.endpoint_slice("hand")),
            (f"{CORE}/endpoints", objects.endpoints("hand")),
            (f"{CORE}/secrets", objects.token_secret("standing")),
            (f"{objects.RBAC}/roles", objects.role()),
            (f"{objects.RBAC}/rolebindings", objects.role_binding()),
            (f"{APPS}/deployments", objects.workload("Deployment", "old")),
            (f"{objects.BATCH}/jobs", objects.job("old")),
            (f"{CORE}/services", objects.service("wide", type="LoadBalancer")),
        ):
            guarded.make(path.replace("{ns}", namespace), body)
        path = f"/api/v1/namespaces/{namespace}"
        assert guarded.admin.delete(path).ok
        # No kubelet runs here: pods that were bound to no node go at once.
        eventually(lambda: guarded.admin.get(path).status == 404, "the namespace is gone", within=90)


def test_the_token_controller_fills_a_secret_that_break_glass_made(guarded: Guarded, sandbox: str) -> None:
    guarded.make(f"{CORE}/serviceaccounts".replace("{ns}", sandbox), objects.named("v1", "ServiceAccount", "robot"))
    guarded.make(f"{CORE}/secrets".replace("{ns}", sandbox), objects.token_secret("robot"))
    path = f"{CORE}/secrets/probe".replace("{ns}", sandbox)
    eventually(lambda: "token" in (guarded.admin.get(path).body.get("data") or {}), "the token is there")


def test_a_certificate_is_signed_as_ever(guarded: Guarded) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    spec = {
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
        "request": base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode(),
    }
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    made = guarded.make(
        path, objects.named("certificates.k8s.io/v1", "CertificateSigningRequest", "someone", spec=spec), guarded.admin
    )
    made["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]}
    assert guarded.admin.send("PUT", f"{path}/someone/approval", made).ok
    eventually(lambda: guarded.admin.get(f"{path}/someone").body["status"].get("certificate"), "it is signed")


def test_a_node_runs_the_pod_that_the_scheduler_gave_it(guarded: Guarded, sandbox: str) -> None:
    """A kubelet's own credentials, with NodeRestriction on: status, a pod's token, the end of the pod; nothing more."""
    workload(guarded, sandbox, identity={"tokens": [{"audience": "vault", "path": "vault"}]})
    kubelet = guarded.node("n1")
    made = kubelet.post("/api/v1/nodes", objects.named("v1", "Node", "n1"))
    assert made.ok or made.status == 409, made.message
    binding = objects.named("v1", "Binding", "scout-0", target={"kind": "Node", "name": "n1"})
    request = Request("POST", f"{CORE}/pods/scout-0/binding", binding)
    answer = guarded.send(guarded.user("system:kube-scheduler"), request, sandbox, dry=False)
    assert answer.ok, answer.message

    pod = f"{CORE}/pods/scout-0"
    running = Request("PATCH", f"{pod}/status", {"status": {"phase": "Running", "startTime": None}}, "merge")
    eventually(lambda: guarded.send(kubelet, running, sandbox, dry=False).ok, "the kubelet writes the status")
    label = Request("PATCH", f"{pod}/status", {"metadata": {"labels": {"app": "x"}}}, "merge")
    assert not guarded.send(kubelet, label, sandbox).ok

    uid = guarded.admin.get(pod.replace("{ns}", sandbox)).body["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "scout-0", "uid": uid}
    spec = {"audiences": ["vault"], "boundObjectRef": bound, "expirationSeconds": 600}
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    request = Request("POST", f"{CORE}/serviceaccounts/agent-scout/token", token)
    answer = guarded.send(kubelet, request, sandbox, dry=False)
    assert answer.ok, answer.message

    mirror = objects.pod("static-n1", nodeName="n1")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    node = guarded.admin.get("/api/v1/nodes/n1").body["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["uid"], "controller": True}
    mirror["metadata"]["ownerReferences"] = [owner]
    answer = guarded.send(kubelet, Request("POST", f"{CORE}/pods", mirror), sandbox)
    assert not answer.ok, "a static pod is no agent"
    another = guarded.node("n2")
    assert not guarded.send(another, Request("DELETE", pod), sandbox).ok

    assert guarded.send(guarded.operator, Request("DELETE", pod), sandbox, dry=False).ok
    end = Request("DELETE", f"{pod}?gracePeriodSeconds=0")
    eventually(lambda: guarded.send(kubelet, end, sandbox, dry=False).status in (200, 404), "the kubelet ends the pod")
    guarded.admin.delete("/api/v1/nodes/n1")


def test_an_eviction_ends_a_pod(guarded: Guarded, sandbox: str) -> None:
    workload(guarded, sandbox)
    request = Request("POST", f"{CORE}/pods/scout-0/eviction", objects.named("policy/v1", "Eviction", "scout-0"))
    answer = guarded.send(guarded.admin, request, sandbox, dry=False)
    assert answer.ok and refused_by(answer) is None, answer.message
