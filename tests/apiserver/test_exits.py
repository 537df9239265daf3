"""How containers ended is in the agent's status, also when the pod that told of it is long gone.

There is no kubelet here: the test says what one would say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab, Object
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


def on_a_node(lab: Lab, name: str) -> None:
    """Starts an agent and puts its pod on a node: one that is on none goes at once when it is deleted.

    Nobody has ever seen the node. Of one that was missed 40 s ago, for a test before, the garbage collector of pods
    would take each pod as soon as it looks.
    """
    lab.create(name)
    lab.until_built([name])
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": f"{name}-0"},
        "target": {"name": f"node-of-{lab.namespace}"},
    }
    answer = lab.rest.post(lab.path("Pod", f"{name}-0") + "/binding", binding)
    assert answer.ok, answer.message


def says(lab: Lab, name: str, *, state: Object, last: Object | None = None, restarts: int = 0) -> None:
    """What a kubelet would say of the agent's container."""
    status = {
        "name": "agent",
        "image": "example.test/agent:1",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }
    path = lab.path("Pod", f"{name}-0") + "/status"
    answer = lab.rest.send("PATCH", path, {"status": {"containerStatuses": [status]}}, content_type=MERGE)
    assert answer.ok, answer.message


def ended(code: int, at: str, reason: str = "Error", **more: Any) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": at, "finishedAt": at, **more}}


def gone(lab: Lab, name: str) -> None:
    """A kubelet's last word: the pod's processes have ended."""
    answer = lab.rest.delete(lab.path("Pod", f"{name}-0"), {"gracePeriodSeconds": 0})
    assert answer.ok, answer.message


def test_a_crash_is_in_the_status_with_its_last_lines_and_without_their_secrets(
    lab: Lab, operator: OperatorProcess
) -> None:
    on_a_node(lab, "scout")
    secret = "hV9kQ2xw7TzL4pRn"
    said = f"asked the search tool\ngiving up\npassword={secret}\n"
    crash = ended(3, "2026-03-01T12:00:00Z", message=said)
    says(lab, "scout", state={"running": {"startedAt": "2026-03-01T12:00:05Z"}}, last=crash, restarts=1)
    eventually(lambda: lab.status("scout").get("lastExits"), "the exit is in status")
    [found] = lab.status("scout")["lastExits"]
    assert found["message"].startswith("asked the search tool\ngiving up\npassword=")
    assert secret not in found.pop("message")
    assert found == {
        "pod": "scout-0",
        "container": "agent",
        "exitCode": 3,
        "reason": "Error",
        "finishedAt": "2026-03-01T12:00:00Z",
    }
    assert secret not in json.dumps([lab.status("scout"), operator.records()])


def test_how_a_stopped_agent_ended_is_kept_although_its_pod_goes_in_the_same_moment(lab: Lab) -> None:
    on_a_node(lab, "scout")
    says(lab, "scout", state={"running": {"startedAt": "2026-03-01T12:00:00Z"}})
    lab.patch("scout", suspend=True)

    def told_to_end() -> bool:
        return bool(lab.the("Pod", "scout-0")["metadata"].get("deletionTimestamp"))

    eventually(told_to_end, "the pod is told to end")
    # A time after the suspension began, whenever this test runs.
    says(lab, "scout", state=ended(0, "2096-03-01T12:00:00Z", "Completed", message="saved step 41"))
    gone(lab, "scout")
    lab.until_state("scout", "Suspended")
    eventually(lambda: lab.status("scout")["suspension"].get("exits"), "the exit is in status")
    assert lab.status("scout")["suspension"]["exits"] == [
        {
            "pod": "scout-0",
            "container": "agent",
            "exitCode": 0,
            "reason": "Completed",
            "finishedAt": "2096-03-01T12:00:00Z",
            "message": "saved step 41",
        }
    ]
    assert not lab.status("scout").get("lastExits"), "it did not end by itself"


def test_after_a_resume_the_record_of_the_stop_is_that_of_the_last_one(lab: Lab) -> None:
    on_a_node(lab, "scout")
    lab.patch("scout", suspend=True)
    eventually(lambda: lab.the("Pod", "scout-0")["metadata"].get("deletionTimestamp"), "the pod is told to end")
    says(lab, "scout", state=ended(137, "2096-03-01T12:00:00Z"))
    gone(lab, "scout")
    eventually(lambda: (lab.status("scout").get("suspension") or {}).get("exits"), "the exit is in status")
    lab.until_state("scout", "Suspended")
    lab.patch("scout", suspend=False)
    lab.until_built(["scout"])
    eventually(lambda: "suspension" not in lab.status("scout"), "it runs again")
    assert [one["exitCode"] for one in lab.status("scout")["lastSuspension"]["exits"]] == [137]
    assert not lab.status("scout").get("lastExits")
