"""Agents that go wrong on a real node, what tells the operator of it, and how long it takes to stop them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from bulkhead.api import conditions
from demo import containers
from demo.containers import Task
from devcluster import images, view
from devcluster.paths import write_atomically
from tests.apiserver.agents import Object
from tests.cluster.agents import MARGIN, PRODUCTION, ROOM, WORKSPACE, Sandbox
from tests.cluster.pods import wait_for
from tests.cluster.watching import Watch

MOODY = Path(__file__).with_name("moody.py").read_text()
METRICS = 9100
"""Where the program `moody.py` tells its figures."""

GRACE = 2
"""Seconds that these agents have to end."""

GOAL = 5.0
"""Seconds from the tripping sample to the cut of the network, beyond the source's own interval."""
GOAL_GONE = GRACE + MARGIN
"""Seconds from there until no process is left."""
BOUND, BOUND_GONE = 5 * GOAL, GRACE + 5 * MARGIN
"""What is a failure on any machine."""

SAMPLED = 1.0
"""Seconds between two samples that Prometheus takes of an agent, and between two evaluations of its alerts."""
ASKED = 5
"""Seconds between two of the operator's queries."""
TOO_MANY = 50
"""Calls in a second."""
COOL_DOWN = TRIAL = 10
START = 40
"""Time enough to see the sandbox of a pod that does not start before it is taken away."""
PATIENCE = 20
"""More than two queries take that hang: one that hangs for 10 s, and one that cannot connect for 3 s."""

RATE = "sum by (namespace, agent) (rate(agent_tool_calls_total[5s]))"
ALERT = "ToolCallsFail"
RULES = f"""
groups:
  - name: agents
    rules:
      - alert: {ALERT}
        expr: sum by (namespace, agent) (rate(agent_tool_errors_total[5s])) > 0.5
"""

TRIPS: Object = {
    "restarts": {"count": 3, "windowSeconds": 60},
    "outOfMemory": {"count": 2, "windowSeconds": 60},
    "queries": [{"name": "tool-calls", "query": RATE, "intervalSeconds": ASKED, "above": str(TOO_MANY)}],
    "alerts": {"names": [ALERT]},
    "blind": {"action": "Open", "patienceSeconds": PATIENCE},
    "recovery": {"coolDownSeconds": COOL_DOWN, "trialSeconds": TRIAL, "maxAttempts": 5},
}
POLICY: Object = {
    "production": PRODUCTION,
    "network": {"namespaces": ["monitoring"]},
    "circuitBreaker": TRIPS,
}

SCRAPED: Object = {
    "ingress": [
        {
            "from": {"pods": {"namespace": "monitoring", "labels": {"app": "prometheus"}}},
            "ports": [{"port": METRICS}],
        }
    ]
}
"""What an agent grants: Prometheus' pods may ask for its figures, and nobody else."""


def moody(sandbox: Sandbox, name: str, **spec: Any) -> None:
    """Create an agent that runs `moody.py`."""
    sandbox.lab.create(
        name,
        **{
            "image": images.TOOLBOX,
            "command": ["python3", "-u", "-c", MOODY],
            "ports": [{"name": "metrics", "containerPort": METRICS}],
            "resources": ROOM,
            "workspace": WORKSPACE,
            "suspendGraceSeconds": GRACE,
            **spec,
        },
    )


def set_mood(sandbox: Sandbox, name: str, mood: str) -> None:
    """Tell an agent to go wrong, or to be well, whether it runs or not."""
    write_atomically(workspace(sandbox, name) / "mood", mood, mode=0o644)


def workspace(sandbox: Sandbox, name: str) -> Path:
    """The folder that is an agent's workspace."""
    volume = sandbox.get("persistentvolumeclaim", f"workspace-{name}-0")["spec"]["volumeName"]
    return view.on_host(sandbox.cluster, sandbox.get("persistentvolume", volume)["spec"]["hostPath"]["path"])


def ended(reason: str, times: int) -> Callable[[Object], bool]:
    """Whether the container of a pod has ended so often, the last time for a reason."""

    def so_often(pod: Object) -> bool:
        for status in pod["status"].get("containerStatuses", ()):
            last = status["state"].get("terminated") or status.get("lastState", {}).get("terminated") or {}
            ends = status["restartCount"] + (bool(last) and "running" not in status["state"])
            if ends >= times and last.get("reason") == reason:
                return True
        return False

    return so_often


def restarted(times: int) -> Callable[[Object], bool]:
    """Whether a pod's container was started again so often."""
    return lambda pod: any(one["restartCount"] >= times for one in pod["status"].get("containerStatuses", ()))


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    told = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return told.get("Ready") == "True"


def seconds(text: str) -> float:
    """A time of a status in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Case:
    """One way to go wrong.

    Attributes:
        agent: who does.
        trip: the type that its status must name.
        tripped: when the source itself first had what trips, in seconds since the epoch; None as long as it has not.
        interval: seconds between two looks of that source.
    """

    agent: str
    trip: str
    tripped: Callable[[], float | None]
    interval: float = 0.0
    sample: float | None = None
    gone: float | None = None
    tasks: list[Task] = field(default_factory=list)

    def begin(self, sandbox: Sandbox) -> None:
        """Remember its processes as long as they are there."""
        self.sample = self.gone = None
        self.tasks = sandbox.tasks(self.agent)
        assert self.tasks, f"{self.agent} has processes to lose"

    @property
    def is_gone(self) -> bool:
        """Whether none of its processes was left when it was last looked at."""
        return self.gone is not None

    def look(self, now: float) -> bool:
        """Note what is so now; tell whether all is over."""
        self.sample = self.sample or self.tripped()
        if self.gone is None and not any(task.is_alive for task in self.tasks):
            self.gone = now
        return self.sample is not None and self.is_gone


@dataclass(frozen=True)
class Stopped:
    """How long one took.

    Attributes:
        case: what it was.
        record: its status when nothing of it was left.
        cut: seconds from the tripping sample, or from when the operator was back if that was later, to the cut.
        gone: seconds from the cut until no process was left.
    """

    case: Case
    record: Object
    cut: float
    gone: float

    @property
    def trips(self) -> list[Object]:
        """The evidence."""
        found: list[Object] = self.record["circuit"]["trips"]
        return found


def until_stopped(
    sandbox: Sandbox,
    cases: Iterable[Case],
    agents: Watch,
    *,
    began: float,
    repentant: Iterable[str],
    operator_back: Callable[[], bool] | None = None,
) -> dict[str, Stopped]:
    """Wait until every one of the agents was stopped by its breaker.

    The first of them may be tried again before the last is stopped. So each is told to be well as soon as nothing of it
    runs, and its status is the one that said first that it had stopped, not the one there is when all have.

    Args:
        sandbox: where they are.
        cases: what they do; each has begun.
        agents: what is told of them.
        began: when they were told to, in seconds since the epoch.
        repentant: the agents that do their work when they are tried again.
        operator_back: whether the operator works; it was killed at the beginning where that is given.
    """
    waiting, back, unwell = list(cases), began if operator_back is None else None, set(repentant)

    def over() -> bool:
        nonlocal back
        now = time.time()
        done = all([case.look(now) for case in waiting])
        for agent in {case.agent for case in waiting if case.is_gone} & unwell:
            set_mood(sandbox, agent, "well")
            unwell.remove(agent)
        if back is None and operator_back is not None and operator_back():
            back = now
        return done and back is not None

    wait_for(over, seconds=120, what="all are stopped", interval=0.05)
    wait_for(
        lambda: all(agents.find(case.agent, is_suspended, since=began) for case in waiting),
        seconds=60,
        what="it was told of each that nothing of it is left",
    )
    assert back is not None
    return {case.agent: _stopped(case, agents, began, back) for case in waiting}


def is_suspended(agent: Object) -> bool:
    """Whether the status of an agent says that nothing of it is left."""
    return conditions.is_true(agent.get("status", {}).get("conditions") or [], "Suspended")


def _stopped(case: Case, agents: Watch, began: float, back: float) -> Stopped:
    told = agents.find(case.agent, is_suspended, since=began)
    assert told is not None
    record: Object = told.obj["status"]
    assert case.sample is not None
    assert case.gone is not None
    cut = seconds(record["suspension"]["networkCutAt"])
    return Stopped(case, record, cut=cut - max(case.sample, back), gone=case.gone - cut)


def assert_in_time(stopped: Mapping[str, Stopped]) -> None:
    """Each was cut off and gone in time, for the reason it should be, and nothing of it runs."""
    for name, one in stopped.items():
        assert one.cut <= one.case.interval + BOUND, f"{name} was cut off {one.cut:.1f} s after the sample"
        assert one.gone <= BOUND_GONE, f"{name} was gone {one.gone:.1f} s after the cut"
        assert {reason["type"] for reason in one.record["suspension"]["reasons"]} == {"CircuitOpen"}
        assert one.case.trip in {trip["type"] for trip in one.trips}


def assert_nothing_runs(sandbox: Sandbox, names: Iterable[str]) -> None:
    """Containerd runs nothing of these agents, but of those that are tried again by now."""
    names = tuple(names)
    before = [_held_since(sandbox, name) for name in names]
    left = {task.pod for task in containers.running(sandbox.cluster, sandbox.name)}
    after = [_held_since(sandbox, name) for name in names]
    held = [name for name, *since in zip(names, before, after, strict=True) if since[0] and since[0] == since[1]]
    assert left.isdisjoint(f"{name}-0" for name in held)


def _held_since(sandbox: Sandbox, name: str) -> str:
    """Since when an agent of which nothing is left is held by its breaker; empty where it is not."""
    status = sandbox.lab.status(name)
    circuit = status.get("circuit", {})
    held = is_suspended({"status": status}) and circuit.get("state") == "Open"
    return str(circuit["since"]) if held else ""


def table(title: str, stopped: Mapping[str, Stopped]) -> Table:
    """The figures beside the goals."""
    made = Table("AGENT", "TRIP", "SAMPLE TO CUT", "GOAL", "CUT TO GONE", "GOAL", "EVIDENCE", box=None, title=title)
    for name, one in stopped.items():
        trip = next(trip for trip in one.trips if trip["type"] == one.case.trip)
        goals = (f"{one.case.interval + GOAL:g}", f"{GOAL_GONE:g}")
        told = f"{trip['value']} of {trip['threshold']}" if trip.get("threshold") else trip["name"]
        made.add_row(name, one.case.trip, f"{one.cut:.2f}", goals[0], f"{one.gone:.2f}", goals[1], told)
    return made


def closed(agent: Object) -> str:
    """What the condition CircuitClosed of an agent says."""
    found = conditions.find(agent.get("status", {}).get("conditions") or [], "CircuitClosed") or {}
    return str(found.get("status", ""))


def circuits(watch: Watch, name: str, *, since: float = 0) -> list[Object]:
    """Through which states the breaker of an agent went: its record when it came into each."""
    found: list[Object] = []
    for obj in watch.of(name):
        circuit = obj.get("status", {}).get("circuit") or {}
        if circuit and (not found or any(found[-1][key] != circuit[key] for key in ("state", "since"))):
            found.append(circuit)
    return [one for one in found if seconds(one["since"]) >= since]


def states(watch: Watch, name: str, *, since: float = 0) -> list[tuple[str, float]]:
    """Through which states the breaker of an agent went, each with its time in the status."""
    return [(one["state"], seconds(one["since"])) for one in circuits(watch, name, since=since)]


def until_told(watch: Watch, name: str, *expected: str, since: float = 0) -> list[float]:
    """Wait until a watch, too, has told of the last states of a breaker; give their times.

    It may be behind what a request has told.
    """
    found: list[tuple[str, float]] = []

    def told() -> bool:
        found[:] = states(watch, name, since=since)[-len(expected) :]
        return [state for state, _ in found] == list(expected)

    wait_for(told, seconds=60, what=f"it is told that the breaker of {name} was {', '.join(expected)}")
    return [at for _, at in found]
