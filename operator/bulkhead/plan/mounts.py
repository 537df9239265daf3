"""The files by which an agent is somebody: its tokens and its credentials, and where it finds them.

All of them are swapped by the kubelet while the agent runs, atomically and by a symbolic link, so an agent reads them
again whenever it uses them. The gate's containers get none of them.
"""

from __future__ import annotations

from typing import Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.plan.identity import wants_api
from bulkhead.plan.names import KUBERNETES_API, TOKENS, credential_volume_name, lease_secret_name
from bulkhead.plan.observed import Object

API_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where client libraries look for it (`rest.InClusterConfig`)."""
TOKENS_PATH: Final = "/var/run/bulkhead/tokens"
CREDENTIALS_PATH: Final = "/var/run/bulkhead/credentials"

ROOT_CA: Final = "kube-root-ca.crt"
"""The ConfigMap with the API server's certificate authority that every namespace has."""

OWNER_ONLY: Final = 0o400
"""Mode of the files. The kubelet adds reading by the pod's fsGroup, which no other pod on the node shares in: the
files belong to root, and the agent's user would not get at them otherwise."""


def volumes(agent: Object, spec: AgentDeploymentSpec) -> list[Object]:
    """Builds the volumes of the pod, as the API server would return them.

    A token for the API server comes with the place and the names that client libraries expect. A Secret that is not
    there yet holds the pod back until it is.
    """
    found: list[Object] = []
    asked = spec.identity.kubernetes_api
    if asked is not None and wants_api(spec):
        namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
        sources = [
            {"serviceAccountToken": {"expirationSeconds": asked.token_seconds, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ]
        found.append({"name": KUBERNETES_API, "projected": {"defaultMode": OWNER_ONLY, "sources": sources}})
    if spec.identity.tokens:
        tokens = [
            {
                "serviceAccountToken": {
                    "audience": token.audience,
                    "expirationSeconds": token.expiration_seconds,
                    "path": token.path,
                }
            }
            for token in spec.identity.tokens
        ]
        found.append({"name": TOKENS, "projected": {"defaultMode": OWNER_ONLY, "sources": tokens}})
    for credential in spec.credentials:
        secret = lease_secret_name(agent["metadata"]["name"], credential.name)
        found.append(
            {
                "name": credential_volume_name(credential.name),
                "secret": {"secretName": secret, "defaultMode": OWNER_ONLY},
            }
        )
    return found


def mounts(spec: AgentDeploymentSpec) -> list[Object]:
    """Builds the mounts of these volumes in the agent's container."""
    paths: dict[str, str] = {}
    if wants_api(spec):
        paths[KUBERNETES_API] = API_PATH
    if spec.identity.tokens:
        paths[TOKENS] = TOKENS_PATH
    for credential in spec.credentials:
        paths[credential_volume_name(credential.name)] = f"{CREDENTIALS_PATH}/{credential.name}"
    return [{"name": name, "readOnly": True, "mountPath": path} for name, path in paths.items()]
