"""Breakers of a real operator that a real Prometheus and a real Alertmanager open, and what others are told of it."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.api import RunningCluster
from tests import leaks
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES, policy
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, free_port, install_rights
from tests.signals import servers
from tests.signals.servers import Exporter

CALLS = "sum by (namespace, agent) (calls)"
RULE = """
groups:
- name: agents
  rules:
  - alert: ToolErrors
    expr: sum by (namespace, agent) (last_over_time(errors[30s])) > 10
    annotations:
      summary: '{{ $value }} errors'
"""
PATIENCE = 600
"""Seconds: nothing opens here because somebody is blind."""


@pytest.fixture
def kubeconfig(apiserver: RunningCluster, rest: Rest) -> Path:
    """The operator's, under the rights of its chart."""
    return install_rights(apiserver)


@pytest.fixture
def lab(rest: Rest, sandbox: str) -> Lab:
    return Lab(rest, sandbox)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter() as made:
        yield made


@contextmanager
def applied(rest: Rest, sandbox: str, **breaker: Any) -> Iterator[str]:
    """A policy for this test's namespace alone."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": sandbox}}
    given = {"blind": {"action": "Open", "patienceSeconds": PATIENCE}, **breaker}
    made = rest.post(POLICIES, policy(f"signals-{sandbox}", namespaceSelector=selector, circuitBreaker=given))
    assert made.ok, made.message
    yield f"signals-{sandbox}"
    rest.delete(f"{POLICIES}/signals-{sandbox}")


def signals(folder: Path, **given: Any) -> str:
    """The operator's argument, for a file of signals."""
    file = folder / "signals.yaml"
    file.write_text(yaml.safe_dump(given))
    return f"--signals={file}"


def query(name: str = "calls", expression: str = CALLS, **limit: Any) -> dict[str, Any]:
    return {"name": name, "query": expression, "intervalSeconds": 5, **(limit or {"above": "100"})}


def circuit(lab: Lab, agent: str) -> dict[str, Any]:
    return lab.status(agent).get("circuit") or {}


def until_open(lab: Lab, agent: str) -> list[dict[str, Any]]:
    eventually(lambda: circuit(lab, agent).get("state") == "Open", f"the breaker of {agent} is open", within=90)
    trips: list[dict[str, Any]] = circuit(lab, agent)["trips"]
    return trips


def told_by(lab: Lab, agent: str) -> str:
    return str(lab.condition(agent, "CircuitClosed").get("message"))


class Listener:
    """Takes CloudEvents."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.events.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Write nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_query_opens_the_breaker_of_whom_it_finds_and_the_tighter_limit_of_an_agent_its_own(
    rest: Rest, kubeconfig: Path, lab: Lab, sandbox: str, exporter: Exporter, tmp_path: Path
) -> None:
    greedy, modest, strict = ((sandbox, name) for name in ("greedy", "modest", "strict"))
    exporter.show("calls", {greedy: 10, modest: 10, strict: 10})
    with (
        applied(rest, sandbox, queries=[query()]) as name,
        servers.prometheus({exporter.address: servers.SCRAPE}) as prometheus,
        Listener() as listener,
    ):
        told = signals(tmp_path, prometheus={"url": prometheus.url}, notifications=[{"url": listener.url}])
        with OperatorProcess(kubeconfig, tmp_path, extra=[told]):
            lab.create("greedy")
            lab.create("modest")
            lab.create("strict", circuitBreaker={"queries": [{"name": "calls", "threshold": "50"}]})
            lab.until_built(["greedy", "modest", "strict"])
            exporter.show("calls", {greedy: 151, modest: 60, strict: 60})
            (trip,) = until_open(lab, "greedy")
            assert (trip["type"], trip["name"]) == ("Query", f"{name}/calls")
            assert (float(trip["value"]), float(trip["threshold"]), trip["query"]) == (151, 100, CALLS)
            (trip,) = until_open(lab, "strict")
            assert (float(trip["value"]), float(trip["threshold"])) == (60, 50)
            assert circuit(lab, "modest").get("state", "Closed") == "Closed"
            eventually(lambda: lab.condition("greedy", "Suspended").get("status") == "True", "it is suspended")
            wanted = {f"{sandbox}/greedy", f"{sandbox}/strict"}
            # Of the first there may be more than one before there is any of the second.
            eventually(lambda: wanted <= {one["subject"] for one in listener.events}, "who is to be told was told")
            told_of = list(listener.events)
            assert {one["subject"] for one in told_of} == wanted
            assert {one["specversion"] for one in told_of} == {"1.0"}
            # What was not acknowledged in time is told again, as the same event.
            assert len({one["id"] for one in told_of}) == len({json.dumps(one, sort_keys=True) for one in told_of})


def test_a_query_that_cannot_be_used_is_told_in_the_policy_and_in_the_agents_and_stops_nobody_at_once(
    rest: Rest, kubeconfig: Path, lab: Lab, sandbox: str, exporter: Exporter, tmp_path: Path
) -> None:
    exporter.show("calls", {(sandbox, "scout"): 1})
    broken = query("broken", "sum by (namespace, agent (calls)")
    with (
        applied(rest, sandbox, queries=[query(), broken]) as name,
        servers.prometheus({exporter.address: servers.SCRAPE}) as prometheus,
        OperatorProcess(kubeconfig, tmp_path, extra=[signals(tmp_path, prometheus={"url": prometheus.url})]),
    ):
        lab.create("scout")
        lab.until_built(["scout"])

        def said() -> dict[str, Any]:
            status = rest.get(f"{POLICIES}/{name}").body.get("status") or {}
            return {one["name"]: (one["ok"], one.get("message", "")) for one in status.get("queries") or ()}

        eventually(
            lambda: said().get("calls", (None, ""))[0] is True and said().get("broken", (None, ""))[0] is False,
            lambda: f"the policy tells how its queries fare: {said()}",
            within=60,
        )
        assert "parse error" in said()["broken"][1]
        eventually(
            lambda: lab.condition("scout", "CircuitClosed").get("status") == "Unknown",
            "the agent says that its breaker does not see all",
        )
        assert "broken" in told_by(lab, "scout")
        assert circuit(lab, "scout").get("state", "Closed") == "Closed"


def test_an_alert_of_prometheus_goes_by_alertmanager_to_the_breaker_of_whom_it_names(
    rest: Rest, kubeconfig: Path, lab: Lab, sandbox: str, exporter: Exporter, tmp_path: Path
) -> None:
    token, port = secrets.token_hex(16), free_port()
    leaks.learn("the token of Alertmanager", token)
    (tmp_path / "token").write_text(token)
    exporter.show("errors", {(sandbox, "fails"): 1, (sandbox, "works"): 1})
    hook = {
        "url": f"http://127.0.0.1:{port}/alerts",
        "http_config": {"authorization": {"type": "Bearer", "credentials": token}},
    }
    route = {"receiver": "bulkhead", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    told = signals(tmp_path, alertmanager={"port": port, "tokenFile": str(tmp_path / "token")})
    with (
        applied(rest, sandbox, alerts={"names": ["ToolErrors"]}),
        servers.alertmanager(
            {"route": route, "receivers": [{"name": "bulkhead", "webhook_configs": [hook]}]}
        ) as manager,
        servers.prometheus(
            {exporter.address: servers.SCRAPE}, rules=RULE, alertmanager=manager.url.removeprefix("http://")
        ),
        OperatorProcess(kubeconfig, tmp_path, extra=[told]),
    ):
        lab.create("fails")
        lab.create("works")
        lab.until_built(["fails", "works"])
        exporter.show("errors", {(sandbox, "fails"): 11, (sandbox, "works"): 1, (sandbox, "nobody"): 11})
        (trip,) = until_open(lab, "fails")
        assert (trip["type"], trip["name"]) == ("Alert", "ToolErrors")
        assert "11 errors" in trip["message"]
        assert circuit(lab, "works").get("state", "Closed") == "Closed"
