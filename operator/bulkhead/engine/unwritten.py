"""Open breakers that are not on record yet: the status could not be written, or it was not ours to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Object = dict[str, Any]

KEPT = timedelta(seconds=60)
"""For how long one counts that nobody has asked for. A lease of leadership that nobody holds is taken within 7 s, and a
leader that cannot write looks again at least every 15 s; who has not led for longer than that has left it to others."""


@dataclass(slots=True, kw_only=True)
class _Opened:
    """One open breaker.

    Attributes:
        circuit: what `status.circuit` should be.
        basis: what it was when the breaker opened.
        asked: when it was last noted or asked for.
    """

    circuit: Object
    basis: Object | None
    asked: datetime


class Unwritten:
    """Remembers what `status.circuit` of agents should be, by their UID, until somebody has written another.

    Any replica takes away the pods of an agent whose breaker opens, and with them what proves it. One that does not
    lead keeps here what it saw, for when it leads a moment later; the agent would else be built again as if nothing had
    been. Whatever is written meanwhile was written by who led, and counts.

    Args:
        now: the time of day.
    """

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._opened: dict[str, _Opened] = {}

    def note(self, agent: Object, circuit: Object) -> None:
        """Takes note that an agent's breaker has opened."""
        basis = (agent.get("status") or {}).get("circuit")
        self._opened[agent["metadata"]["uid"]] = _Opened(circuit=circuit, basis=basis, asked=self._now())

    def applied(self, agent: Object) -> Object:
        """Returns the agent with the open breaker that its status should tell of."""
        uid, status = agent["metadata"]["uid"], agent.get("status") or {}
        opened = self._opened.get(uid)
        if opened is None:
            return agent
        now = self._now()
        if status.get("circuit") != opened.basis or now - opened.asked > KEPT:
            del self._opened[uid]
            return agent
        opened.asked = now
        return {**agent, "status": {**status, "circuit": opened.circuit}}

    def drop(self, uid: str) -> None:
        """Forgets one: it is on record, or the agent is gone."""
        self._opened.pop(uid, None)
