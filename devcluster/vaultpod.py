"""What makes a Vault a pod of the tier `cluster`."""

from __future__ import annotations

from typing import Any

from devcluster.pki import KeyPair

NAMESPACE = "vault"
NAME = "vault"
"""Of its Deployment, Service and service account."""

IMAGE = "localhost/bulkhead/vault:dev"

ADDRESS = "10.96.0.82"
"""Its Service's ClusterIP; its certificate is good for it too, since not every cluster of this tier has DNS."""

PORT = 8200

NODE_PORT = 30820
"""Where the machine itself reaches it, at the node's address."""

_METADATA = {"name": NAME, "namespace": NAMESPACE}
_LABELS = {"app": NAME}


def identity() -> list[dict[str, Any]]:
    """Its namespace, and a service account that may review others' tokens."""
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _METADATA},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "vault-reviews-tokens"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", **_METADATA}],
        },
    ]


def manifests(serving: KeyPair) -> list[dict[str, Any]]:
    """All that it needs in the cluster.

    Args:
        serving: its certificate and key.
    """
    files = {"tls.crt": serving.certificate.read_text(), "tls.key": serving.key.read_text()}
    port = {"name": "https", "port": PORT, "nodePort": NODE_PORT}
    return [
        *identity(),
        {"apiVersion": "v1", "kind": "Secret", "metadata": _METADATA, "type": "kubernetes.io/tls", "stringData": files},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _METADATA,
            "spec": {"type": "NodePort", "clusterIP": ADDRESS, "selector": _LABELS, "ports": [port]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _METADATA,
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
            },
        },
    ]


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": NAME,
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "args": [f"-address=:{PORT}", "-tls-cert=/tls/tls.crt", "-tls-key=/tls/tls.key"],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
            }
        ],
        "volumes": [{"name": "tls", "secret": {"secretName": NAME}}],
    }
