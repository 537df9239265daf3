"""Pod events at a steady rate, from a process of its own: `python -m bench.pressure KUBECONFIG RATE NAMESPACES AGENTS`.

Each is a patch of a pod's status, so every watcher of pods gets it: the operator, the controller manager and the
scheduler.
What it achieves is printed once a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count
from pathlib import Path

from bench.wire import MERGE, Wire

CONNECTIONS = 4
"""On two cores 32 of them press 80 events a second and not 67, and have a cut wait for 977 ms and not for 173: the API
server works beside it on all that they have sent."""
TICK = 0.02


async def press(kubeconfig: Path, *, rate: int, namespaces: int, agents: int) -> None:
    """Patches the pods of agents in turn until it is ended.

    Args:
        kubeconfig: as whom.
        rate: patches a second.
        namespaces: that the agents are spread over; the names are those of `bench.site.Site.names`.
        agents: how many.
    """
    done = failed = 0
    async with Wire(kubeconfig, name="bench-pressure", connections=CONNECTIONS) as wire:

        async def patch(number: int) -> None:
            nonlocal done, failed
            turn = number % agents
            path = f"/api/v1/namespaces/bench-{turn % namespaces:02d}/pods/agent-{turn:04d}-0/status"
            try:
                await wire.send("PATCH", path, {"status": {"message": f"beat {number}"}}, content_type=MERGE)
                done += 1
            except RuntimeError:
                failed += 1  # the pod is gone just now

        running: set[asyncio.Task[None]] = set()
        began = told = time.monotonic()
        for number in count():
            late = began + number / rate - time.monotonic()
            if late > 0:
                await asyncio.sleep(max(late, TICK))
            while len(running) >= CONNECTIONS * 2:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(patch(number))
            running.add(task)
            task.add_done_callback(running.discard)
            if time.monotonic() - told >= 1:
                print(f"{done / (time.monotonic() - told):.0f} {failed}", flush=True)
                told, done, failed = time.monotonic(), 0, 0


if __name__ == "__main__":
    asyncio.run(press(Path(sys.argv[1]), rate=int(sys.argv[2]), namespaces=int(sys.argv[3]), agents=int(sys.argv[4])))
