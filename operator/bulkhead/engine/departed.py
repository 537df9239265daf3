"""How the containers of pods ended that are not there any more, until a status says it."""

from __future__ import annotations

from typing import Any, Final

from bulkhead.plan import exits
from bulkhead.plan.exits import Exit

Object = dict[str, Any]

AGENTS_REMEMBERED: Final = 10_000
"""Agents whose departed pods are remembered at once; the ones that wait longest are forgotten. A replica of the
operator that writes no status learns from nobody that it may forget."""


class Departed:
    """The ends of containers of pods that are gone.

    A pod's last status comes a moment before its deletion. Who looks at the agent after both finds no pod, and nothing
    that says how it ended.
    """

    def __init__(self) -> None:
        self._exits: dict[str, tuple[Exit, ...]] = {}

    def remember(self, pod: Object, *, agent_uid: str) -> None:
        """Keeps what a pod was last seen with."""
        found = exits.of_pod(pod)
        if not found:
            return
        known = self._exits.pop(agent_uid, ())
        self._exits[agent_uid] = exits.newest((*known, *found))
        if len(self._exits) > AGENTS_REMEMBERED:
            del self._exits[next(iter(self._exits))]

    def of(self, agent: Object) -> tuple[Exit, ...]:
        """Returns what is remembered of an agent's pods, and forgets what its status tells of by now."""
        uid = agent["metadata"]["uid"]
        known = self._exits.get(uid)
        if known is None:
            return ()
        left = exits.unrecorded(known, agent.get("status"))
        if left:
            self._exits[uid] = left
        else:
            del self._exits[uid]
        return left

    def __len__(self) -> int:
        """Returns of how many agents something is remembered."""
        return len(self._exits)
