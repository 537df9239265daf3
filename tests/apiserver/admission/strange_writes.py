"""Writes of the operator's that it would never make where agents run: edits of what its own plan builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.apiserver.admission import objects, ordinary
from tests.apiserver.admission.cluster import Object
from tests.operator_process import NAMESPACE


def renamed(name: str) -> Callable[[Object], None]:
    return lambda obj: obj["metadata"].update(name=name)


def unowned(obj: Object) -> None:
    obj["metadata"]["ownerReferences"] = []


def owned_by_another(obj: Object) -> None:
    obj["metadata"]["ownerReferences"][0]["name"] = "other"


def spec_of_pod(**fields: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"]["template"]["spec"].update(fields)


def container(**fields: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"]["template"]["spec"]["containers"][0].update(fields)


def init_container(**fields: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"]["template"]["spec"]["initContainers"][0].update(fields)


def loosened(**given: Any) -> Callable[[Object], None]:
    """The container as the operator writes it, but for fields of its securityContext, which go before the pod's."""
    return lambda obj: obj["spec"]["template"]["spec"]["containers"][0]["securityContext"].update(given)


def unmasked(obj: Object) -> None:
    """Shows a container all of /proc, which the API server takes only with a user namespace."""
    spec_of_pod(hostUsers=False)(obj)
    loosened(procMount="Unmasked")(obj)


def claim(**given: Any) -> Callable[[Object], None]:
    """A workspace, but for fields of its claim."""
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **given}
    return spec(volumeClaimTemplates=[{"metadata": {"name": "workspace"}, "spec": wanted}])


def volume(**source: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"]["template"]["spec"]["volumes"].append({"name": "more", **source})


def fields(**given: Any) -> Callable[[Object], None]:
    return lambda obj: obj.update(given)


def spec(**given: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"].update(given)


def rule(**given: Any) -> Callable[[Object], None]:
    return lambda obj: obj.update(rules=[{**ordinary.READ, **given}])


def subject(**given: Any) -> Callable[[Object], None]:
    return lambda obj: obj["subjects"][0].update(given)


def egress(**given: Any) -> Callable[[Object], None]:
    return lambda obj: obj["spec"]["egress"][0].update(given)


ACCOUNT = {"kind": "ServiceAccount", "name": "bulkhead", "namespace": NAMESPACE}
LOOSE = {"capabilities": {"drop": ["ALL"]}, "privileged": True}
FROM_SECRET = {"secretKeyRef": {"name": "theirs", "key": "password"}}
IN_A_SANDBOX: dict[str, dict[str, tuple[Callable[[Object], None], str]]] = {
    "Secret": {
        "another name": (renamed("theirs-too"), "operator"),
        "the name of another agent's": (renamed("agent-other.db"), "operator"),
        "nobody's": (unowned, "operator"),
        "a token of an account": (
            lambda obj: (
                obj.update(type="kubernetes.io/service-account-token"),
                obj["metadata"]["annotations"].update({"kubernetes.io/service-account.name": "theirs"}),
            )[0],
            "operator",
        ),
        "a pull secret": (
            fields(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e30="}),
            "operator",
        ),
    },
    "ServiceAccount": {
        "another name": (renamed("default-too"), "operator"),
        "nobody's": (unowned, "operator"),
        "another agent's": (owned_by_another, "operator"),
        "with a token in every pod": (fields(automountServiceAccountToken=True), "operator"),
        "with a Secret": (fields(secrets=[{"name": "theirs"}]), "operator"),
        "somebody in a cloud": (
            lambda obj: obj["metadata"].update(annotations={"eks.amazonaws.com/role-arn": "x"}),
            "operator",
        ),
    },
    "Role": {
        "another name": (renamed("admin"), "operator"),
        "another agent's": (owned_by_another, "operator"),
        "nobody's": (unowned, "operator"),
        "every group": (rule(apiGroups=["*"]), "operator-roles"),
        "every resource": (rule(resources=["*"]), "operator-roles"),
        "every verb": (rule(verbs=["*"]), "operator-roles"),
        "Secrets": (rule(resources=["secrets"]), "operator-roles"),
        "exec": (rule(resources=["pods/exec"], verbs=["create"]), "operator-roles"),
        "exec, of everything": (rule(resources=["*/exec"], verbs=["create"]), "operator-roles"),
        "rights to give rights": (
            rule(apiGroups=["rbac.authorization.k8s.io"], resources=["roles"], verbs=["escalate"]),
            "operator-roles",
        ),
        "its own kind": (rule(apiGroups=["bulkhead.dev"], resources=["agentdeployments"]), "operator-roles"),
        "more than the policy offers": (rule(verbs=["get", "delete"]), "operator-role-ceilings"),
        "another resource": (rule(resources=["services"], verbs=["get"]), "operator-role-ceilings"),
    },
    "RoleBinding": {
        "another name": (renamed("admins"), "operator"),
        "nobody's": (unowned, "operator"),
        "another Role": (
            fields(roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "theirs"}),
            "operator-roles",
        ),
        "the operator": (fields(subjects=[ACCOUNT]), "operator-roles"),
        "one more": (lambda obj: obj["subjects"].append(ACCOUNT), "operator-roles"),
        "nobody": (fields(subjects=[]), "operator-roles"),
        "a user": (
            fields(subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent-scout"}]),
            "operator-roles",
        ),
        "the account of that name elsewhere": (subject(namespace="elsewhere"), "operator-roles"),
        "another account": (subject(name="theirs"), "operator-roles"),
    },
    "NetworkPolicy": {
        "another name": (renamed("wider"), "operator"),
        "nobody's": (unowned, "operator"),
        "a deny-all without its label": (
            lambda obj: obj["metadata"].update(name="bulkhead-deny-all", labels={}),
            "operator",
        ),
        "a deny-all that opens something": (
            lambda obj: (
                obj["metadata"].update(name="bulkhead-deny-all", labels={"app.kubernetes.io/managed-by": "bulkhead"}),
                obj["spec"].update(egress=[{"to": [objects.block("203.0.113.0/24")]}]),
            )[0],
            "operator",
        ),
        "the metadata service": (
            spec(egress=[{"to": [objects.block("169.254.169.254/32")]}]),
            "network-floor",
        ),
    },
    "CiliumNetworkPolicy": {
        "another name": (renamed("wider"), "operator"),
        "nobody's": (unowned, "operator"),
        "everything": (egress(toEntities=["all"]), "operator-networks"),
        "the node": (egress(toEntities=["host"]), "operator-networks"),
        "the API server and the node": (egress(toEntities=["kube-apiserver", "host"]), "operator-networks"),
        "every port": (lambda obj: obj["spec"]["egress"][0].pop("toPorts"), "operator-networks"),
        "the kubelet's port": (
            egress(toPorts=[{"ports": [{"port": "443", "protocol": "TCP"}, {"port": "10250", "protocol": "TCP"}]}]),
            "operator-networks",
        ),
        "requests of a kind": (
            egress(toPorts=[{"ports": [{"port": "443", "protocol": "TCP"}], "rules": {"http": [{}]}}]),
            "operator-networks",
        ),
        "any protocol": (egress(toPorts=[{"ports": [{"port": "443"}]}]), "operator-networks"),
        "a network too": (egress(toCIDR=["10.0.0.0/8"]), "operator-networks"),
        "a second rule": (
            lambda obj: obj["spec"]["egress"].append({"toEntities": ["world"]}),
            "operator-networks",
        ),
        "callers": (spec(ingress=[{"fromEntities": ["all"]}]), "operator-networks"),
        "every pod": (spec(endpointSelector={}), "operator-networks"),
        "a second spec": (
            fields(specs=[{"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]}]),
            "operator-networks",
        ),
    },
    "StatefulSet": {
        "another name": (renamed("other"), "operator"),
        "nobody's": (unowned, "operator"),
        "another account": (spec_of_pod(serviceAccountName="theirs", serviceAccount="theirs"), "operator-workloads"),
        "a token mounted": (spec_of_pod(automountServiceAccountToken=True), "operator-workloads"),
        "the node's network": (
            spec_of_pod(hostNetwork=True, securityContext={"runAsNonRoot": True}),
            "operator-workloads",
        ),
        "the node's processes": (spec_of_pod(hostPID=True), "operator-workloads"),
        "a port of the node": (container(ports=[{"containerPort": 80, "hostPort": 80}]), "operator-workloads"),
        "root": (spec_of_pod(securityContext={"runAsUser": 0}), "operator-workloads"),
        "root in a container": (loosened(runAsNonRoot=False, runAsUser=0), "operator-workloads"),
        "any user in a container": (loosened(runAsNonRoot=False), "operator-workloads"),
        "a container without seccomp": (loosened(seccompProfile={"type": "Unconfined"}), "operator-workloads"),
        "a container without AppArmor": (loosened(appArmorProfile={"type": "Unconfined"}), "operator-workloads"),
        "a container of another SELinux type": (loosened(seLinuxOptions={"type": "spc_t"}), "operator-workloads"),
        "the whole of /proc": (unmasked, "operator-workloads"),
        "a pod without seccomp": (
            lambda obj: obj["spec"]["template"]["spec"]["securityContext"].pop("seccompProfile"),
            "operator-workloads",
        ),
        "a node by its name": (spec_of_pod(nodeName="n1"), "operator-workloads"),
        "before all others": (spec_of_pod(priorityClassName="system-node-critical"), "operator-workloads"),
        "somebody's volume as its workspace": (claim(volumeName="production"), "operator-workloads"),
        "somebody's files in its workspace": (
            claim(dataSource={"kind": "PersistentVolumeClaim", "name": "theirs"}),
            "operator-workloads",
        ),
        "a privileged container": (container(securityContext=LOOSE), "operator-workloads"),
        "a privileged init container": (init_container(securityContext=LOOSE), "operator-workloads"),
        "a container without restrictions": (container(securityContext={}), "operator-workloads"),
        "a kubelet sent to the metadata service by a probe": (
            container(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
            "operator-workloads",
        ),
        "a kubelet sent to a database by a probe of the gate": (
            init_container(restartPolicy="Always", startupProbe={"tcpSocket": {"host": "10.200.0.10", "port": 5432}}),
            "operator-workloads",
        ),
        "a kubelet sent elsewhere before the stop": (
            container(lifecycle={"preStop": {"httpGet": {"host": "10.200.0.10", "port": 80}}}),
            "operator-workloads",
        ),
        "the node's files": (volume(hostPath={"path": "/"}), "operator-workloads"),
        "somebody's Secret": (volume(secret={"secretName": "theirs"}), "operator-workloads"),
        "another agent's lease": (volume(secret={"secretName": "agent-other.db"}), "operator-workloads"),
        "somebody's Secret, projected": (
            volume(projected={"sources": [{"secret": {"name": "theirs"}}]}),
            "operator-workloads",
        ),
        "somebody's ConfigMap": (
            volume(projected={"sources": [{"configMap": {"name": "theirs"}}]}),
            "operator-workloads",
        ),
        "somebody's Secret in the environment": (
            container(env=[{"name": "A", "valueFrom": FROM_SECRET}]),
            "operator-workloads",
        ),
        "all of somebody's Secret in the environment": (
            container(envFrom=[{"secretRef": {"name": "theirs"}}]),
            "operator-workloads",
        ),
        "somebody's Secret in the environment of the gate": (
            init_container(env=[{"name": "A", "valueFrom": FROM_SECRET}]),
            "operator-workloads",
        ),
    },
}
