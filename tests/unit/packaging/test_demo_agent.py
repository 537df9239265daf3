from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGENT = Path(__file__).parents[3] / "demo" / "agent" / "agent.py"


@contextmanager
def running(workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent as its image runs it, but quicker; ended when the block ends."""
    process = subprocess.Popen(
        [sys.executable, AGENT],
        env={"WORKSPACE": str(workspace), "INTERVAL": "0.01", "HOSTNAME": "counter-0"},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def steps(workspace: Path) -> list[int]:
    log = workspace / "progress.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[0]) for line in lines if line[0].isdigit()]


def wait_for_steps(workspace: Path, count: int) -> None:
    deadline = time.monotonic() + 60  # each step waits for the disk
    while len(steps(workspace)) < count:
        assert time.monotonic() < deadline, f"{steps(workspace)} after 60 s"
        time.sleep(0.01)


def test_the_agent_numbers_its_progress_from_one(tmp_path: Path) -> None:
    with running(tmp_path):
        wait_for_steps(tmp_path, 3)
    assert steps(tmp_path) == list(range(1, len(steps(tmp_path)) + 1))
    assert (tmp_path / "progress.log").read_text().splitlines()[0].endswith(" counter-0")


def test_told_to_stop_the_agent_writes_a_checkpoint_and_ends_well(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        wait_for_steps(tmp_path, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    last = (tmp_path / "progress.log").read_text().splitlines()[-1]
    assert last.startswith(f"checkpoint after {steps(tmp_path)[-1]} ")


def test_a_new_agent_goes_on_where_the_last_one_was_stopped(tmp_path: Path) -> None:
    for _ in range(2):
        done = len(steps(tmp_path))
        with running(tmp_path) as process:
            wait_for_steps(tmp_path, done + 2)
            process.terminate()
            process.wait(timeout=60)
    assert steps(tmp_path) == list(range(1, len(steps(tmp_path)) + 1))


def test_a_step_that_a_crash_cut_short_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "progress.log").write_text("1 2026-01-01T00:00:00Z a\n2 2026-01-01T00:00:01Z a\n3 2026-0")
    with running(tmp_path):
        wait_for_steps(tmp_path, 4)
    assert steps(tmp_path)[:4] == [1, 2, 3, 4]
    assert "3 2026-0\n" not in (tmp_path / "progress.log").read_text()


def test_an_agent_that_was_killed_has_no_checkpoint_and_repeats_no_finished_step(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        wait_for_steps(tmp_path, 2)
        process.kill()
        process.wait()
    finished = steps(tmp_path)
    with running(tmp_path):
        wait_for_steps(tmp_path, len(finished) + 1)
    assert steps(tmp_path)[: len(finished) + 1] == [*finished, finished[-1] + 1]
