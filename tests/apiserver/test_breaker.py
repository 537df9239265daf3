"""Circuit breakers of a real operator on a real API server: what opens them, who writes it down, what closes them."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.plan.names import CONTAINER
from devcluster.api import RunningCluster
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import NAMESPACE, OperatorProcess, eventually, free_port, install_rights

Object = dict[str, Any]

ALERT = "ToolLoop"
QUICK = {"mode": "Automatic", "coolDownSeconds": 10, "trialSeconds": 10}
RECORDS = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=bulkhead.dev/alert"


class Hook:
    """Where alerts are delivered to, and how Alertmanager does it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.token = secrets.token_hex(16)
        token_file = folder / "token"
        token_file.write_text(self.token)
        self.settings = folder / f"signals-{self.port}.yaml"
        self.settings.write_text(
            yaml.safe_dump({"alertmanager": {"port": self.port, "tokenFile": str(token_file)}}), encoding="utf-8"
        )

    @property
    def arguments(self) -> list[str]:
        return [f"--signals={self.settings}"]

    def deliver(self, namespace: str, agent: str, *, token: str | None = None, began: datetime | None = None) -> int:
        """Posts one firing alert about an agent; returns the status of the answer."""
        labels = {"alertname": ALERT, "namespace": namespace, "agent": agent, "severity": "critical"}
        alert = {
            "status": "firing",
            "labels": labels,
            "annotations": {"summary": "it calls one tool again and again"},
            "startsAt": (began or datetime.now(UTC)).isoformat(),
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": secrets.token_hex(8),
        }
        body = {"version": "4", "status": "firing", "receiver": "bulkhead", "groupLabels": {}, "alerts": [alert]}
        # An operator is ready before it listens for alerts; Alertmanager, too, tries again then.
        eventually(self._listens, "the operator listens for alerts")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        connection.request("POST", "/alerts", json.dumps(body | {"commonLabels": labels}), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=30).close()
        except ConnectionRefusedError:
            return False
        return True


@pytest.fixture
def kubeconfig(apiserver: RunningCluster, rest: Rest) -> Path:
    """The operator's, under the rights of its chart."""
    return install_rights(apiserver)


@pytest.fixture
def lab(rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def breakers(rest: Rest, sandbox: str) -> Iterator[str]:
    """A policy for this test's namespace alone, whose breakers take every alert."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": sandbox}}
    name = f"breakers-{sandbox}"
    made = rest.post(
        POLICIES,
        policy(name, namespaceSelector=selector, circuitBreaker={"alerts": {"names": ["*"]}, "recovery": QUICK}),
    )
    assert made.ok, made.message
    yield name
    rest.delete(f"{POLICIES}/{name}")


def crash(lab: Lab, name: str, *, restarts: int, reason: str = "Error") -> None:
    """Writes into the status of an agent's pod what a kubelet writes after its container has ended so often."""
    ended = {
        "exitCode": 137 if reason == "OOMKilled" else 1,
        "reason": reason,
        "startedAt": _text(datetime.now(UTC) - timedelta(seconds=2)),
        "finishedAt": _text(datetime.now(UTC)),
        "message": "Traceback: the tool was called 400 times\npassword=abc123def456",
    }
    status = {
        "name": CONTAINER,
        "image": "example.test/agent:1",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": ended},
    }
    path = lab.path("Pod", f"{name}-0") + "/status"
    answer = lab.rest.send("PATCH", path, {"status": {"containerStatuses": [status]}}, content_type=MERGE)
    assert answer.ok, answer.message


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def circuit(lab: Lab, name: str) -> Object:
    return lab.status(name).get("circuit") or {}


def until_circuit(lab: Lab, name: str, state: str, within: float = 60.0) -> Object:
    eventually(
        lambda: circuit(lab, name).get("state") == state,
        lambda: f"the breaker of {name} is {state}, but it says {circuit(lab, name)}",
        within=within,
    )
    return circuit(lab, name)


def test_restarts_open_the_breaker_with_their_evidence_and_a_reset_closes_it(
    kubeconfig: Path, lab: Lab, tmp_path: Path
) -> None:
    recovery = {"mode": "Manual"}
    with OperatorProcess(kubeconfig, tmp_path) as operator:
        limits = {"restarts": {"count": 3, "windowSeconds": 600}, "recovery": recovery}
        lab.create("scout", circuitBreaker=limits)
        lab.create("calm", circuitBreaker=limits)
        lab.until_built(["scout", "calm"])
        crash(lab, "scout", restarts=2)
        crash(lab, "calm", restarts=2)
        for name in ("scout", "calm"):
            eventually(lambda name=name: circuit(lab, name).get("window"), f"the restarts of {name} are in its status")  # type: ignore[misc]
        assert circuit(lab, "scout")["state"] == "Closed"

        crash(lab, "scout", restarts=3)
        found = until_circuit(lab, "scout", "Open")
        (trip,) = found["trips"]
        assert (trip["type"], trip["value"], trip["threshold"]) == ("Restarts", "3", "3 in 600 s")
        eventually(lambda: lab.condition("scout", "Suspended").get("status") == "True", "it is stopped")
        assert lab.condition("scout", "CircuitClosed")["status"] == "False"
        assert "abc123def456" not in json.dumps(lab.status("scout"))
        assert lab.state("calm") != "Suspended" and circuit(lab, "calm")["state"] == "Closed"

        lab.patch("scout", circuitBreaker={"resetAt": _text(datetime.now(UTC) + timedelta(hours=1))})
        lab.until_state("scout", "CircuitOpen")
        lab.patch("scout", circuitBreaker={"resetAt": _text(datetime.now(UTC) + timedelta(seconds=2))})
        lab.until_built(["scout"])
        assert not until_circuit(lab, "scout", "Closed").get("attempts")
        # What is in the status is told after it was written.
        told = {"CircuitOpened", "CircuitClosed"}
        eventually(lambda: told <= {one.get("reason") for one in operator.records()}, f"it says {told} in its log")


def test_what_happened_while_no_operator_ran_opens_the_breaker_of_a_cold_one(
    kubeconfig: Path, lab: Lab, tmp_path: Path
) -> None:
    operator = OperatorProcess(kubeconfig, tmp_path)
    with operator:
        lab.create("scout", circuitBreaker={"outOfMemory": {"count": 1, "windowSeconds": 600}})
        lab.until_built(["scout"])
    crash(lab, "scout", restarts=1, reason="OOMKilled")
    with operator:
        found = until_circuit(lab, "scout", "Open")
        assert [one["type"] for one in found["trips"]] == ["OutOfMemory"]
        eventually(lambda: not lab.names("Pod"), "its pod is told to end")


def test_a_breaker_tries_again_after_its_cool_down_and_opens_at_the_first_restart_of_the_trial(
    kubeconfig: Path, lab: Lab, breakers: str, tmp_path: Path
) -> None:
    with OperatorProcess(kubeconfig, tmp_path):
        lab.create("scout", circuitBreaker={"restarts": {"count": 2, "windowSeconds": 600}})
        lab.until_built(["scout"])
        crash(lab, "scout", restarts=2)
        first = until_circuit(lab, "scout", "Open")
        assert first["attempts"] == 1 and first["retryAt"]
        until_circuit(lab, "scout", "HalfOpen")
        lab.until_built(["scout"])
        crash(lab, "scout", restarts=1)
        second = until_circuit(lab, "scout", "Open")
        assert second["attempts"] == 2

        def wait(found: Object) -> float:
            return (_time(found["retryAt"]) - _time(found["since"])).total_seconds()

        assert wait(second) > 1.5 * wait(first)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_an_alert_stops_whom_it_names_and_is_on_record_before_it_is_acknowledged(
    kubeconfig: Path, lab: Lab, breakers: str, tmp_path: Path
) -> None:
    hook = Hook(tmp_path)
    with OperatorProcess(kubeconfig, tmp_path, extra=hook.arguments):
        for name in ("scout", "calm"):
            lab.create(name)
        lab.until_built(["scout", "calm"])
        assert hook.deliver(lab.namespace, "scout", token="x" * 32) == 401
        assert hook.deliver(lab.namespace, "nobody") == 200
        assert hook.deliver(lab.namespace, "scout", began=datetime.now(UTC) - timedelta(hours=3)) == 200
        assert not circuit(lab, "scout").get("trips")
        assert hook.deliver(lab.namespace, "scout") == 200
        found = until_circuit(lab, "scout", "Open")
        assert [(one["type"], one["name"]) for one in found["trips"]] == [("Alert", ALERT)]
        eventually(lambda: not lab.rest.get(RECORDS).body["items"], "its record goes when the status has it")
        until_circuit(lab, "calm", "Closed")


def test_an_alert_that_comes_to_a_standby_is_carried_out(
    kubeconfig: Path, lab: Lab, breakers: str, tmp_path: Path
) -> None:
    hook = Hook(tmp_path)
    with OperatorProcess(kubeconfig, tmp_path, replica="leader"):
        lab.create("scout")
        lab.until_built(["scout"])
        with OperatorProcess(kubeconfig, tmp_path, replica="standby", extra=hook.arguments):
            assert hook.deliver(lab.namespace, "scout") == 200
            until_circuit(lab, "scout", "Open")


def test_an_alert_outlives_the_operator_that_took_it(kubeconfig: Path, lab: Lab, breakers: str, tmp_path: Path) -> None:
    hook = Hook(tmp_path)
    with OperatorProcess(kubeconfig, tmp_path, replica="first") as first:
        lab.create("scout")
        lab.until_built(["scout"])
        standby = OperatorProcess(kubeconfig, tmp_path, replica="second", extra=hook.arguments)
        with standby:
            first.kill()
            assert hook.deliver(lab.namespace, "scout") == 200
            standby.kill()
    with OperatorProcess(kubeconfig, tmp_path, replica="third"):
        until_circuit(lab, "scout", "Open", within=90)


def test_a_breaker_that_cannot_see_says_so_and_opens_after_its_patience(
    rest: Rest, kubeconfig: Path, lab: Lab, breakers: str, tmp_path: Path
) -> None:
    query = {"name": "calls", "query": "sum by (namespace, agent) (rate(calls_total[1m]))", "above": "100"}
    blind = {"action": "Open", "patienceSeconds": 12}
    given = {"spec": {"circuitBreaker": {"queries": [{**query, "intervalSeconds": 5}], "blind": blind}}}
    with OperatorProcess(kubeconfig, tmp_path):
        assert rest.patch(f"{POLICIES}/{breakers}", given).ok
        lab.create("scout")
        # Looked for at once: it says so for as long as its patience lasts, which begins with the run.
        eventually(
            lambda: lab.condition("scout", "CircuitClosed").get("status") == "Unknown", "it says that it is blind"
        )
        found = until_circuit(lab, "scout", "Open")
        assert [one["type"] for one in found["trips"]] == ["Blind"]
