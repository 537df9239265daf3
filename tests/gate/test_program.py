"""How the gate ends, and when: before the agent, beside it, and when something is wrong with itself."""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bulkhead.api import conditions
from tests.gate.world import FAR, UNROUTED, Gate, World, impatient

OPEN = f"db TCP {FAR} 7001"
CLOSED = f"void TCP {UNROUTED} 80"
NO_ECHO = "icmpv6 type echo-request drop"


@pytest.fixture
def quiet(world: World) -> World:
    """A world whose node does not answer on the link, and with a listener far away."""
    world.rules(world.router, hook="input", rules=[NO_ECHO])
    world.serve(world.far, "tcp:7001")
    return world


def close(world: World) -> None:
    world.rules(world.router, hook="forward", rules=["drop"])


def unlock(world: World) -> None:
    world.rules(world.router, hook="forward", rules=[])


def test_the_gate_passes_after_two_silent_rounds_a_second_apart(quiet: World, tmp_path: Path) -> None:
    close(quiet)
    began = datetime.now(UTC)
    outcome = Gate(quiet, "hold", [OPEN], tmp_path / "message").ends()
    [line] = outcome.lines
    assert (outcome.code, line.partition(" at ")[0]) == (0, "closed 2 targets")
    proven = conditions.parse_time(line.partition(" at ")[2])
    # Sooner is too soon. Later is the machine's, up to where the gate would have lost its patience.
    assert 2 <= (proven - began).total_seconds() < 30


def test_the_gate_holds_until_what_was_open_is_closed(quiet: World, tmp_path: Path) -> None:
    gate = Gate(quiet, "hold", [OPEN, CLOSED], tmp_path / "message")
    assert gate.runs(seconds=2.5), "it must hold while a target answers"
    close(quiet)
    assert gate.ends().code == 0


def test_the_gate_gives_up_after_its_time_and_says_what_is_open(quiet: World, tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = Gate(quiet, "hold", [OPEN, CLOSED], tmp_path / "message", patience=3).ends()
    assert 3 <= time.monotonic() - began < 30, "its own patience would be that long"
    assert (outcome.code, outcome.answered) == (3, {f"{OPEN} accepted"})


def test_the_gate_has_half_a_minute_of_patience() -> None:
    from bulkhead.gate import program

    assert program.PATIENCE_SECONDS == 30


def test_the_watch_runs_while_nothing_answers_and_ends_when_something_does(quiet: World, tmp_path: Path) -> None:
    close(quiet)
    watch = Gate(quiet, "watch", [CLOSED, OPEN], tmp_path / "message")
    assert watch.runs(seconds=4)
    unlock(quiet)
    outcome = watch.ends()
    assert (outcome.code, outcome.answered) == (3, {f"{OPEN} accepted"})


def test_a_watch_that_is_asked_to_end_does_so_at_once(quiet: World, tmp_path: Path) -> None:
    close(quiet)
    watch = Gate(quiet, "watch", [OPEN], tmp_path / "message", interval=300)
    watch.begun()
    assert watch.runs(seconds=2)
    watch.process.send_signal(signal.SIGTERM)
    outcome = watch.ends()
    assert (outcome.code, outcome.lines) == (0, ())


def test_a_gate_that_is_asked_to_end_has_proven_nothing(quiet: World, tmp_path: Path) -> None:
    gate = Gate(quiet, "hold", [OPEN], tmp_path / "message")
    gate.begun()
    assert gate.runs(seconds=1.5)
    gate.process.send_signal(signal.SIGTERM)
    outcome = gate.ends()
    assert outcome.code == 4
    assert outcome.lines[0].startswith("unproven: asked to end before isolation was proven at ")


@pytest.mark.parametrize("mode", ["hold", "watch"])
def test_a_round_that_hangs_is_ended_by_the_timer(quiet: World, tmp_path: Path, mode: str) -> None:
    message = tmp_path / "message"
    stuck = "import time\nprogram.HANG_SECONDS = 0.5\nprogram.Round.wait = lambda self, seconds: time.sleep(3600)"
    process = quiet.start(
        quiet.pod,
        *(
            "setpriv",
            "--regid=65532",
            "--clear-groups",
            sys.executable,
            "-I",
            "-S",
            "-c",
            impatient(30, more=stuck),
            mode,
        ),
        BULKHEAD_GATE_TARGETS=OPEN,
        BULKHEAD_GATE_INTERVAL="1",
        BULKHEAD_GATE_MESSAGE_PATH=str(message),
    )
    process.communicate(timeout=60)
    assert process.returncode == 4
    assert message.read_text().startswith("unproven: a round did not end in time at ")


@pytest.mark.parametrize("mode", ["hold", "watch"])
def test_an_agent_that_takes_every_local_port_does_not_look_isolated(quiet: World, tmp_path: Path, mode: str) -> None:
    quiet.sysctl(quiet.pod, "net.ipv4.ip_local_port_range=40000 40000")
    quiet.serve(quiet.pod, "tcp:40000")
    outcome = Gate(quiet, mode, [OPEN], tmp_path / "message", patience=0).ends()
    assert outcome.code == 4
    assert outcome.lines[0].startswith(f"unproven: {OPEN} could not be tried (error EADDRNOTAVAIL) at ")


def test_more_targets_than_descriptors_are_tried_in_turns(quiet: World, tmp_path: Path) -> None:
    targets = [f"many-{port} TCP {FAR} {port}" for port in range(20000, 20450)]
    outcome = Gate(quiet, "hold", [*targets, OPEN], tmp_path / "message", patience=0).ends()
    assert outcome.code == 3
    assert outcome.answered <= {*(f"{target} refused" for target in targets), f"{OPEN} accepted"}
    assert len((tmp_path / "message").read_bytes()) == 2048, "what the kubelet takes of it"


@pytest.mark.parametrize(
    ("mode", "targets", "words"),
    [
        ("hold", ["db TCP 10.0.0.1"], "'db TCP 10.0.0.1', is no target; accepted is: NAME TCP|UDP ADDRESS PORT"),
        ("watch", [""], "names no target, so nothing would be proven"),
        ("hold", ["kubelet TCP node 10250"], "is about the node, but BULKHEAD_NODE_IPS gives none of its addresses"),
        ("guess", [OPEN], "the arguments are ['guess']; accepted is one of: hold, watch"),
    ],
    ids=["a target without port", "no target", "no node", "another mode"],
)
def test_a_gate_that_is_set_up_wrongly_says_so(
    world: World, tmp_path: Path, mode: str, targets: list[str], words: str
) -> None:
    outcome = Gate(world, mode, targets, tmp_path / "message").ends()
    [line] = outcome.lines
    assert outcome.code == 2
    assert line.startswith("misconfigured: ")
    assert words in line


def test_a_message_that_cannot_be_written_does_not_change_the_verdict(quiet: World, tmp_path: Path) -> None:
    message = tmp_path / "missing" / "message"
    outcome = Gate(quiet, "hold", [OPEN], message, patience=0).ends()
    assert (outcome.code, outcome.lines) == (3, ())
