"""The example of an agent that checkpoints, killed in the middle of its work, again and again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec

EXAMPLE = Path(__file__).parents[3] / "examples" / "checkpointing"


def _checkpoint() -> Any:
    specification = importlib.util.spec_from_file_location("example_checkpoint", EXAMPLE / "checkpoint.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


checkpoint = _checkpoint()


class Tool:
    """What the agent calls: it does each thing once, by its key, however often it is asked to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        """Keys, in the order in which the thing was done."""
        self.asked: list[str] = []
        """Questions of what was done."""
        self.requests = 0
        self._doing = threading.Lock()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def answer(self, key: str, question: str) -> str:
        self.requests += 1
        self.before()
        # The request of one that was killed may still be in the midst of this when its successor asks for the same.
        with self._doing:
            if key not in self.done:
                self.done.append(key)
                self.asked.append(question)
        self.after()
        return hashlib.sha256(question.encode()).hexdigest()


@contextmanager
def serving(tool: Tool) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"answer": tool.answer(self.headers["Idempotency-Key"], asked["question"])}).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # who asked has been killed

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Agent:
    """The example's process over one workspace."""

    def __init__(self, workspace: Path, url: str, *, steps: int) -> None:
        self.workspace = workspace
        self._log = workspace / "log"
        self._environment = {
            "WORKSPACE": str(workspace),
            "TOOL": url,
            "STEPS": str(steps),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, EXAMPLE / "agent.py"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                # As in a container: a test may run where SIGINT is ignored, and that would be inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def step(self) -> int:
        state = checkpoint.Checkpoints(self.workspace / "checkpoints").load()
        return int(state["step"]) if state else 0


@pytest.fixture
def started() -> Iterator[list[Agent]]:
    """Agents that are killed when the test is over, however it ends."""
    agents: list[Agent] = []
    yield agents
    for agent in agents:
        if agent.process is not None and agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def result_of(agent: Agent) -> str:
    until(lambda: "done: " in agent.log, "the agent is done")
    return agent.log.partition("done: ")[2].split()[0]


def undisturbed(folder: Path, started: list[Agent], *, steps: int) -> str:
    folder.mkdir()
    with serving(Tool()) as url:
        agent = Agent(folder, url, steps=steps)
        started.append(agent)
        agent.start()
        return result_of(agent)


# Where in a step the kill hits, besides at random: the two moments that decide whether something is lost or done twice.
MOMENTS = ("before", "after")


@pytest.mark.parametrize("moment", MOMENTS, ids=["before the tool has done it", "after it has, before the answer"])
def test_killed_in_the_middle_of_each_step_it_does_everything_once(
    moment: str, tmp_path: Path, started: list[Agent]
) -> None:
    steps, tool = 6, Tool()
    (tmp_path / "killed").mkdir()
    with serving(tool) as url:
        agent = Agent(tmp_path / "killed", url, steps=steps)
        started.append(agent)
        killed: set[str] = set()

        def kill() -> None:
            # Once in each step: that step is known by how much was done before it.
            step = f"{agent.step}"
            if step not in killed:
                killed.add(step)
                agent.signal(signal.SIGKILL)
                agent.wait()

        setattr(tool, moment, kill)
        for _ in range(steps):
            agent.start()
            assert agent.wait() == -signal.SIGKILL
        agent.start()
        assert result_of(agent) == undisturbed(tmp_path / "undisturbed", started, steps=steps)
    assert len(killed) == steps
    assert len(tool.done) == len(set(tool.asked)) == steps, "nothing was left out, nothing was done twice"
    assert tool.requests > steps, "it was asked again for what it had done"


def test_killed_at_random_moments_it_does_everything_once(tmp_path: Path, started: list[Agent]) -> None:
    steps, tool, chance = 200, Tool(), random.Random(6)  # noqa: S311 - no secret
    (tmp_path / "killed").mkdir()
    with serving(tool) as url:
        agent = Agent(tmp_path / "killed", url, steps=steps)
        started.append(agent)
        for _ in range(10):
            agent.start()
            reached = min(len(tool.done) + chance.randrange(1, 15), steps)
            until(lambda: len(tool.done) >= reached, "the agent gets on")  # noqa: B023 - called at once
            time.sleep(chance.random() / 100)
            agent.signal(signal.SIGKILL)
            agent.wait()
        agent.start()
        assert result_of(agent) == undisturbed(tmp_path / "undisturbed", started, steps=steps)
    assert len(tool.done) == len(set(tool.asked)) == steps
    assert "going on after step " in agent.log


def test_told_to_stop_with_its_network_gone_it_ends_in_time_and_goes_on_later(
    tmp_path: Path, started: list[Agent]
) -> None:
    tool = Tool()
    with serving(tool) as url:
        agent = Agent(tmp_path, url, steps=1000)
        started.append(agent)
        agent.start()
        until(lambda: len(tool.done) >= 5, "the agent works")
    until(lambda: "no answer" in agent.log, "the network is gone")
    agent.signal(signal.SIGTERM)
    assert agent.wait(60) == 0
    reached = agent.step
    assert reached >= 4
    assert f"told to stop: step {reached} is saved" in agent.log
    with serving(tool) as url:
        again = Agent(tmp_path, url, steps=len(tool.done) + 5)
        started.append(again)
        again.start()
        result_of(again)
    assert f"going on after step {reached}" in again.log
    assert len(tool.done) == len(set(tool.asked))


def test_told_to_stop_while_a_call_hangs_it_ends_within_its_grace(tmp_path: Path, started: list[Agent]) -> None:
    tool, hanging, let_go = Tool(), threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        let_go.wait(300)

    tool.before = hang
    with serving(tool) as url:
        agent = Agent(tmp_path, url, steps=10)
        started.append(agent)
        agent.start()
        try:
            assert hanging.wait(60)
            agent.signal(signal.SIGTERM)
            # It ends of itself, with the call that hangs and no other: that takes no longer than one call may. What a
            # clock here would measure beside that is the machine's.
            assert agent.wait(60) == 0
        finally:
            let_go.set()
    assert tool.requests == 1
    longest = re.search(r"^CALL_SECONDS = ([0-9.]+)$", (EXAMPLE / "agent.py").read_text(), re.MULTILINE)
    grace = yaml.safe_load((EXAMPLE / "agent.yaml").read_text())["spec"]["suspendGraceSeconds"]
    assert longest is not None and float(longest[1]) < grace


def test_with_damaged_checkpoints_it_says_so_and_does_not_begin_again(tmp_path: Path, started: list[Agent]) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("current.json", "previous.json"):
        (folder / name).write_text('{"state": {"step": 7}, "sha256": "0"}')
    tool = Tool()
    with serving(tool) as url:
        agent = Agent(tmp_path, url, steps=10)
        started.append(agent)
        agent.start()
        assert agent.wait() == 2
    assert "cannot go on: none of " in agent.log
    assert tool.requests == 0


_STATES = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4)


@given(_STATES, _STATES, st.data())
def test_what_a_disk_spoilt_is_never_taken_for_a_state(
    first: dict[str, Any], second: dict[str, Any], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = checkpoint.Checkpoints(Path(folder))
        for state in (first, second):
            kept.save(state)
        assert kept.load() == second
        current = Path(folder, "current.json")
        whole = current.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        spoilt = data.draw(st.sampled_from([whole[:at], whole[:at] + b"\0" + whole[at + 1 :]]))
        current.write_bytes(spoilt)
        assert kept.load() == first, "the one before is kept"
        kept.save(second)
        assert kept.load() == second
        assert checkpoint._read(Path(folder, "previous.json")) == first, "what is spoilt replaces nothing that is whole"


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    kept = checkpoint.Checkpoints(tmp_path)
    kept.save({"step": 1})
    (tmp_path / "next.json").mkdir()  # as good as a full disk: the file cannot be opened
    with pytest.raises(OSError):
        kept.save({"step": 2})
    assert kept.load() == {"step": 1}


def test_nothing_saved_is_no_damage(tmp_path: Path) -> None:
    assert checkpoint.Checkpoints(tmp_path / "new").load() is None
    assert os.listdir(tmp_path / "new") == []


def test_the_example_s_manifest_is_an_agent_with_a_workspace_and_time_to_save() -> None:
    manifest = yaml.safe_load((EXAMPLE / "agent.yaml").read_text())
    spec = parse_spec(manifest["spec"], name=manifest["metadata"]["name"])
    assert spec.workspace is not None
    assert spec.circuit_breaker.restarts is not None
