"""The end of the operator's process when it is told to end."""

from __future__ import annotations

import time
from pathlib import Path

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, OperatorProcess, install_rights

HUNG = 4.0
TRIES = 3


def test_a_stop_waits_for_no_idle_worker_gives_the_lease_up_and_is_no_failure(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    lab = Lab(rest, sandbox)
    times: list[float] = []
    lab.create("scout")
    # kopf waits five seconds for tasks that it takes for hung, at every stop. A busy machine may take as long for one.
    while not times or (times[-1] >= HUNG and len(times) < TRIES):
        with OperatorProcess(install_rights(apiserver), tmp_path) as operator:
            lab.until_built(["scout"])
            began = time.monotonic()
            assert operator.terminate() == 0
            times.append(time.monotonic() - began)
        lease = rest.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/bulkhead-operator")
        assert not lease.body["spec"].get("holderIdentity")
        assert operator.errors() == []
    assert min(times) < HUNG
