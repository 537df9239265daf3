"""What is known of one distinct query: its last answer, how it fares, and who exceeds a limit since when."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bulkhead.plan.signals import SURE_AFTER, AgentKey, Query, QueryKey, Reading, Sample, exceeds, trips


class Verdict(enum.Enum):
    """What one query says about one agent. Agents are looked at again when it changes."""

    UNKNOWN = "unknown"
    BLIND = "blind"
    ABSENT = "absent"
    QUIET = "quiet"
    TRIPPED = "tripped"


@dataclass(frozen=True, slots=True)
class Source:
    """What makes a query distinct. Policies whose queries are the same in all of this share its evaluations.

    Attributes:
        expression: PromQL.
        baseline: PromQL of what is normal; None without one.
        interval: between evaluations.
        lowest: whether the least of an agent's values counts, and not the greatest.
    """

    expression: str
    baseline: str | None
    interval: timedelta
    lowest: bool

    @classmethod
    def of(cls, query: Query) -> Source:
        """Returns that of a query."""
        return cls(query.expression, query.baseline, query.interval, query.limit.below is not None)


@dataclass(slots=True)
class _Member:
    """One agent's use of a query.

    Attributes:
        query: with the agent's limit.
        joined: how many answers and failures there had been before.
        since: time of the first sample without a break that exceeded the limit.
        verdict: as it was told last.
    """

    query: Query
    joined: int
    since: datetime | None = None
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(slots=True)
class Track:
    """The state of one distinct query. No I/O; `FleetQueries` feeds it."""

    source: Source
    values: Mapping[AgentKey, float] = field(default_factory=dict)
    normals: Mapping[AgentKey, float] = field(default_factory=dict)
    _members: dict[tuple[AgentKey, QueryKey], _Member] = field(default_factory=dict)
    _rounds: int = 0
    _answered_at: datetime | None = None
    _seen_at: datetime | None = None
    _ok: bool | None = None
    _since: datetime | None = None
    _failing_since: datetime | None = None
    _failures: int = 0
    _problem: str = ""

    @property
    def empty(self) -> bool:
        """Whether nobody asks for it any more."""
        return not self._members

    @property
    def failures(self) -> int:
        """How many evaluations have failed since the last answer."""
        return self._failures

    def agents(self) -> set[AgentKey]:
        """Returns who asks for it."""
        return {agent for agent, _ in self._members}

    def join(self, agent: AgentKey, query: Query) -> Verdict:
        """Takes an agent's query in, or its changed limit; gives what is known about it already."""
        key = (agent, query.key)
        member = self._members.get(key)
        if member is None:
            member = self._members[key] = _Member(query, self._rounds)
        else:
            member.query = query
        if self._ok is True and self._rounds > member.joined:
            self._judge(agent, member)
        member.verdict = self._verdict(agent, member)
        return member.verdict

    def leave(self, agent: AgentKey, query: QueryKey) -> None:
        """Lets an agent's query go."""
        self._members.pop((agent, query), None)

    def answered(
        self, values: Mapping[AgentKey, float], normals: Mapping[AgentKey, float], *, at: datetime
    ) -> set[AgentKey]:
        """Takes an answer in.

        Args:
            values: by agent; of agents that did not ask too.
            normals: what is normal, by agent.
            at: the time that was asked for.

        Returns:
            The agents whose verdict changed.
        """
        asking = self.agents()
        self.values = {agent: values[agent] for agent in asking if agent in values}
        self.normals = {agent: normals[agent] for agent in asking if agent in normals}
        self._answered_at = self._seen_at = at
        if self._ok is not True:
            self._ok, self._since = True, at
        self._failures, self._failing_since, self._problem = 0, None, ""
        self._rounds += 1
        for (agent, _), member in self._members.items():
            self._judge(agent, member)
        return self._changed()

    def failed(self, problem: str, *, at: datetime) -> set[AgentKey]:
        """Takes a failure in; gives the agents whose verdict changed."""
        self._failures += 1
        self._seen_at = at
        if self._failing_since is None or at < self._failing_since:
            self._failing_since = at
        lasted = at - self._failing_since
        if self._failures > 1 and lasted >= min(SURE_AFTER, self.source.interval):
            # Nobody is told where only the words change: they would be written into every agent's status.
            self._ok, self._since, self._problem = False, self._failing_since, problem
            self._rounds += 1
        return self._changed()

    def reading(self, agent: AgentKey, query: QueryKey) -> Reading | None:
        """Returns how the query fares; None where it has not been evaluated for this agent yet."""
        member = self._members.get((agent, query))
        if member is None or (self._ok and self._rounds <= member.joined):
            return None
        return self.fares(query)

    def fares(self, query: QueryKey) -> Reading | None:
        """Returns how the query fares, whoever asks; None where it has not been evaluated yet."""
        if self._ok is None or self._since is None or self._seen_at is None:
            return None
        return Reading(
            name=query[1],
            policy=query[0],
            ok=self._ok,
            problem=self._problem,
            at=self._seen_at,
            since=self._since,
        )

    def sample(self, agent: AgentKey, query: QueryKey) -> Sample | None:
        """Returns the agent's value in the last answer; None where it had none."""
        member = self._members.get((agent, query))
        if member is None or self._rounds <= member.joined:
            return None
        return self._sample(agent, member)

    def tripped(self, agent: AgentKey, query: QueryKey) -> bool:
        """Says whether the agent exceeds its limit, as it was told last."""
        member = self._members.get((agent, query))
        return member is not None and member.verdict is Verdict.TRIPPED

    def _sample(self, agent: AgentKey, member: _Member) -> Sample | None:
        value = self.values.get(agent)
        if value is None or self._answered_at is None:
            return None
        return Sample(value=value, at=self._answered_at, normal=self.normals.get(agent), exceeds_since=member.since)

    def _judge(self, agent: AgentKey, member: _Member) -> None:
        value = self.values.get(agent)
        over = value is not None and exceeds(member.query.limit, value, self.normals.get(agent))
        if not over:
            member.since = None
        elif member.since is None or (self._answered_at is not None and member.since > self._answered_at):
            member.since = self._answered_at

    def _verdict(self, agent: AgentKey, member: _Member) -> Verdict:
        if self._ok is False:
            return Verdict.BLIND
        if self._ok is None or self._rounds <= member.joined:
            return Verdict.UNKNOWN
        if agent not in self.values:
            return Verdict.ABSENT
        sample = self._sample(agent, member) if member.since is not None else None
        return Verdict.TRIPPED if sample is not None and trips(member.query, sample) else Verdict.QUIET

    def _changed(self) -> set[AgentKey]:
        changed = set()
        for (agent, _), member in self._members.items():
            found = self._verdict(agent, member)
            if found is not member.verdict:
                member.verdict = found
                changed.add(agent)
        return changed
