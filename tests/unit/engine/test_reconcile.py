"""What a reconcile keeps in mind from one look to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bulkhead.cluster.errors import ApiError, ClusterError, Unreachable
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.queue import Key, Lane, WorkQueue
from bulkhead.engine.reconcile import AgentReconciler, LaneTools
from bulkhead.plan.agent import Phase
from bulkhead.plan.books import Books
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.leases import LeasePlan
from bulkhead.plan.observed import Cut, Object, Observed, Outcome
from tests.unit.plan import samples

KEY = Key("AgentDeployment", samples.agent()["metadata"]["namespace"], samples.agent()["metadata"]["name"])
LOST = samples.gate_status(answered="metadata TCP 169.254.169.254 80 accepted")


def nothing() -> tuple[Object, ...]:
    return ()


def new() -> tuple[Object, ...]:
    return (samples.pod(),)


def lost() -> tuple[Object, ...]:
    """A pod that something answered which must not."""
    return (samples.pod(gate=LOST, ready=True),)


class Bench:
    """One agent and a reconciler, with what it sees and what its writes meet in the test's hand."""

    def __init__(self) -> None:
        agent = samples.agent()
        agent["metadata"]["resourceVersion"] = "5"
        self.now = samples.NOW
        self.leads = True
        self.refuses_status = False
        self.refuses_deletion = False
        self.held = False
        self.switches: tuple[Switch, ...] = ()
        self.books = Books()
        self.pods: Callable[[], tuple[Object, ...]] = nothing
        self.meanwhile: Callable[[], None] = lambda: None
        self.looks: list[bool] = []
        """Whether each look was live."""
        self.taken = 0
        self.leases: list[LeasePlan] = []
        self.agents = AgentStore(clock=lambda: 0.0, on_change=lambda _old, _new: None)
        self.agents.observe(agent)
        tools = LaneTools(client=cast(Any, self), gatherer=cast(Any, self), actor=cast(Any, self))
        self.reconciler = AgentReconciler(
            agents=self.agents,
            queue=WorkQueue(clock=lambda: 0.0),
            tools={lane: tools for lane in Lane},
            credentials=cast(Any, SimpleNamespace(start=self._start, books=lambda _: self.books)),
            fleet=cast(
                Any,
                SimpleNamespace(holds=lambda _: self.held, forget=lambda _: None, cut_of=lambda _: None),
            ),
            switches=cast(Any, SimpleNamespace(of=lambda _: self.switches)),
            evidence=cast(Any, SimpleNamespace(tell=lambda _: None)),
            recorder=cast(Any, SimpleNamespace(record=lambda *_args, **_named: None)),
            is_leader=lambda: self.leads,
            now=lambda: self.now,
        )

    async def look(self, lane: Lane = Lane.URGENT) -> None:
        await self.reconciler.reconcile(KEY, lane)

    def circuit(self) -> str | None:
        """The state of the breaker on record."""
        agent = self.agents.get(KEY.namespace, KEY.name) or {}
        state: str | None = (agent.get("status") or {}).get("circuit", {}).get("state")
        return state

    def _start(self, _: Object, plan: LeasePlan) -> None:
        self.leases.append(plan)

    async def gather(self, agent: Object, *, live: bool) -> Observed:
        self.looks.append(live)
        self.meanwhile()
        found = self.pods()
        workload = samples.stateful_set(agent) if found else None
        return samples.observed(agent, pods_are_live=live, stateful_set=workload, pods=found, switches=self.switches)

    async def warned(self, _: Observed, *, wanted: int) -> tuple[()]:
        return ()

    async def taken_claims(self, _: Object) -> tuple[()]:
        return ()

    async def take_away(self, phases: tuple[Phase, ...], cut: Cut) -> tuple[Cut, list[ClusterError]]:
        removals = sum(len(phase.removals) for phase in phases)
        if removals and self.refuses_deletion:
            return cut, [ApiError(500, "InternalError", "etcd is busy")]
        self.taken += removals
        return replace(cut, worked=cut.worked or removals > 0), []

    async def build_up(self, _: object) -> Outcome:
        return Outcome()

    async def settle_claims(self, *_args: object, **_named: object) -> None:
        return

    async def replace_status(self, _: object, *, status: Object, **_named: object) -> Object:
        if self.refuses_status:
            raise Unreachable("no answer")
        agent = self.agents.get(KEY.namespace, KEY.name)
        assert agent is not None
        version = str(int(agent["metadata"]["resourceVersion"]) + 1)
        return {**agent, "status": status, "metadata": {**agent["metadata"], "resourceVersion": version}}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_breaker_that_opened_before_a_replica_led_is_on_record_when_it_leads(bench: Bench) -> None:
    bench.leads, bench.pods = False, lost
    await bench.look()
    assert bench.taken, "a replica that does not lead takes away"
    bench.pods, bench.leads = nothing, True
    bench.now += timedelta(seconds=7)

    await bench.look()

    assert bench.circuit() == "Open"


async def test_a_replica_that_lost_the_lease_takes_nothing_of_what_another_builds(bench: Bench) -> None:
    bench.pods, bench.refuses_status = lost, True
    with pytest.raises(Unreachable):
        await bench.look()
    bench.leads, bench.pods, bench.refuses_status = False, new, False
    bench.taken = 0

    await bench.look()

    assert bench.taken == 0


@pytest.mark.parametrize(("hours", "state"), [(0, "Open"), (5, "Closed")])
async def test_an_unwritten_breaker_counts_for_who_leads_again_at_once_and_not_for_who_leads_much_later(
    bench: Bench, hours: int, state: str
) -> None:
    bench.pods, bench.refuses_status = lost, True
    with pytest.raises(Unreachable):
        await bench.look()
    bench.now += timedelta(hours=hours)
    bench.pods, bench.refuses_status = new, False

    await bench.look(Lane.NORMAL)

    assert bench.circuit() == state


async def test_what_another_wrote_meanwhile_counts_and_not_the_breaker_that_was_not_written(bench: Bench) -> None:
    bench.pods, bench.refuses_status = lost, True
    with pytest.raises(Unreachable):
        await bench.look()
    agent = bench.agents.get(KEY.namespace, KEY.name)
    assert agent is not None
    written = {**agent, "metadata": {**agent["metadata"], "resourceVersion": "50"}}
    closed = {"state": "Closed", "since": samples.seconds_ago(30), "resetAt": samples.seconds_ago(60)}
    bench.agents.observe({**written, "status": {"circuit": closed}})
    bench.pods, bench.refuses_status = new, False

    await bench.look(Lane.NORMAL)

    assert bench.circuit() == "Closed"


def hidden() -> tuple[Object, ...]:
    """A pod of the agent that its StatefulSet has let go of."""
    return (samples.pod(), samples.pod(1, controller=None))


async def test_a_suspicion_holds_until_a_look_at_the_live_api_has_been_carried_out(bench: Bench) -> None:
    bench.pods, bench.refuses_deletion = hidden, True
    bench.reconciler.suspect(KEY)
    for _ in range(2):
        with pytest.raises(ApiError):
            await bench.look(Lane.NORMAL)
    bench.refuses_deletion = False

    await bench.look(Lane.NORMAL)
    await bench.look(Lane.NORMAL)

    assert bench.looks == [True, True, True, False]


async def test_a_suspicion_that_comes_up_during_a_look_is_looked_into(bench: Bench) -> None:
    bench.pods = new
    bench.reconciler.suspect(KEY)
    bench.meanwhile = lambda: bench.reconciler.suspect(KEY)
    await bench.look(Lane.NORMAL)
    bench.meanwhile = lambda: None

    await bench.look(Lane.NORMAL)
    await bench.look(Lane.NORMAL)

    assert bench.looks == [True, True, False]


async def test_a_suspicion_waits_for_the_replica_that_leads(bench: Bench) -> None:
    bench.pods, bench.leads = new, False
    bench.reconciler.suspect(KEY)
    await bench.look(Lane.NORMAL)
    bench.leads = True

    await bench.look(Lane.NORMAL)

    assert bench.looks == [True, True]


async def test_the_leases_of_an_agent_that_is_cut_with_many_others_are_revoked_at_once(bench: Bench) -> None:
    bench.held, bench.switches = True, (Switch(name="stop", uid="s1", reason="a drill"),)
    bench.books = Books(leases=(samples.lease(samples.agent()),))

    await bench.look()

    (plan,) = bench.leases
    assert (plan.runs, [one.lease.id for one in plan.revoke]) == (False, [bench.books.leases[0].id])
    assert bench.looks == [], "all else is the cut's"
