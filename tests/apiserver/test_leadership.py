"""Who may let things grow, decided by a Lease on a real API server and clocks that the test moves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.leadership import Leadership
from bulkhead.cluster.resources import LEASES, Object
from devcluster.api import RunningCluster
from tests.apiserver.rest import Rest
from tests.faults import Answer, DropAfter, DropBefore, FaultProxy, Hang, Rewrite, eventually

NAMES = (f"lease-{number}" for number in itertools.count())


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Election:
    """Candidates for one Lease, all on the same moved clock."""

    client: Client
    rest: Rest
    name: str
    clock: Clock = field(default_factory=Clock)
    changes: list[str] = field(default_factory=list)

    def candidate(
        self, identity: str, *, client: Client | None = None, clock: Clock | None = None, patience: float = 60.0
    ) -> Leadership:
        return Leadership(
            client or self.client,
            namespace="default",
            name=self.name,
            identity=identity,
            on_change=lambda leads: self.changes.append(f"{identity} {'won' if leads else 'lost'}"),
            # The clock of these tests stands still while a busy machine takes its time.
            patience=patience,
            clock=clock or self.clock,
        )

    @property
    def spec(self) -> Object:
        spec: Object = self.rest.get(LEASES.path(namespace="default", name=self.name)).body["spec"]
        return spec


@pytest.fixture
async def election(apiserver: RunningCluster, rest: Rest) -> AsyncIterator[Election]:
    async with Client(await Connection.load(kubeconfig=apiserver.kubeconfig)) as client:
        yield Election(client, rest, next(NAMES))


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def shaky(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    # What bounds an attempt is to be the attempt's own deadline, not the client's.
    async with Client(connection, deadline=60.0) as client:
        yield client


async def test_the_first_to_come_leads_and_the_second_waits(election: Election) -> None:
    first, second = election.candidate("a"), election.candidate("b")
    assert not first.is_leader()
    assert await first.step() == 2.0
    assert 0.5 <= await second.step() <= 1.0
    assert (first.is_leader(), second.is_leader()) == (True, False)
    assert election.spec["holderIdentity"] == "a"
    assert election.spec["leaseDurationSeconds"] == 6


async def test_only_one_of_many_that_come_at_once_leads(election: Election) -> None:
    candidates = [election.candidate(f"candidate-{number}") for number in range(8)]
    for _ in range(3):
        await asyncio.gather(*(candidate.step() for candidate in candidates))
        assert [candidate.is_leader() for candidate in candidates].count(True) == 1


async def test_a_leader_that_cannot_renew_stops_before_another_can_start(election: Election) -> None:
    first, second = election.candidate("a"), election.candidate("b")
    await first.step()
    await second.step()
    overlap, takeover = False, None
    for tenth in range(100):
        election.clock.now = 1000.0 + tenth / 10
        if tenth % 5 == 0:
            await second.step()
        overlap = overlap or (first.is_leader() and second.is_leader())
        if second.is_leader() and takeover is None:
            takeover = tenth / 10
    assert not overlap
    assert takeover == 6.0
    assert election.spec["leaseTransitions"] == 1


async def test_leadership_ends_a_second_before_the_lease_does(election: Election) -> None:
    leader = election.candidate("a")
    await leader.step()
    election.clock.now += 4.9
    assert leader.is_leader()
    election.clock.now += 0.1
    assert not leader.is_leader()


async def test_a_renewal_prolongs_and_keeps_when_it_was_acquired(election: Election) -> None:
    leader = election.candidate("a")
    await leader.step()
    acquired, renewed = election.spec["acquireTime"], election.spec["renewTime"]
    election.clock.now += 4
    await leader.step()
    election.clock.now += 4
    assert leader.is_leader()
    assert election.spec["acquireTime"] == acquired
    assert election.spec["renewTime"] > renewed
    assert election.spec["leaseTransitions"] == 0


async def test_a_holder_is_judged_by_what_was_seen_of_it_and_not_by_its_own_clock(election: Election) -> None:
    first = election.candidate("a")
    await first.step()
    late = election.candidate("b", clock=Clock(now=5_000_000.0))
    await late.step()
    assert not late.is_leader(), "a clock that is far ahead takes nothing over at first sight"


async def test_the_same_identity_takes_its_lease_back_at_once(election: Election) -> None:
    await election.candidate("a").step()
    restarted = election.candidate("a")
    await restarted.step()
    assert restarted.is_leader()
    assert election.spec["leaseTransitions"] == 0


async def test_a_released_lease_is_free_at_once(election: Election) -> None:
    first, second = election.candidate("a"), election.candidate("b")
    await first.step()
    await second.step()
    await first.release()
    assert not first.is_leader()
    await second.step()
    assert second.is_leader()
    await first.release()
    assert election.spec["holderIdentity"] == "b", "who does not hold it gives nothing up"


async def test_a_deleted_lease_is_made_anew(election: Election) -> None:
    leader = election.candidate("a")
    await leader.step()
    election.rest.delete(LEASES.path(namespace="default", name=election.name))
    await leader.step()
    assert leader.is_leader()
    assert election.spec["holderIdentity"] == "a"


async def test_a_lease_without_a_spec_is_free(election: Election) -> None:
    empty = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": election.name}}
    assert election.rest.post(LEASES.path(namespace="default"), empty).ok
    leader = election.candidate("a")
    await leader.step()
    assert leader.is_leader()


@pytest.mark.parametrize(
    "fault",
    [DropBefore(), DropAfter(), Answer(409, "Conflict"), Answer(429, retry_after=1), Answer(500), Answer(403)],
    ids=["dropped before", "dropped after", "409", "429", "500", "403"],
)
async def test_a_renewal_that_fails_does_not_prolong_and_the_next_one_does(
    election: Election, shaky: Client, proxy: FaultProxy, fault: Answer
) -> None:
    leader = election.candidate("a", client=shaky)
    await leader.step()
    election.clock.now += 2
    proxy.on("PATCH", "/leases/", fault)
    assert await leader.step() <= 1.0, "tried again soon"
    assert leader.is_leader(), "the last renewal still holds"
    election.clock.now += 2.9
    assert leader.is_leader()
    election.clock.now += 0.1
    assert not leader.is_leader(), "a renewal whose answer was lost counts for nothing"
    await leader.step()
    assert leader.is_leader()


async def test_an_api_server_that_hangs_costs_one_attempt_and_not_the_lease(
    election: Election, shaky: Client, proxy: FaultProxy
) -> None:
    leader = election.candidate("a", client=shaky, patience=2.0)
    await leader.step()
    proxy.on("GET", "/leases/", Hang())
    # An attempt gives up after two seconds, the client would after sixty.
    await asyncio.wait_for(leader.step(), 20)
    assert leader.is_leader()


async def test_that_leadership_ran_out_during_a_renewal_that_then_succeeds_is_told(
    election: Election, shaky: Client, proxy: FaultProxy
) -> None:
    leader = election.candidate("a", client=shaky)

    def late(written: Object) -> Object:
        # Between the renewal and its answer, whatever else this machine is doing.
        election.clock.now += 1.0
        return written

    task = asyncio.create_task(leader.run())
    try:
        await eventually(lambda: election.changes == ["a won"], "winning is told", within=60)
        election.clock.now += 4.5  # it is asked for late, half a second before the end
        proxy.on("PATCH", "/leases/", Rewrite(late), times=1)
        await eventually(lambda: election.changes == ["a won", "a lost", "a won"], "the gap is told", within=60)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_winning_and_losing_are_told_once_each(election: Election, shaky: Client, proxy: FaultProxy) -> None:
    leader = election.candidate("a", client=shaky)
    task = asyncio.create_task(leader.run())
    try:
        await eventually(lambda: election.changes == ["a won"], "winning is told")
        proxy.on(None, "/leases/", Answer(503), times=None)
        election.clock.now += 10
        await eventually(lambda: election.changes == ["a won", "a lost"], "losing is told")
        proxy.clear()
        await eventually(lambda: election.changes == ["a won", "a lost", "a won"], "winning again is told")
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert election.changes[-1] == "a lost"
    assert election.spec["holderIdentity"] == "", "a clean end gives the lease up"


@pytest.mark.parametrize(
    "times",
    [{"duration": 2.5}, {"renew_every": 5.0}, {"renew_every": 0.0}],
    ids=["parts of a second", "renewed too late", "renewed never"],
)
def test_times_that_cannot_work_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="lease"):
        Leadership(None, namespace="n", name="l", identity="a", **times)  # type: ignore[arg-type]
