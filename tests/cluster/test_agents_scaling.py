"""Replicas and their workspaces, and what becomes of them."""

from __future__ import annotations

import json

from tests.cluster.agents import WORKER, Sandbox
from tests.cluster.pods import wait_for

SIGNING = f"echo $HOSTNAME >> /workspace/names; {WORKER}"


def until_signed(sandbox: Sandbox, ordinal: int, times: int) -> None:
    """Wait until a replica has signed in its workspace so often, and nobody else has.

    Ready says that its container runs, and not that its shell has come so far as to sign.
    """
    expected = [f"team-{ordinal}"] * times

    def signed() -> bool:
        return sandbox.inside(f"team-{ordinal}", "sh", "-c", "cat /workspace/names || true").split() == expected

    wait_for(signed, seconds=60, what=f"the workspace of replica {ordinal} is signed {times} times", interval=0.2)


def volumes(sandbox: Sandbox) -> set[str]:
    """Names of the volumes bound to claims of a namespace."""
    found = json.loads(sandbox.cluster.kubectl("get", "persistentvolumes", "--output=json"))["items"]
    return {
        volume["metadata"]["name"]
        for volume in found
        if (volume["spec"].get("claimRef") or {}).get("namespace") == sandbox.name
    }


def test_each_replica_has_a_workspace_of_its_own_for_good(sandbox: Sandbox) -> None:
    sandbox.agent("team", SIGNING, workspace={"size": "16Mi", "onDelete": "Delete"}, suspendGraceSeconds=1)
    sandbox.running("team")
    sandbox.kubectl("scale", "agents/team", "--replicas=3")
    sandbox.running("team")
    assert sandbox.lab.status("team")["ready"] == "3/3"
    for ordinal in range(3):
        until_signed(sandbox, ordinal, 1)
    assert len(volumes(sandbox)) == 3

    sandbox.kubectl("scale", "agents/team", "--replicas=1")
    sandbox.running("team")
    wait_for(lambda: sandbox.lab.names("Pod") == ["team-0"], seconds=60, what="two replicas end")
    assert len(sandbox.lab.names("PersistentVolumeClaim")) == 3, "their work is kept"

    sandbox.kubectl("scale", "agents/team", "--replicas=3")
    sandbox.running("team")
    until_signed(sandbox, 2, 2)  # it found what it had left

    sandbox.kubectl("delete", "agent", "team")
    # The garbage collector's work, which waits while it learns of new kinds: that may take a minute and more.
    wait_for(lambda: sandbox.lab.names("PersistentVolumeClaim") == [], seconds=180, what="the claims go")
    wait_for(lambda: volumes(sandbox) == set(), seconds=120, what="the volumes go", interval=0.2)


def test_a_retained_workspace_outlives_its_agent_and_serves_its_successor(sandbox: Sandbox) -> None:
    workspace = {"size": "16Mi", "onDelete": "Retain"}
    sandbox.start("team", SIGNING, workspace=workspace, suspendGraceSeconds=1)
    kept = volumes(sandbox)
    sandbox.kubectl("delete", "agent", "team")
    wait_for(lambda: sandbox.lab.names("Pod") == [], seconds=60, what="the agent ends")
    sandbox.start("team", SIGNING, workspace=workspace)
    assert volumes(sandbox) == kept
    until_signed(sandbox, 0, 2)
