"""Reading what the gate's containers in a pod say: by how they ended, and by their termination messages.

The messages are those of `bulkhead.gate.program`. They are kept for these two containers alone: an agent's own may
carry what must not be in a status.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bulkhead.api import conditions
from bulkhead.plan.observed import Object

GATE: Final = "isolation-gate"
"""The init container that lets the agent start only once isolation is proven."""
WATCH: Final = "isolation-watch"
"""The sidecar that goes on proving it."""
CONTAINERS: Final = (GATE, WATCH)

MISCONFIGURED: Final = 2
"""Exit code of a gate or a watch that was started wrongly."""
ANSWERED: Final = 3
"""Exit code of one that a target answered."""
UNPROVEN: Final = 4
"""Exit code of one that could not try, or not in time."""

RESTARTS_BORNE: Final = 2
"""Restarts of a watch that does not get to prove anything, until isolation counts as lost: about half a minute."""

ANSWER_LENGTH: Final = 256
"""Characters of one answered target that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one of the gate's containers says."""

    waiting: str
    """Why it waits to run, in the kubelet's word; empty while it does not wait."""
    running: bool
    started_at: str
    """When it began to run, if it does."""
    ended: bool
    """It ended and was not started again."""
    code: int | None
    """Exit code of its last end; None before the first."""
    message: str
    ended_at: str
    restarts: int

    @property
    def passed(self) -> bool:
        """Whether it ended with a proof."""
        return self.ended and self.code == 0

    @property
    def answered(self) -> tuple[str, ...]:
        """What answered, each as `name protocol address port how`."""
        found = (_line(line) for line in self.message.splitlines() if line.startswith("open: "))
        return tuple(words[:ANSWER_LENGTH] for words, _ in found)

    @property
    def words(self) -> str:
        """What it said last, for people, without times: a text that a condition can keep."""
        parts = [_line(line)[0] for line in self.message.splitlines()]
        how = {ANSWERED: "answered, although nothing should: "}.get(self.code or 0, "")
        return how + "; ".join(dict.fromkeys(parts)) if parts else f"it ended with code {self.code}"

    @property
    def at(self) -> datetime | None:
        """When it said that; by its own clock, as finely as that goes, or else by the kubelet's."""
        lines = self.message.splitlines()
        for text in (_line(lines[0])[1] if lines else "", self.ended_at):
            try:
                return conditions.parse_time(text)
            except ValueError:
                continue
        return None


def said(pod: Object, container: str) -> Said | None:
    """Returns what a container of the gate says; None where the kubelet has not reported one."""
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        if status.get("name") == container:
            return read(status)
    return None


def is_lost(pod: Object) -> bool:
    """Says whether a pod has lost its isolation while it ran.

    That is so where the watch was answered, now or before its last restart. It is so too where the watch cannot prove
    anything any more: what keeps it from that may be the agent's doing.
    """
    watch = said(pod, WATCH)
    if watch is None or not watch.code:
        return False
    gone = watch.ended or watch.waiting == "CrashLoopBackOff"
    return watch.code == ANSWERED or (gone and watch.restarts >= RESTARTS_BORNE)


def read(status: Object) -> Said:
    """Reads the status of one of the gate's containers, as a pod lists it."""
    state, last = status.get("state") or {}, status.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return Said(
        waiting=str((state.get("waiting") or {}).get("reason") or ""),
        running=state.get("running") is not None,
        started_at=str((state.get("running") or {}).get("startedAt") or ""),
        ended=bool(state.get("terminated")),
        code=ended.get("exitCode"),
        message=str(ended.get("message") or ""),
        ended_at=str(ended.get("finishedAt") or ""),
        restarts=int(status.get("restartCount") or 0),
    )


def _line(line: str) -> tuple[str, str]:
    """Splits a line of a message into what it says and its time, each empty where it has none."""
    text, at, time = line.rpartition(" at ")
    if not at:
        text, time = line, ""
    return text.removeprefix("open: "), time
