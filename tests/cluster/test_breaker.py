"""The breaker on a real node: agents that go wrong are stopped in time, tried again, and let go or stopped again.

Prometheus and Alertmanager are real. One sandbox serves all tests here; each begins where the one before it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from rich.console import Console

from demo.stage import Stage
from devcluster import monitoring
from devcluster.monitoring import Monitoring
from devcluster.progress import Progress
from tests import leaks
from tests.apiserver.agents import Object
from tests.apiserver.rest import Rest
from tests.cluster import breakers, replicas
from tests.cluster.agents import Sandbox, alertmanager_token, alerts_url, event_reasons
from tests.cluster.breakers import (
    ALERT,
    ASKED,
    BOUND,
    COOL_DOWN,
    PATIENCE,
    POLICY,
    RATE,
    RULES,
    SAMPLED,
    SCRAPED,
    START,
    TOO_MANY,
    TRIAL,
    Case,
    assert_in_time,
    assert_nothing_runs,
    moody,
    set_mood,
    until_stopped,
)
from tests.cluster.pods import wait_for
from tests.cluster.watching import Watch, watching

MISSING = "localhost/bulkhead/nobody-has-it:1"
FIRING = f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}'
SLACK = 8.0
"""Seconds that a state may last beyond its time: a pod is built, and its gate proves its walls."""
RECOVERED = 240
"""Seconds for an operator's start, a cool-down, a pod's start and a trial."""
MOODS = {"crashes": "crash", "eats": "eat", "loops": "loop", "fails": "fail"}
WARM = tuple(MOODS)
COLD = ("crashes-too", "eats", "loops", "fails")


@dataclass(frozen=True)
class Scene:
    """A sandbox with agents that can be told to go wrong.

    Attributes:
        stage: where the operator is.
        sandbox: where they are.
        pods: what the API server told of their pods.
        agents: what it told of themselves.
        monitoring: what watches them.
    """

    stage: Stage
    sandbox: Sandbox
    pods: Watch
    agents: Watch
    monitoring: Monitoring

    @property
    def rest(self) -> Rest:
        return self.sandbox.lab.rest

    def case(self, agent: str, *, began: float) -> Case:
        """How an agent goes wrong, and what tells so."""
        pod = f"{agent}-0"
        match agent:
            case "crashes" | "crashes-too":
                return Case(agent, "Restarts", lambda: self.pods.first(pod, breakers.restarted(2), since=began))
            case "eats":
                out = breakers.ended("OOMKilled", 2)
                return Case(agent, "OutOfMemory", lambda: self.pods.first(pod, out, since=began))
            case "loops":
                return Case(agent, "Query", lambda: self.first_true(agent, f"{RATE} > {TOO_MANY}", began), ASKED)
            case "fails":
                return Case(agent, "Alert", lambda: self.first_true(agent, FIRING, began), SAMPLED)
            case _:
                created = self.pods.first(pod, lambda _: True, since=began)
                return Case(agent, "CannotStart", lambda: created + START if created else None)

    def first_true(self, agent: str, expression: str, since: float) -> float | None:
        """When an expression first had a value for an agent, as Prometheus remembers it.

        It has none any more soon after the agent was stopped, so asking what is so now may come too late.
        """
        asked = f"min_over_time((timestamp({expression}) >= {since:.3f})[1m:1s])"
        return self.monitoring.query(asked).get((self.sandbox.name, agent))

    def circuit(self, agent: str) -> str:
        """The state of an agent's breaker."""
        return str(self.sandbox.lab.status(agent).get("circuit", {}).get("state"))

    def closed(self, *agents: str) -> None:
        """Wait until breakers are closed again and the agents run."""
        wait_for(
            lambda: all(self.circuit(agent) == "Closed" for agent in agents),
            seconds=RECOVERED,
            what=f"the breakers of {', '.join(agents)} close",
            interval=0.2,
        )
        self.sandbox.running(*agents)


@pytest.fixture(scope="module")
def scene(operator: Stage) -> Iterator[Scene]:
    """Agents that run and are well, but one that cannot start."""
    cluster = operator.cluster
    watched = monitoring.install(
        cluster, progress=Progress(), token=alertmanager_token(operator), webhook=alerts_url(operator), rules=RULES
    )
    with Sandbox.opened(cluster, POLICY) as sandbox, watching(sandbox, "Pod") as pods:
        with watching(sandbox, "AgentDeployment") as agents:
            tight = {"restarts": {"count": 2, "windowSeconds": 60}}
            moody(sandbox, "crashes", circuitBreaker=tight)
            moody(sandbox, "crashes-too", circuitBreaker=tight)
            moody(sandbox, "eats")
            moody(sandbox, "loops", network=SCRAPED)
            moody(sandbox, "fails", network=SCRAPED, circuitBreaker={"recovery": {"mode": "Manual"}})
            yield Scene(operator, sandbox, pods, agents, watched)


def go_wrong(scene: Scene, moods: dict[str, str]) -> tuple[float, list[Case]]:
    """Tell agents how to; give when that was, and what is to come."""
    scene.sandbox.settled(*moods)
    began = time.time()
    cases = [scene.case(agent, began=began) for agent in moods]
    for case in cases:
        case.begin(scene.sandbox)
    for agent, mood in moods.items():
        set_mood(scene.sandbox, agent, mood)
    return began, cases


def be_well(scene: Scene, *agents: str) -> None:
    """Have the next run of these do its work."""
    for agent in agents:
        set_mood(scene.sandbox, agent, "well")


def test_only_who_grants_it_is_asked_for_its_figures(scene: Scene) -> None:
    scene.sandbox.running(*WARM, "crashes-too")
    granted, others = {"loops", "fails"}, {"crashes", "crashes-too", "eats"}

    def asked(value: int) -> set[str]:
        return {agent for space, agent in scene.monitoring.query(f"up == {value}") if space == scene.sandbox.name}

    wait_for(lambda: granted <= asked(1) and others <= asked(0), seconds=180, what="Prometheus has tried all of them")
    assert others.isdisjoint(asked(1))


def until_password(sandbox: Sandbox, agent: str) -> str:
    """The password that an agent makes up at its start, which is some time after its container's."""
    found: list[str] = []

    def written() -> bool:
        found[:] = sandbox.inside(f"{agent}-0", "sh", "-c", "cat /workspace/password || true").split()
        return bool(found)

    wait_for(written, seconds=60, what=f"{agent} has a password", interval=0.2)
    return found[0]


def test_each_that_goes_wrong_is_stopped_in_time_with_the_evidence(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox = scene.sandbox
    password = until_password(sandbox, "crashes")
    leaks.learn("the password in the last words of an agent that crashed", password)
    began, cases = go_wrong(scene, MOODS)
    stopped = until_stopped(sandbox, cases, scene.agents, began=began, repentant=("eats", "loops", "fails"))
    with capsys.disabled():
        print()
        Console(width=140).print(breakers.table("warm: seconds from the tripping sample", stopped))
    assert_in_time(stopped)
    assert_nothing_runs(sandbox, WARM)

    exits = stopped["crashes"].record["lastExits"]
    assert {(one["exitCode"], one["reason"]) for one in exits} >= {(3, "Error")}
    assert "giving up" in json.dumps(exits), "its last words"
    assert password not in json.dumps(stopped["crashes"].record)
    assert "OOMKilled" in json.dumps(stopped["eats"].record["lastExits"])
    (query,) = [trip for trip in stopped["loops"].trips if trip["type"] == "Query"]
    assert query["query"] == RATE
    assert float(query["value"]) > float(query["threshold"]) == TOO_MANY
    assert ALERT in [trip["name"] for trip in stopped["fails"].trips]
    for agent in WARM:
        assert breakers.closed({"status": stopped[agent].record}) == "False"
    wait_for(lambda: "CircuitOpened" in event_reasons(sandbox), seconds=30, what="an event tells of it")


def test_a_pod_that_cannot_start_is_stopped_too(scene: Scene) -> None:
    sandbox = scene.sandbox
    hasty = {"cannotStartSeconds": START, "recovery": {"maxAttempts": 0}}
    began = time.time()
    sandbox.agent("stuck", image=MISSING, circuitBreaker=hasty, suspendGraceSeconds=2)
    wait_for(lambda: sandbox.tasks("stuck"), seconds=START, what="its sandbox is there")
    wait_for(lambda: scene.circuit("stuck") == "Open", seconds=START + BOUND, what="its breaker opens")
    sandbox.suspended("stuck")
    case = scene.case("stuck", began=began)
    circuit = sandbox.lab.status("stuck")["circuit"]
    tripped = case.tripped()
    assert tripped is not None
    assert breakers.seconds(circuit["since"]) - tripped <= BOUND
    assert {trip["type"] for trip in circuit["trips"]} == {"CannotStart"}
    assert "retryAt" not in circuit, "no attempt is left: a person has to reset it"
    assert_nothing_runs(sandbox, ["stuck"])


def test_on_trial_who_behaves_is_let_go_and_who_does_not_is_stopped_again(scene: Scene) -> None:
    # It goes on: it is stopped, tried and stopped, each time for longer. So its first trial is asked of what was told.
    tried: list[Object] = []

    def stopped_again() -> bool:
        found = breakers.circuits(scene.agents, "crashes")
        first = next((at for at, one in enumerate(found) if one["state"] == "Open"), len(found))
        tried[:] = found[first : first + 3]
        return len(tried) == 3

    wait_for(stopped_again, seconds=RECOVERED, what="it crashed on trial and is stopped again")
    be_well(scene, "crashes")
    assert [one["state"] for one in tried] == ["Open", "HalfOpen", "Open"]
    circuit = tried[-1]
    assert circuit["attempts"] == 2
    again = breakers.seconds(circuit["retryAt"]) - breakers.seconds(circuit["since"])
    assert 2 * COOL_DOWN <= again <= 2 * 1.2 * COOL_DOWN + 1
    assert circuit["trips"][0]["type"] == "Restarts"

    scene.closed("eats", "loops")
    for agent in ("eats", "loops"):
        opened, half, closed = breakers.until_told(scene.agents, agent, "Open", "HalfOpen", "Closed")
        assert COOL_DOWN <= half - opened <= 1.2 * COOL_DOWN + BOUND
        up = scene.pods.first(f"{agent}-0", breakers.is_ready, since=half)
        assert up is not None
        assert half + TRIAL <= closed <= up + TRIAL + SLACK + BOUND


def test_who_waits_for_a_person_waits_until_one_resets_it(scene: Scene) -> None:
    circuit = scene.sandbox.lab.status("fails")["circuit"]
    assert circuit["state"] == "Open"
    assert "retryAt" not in circuit
    now = datetime.now(UTC).isoformat(timespec="seconds")
    scene.sandbox.lab.patch("fails", circuitBreaker={"resetAt": now})
    scene.closed("fails")


def test_an_operator_that_has_just_started_stops_them_as_well(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """It is killed as they go wrong, and once more while their breakers are open."""
    sandbox = scene.sandbox
    killed = replicas.leader(scene.stage, scene.rest)
    began, cases = go_wrong(scene, {"crashes-too": "crash", "eats": "eat", "loops": "loop", "fails": "fail"})
    killed.kill()
    back = lambda: replicas.is_back(scene.rest, killed)  # noqa: E731
    stopped = until_stopped(sandbox, cases, scene.agents, began=began, repentant=COLD, operator_back=back)
    with capsys.disabled():
        print()
        title = "cold: seconds from the tripping sample, or from the operator's return if that was later"
        Console(width=140).print(breakers.table(title, stopped))
    assert_in_time(stopped)
    assert_nothing_runs(sandbox, COLD)

    replicas.leader(scene.stage, scene.rest).kill()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sandbox.lab.patch("fails", circuitBreaker={"resetAt": now})
    scene.closed(*COLD)
    for agent in ("crashes-too", "eats", "loops"):
        breakers.until_told(scene.agents, agent, "Open", "HalfOpen", "Closed", since=began)
        assert len(breakers.states(scene.agents, agent, since=began)) == 3, "nothing else came between"


def test_who_was_stopped_twice_and_behaves_at_last_is_let_go(scene: Scene) -> None:
    scene.closed("crashes")
    breakers.until_told(scene.agents, "crashes", "Open", "HalfOpen", "Open", "HalfOpen", "Closed")
    runs = scene.sandbox.read("crashes", "/workspace/runs").splitlines()
    # Two that crashed, one on trial, and this one. Of the starts that made the breaker open nobody knows how far they
    # came: the first of these runs left two or three lines, the trial one or two.
    assert len(runs) >= 4, "its workspace has been there in all of them"


def test_an_agent_nobody_can_see_any_more_is_stopped_after_the_patience(scene: Scene) -> None:
    sandbox = scene.sandbox
    tasks = sandbox.tasks("loops")
    began = time.time()
    # It returns when Prometheus has ended, which may take longer than that is borne. So it is asked what was told when.
    scene.monitoring.pause()
    try:
        wait_for(lambda: not any(task.is_alive for task in tasks), seconds=180, what="it is stopped")
        wait_for(
            lambda: scene.agents.first("loops", lambda one: breakers.closed(one) == "False", since=began),
            seconds=60,
            what="it is told that its breaker is open",
        )
        unknown = scene.agents.find("loops", lambda one: breakers.closed(one) == "Unknown", since=began)
        opened = scene.agents.find("loops", lambda one: breakers.closed(one) == "False", since=began)
        assert unknown is not None, "it is not said that nothing is known"
        assert opened is not None
        assert unknown.at < opened.at
        blind = breakers.seconds(unknown.obj["status"]["circuit"]["blindSince"])
        assert blind >= began - ASKED, "a query may have been under way"
        assert breakers.seconds(opened.obj["status"]["circuit"]["since"]) - blind >= PATIENCE
        sandbox.suspended("loops")
        assert [trip["type"] for trip in sandbox.lab.status("loops")["circuit"]["trips"]] == ["Blind"]
    finally:
        scene.monitoring.resume()
