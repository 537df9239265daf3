"""Fourth act: an agent begins to go round in circles, and its circuit breaker stops it before anybody has noticed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from demo import containers, suspension
from demo.stage import DemoError, Stage
from demo.waiting import poll
from devcluster.monitoring import Monitoring

AGENT = "researcher"
NAMESPACE = suspension.NAMESPACE
POD = f"{AGENT}-0"
TRIPS = "demo/trips.yaml"
QUERY = "sum by (namespace, agent) (rate(agent_tool_calls_total[5s]))"
INTERVAL_SECONDS = 5.0
THRESHOLD = 10.0
"""As in `TRIPS`."""
LOOK_BACK_SECONDS = 15
"""What it shows of the time before it looks at the agent's rate."""
MARGIN_SECONDS = 5.0
"""What it may take from the sample that trips to the cut of the network."""

Object = dict[str, Any]


def start(stage: Stage) -> None:
    """Say what is too much, and begin to start an agent that will do it; nothing waits for it yet."""
    stage.title("What is too much, decided once for every agent")
    stage.kubectl("patch", "sandboxpolicy", "default", "--type", "merge", "--patch-file", TRIPS)
    stage.kubectl("apply", "--filename", "demo/researcher.yaml")
    stage.say("That agent starts while the next act is played.")


def act(stage: Stage, watched: Monitoring) -> None:
    """Watch the agent of `start` loop, trip its breaker and be suspended; read the evidence; let it go on.

    Args:
        stage: where.
        watched: the Prometheus that the operator asks.

    Raises:
        DemoError: something is not as it should be.
    """
    loop(stage, watched)
    reset(stage, watched)


def loop(stage: Stage, watched: Monitoring, *, seconds: float = 240) -> None:
    """Wait until the agent goes round in circles and its breaker has stopped it; show the evidence.

    Args:
        stage: where.
        watched: the Prometheus that the operator asks.
        seconds: how long that may take.

    Raises:
        DemoError: it is not stopped in time, or the evidence is missing.
    """
    stage.title("An agent begins to go round in circles")
    # It began while something else was shown, so what came before is asked for too.
    seconds_seen, rates = int(time.time() - LOOK_BACK_SECONDS), [0.0]
    stage.say("Its calls of the search tool in a second, as Prometheus sees them:")

    def tripped() -> bool:
        nonlocal seconds_seen
        now = int(time.time())
        for second in range(seconds_seen + 1, now + 1):
            rate = _rate(watched, at=second)
            if rate is not None and abs(rate - rates[-1]) >= 1:
                rates.append(rate)
                stage.say(f"  {datetime.fromtimestamp(second, UTC):%H:%M:%S}  {rate:6.1f}")
        seconds_seen = now
        return bool(_status(stage).get("suspension"))

    poll(tripped, seconds=seconds, what="its breaker opens", pause=0.5)
    stage.kubectl("wait", f"agent/{AGENT}", "--namespace", NAMESPACE, "--for=condition=Suspended", "--timeout=180s")
    stage.kubectl("get", "agents", "--namespace", NAMESPACE, "--output=wide")
    stage.say("The evidence:")
    stage.kubectl(*_agent(), "--output=jsonpath-as-json={.status.circuit}")
    stage.kubectl("events", f"--for=agentdeployment/{AGENT}", "--namespace", NAMESPACE, "--types=Warning")
    stage.say("And its last words, which it was given time for:")
    poll(lambda: bool(_exits(stage)), seconds=10, what="how its container ended is on record")
    stage.kubectl(*_agent(), "--output=jsonpath-as-json={.status.suspension.exits[*]}")
    _expect_evidence(stage)


def reset(stage: Stage, watched: Monitoring) -> None:
    """Forgive the agent; see that it goes on after the question that it did not get out of."""
    stage.title("Somebody has looked at it, and lets it go on")
    # What came before the reset is forgiven; a query whose range still reaches back is asked after it, and counts.
    poll(lambda: _rate(watched) is None, seconds=30, what="Prometheus has forgotten the agent's rate")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch = json.dumps({"spec": {"circuitBreaker": {"resetAt": now}}})
    stage.kubectl("patch", "agentdeployment", AGENT, "--namespace", NAMESPACE, "--type", "merge", "-p", patch)
    stage.kubectl("wait", f"agent/{AGENT}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=180s")
    logs = ("logs", POD, "--namespace", NAMESPACE, "--container=agent")
    # Ready says that its container runs, and not that it has said anything yet.
    poll(lambda: "question" in stage.ask(*logs), seconds=30, what="it takes up a question")
    said = stage.kubectl(*logs)
    stage.expect("question 13" in said, "its workspace told it to go on with the next question")
    stage.expect(_status(stage)["circuit"]["state"] == "Closed", "its breaker is closed")


def _expect_evidence(stage: Stage) -> None:
    status = _status(stage)
    circuit = status["circuit"]
    [trip] = [one for one in circuit["trips"] if one["type"] == "Query"]
    stage.expect(
        circuit["state"] == "Open" and float(trip["value"]) > THRESHOLD and float(trip["threshold"]) == THRESHOLD,
        f"its breaker is open: {float(trip['value']):.0f} calls in a second, where {trip['threshold']} are allowed",
    )
    reasons = [one["type"] for one in status["suspension"]["reasons"]]
    stage.expect(reasons == ["CircuitOpen"], "that is the one reason for which it is suspended")
    took = (_time(status["suspension"]["networkCutAt"]) - _time(trip["at"])).total_seconds()
    stage.expect(took <= MARGIN_SECONDS, f"its network was cut {took:.2f} s after the sample that tripped it")
    said = " ".join(one.get("message", "") for one in _exits(stage))
    stage.expect("question 12 was put " in said, "what it had to say is in its status")
    left = [task.pod for task in containers.running(stage.cluster, NAMESPACE)]
    stage.expect(POD not in left, "containerd runs nothing of it")
    stage.expect(suspension.POD in left, "its neighbour works on")


def _rate(watched: Monitoring, *, at: int | None = None) -> float | None:
    """The agent's calls in a second, now or at a time in seconds since 1970, by Prometheus; None: it knows of none."""
    return watched.query(QUERY, at=at).get((NAMESPACE, AGENT))


def _exits(stage: Stage) -> list[Object]:
    return list((_status(stage).get("suspension") or {}).get("exits") or ())


def _status(stage: Stage) -> Object:
    """The agent's status; empty where it has none."""
    found: Object = json.loads(stage.ask(*_agent(), "--output=json")).get("status") or {}
    return found


def _agent() -> tuple[str, ...]:
    return ("get", "agent", AGENT, "--namespace", NAMESPACE)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise DemoError(f"not so: {text!r} is a time") from error
