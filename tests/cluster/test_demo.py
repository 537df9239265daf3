"""The demo's own acts, played on the session's cluster: they check what they show."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from demo import attack, breaker, killswitch, lease, suspension
from demo.stage import DemoError, Stage
from demo.suspension import MARGIN_SECONDS
from devcluster import monitoring, production
from devcluster.monitoring import Monitoring
from devcluster.progress import Progress


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def stage(operator: Stage, screen: io.StringIO) -> Iterator[Stage]:
    """A stage whose screen can be read; the namespaces that the demo makes are taken away afterwards."""
    yield Stage(operator.cluster, Console(file=screen, highlight=False, soft_wrap=True))
    operator.ask("delete", "killswitch", killswitch.SWITCH, "--ignore-not-found")
    made = (suspension.NAMESPACE, attack.TOOLS, attack.PLAYGROUND, killswitch.TRADING)
    # It waits for the namespace controller, which tries again after longer and longer. The next test needs their names.
    operator.ask("delete", "namespace", *made, "--ignore-not-found", "--timeout=300s")


@pytest.fixture
def watched(operator: Stage) -> Iterator[Monitoring]:
    """A Prometheus; what the policy says of breakers is as before afterwards."""
    policy = ("sandboxpolicy", "default")
    before = json.loads(operator.ask("get", *policy, "--output=json"))["spec"].get("circuitBreaker", {})
    yield monitoring.install(operator.cluster, progress=Progress())
    # Put in whole: a merge would keep what the demo added.
    back = [{"op": "add", "path": "/spec/circuitBreaker", "value": before}]
    operator.ask("patch", *policy, "--type=json", f"--patch={json.dumps(back)}")


def test_an_agent_is_stopped_by_a_patch_and_goes_on_where_it_stopped(stage: Stage, screen: io.StringIO) -> None:
    suspension.start(stage)
    stopped = suspension.suspend(stage)
    assert stopped.containers <= stopped.grace + MARGIN_SECONDS
    # Its processes do not wait until the database has revoked what they had.
    revoked = stopped.steps.pop("credentialsRevokedAt")
    assert list(stopped.steps.values()) == sorted(stopped.steps.values())
    assert stopped.steps["networkCutAt"] <= revoked <= lease.MARGIN_SECONDS
    assert stopped.last_step >= 3
    suspension.resume(stage, stopped)

    shown = screen.getvalue()
    typed = """$ kubectl patch agentdeployment counter --namespace research --type merge -p '{"spec":{"suspend":true"""
    for words in (typed, "Running", "Suspended", "No resources found in research namespace.", "checkpoint after "):
        assert words in shown
    assert "\x1b" not in shown, "no colours where there is no terminal"
    with pytest.raises(DemoError, match="service account"):
        account = stage.ask(
            "get", "serviceaccount", "agent-counter", "-n", "research", "-o", "jsonpath={.metadata.uid}"
        )
        suspension.resume(stage, replace(stopped, account=account))


def test_an_intruder_gets_what_it_was_granted_and_the_same_image_elsewhere_gets_all(
    stage: Stage, screen: io.StringIO
) -> None:
    suspension.start(stage)
    attack.surround(stage)
    guarded = attack.attack_as_agent(stage)
    assert [attempt for attempt, told in guarded.items() if told.worked] == [attack.WORK]
    unguarded = attack.attack_as_pod(stage)
    assert len(unguarded) == 9
    assert all(told.worked for told in unguarded.values())
    assert unguarded[attack.DROP].how == "DROP TABLE"
    assert production.sql(stage.cluster, "SELECT count(*) FROM orders") == str(production.ROWS)
    assert "production's orders are gone" in screen.getvalue()


def test_an_agent_that_goes_round_in_circles_trips_its_breaker_and_the_evidence_is_shown(
    stage: Stage, watched: Monitoring, screen: io.StringIO
) -> None:
    suspension.start(stage)
    attack.surround(stage)
    breaker.start(stage)
    breaker.act(stage, watched)
    shown = screen.getvalue()
    for words in ("CircuitOpen", '"type": "Query"', breaker.QUERY, "question 12 was put ", "its breaker is closed"):
        assert words in shown
    with pytest.raises(DemoError, match="its breaker opens"):
        breaker.loop(stage, watched, seconds=1)


def test_a_kill_switch_stops_the_three_agents_of_a_tenant_and_no_other(stage: Stage, screen: io.StringIO) -> None:
    suspension.start(stage)
    killswitch.start(stage)
    killswitch.act(stage)
    shown = screen.getvalue()
    for words in ("kubectl create --filename demo/killswitch.yaml", "acme's agents place orders", "they run"):
        assert words in shown
    with pytest.raises(DemoError, match="3 agents of the tenant run"):
        killswitch.stop(stage, {})


def test_a_command_that_fails_ends_the_demo_with_its_words(operator: Stage) -> None:
    with pytest.raises(DemoError, match=r'namespaces "nowhere" not found'):
        operator.kubectl("get", "namespace", "nowhere")


def test_what_is_not_so_ends_the_demo(operator: Stage) -> None:
    with pytest.raises(DemoError, match="not so: pigs fly"):
        operator.expect(False, "pigs fly")
