"""The AgentDeployments as last seen: fed by kopf's watch, and by what our own writes returned.

It alone tells what changed, whoever brought it. The answer to a write of our own can be the first to show what somebody
else changed at that moment, and the watch's event is no news then: a suspension that came so waited for ten minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from bulkhead.cluster.interning import interned

Object = dict[str, Any]
OnChange = Callable[[Object | None, Object | None], None]


class AgentStore:
    """Agents by namespace and name, each at the newest resourceVersion that was seen.

    kopf does not notice a deletion that happens while its watch is down (it has no list to compare with), so a copy
    here can outlive its object. `age` says how old a copy's last sign of life is; who builds on an old one asks the API
    server first, and `keep_only` drops what a full list no longer has.

    Args:
        clock: monotonic seconds.
        on_change: called with the old and the new copy: no old one for what appeared, no new one for what is gone. It
            must be quick and must not await.
    """

    def __init__(self, *, clock: Callable[[], float], on_change: OnChange) -> None:
        self._clock = clock
        self._on_change = on_change
        self._agents: dict[tuple[str, str], Object] = {}
        self._seen: dict[tuple[str, str], float] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._latest: Object = {}

    def observe(self, agent: Object) -> None:
        """Takes a copy in, if it is newer than what is here."""
        key = self._key(agent)
        agent["metadata"].pop("managedFields", None)
        known = self._agents.get(key)
        self._seen[key] = self._clock()
        if known is not None and _version(agent) <= _version(known):
            return
        self._agents[key] = self._latest = kept = interned(agent, like=known or self._latest)
        self._names[key[0]].add(key[1])
        self._on_change(known, kept)

    def answered(self, agent: Object) -> None:
        """Takes in what a write of our own returned.

        It may come after the watch told that the agent was deleted, and would bring it back to life.
        """
        if self._key(agent) in self._agents:
            self.observe(agent)

    def confirm(self, head: Object) -> bool:
        """Takes a sign of life, the metadata of an agent that is there; says whether what is here is as new as that."""
        key = self._key(head)
        known = self._agents.get(key)
        if known is None or _version(head) > _version(known):
            return False
        self._seen[key] = self._clock()
        return True

    def remove(self, namespace: str, name: str, *, uid: str) -> None:
        """Drops an agent that was deleted, unless a successor with another UID has its name by now."""
        known = self._agents.get((namespace, name))
        if known is None or known["metadata"]["uid"] != uid:
            return
        del self._agents[(namespace, name)]
        del self._seen[(namespace, name)]
        self._names[namespace].discard(name)
        if not self._names[namespace]:
            del self._names[namespace]
        self._on_change(known, None)

    def keep_only(self, uids: set[str], *, seen_before: float) -> list[Object]:
        """Drops and returns the agents that a full list did not have and that were last seen before it was made."""
        ghosts = [
            agent
            for key, agent in self._agents.items()
            if agent["metadata"]["uid"] not in uids and self._seen[key] < seen_before
        ]
        for agent in ghosts:
            data = agent["metadata"]
            self.remove(data["namespace"], data["name"], uid=data["uid"])
        return ghosts

    def get(self, namespace: str, name: str) -> Object | None:
        """Returns the agent, None when it is not known."""
        return self._agents.get((namespace, name))

    def age(self, namespace: str, name: str) -> float:
        """Returns the seconds since anything was last heard of the agent."""
        return self._clock() - self._seen.get((namespace, name), float("-inf"))

    def newest(self) -> int:
        """Returns the newest resourceVersion that is held, 0 without an agent."""
        return max((_version(agent) for agent in self._agents.values()), default=0)

    def in_namespace(self, namespace: str) -> Iterator[Object]:
        """Yields the agents of a namespace."""
        for name in tuple(self._names.get(namespace, ())):
            yield self._agents[(namespace, name)]

    def __iter__(self) -> Iterator[Object]:
        """Yields every agent."""
        yield from tuple(self._agents.values())

    def __len__(self) -> int:
        """Returns how many agents are known."""
        return len(self._agents)

    @staticmethod
    def _key(agent: Object) -> tuple[str, str]:
        return agent["metadata"]["namespace"], agent["metadata"]["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
