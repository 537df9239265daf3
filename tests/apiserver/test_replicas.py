"""Several replicas: every one of them stops agents, one of them builds, and its failure delays no suspension."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.replicas import LEASE, holder, lease_lasts, two
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, install_rights


@pytest.fixture
def replicas(apiserver: RunningCluster, rest: Rest, tmp_path: Path) -> Iterator[dict[str, OperatorProcess]]:
    yield from two(apiserver, rest, tmp_path)


def test_a_suspension_does_not_wait_for_a_leader_that_hangs(
    replicas: dict[str, OperatorProcess], rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    lab.create("scout")
    lab.until_built(["scout"])
    leader = replicas[holder(rest)]
    os.kill(leader.pid, signal.SIGSTOP)
    # On a busy machine the standby may take longer to stop it than a lease lasts: it is not to lead before it has.
    lease_lasts(rest, 3600)
    lab.patch("scout", suspend=True)
    eventually(lambda: not lab.list("Pod") and not lab.list("StatefulSet"), "the standby has stopped it", within=20)
    assert holder(rest) == leader.replica, "that was a new leader, and not the standby"
    lease_lasts(rest, 6)
    eventually(lambda: holder(rest) not in ("", leader.replica), "the standby leads")
    lab.until_state("scout", "Suspended")
    lab.create("next")
    lab.until_built(["next"])
    os.kill(leader.pid, signal.SIGCONT)
    lab.patch("scout", suspend=False)
    # The replica that slept hears of the suspension now, and may carry it out once more before it hears of the resume.
    eventually(lambda: lab.names("Pod") == ["next-0", "scout-0"], "both run")
    assert holder(rest) != leader.replica


def test_a_leader_that_is_told_to_end_hands_over_at_once(
    replicas: dict[str, OperatorProcess], rest: Rest, sandbox: str
) -> None:
    lab = Lab(rest, sandbox)
    leader = replicas[holder(rest)]
    assert leader.terminate() == 0
    # Who has ended gives nothing up any more: what is its own now would have to run out.
    assert holder(rest) != leader.replica, "the lease is left to run out instead of being handed over"
    eventually(lambda: holder(rest) not in ("", leader.replica), "the other leads")
    lab.create("scout")
    lab.until_built(["scout"])


def test_a_standby_that_reaches_no_canary_takes_nothing_away_that_the_leader_builds(
    apiserver: RunningCluster, rest: Rest, sandbox: str, tmp_path: Path
) -> None:
    kubeconfig = install_rights(apiserver)
    rest.delete(LEASE)
    lab = Lab(rest, sandbox)
    # Its canary listens on another address of the loopback than the one that it tries.
    blind = OperatorProcess(kubeconfig, tmp_path, replica="blind", extra=("--canary-address=127.0.0.2",))
    with OperatorProcess(kubeconfig, tmp_path, replica="seeing"):
        eventually(lambda: holder(rest) == "seeing", "it leads")
        with blind:
            lab.create("scout")
            lab.until_built(["scout"])
            account = lab.the("ServiceAccount", "agent-scout")["metadata"]["uid"]
            lab.patch("scout", tenant="t1")
            eventually(lambda: lab.the("StatefulSet", "scout")["metadata"]["generation"] > 1, "the leader follows")
            # What a standby that cuts would do is done within milliseconds of the events that it sees too.
            lab.create("next")
            lab.until_built(["next"])
            # The pod is replaced for its new label, and for a moment there is none.
            eventually(lambda: lab.names("Pod") == ["next-0", "scout-0"], "both run")
            assert lab.the("ServiceAccount", "agent-scout")["metadata"]["uid"] == account


def test_an_orderly_end_is_no_failure_in_the_log(replicas: dict[str, OperatorProcess]) -> None:
    for operator in replicas.values():
        assert operator.terminate() == 0
        assert operator.errors() == []
