"""What the operator is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bulkhead.plan.isolation import Target

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator was told at its start.

    Attributes:
        gate_image: image of the gate's containers: the operator's own. Empty: agents cannot be proven and do not run.
        gate_pull_policy: when the kubelet pulls it.
        canary: the operator's own canary, for an operator outside of a cluster.
        canary_service: `namespace/name` of the Service in front of the operator's own canary; its first port counts.
        dns_service: `namespace/name` of the cluster's DNS.
        admission: the admission policies and bindings that should be there; None where nobody said.
        api_audiences: audiences that the API server takes as its own.
        listen: address on which alerts are delivered.
        revocation_patience: seconds for which the deletion of an agent waits for credentials that cannot be revoked.
    """

    gate_image: str = ""
    gate_pull_policy: str = "IfNotPresent"
    canary: Target | None = None
    canary_service: str = ""
    dns_service: str = "kube-system/kube-dns"
    admission: tuple[Object, ...] | None = None
    api_audiences: tuple[str, ...] = ()
    listen: str = "0.0.0.0"  # noqa: S104 (Alertmanager is elsewhere)
    revocation_patience: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this replica is.

    Attributes:
        replica: Unique to the pod, and the same after its container restarts: the pod's UID.
        instance: The name that events carry: the pod's name.
        lease_namespace: Where the lease lives.
    """

    replica: str
    instance: str
    lease_namespace: str
