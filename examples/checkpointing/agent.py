"""An agent that can be stopped at any moment and goes on later, losing nothing and doing nothing twice.

Its work is a chain of steps. Each step turns what it remembers so far into one call of a tool, and the tool's answer
into what it remembers next, so that a step left out or done twice would show in everything that comes after.

Three habits make it safe to stop:

- It saves what it remembers after each step, to its workspace, before it begins the next.
- Each call carries a key that depends on the work and the step alone. Killed between the call and the save, it makes
  the same call with the same key again, and the other side knows that it has done that already.
- It takes what fails while it is being stopped for what it is: an outage, not a wrong answer. The network goes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import urllib.request
import uuid
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path

from checkpoint import Checkpoints, DamagedError

CALL_SECONDS = 2.0
"""How long a call may take: less than the grace period, so that the agent hears of its stop in time."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries of a call that fails, at most."""
DAMAGED = 2
"""Exit code for checkpoints that cannot be read."""


@dataclass
class Memory:
    """What the agent remembers.

    Attributes:
        work: names the work, for as long as its workspace is kept. Not the pod or the agent, which may be made anew.
        step: the last step that was done, 0 for none.
        thought: what came of it, and of all before it.
    """

    work: str
    step: int = 0
    thought: str = ""

    @property
    def key(self) -> str:
        """What names the next call, however often it is made: the Idempotency-Key of an HTTP request."""
        return f"{self.work}-{self.step + 1}"


def call(url: str, *, question: str, key: str) -> str:
    """Asks the tool; gives its answer.

    Raises:
        OSError, HTTPException: it did not answer.
        ValueError, KeyError, TypeError: it answered something else than was agreed.
    """
    body = json.dumps({"question": question}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - the URL is the agent's own setting
    with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
        return str(json.load(answer)["answer"])


def think(memory: Memory, answer: str) -> Memory:
    """Returns what is remembered after a step."""
    return replace(
        memory, step=memory.step + 1, thought=hashlib.sha256(f"{memory.thought} {answer}".encode()).hexdigest()
    )


def remember(checkpoints: Checkpoints) -> Memory:
    """Returns what was saved last; work that begins is named, and the name saved, before anything is done in it."""
    saved = checkpoints.load()
    if saved is not None:
        return Memory(**saved)
    memory = Memory(work=uuid.uuid4().hex)
    checkpoints.save(asdict(memory))
    return memory


def work(checkpoints: Checkpoints, *, url: str, steps: int, stop: threading.Event) -> Memory:
    """Does steps until there are enough of them or the agent is to stop.

    Args:
        checkpoints: where it saves what it remembers.
        url: of the tool.
        steps: how many steps the work has.
        stop: set when it is to stop.

    Returns:
        What it remembers then, which is saved.
    """
    memory = remember(checkpoints)
    print(f"going on after step {memory.step}" if memory.step else "beginning", flush=True)
    pause = 0.1
    while memory.step < steps and not stop.is_set():
        try:
            answer = call(url, question=memory.thought, key=memory.key)
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            # While it is being suspended nothing answers any more. SIGTERM is on its way, and ends this wait.
            print(f"step {memory.step + 1}: no answer ({error})", flush=True)
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        memory, pause = think(memory, answer), 0.1
        checkpoints.save(asdict(memory))
    return memory


def main() -> int:
    """Runs the agent; WORKSPACE, TOOL (a URL) and STEPS come from the environment.

    Returns:
        Exit code: 0 when it is done or was told to stop, 2 when its checkpoints are damaged.
    """
    stop = threading.Event()
    # Before anything else: the first process of a container does not hear a signal that it has no handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    steps = int(os.environ["STEPS"])
    try:
        checkpoints = Checkpoints(Path(os.environ.get("WORKSPACE", "/workspace")) / "checkpoints")
        memory = work(checkpoints, url=os.environ["TOOL"], steps=steps, stop=stop)
    except DamagedError as error:
        # Not 0, and in words: the last lines of a container that failed are in the agent's status.
        print(f"cannot go on: {error}", file=sys.stderr, flush=True)
        return DAMAGED
    if memory.step < steps:
        print(f"told to stop: step {memory.step} is saved", flush=True)
        return 0
    print(f"done: {memory.thought}", flush=True)
    while not stop.wait(60.0):
        # A container that ends is started again; one that has nothing left to do waits to be stopped.
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
