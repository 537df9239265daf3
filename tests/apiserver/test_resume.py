"""Resuming, as the API server's audit log shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devcluster import auditlog
from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, OperatorProcess, eventually, install_rights

ROUNDS = 10
BROKEN_OFF = 504
"""What the API server notes for a request whose client went away before the answer."""


def of_the_operator(cluster: RunningCluster, start: int, *, since: datetime) -> list[dict[str, Any]]:
    """What it asked since then for agents. What is broken off before is noted when the API server comes to it."""
    entries = auditlog.entries(cluster.audit_log, start)
    return [
        one
        for one in entries
        if one["user"]["username"].startswith(f"system:serviceaccount:{NAMESPACE}:")
        and datetime.fromisoformat(one["requestReceivedTimestamp"]) >= since
        and one["objectRef"]["resource"] != "leases"
    ]


def test_the_children_that_a_resume_makes_do_not_interrupt_it(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    lab = Lab(rest, sandbox)
    asked: list[dict[str, Any]] = []
    with OperatorProcess(install_rights(apiserver), tmp_path):
        lab.create("scout")
        lab.until_built(["scout"])
        for _ in range(ROUNDS):
            lab.patch("scout", suspend=True)
            lab.until_state("scout", "Suspended")
            start, resumed = auditlog.end(apiserver.audit_log), datetime.now(UTC)
            lab.patch("scout", suspend=False)
            lab.until_built(["scout"])
            eventually(lambda: "suspension" not in lab.status("scout"), "the run is written down")
            # Until the next suspension, which may well interrupt what the normal lane does.
            asked += of_the_operator(apiserver, start, since=resumed)
    writes = [one for one in asked if one["verb"] not in ("get", "list", "watch")]
    assert not [one["requestURI"] for one in writes if one["responseStatus"]["code"] == BROKEN_OFF]
    made = [one for one in writes if one["verb"] == "create" and one["objectRef"]["resource"] == "statefulsets"]
    assert len(made) == ROUNDS
