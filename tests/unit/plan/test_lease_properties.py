"""What holds for credentials whatever happens: crashes between any two steps, issuers that fail, edits, suspensions."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.plan.leaseworld import DEADLINE, SETTLING, World

KUBELET_SECONDS = 90
"""A kubelet's periodic sync: 60 s and up to half of that as jitter."""
UP_SECONDS = 10
"""Between two crashes. An operator that is as good as down for the last third of a lease's life can save none."""


class Leases(RuleBasedStateMachine):
    """Anything may happen between two steps of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(ttl=st.sampled_from([60, 75, 120, 300, 900, 3600]))
    def begin(self, ttl: int) -> None:
        self.world = World(ttl=ttl)

    @rule()
    def look(self) -> None:
        self.world.reconcile()

    @rule(which=st.integers(0, 20), steps=st.integers(1, 6))
    def work(self, which: int, steps: int) -> None:
        for _ in range(steps):
            doings = list(self.world.tasks)
            if doings:
                self.world.step(doings[which % len(doings)])

    @rule()
    def work_everything_off(self) -> None:
        self.world.settle()

    @rule(seconds=st.sampled_from([0.5, 1, 5, 30, 61, 121, 400, 4000]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule(issues=st.booleans(), renews=st.booleans(), revokes=st.booleans())
    def the_issuer_changes(self, issues: bool, renews: bool, revokes: bool) -> None:
        issuer = self.world.issuer
        issuer.issues, issuer.renews, issuer.revokes = issues, renews, revokes

    @rule(seconds=st.floats(0, 55))
    def an_answer_will_be_lost(self, seconds: float) -> None:
        self.world.issuer.loses = seconds

    @rule()
    def suspend(self) -> None:
        self.world.suspend()

    @rule()
    def resume(self) -> None:
        self.world.resume()

    @rule(source=st.sampled_from(["reader", "writer"]), asked=st.booleans())
    def edit(self, source: str, asked: bool) -> None:
        self.world.source, self.world.asked = source, asked

    @invariant()
    def nothing_is_lost_from_the_books(self) -> None:
        issuer = self.world.issuer
        assert issuer.alive.keys() | issuer.late.keys() <= self.world.records.keys()

    @invariant()
    def nothing_outlives_a_suspension_by_more_than_its_time_to_live(self) -> None:
        world = self.world
        if world.suspended_at is not None:
            # What was on its way to the issuer then may still take effect.
            latest = world.suspended_at + DEADLINE + SETTLING + timedelta(seconds=world.ttl)
            assert all(ends <= latest for ends in world.issuer.alive.values())

    @invariant()
    def nothing_lives_longer_than_its_time_to_live_from_any_moment(self) -> None:
        for ends in self.world.issuer.alive.values():
            assert ends <= self.world.now + timedelta(seconds=self.world.ttl)

    @invariant()
    def an_agent_that_is_ready_has_a_secret_with_a_credential_that_lives(self) -> None:
        world = self.world
        if world.runs and world.asked and world.plan().ready:
            assert world.secret in world.issuer.alive

    @precondition(lambda self: self.world.issuer.revokes)
    @rule()
    def a_suspension_ends_everything_once_the_issuer_answers(self) -> None:
        world = self.world
        was, since = world.runs, world.suspended_at
        world.suspend()
        for _ in range(12):
            world.settle()
            look = world.last.next_look
            world.advance(look.total_seconds() if look is not None else 1)
        world.settle()
        assert world.records == {}
        assert world.issuer.alive == {}
        assert world.secret is None
        assert world.last.unrevoked == ()
        world.runs, world.suspended_at = was, since


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@example(ttl=75, phase=0, crashes=[(31, 0, 15)] * 3)
@example(ttl=75, phase=0, crashes=[(46, 0, 15)] * 6)
@given(
    ttl=st.integers(75, 1200),
    phase=st.integers(0, KUBELET_SECONDS - 1),
    crashes=st.lists(st.tuples(st.integers(1, 900), st.integers(0, 4), st.integers(1, 15)), max_size=6),
)
def test_what_an_agent_reads_is_alive_at_every_moment_while_the_issuer_works(
    ttl: int, phase: int, crashes: list[tuple[int, int, int]]
) -> None:
    world = World(ttl=ttl)
    world.settle()
    mounted = world.secret
    down_until = 0
    pending = sorted(crashes)
    for second in range(1, 8 * ttl):
        world.advance(1)
        if second % KUBELET_SECONDS == phase:
            mounted = world.secret
        if second < down_until:
            assert mounted in world.issuer.alive, f"after {second} s, the operator down"
            continue
        if pending and second >= max(pending[0][0], down_until + UP_SECONDS):
            _, steps, seconds = pending.pop(0)
            world.reconcile()
            for _ in range(steps):
                for doing in list(world.tasks):
                    world.step(doing)
            world.crash()
            down_until = second + seconds
            world.due = world.now + timedelta(seconds=seconds)
            continue
        world.look_if_due()
        assert mounted in world.issuer.alive, f"after {second} s, of {sorted(world.issuer.alive)}"


@settings(max_examples=40, deadline=None)
@given(ttl=st.integers(60, 900), down_at=st.integers(0, 2000), renews=st.booleans(), seconds=st.integers(1, 600))
def test_an_outage_ends_in_a_credential_that_lives_or_in_a_suspension_never_in_a_dead_one(
    ttl: int, down_at: int, renews: bool, seconds: int
) -> None:
    world = World(ttl=ttl)
    world.settle()
    for second in range(1, down_at + seconds + 2 * ttl):
        world.advance(1)
        down = down_at <= second < down_at + seconds
        world.issuer.issues, world.issuer.renews = not down, renews or not down
        world.look_if_due()
        if world.runs:
            assert world.secret in world.issuer.alive
        else:
            assert down or second < down_at + seconds + 60
            assert not world.issuer.alive
            world.resume()  # it has stopped; it is built again when its credentials are there
            world.settle()
            if not world.last.ready:
                world.suspended_at = None
                break
