"""Two replicas of the operator, of which one leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from devcluster.api import RunningCluster
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, OperatorProcess, eventually, install_rights

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/bulkhead-operator"


def holder(rest: Rest) -> str:
    """Which replica leads; empty where none does."""
    return str((rest.get(LEASE).body.get("spec") or {}).get("holderIdentity") or "")


def lease_lasts(rest: Rest, seconds: int) -> None:
    """Says how long the lease holds from its last renewal on, as its holder might: until then nobody takes it over."""
    answer = rest.patch(LEASE, {"spec": {"leaseDurationSeconds": seconds}})
    assert answer.ok, answer.message


def two(cluster: RunningCluster, rest: Rest, folder: Path) -> Iterator[dict[str, OperatorProcess]]:
    """Yields two replicas, by name, once one of them leads; kills both in the end."""
    kubeconfig = install_rights(cluster)
    rest.delete(LEASE)
    made = {name: OperatorProcess(kubeconfig, folder, replica=name) for name in ("one", "two")}
    try:
        for operator in made.values():
            operator.start()
        eventually(lambda: holder(rest) in made, "one of them leads")
        yield made
    finally:
        for operator in made.values():
            operator.kill()
