"""The operator's own look at the canaries: what counts as an answer, what is kept, and that nothing holds it up."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bulkhead.engine import controls
from bulkhead.engine.controls import (
    AT_ONCE,
    CanaryListener,
    Prober,
    wanted_controls,
)
from bulkhead.gate.probe import DATAGRAM
from bulkhead.plan.isolation import Control, ControlKey, Target
from bulkhead.plan.policy import Policy, parse
from devcluster.ports import PortReservation
from tests.faults import eventually

A, B = ("TCP", "192.0.2.1", 5432), ("UDP", "192.0.2.2", 53)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A prober whose canaries answer as the test says."""

    def __init__(self, *targets: ControlKey, interval: float = 3600) -> None:
        self.time = START
        self.down: set[ControlKey] = set()
        self.held: dict[ControlKey, asyncio.Event] = {}
        self.attempts: list[ControlKey] = []
        self.at_once = 0
        self.most_at_once = 0
        self.flips: list[frozenset[ControlKey]] = []
        self.prober = Prober(
            on_change=self.flips.append, attempt=self._attempt, interval=interval, now=lambda: self.time
        )
        self.prober.set_targets(targets)

    async def _attempt(self, key: ControlKey) -> None:
        self.attempts.append(key)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await (self.held[key].wait() if key in self.held else asyncio.sleep(0))
        finally:
            self.at_once -= 1
        if key in self.down:
            raise ConnectionRefusedError(111, "Connection refused")

    async def after(self, seconds: float, *keys: ControlKey) -> Control:
        """Tries some canaries at a later time; gives what is known of the first."""
        self.time += timedelta(seconds=seconds)
        await self.prober.probe(keys)
        return self.prober.controls()[keys[0]]


@asynccontextmanager
async def running(made: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(made.prober.run())
    try:
        yield
    finally:
        assert not task.done(), "the prober ended by itself"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_canary_that_answers_is_known_by_the_time_of_its_last_answer() -> None:
    made = Bench(A)
    assert made.prober.controls() == {}
    await made.after(0, A)
    assert await made.after(5, A) == Control(reached_at=START + timedelta(seconds=5), failing_since=None, message="")


async def test_a_canary_that_falls_silent_keeps_its_last_answer_and_the_beginning_of_its_silence() -> None:
    made = Bench(A)
    await made.after(0, A)
    made.down.add(A)
    await made.after(5, A)
    assert await made.after(5, A) == Control(
        reached_at=START, failing_since=START + timedelta(seconds=5), message="refused: nothing listens there"
    )
    made.down.clear()
    again = await made.after(5, A)
    assert (again.reached_at, again.failing_since) == (START + timedelta(seconds=15), None)


async def test_a_silence_that_began_ahead_of_a_clock_that_was_set_back_begins_anew() -> None:
    made = Bench(A)
    made.down.add(A)
    await made.after(0, A)
    again = await made.after(-1800, A)
    assert again.failing_since == START - timedelta(seconds=1800)


async def test_a_change_is_told_once_and_the_first_result_is_one() -> None:
    made = Bench(A, B)
    made.down.add(B)
    for _ in range(3):
        await made.after(5, A, B)
    assert made.flips == [frozenset({A, B})]
    made.down.clear()
    for _ in range(3):
        await made.after(5, A, B)
    assert made.flips == [frozenset({A, B}), frozenset({B})]


async def test_a_canary_that_nobody_names_any_more_is_forgotten_even_while_it_is_being_tried() -> None:
    made = Bench(A, B)
    await made.after(0, A, B)
    made.held[A] = asyncio.Event()
    trying = asyncio.create_task(made.prober.probe([A]))
    await asyncio.sleep(0)
    made.prober.set_targets([B])
    made.held[A].set()
    await trying
    assert made.prober.controls().keys() == {B}


async def test_what_was_given_out_does_not_change_afterwards() -> None:
    made = Bench(A)
    before = made.prober.controls()
    await made.after(0, A)
    assert before == {}


async def test_no_more_canaries_are_tried_at_once_than_the_bound() -> None:
    many = [("TCP", "192.0.2.1", port) for port in range(1, 4 * AT_ONCE)]
    made = Bench(*many)
    await made.prober.probe(many)
    assert len(made.prober.controls()) == len(many)
    assert made.most_at_once == AT_ONCE


async def test_all_are_tried_again_at_each_interval() -> None:
    made = Bench(A, B, interval=0.01)
    async with running(made):
        await eventually(lambda: made.attempts.count(A) > 3 and made.attempts.count(B) > 3, "round after round")


async def test_a_new_canary_is_tried_at_once_and_alone() -> None:
    made = Bench(A)
    async with running(made):
        await eventually(lambda: A in made.prober.controls(), "the first round")
        made.prober.set_targets([A, B])
        await eventually(lambda: B in made.prober.controls(), "the new one is tried")
        made.prober.set_targets([A, B])
    assert made.attempts == [A, B]


async def test_a_canary_that_comes_up_during_a_round_is_not_left_for_the_next() -> None:
    made = Bench(A)
    made.held[A] = asyncio.Event()
    async with running(made):
        await eventually(lambda: made.attempts == [A], "the first round is under way")
        made.prober.set_targets([A, B])
        made.held[A].set()
        await eventually(lambda: B in made.prober.controls(), "the new one is tried")


async def test_no_error_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("the listener")

    attempts: list[ControlKey] = []

    async def attempt(key: ControlKey) -> None:
        attempts.append(key)
        if key == A:
            raise RuntimeError("the attempt")

    made = Bench()
    made.prober = Prober(on_change=fails, attempt=attempt, interval=0.01)
    made.prober.set_targets([A, B])
    async with running(made):
        await eventually(lambda: attempts.count(A) > 3 and attempts.count(B) > 3, "round after round")
    assert made.prober.controls()[B].failing_since is None
    assert made.prober.controls()[A].message == "cannot be tried: the attempt"
    assert "the listener" in caplog.text


def test_what_every_policy_names_is_tried_and_the_operators_own() -> None:
    policies = [_policy("one", ("db", A), ("dns", B)), _policy("two", ("again", A)), _policy("broken")]
    own = Target("operator", "TCP", "10.96.0.7", 8082)
    assert wanted_controls(policies, own=own) == {A, B, ("TCP", "10.96.0.7", 8082)}
    assert wanted_controls(policies, own=None) == {A, B}
    assert wanted_controls([], own=None) == set()


def _policy(name: str, *canaries: tuple[str, ControlKey]) -> Policy:
    """Reads a policy with these canaries; without one, it cannot be understood."""
    named = [
        {"name": canary, "protocol": protocol, "address": address, "port": port}
        for canary, (protocol, address, port) in canaries
    ]
    spec = {"production": {"canaries": named}} if named else {"production": "none"}
    return parse({"metadata": {"name": name, "uid": f"uid-{name}", "generation": 1}, "spec": spec})


@contextmanager
def tcp(family: socket.AddressFamily, address: str) -> Iterator[int]:
    with socket.create_server((address, 0), family=family) as server:
        yield server.getsockname()[1]


@contextmanager
def full(family: socket.AddressFamily, address: str) -> Iterator[int]:
    """A port whose queue of connections is full: what comes is dropped, as by a firewall."""
    with socket.create_server((address, 0), family=family, backlog=0) as server, socket.socket(family) as first:
        first.connect(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def closed(family: socket.AddressFamily, address: str) -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and on which nobody listens."""
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        yield sock.getsockname()[1]


@contextmanager
def udp(
    family: socket.AddressFamily, address: str, *, answers: Callable[[int], bool] = lambda number: True
) -> Iterator[int]:
    """A UDP server; `answers` says of each datagram, counted from 0, whether it is sent back."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))

        def serve() -> None:
            number = 0
            while (received := sock.recvfrom(512))[0]:
                assert received[0] == DATAGRAM
                if answers(number):
                    sock.sendto(received[0], received[1])
                number += 1

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        with socket.socket(family, socket.SOCK_DGRAM) as end:
            end.sendto(b"", sock.getsockname())
        thread.join()


@contextmanager
def silent_udp(family: socket.AddressFamily, address: str) -> Iterator[int]:
    with udp(family, address, answers=lambda number: False) as port:
        yield port


@contextmanager
def lossy_udp(family: socket.AddressFamily, address: str) -> Iterator[int]:
    with udp(family, address, answers=lambda number: number > 0) as port:
        yield port


@contextmanager
def closed_udp(family: socket.AddressFamily, address: str) -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, by a socket that hears its peer alone, which is itself."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.connect(sock.getsockname())
        yield sock.getsockname()[1]


REFUSED = "refused: nothing listens there"
REAL = {
    "a TCP port that accepts": (tcp, "TCP", ""),
    "a TCP port on which nobody listens": (closed, "TCP", REFUSED),
    "a TCP port behind which packets vanish": (full, "TCP", "no answer within 0.6 s"),
    "a UDP port that answers": (udp, "UDP", ""),
    "a UDP port that answers the second time": (lossy_udp, "UDP", ""),
    "a UDP port that never answers": (silent_udp, "UDP", "no answer within 0.6 s"),
    "a UDP port on which nobody listens": (closed_udp, "UDP", REFUSED),
}


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize(("serve", "protocol", "message"), REAL.values(), ids=REAL.keys())
async def test_real_canary(
    serve: Callable[[socket.AddressFamily, str], AbstractContextManager[int]],
    protocol: str,
    message: str,
    family: socket.AddressFamily,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            opened.append(self)

    # Not the process's: what runs beside this test in other threads opens sockets of its own.
    monkeypatch.setattr(controls, "socket", SimpleNamespace(**vars(socket) | {"socket": Noted}))
    with serve(family, address) as port:
        key = (protocol, address, port)
        # Where something answers it is given the time that the thread which answers may have to wait for its turn.
        prober = Prober(on_change=lambda keys: None, timeout=0.6 if message.endswith("0.6 s") else 30)
        prober.set_targets([key])
        await prober.probe([key])
        assert prober.controls()[key].message == message
        assert (prober.controls()[key].reached_at is None) is bool(message)
        assert [one.fileno() for one in opened] == [-1], "a probe opens one socket and leaves none behind"


@pytest.mark.parametrize("key", [("TCP", "db.example.test", 1), ("SCTP", "127.0.0.1", 1), ("TCP", "127.0.0.1", 70000)])
async def test_what_cannot_be_tried_does_not_answer(key: ControlKey) -> None:
    prober = Prober(on_change=lambda keys: None)
    prober.set_targets([key])
    await prober.probe([key])
    assert prober.controls()[key].message.startswith("cannot be tried: ")
    assert prober.controls()[key].failing_since is not None


@pytest.fixture
async def canary() -> AsyncIterator[CanaryListener]:
    listener = CanaryListener(host="127.0.0.1", port=0)
    await listener.start()
    yield listener
    await listener.stop()


async def test_the_operators_own_canary_answers_its_prober(canary: CanaryListener) -> None:
    key = ("TCP", "127.0.0.1", canary.port)
    prober = Prober(on_change=lambda keys: None, timeout=30.0)
    prober.set_targets([key])
    await prober.probe([key])
    assert prober.controls()[key].failing_since is None


async def test_the_canary_closes_a_connection_without_a_word(canary: CanaryListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", canary.port)
    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_nobody_can_make_the_canary_hold_connections(canary: CanaryListener) -> None:
    loop = asyncio.get_running_loop()
    peers = [socket.socket() for _ in range(300)]
    try:
        for peer in peers:
            peer.setblocking(False)
            await loop.sock_connect(peer, ("127.0.0.1", canary.port))
        # They send nothing and never close.
        async with asyncio.timeout(60):
            assert {await loop.sock_recv(peer, 1) for peer in peers} == {b""}
        assert _bound_to(canary.port) == 1, "of the canary's sockets only the one that listens is left"
    finally:
        for peer in peers:
            peer.close()


async def test_the_canary_listens_on_both_families_and_can_be_started_again() -> None:
    # Held, or a connection of somebody else's could go out from it between the two.
    with PortReservation() as ports:
        port = ports.take()
        for _ in range(2):
            listener = CanaryListener(port=port)
            await listener.start()
            for address in ("127.0.0.1", "::1"):
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
                await writer.wait_closed()
            await listener.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def _bound_to(port: int) -> int:
    """How many sockets of this process have this port at their own end; those of other threads come and go."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor))) as one:
            found += one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port
    return found
