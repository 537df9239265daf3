"""What holds for breakers whatever happens: trips, resets, restarts of the operator, clocks that step, duplicates."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead.api import conditions
from bulkhead.plan import circuit as circuits
from bulkhead.plan.agent import Plan, plan
from bulkhead.plan.circuit import Circuit, State, TripType
from bulkhead.plan.isolation import Control
from bulkhead.plan.observed import Cut, Observed, Outcome
from bulkhead.plan.signals import Alert, Reading, Sample, Signals
from bulkhead.plan.status import status, transitions
from tests.stored import unfit_agent_status
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, observed

COOL_DOWN, TRIAL = 20, 30
POLICY = samples.sandbox_policy(
    circuitBreaker={
        "restarts": {"count": 3, "windowSeconds": 120},
        "outOfMemory": {"count": 2, "windowSeconds": 120},
        "cannotStartSeconds": 60,
        "queries": [{"name": "rate", "query": "rate", "above": "10"}],
        "alerts": {"names": ["*"]},
        "blind": {"action": "Open", "patienceSeconds": 40},
        "recovery": {"mode": "Automatic", "coolDownSeconds": COOL_DOWN, "maxAttempts": 3, "trialSeconds": TRIAL},
    }
)
KEY = ("default", "rate")
CANARY = (samples.CANARY.protocol, samples.CANARY.address, samples.CANARY.port)


@dataclass
class Simulated:
    """One agent in a simulated cluster: its operator plans from what it sees and writes what it planned.

    A plan is carried out as the engine does: taking away is all there is to a suspension; what is built comes up; the
    status is written, unless the operator dies before it does.
    """

    now: datetime = NOW
    status: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    runs: bool = False
    ready: bool = True
    starts: bool = True
    lost: bool = False
    restarts: int = 0
    memory: bool = False
    ended: datetime = NOW
    generation: int = 0
    alerts: tuple[Alert, ...] = ()
    value: float | None = 1.0
    failing: datetime | None = None
    leads: bool = True
    began: datetime = NOW

    def observe(self) -> Observed:
        of = agent(status=self.status, **self.spec)
        reading = Reading(
            policy=KEY[0],
            name=KEY[1],
            ok=self.failing is None,
            problem="" if self.failing is None else "connection refused",
            at=self.now,
            since=self.failing or NOW,
        )
        exceeds = self.now if self.value is not None and self.value > 10 else None
        known = {} if self.value is None else {KEY: Sample(value=self.value, at=self.now, exceeds_since=exceeds)}
        control = Control(reached_at=self.now, failing_since=None, message="")
        signals = Signals(readings={KEY: reading}, samples=known) if self.leads else None
        return observed(
            of,
            surroundings=samples.surroundings(POLICY, signals=signals, controls={CANARY: control}),
            pods=(self._pod(),) if self.runs else (),
            stateful_set=samples.stateful_set(of) if self.runs else None,
            pods_are_live=True,
            alerts=self.alerts,
        )

    def _pod(self) -> dict[str, Any]:
        last = {"exitCode": 1, "reason": "OOMKilled" if self.memory else "Error"}
        ended = conditions.format_time(self.ended)
        container: dict[str, Any] = {"name": "agent", "restartCount": self.restarts, "state": {"running": {}}}
        if not self.starts:
            container["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
        if self.restarts:
            container["lastState"] = {"terminated": {**last, "finishedAt": ended, "startedAt": ended}}
        gate = samples.gate_status(answered="metadata TCP 169.254.169.254 80 accepted" if self.lost else "")
        made = samples.pod(ready=self.ready and self.starts, gate=gate, container=container)
        made["metadata"] |= {"uid": f"pod-{self.generation}", "creationTimestamp": conditions.format_time(self.began)}
        return made

    def look(self, *, dies: bool = False) -> Plan:
        """Lets the operator look once; one that dies has done the work and not written it."""
        seen = self.observe()
        made = plan(seen, now=self.now)
        before = self.circuit
        self._carry_out(made)
        if dies or not self.leads:
            return made
        cut = Cut(since=self.now, stopped=self.now) if made.suspends else None
        after = status(seen, made, Outcome(), cut=cut, now=self.now)
        assert unfit_agent_status(after) == []
        transitions(self.status, after)
        self.status = after
        settled = made.settled_alerts
        self.alerts = tuple(one for one in self.alerts if one not in settled)
        self._note(before)
        return made

    def _carry_out(self, made: Plan) -> None:
        if made.suspends:
            self.runs = self.lost = False
        elif self.leads and any(one.object["kind"] == "StatefulSet" for one in made.desired) and not self.runs:
            self.runs, self.restarts, self.memory, self.began = True, 0, False, self.now
            self.generation += 1

    @property
    def circuit(self) -> Circuit:
        return circuits.read(self.status.get("circuit"), now=self.now)

    def _note(self, before: Circuit) -> None:
        after = self.circuit
        if before.state is State.OPEN and after.state is State.HALF_OPEN and before.since is not None:
            assert self.now - before.since >= timedelta(seconds=COOL_DOWN), "tried before its cool-down was over"
        if before.state is State.OPEN and after.state is State.CLOSED:
            assert after.reset_at is not None and after.reset_at != before.reset_at, "closed by nothing but a reset"
        if before.state is State.HALF_OPEN and after.state is State.CLOSED and after.reset_at == before.reset_at:
            assert before.since is not None
            assert self.now - before.since >= timedelta(seconds=TRIAL), "closed before its trial was over"


def restart(it: Simulated) -> None:
    it.restarts, it.ended, it.memory = it.restarts + 1, it.now, False


def out_of_memory(it: Simulated) -> None:
    it.restarts, it.ended, it.memory = it.restarts + 1, it.now, True


def loss(it: Simulated) -> None:
    it.lost = it.runs


def fired(it: Simulated, began: datetime) -> Alert:
    return Alert(name="Loop", fingerprint="f", starts_at=began, received_at=it.now, message="m", record="r")


def alert(it: Simulated) -> None:
    it.alerts = (*it.alerts, fired(it, it.now))


def same_alert(it: Simulated) -> None:
    told = [one for one in it.circuit.trips if one.type is TripType.ALERT]
    if told:
        began = conditions.parse_time(told[0].value)
        it.alerts = (*it.alerts, fired(it, began))


def reset(it: Simulated) -> None:
    it.spec = {**it.spec, "circuitBreaker": {"resetAt": conditions.format_micro_time(it.now)}}


def early_reset(it: Simulated) -> None:
    it.spec = {**it.spec, "circuitBreaker": {"resetAt": conditions.format_micro_time(it.now - timedelta(hours=2))}}


def late_reset(it: Simulated) -> None:
    it.spec = {**it.spec, "circuitBreaker": {"resetAt": conditions.format_micro_time(it.now + timedelta(seconds=90))}}


def set_up(**values: Any) -> Any:
    def change(it: Simulated) -> None:
        for name, value in values.items():
            setattr(it, name, value)

    return change


def suspend(it: Simulated) -> None:
    it.spec = {**it.spec, "suspend": not it.spec.get("suspend", False)}


def prometheus_fails(it: Simulated) -> None:
    it.failing = it.failing or it.now


EVENTS: dict[str, Any] = {
    "restart": restart,
    "out of memory": out_of_memory,
    "isolation lost": loss,
    "alert": alert,
    "the same alert": same_alert,
    "too many calls": set_up(value=99.0),
    "few calls": set_up(value=1.0),
    "no series": set_up(value=None),
    "Prometheus fails": prometheus_fails,
    "Prometheus is back": set_up(failing=None),
    "cannot start": set_up(starts=False),
    "can start": set_up(starts=True),
    "not ready": set_up(ready=False),
    "ready": set_up(ready=True),
    "reset": reset,
    "early reset": early_reset,
    "late reset": late_reset,
    "suspended or resumed": suspend,
    "the operator dies in the middle": lambda it: it.look(dies=True),
    "a standby": set_up(leads=False),
    "a leader": set_up(leads=True),
}
waits = st.sampled_from([0, 1, 5, 15, 20, 25, 31, 61, 125, 3700])
steps = st.lists(
    st.tuples(st.sampled_from(sorted(EVENTS)), waits | waits.map(lambda one: -one), st.integers(1, 3)), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_nothing_ends_in_a_running_agent_whose_breaker_is_open(happened: list[tuple[str, int, int]]) -> None:
    it = Simulated()
    it.look()
    for what, seconds, looks in happened:
        EVENTS[what](it)
        it.now += timedelta(seconds=seconds)
        for _ in range(looks):
            made = it.look()
            assert made.breaker is not None
            assert made.suspends or not made.breaker.decision.open
            assert not (made.desired and made.breaker.circuit.state is State.OPEN)
            if it.leads:
                assert not (it.runs and it.circuit.state is State.OPEN), "it runs although its breaker is open"
    it.leads = True
    it.look()
    assert not (it.runs and it.circuit.state is State.OPEN)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_looking_again_at_the_same_moment_writes_nothing_more(happened: list[tuple[str, int, int]]) -> None:
    it = Simulated()
    for what, seconds, _ in happened:
        EVENTS[what](it)
        it.now += timedelta(seconds=abs(seconds))
        it.leads = True
        # A reset, a build, a start, a trip and a stop may follow from one another.
        for _ in range(6):
            it.look()
        settled = it.status
        it.look()
        assert it.status == settled


OPENING = st.sampled_from(["restart", "out of memory", "isolation lost", "alert", "too many calls"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(OPENING, st.sampled_from([1, 5, 20, 25, 45, 70])), min_size=5, max_size=40))
def test_however_badly_an_agent_behaves_it_is_tried_no_more_often_than_policies_say(
    happened: list[tuple[str, int]],
) -> None:
    it = Simulated()
    tries: list[datetime] = []
    for what, seconds in happened:
        EVENTS[what](it)
        it.now += timedelta(seconds=seconds)
        before = it.circuit.state
        for _ in range(3):
            it.look()
        if before is State.OPEN and it.circuit.state is not State.OPEN:
            tries.append(it.now)
        it.value = 1.0
    apart = [later - earlier for earlier, later in pairwise(tries)]
    assert all(one >= timedelta(seconds=COOL_DOWN) for one in apart)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["state", "since", "trips", "window", "counted", "seen"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(garbage.filter(lambda one: one is not None))
def test_a_record_that_makes_no_sense_stops_the_agent(raw: Any) -> None:
    it = Simulated(status={"circuit": raw}, runs=True)
    made = it.look()
    assert made.breaker is not None and made.breaker.decision.open
    assert not it.runs
    it.now += timedelta(days=9)
    assert it.look().suspends, "time alone does not make sense of it"
    reset(it)
    it.look()
    it.look()
    assert it.runs


def test_the_simulated_agent_does_run_and_trips_and_comes_back() -> None:
    """Lest the properties above hold because nothing ever happens."""
    it = Simulated()
    it.look()
    assert it.runs
    seen = []
    for seconds, event in ((1, loss), (1, None), (25, None), (1, None), (1, None), (TRIAL, None), (TRIAL, None)):
        it.now += timedelta(seconds=seconds)
        if event:
            event(it)
        it.look()
        seen.append((it.circuit.state.value, it.runs, it.circuit.attempts))
    assert seen == [
        ("Open", False, 1),
        ("Open", False, 1),
        ("HalfOpen", False, 1),
        ("HalfOpen", True, 1),
        ("HalfOpen", True, 1),
        ("Closed", True, 1),
        ("Closed", True, 0),
    ]
