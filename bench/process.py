"""What the operator's process costs: its start, its memory, its CPU time when nothing happens."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bench.site import Site, by_operator
from tests.operator_process import OperatorProcess

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.01
START_LIMIT = 60.0


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB of 10^6 bytes (Linux: /proc/PID/statm, pages)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def peak_mb(pid: int) -> float:
    """The most memory a process ever had resident, in MB of 10^6 bytes (VmHWM in /proc/PID/status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system (fields 14 and 15 of /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def with_bytecode(folder: Path) -> None:
    """Has operators that are started from now on keep and use bytecode, below this folder.

    The image has all of it. Where the environment forbids it (`PYTHONDONTWRITEBYTECODE`), every start would compile all
    packages anew, which takes 1.3 s and leaves 4 MB behind.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


async def start(site: Site, operator: OperatorProcess) -> float:
    """Starts the operator; gives the seconds until it is ready and watches AgentDeployments.

    Readiness alone says that the informers of the children are filled; kopf lists AgentDeployments by itself.

    Raises:
        TimeoutError: it does not get there.
    """
    site.log.forget()
    began = time.time()
    operator.start(wait=False)
    while await asyncio.to_thread(operator.get, operator.readiness, "/readyz") != 200:
        if time.time() - began > START_LIMIT:
            raise TimeoutError(f"the operator is not ready after {START_LIMIT:.0f} s:\n{operator.tail()}")
        await asyncio.sleep(POLL_SECONDS)
    ready = time.time()
    watch = await site.log.until(
        lambda one: by_operator(one) and one.verb == "watch" and one.resource == "agentdeployments",
        "the operator watches AgentDeployments",
    )
    return max(ready, watch.answered) - began


async def idle_cpu(pid: int, seconds: float) -> float:
    """Gives the share of one core that a process takes for a while, in percent."""
    before, began = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began) * 100
