"""What the operator tells Prometheus, read from its caches at each scrape: nothing can go stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from bulkhead.api import conditions
from bulkhead.engine.queue import Lane, WorkQueue
from bulkhead.plan import worldview
from bulkhead.plan.leasestatus import CREDENTIALS_READY

Object = dict[str, Any]


class Metrics(Collector):
    """Gives the metrics of one replica.

    Args:
        agents: the agents, with their status.
        admission: what is wrong with the admission policies; None where the operator does not know.
        leases: how many leases are on the books, by state.
        switches: the kill switches, with their status.
        signals: counters of what was asked, delivered and told, and of what circuits did.
        queue: the work queue.
        is_leader: whether this replica holds the lease.
    """

    def __init__(
        self,
        *,
        agents: Iterable[Object],
        admission: Callable[[], tuple[str, ...] | None],
        leases: Callable[[], Mapping[str, int]],
        switches: Iterable[Object],
        signals: Callable[[], Mapping[str, Mapping[str, int]]],
        queue: WorkQueue,
        is_leader: Callable[[], bool],
    ) -> None:
        self._agents = agents
        self._admission = admission
        self._leases = leases
        self._switches = switches
        self._signals = signals
        self._queue = queue
        self._is_leader = is_leader
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Returns the metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: the registry need not read the caches to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yields every metric."""
        yield self._states()
        yield self._conditions()
        yield self._circuits()
        yield self._kill_switches()
        yield self._counted()
        yield from self._own()

    def _states(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily("bulkhead_agents", "Agents by state.", labels=("namespace", "state"))
        counted = Counter(
            (one["metadata"]["namespace"], (one.get("status") or {}).get("state") or "Unknown") for one in self._agents
        )
        for (namespace, state), number in sorted(counted.items()):
            found.add_metric((namespace, state), number)
        return found

    def _conditions(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "bulkhead_agents_condition",
            "Agents by what their conditions about policy, isolation, network, admission and credentials say.",
            labels=("condition", "status"),
        )
        counted: Counter[tuple[str, str]] = Counter()
        for agent in self._agents:
            known = (agent.get("status") or {}).get("conditions") or ()
            for kind in worldview.KINDS:
                counted[(kind, (conditions.find(known, kind) or {}).get("status") or "Unknown")] += 1
            # An agent that has no credentials has no condition about them.
            if (ready := conditions.find(known, CREDENTIALS_READY)) is not None:
                counted[(CREDENTIALS_READY, ready["status"])] += 1
        for labels, number in sorted(counted.items()):
            found.add_metric(labels, number)
        return found

    def _circuits(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily("bulkhead_circuits", "Agents by the state of their breaker.", labels=("state",))
        counted = Counter(
            ((one.get("status") or {}).get("circuit") or {}).get("state") or "Unknown" for one in self._agents
        )
        for state, number in sorted(counted.items()):
            found.add_metric((state,), number)
        return found

    def _kill_switches(self) -> GaugeMetricFamily:
        found = GaugeMetricFamily(
            "bulkhead_kill_switches",
            "Kill switches by whether the absence of all that they stop was verified.",
            labels=("stopped",),
        )
        counted = Counter(
            (conditions.find((one.get("status") or {}).get("conditions") or (), "Stopped") or {}).get("status")
            or "Unknown"
            for one in self._switches
        )
        for stopped, number in sorted(counted.items()):
            found.add_metric((stopped,), number)
        return found

    def _counted(self) -> CounterMetricFamily:
        found = CounterMetricFamily(
            "bulkhead_signals",
            "What came of queries, alerts and notifications, and what breakers did, since this replica started.",
            labels=("part", "outcome"),
        )
        for part, outcomes in sorted(self._signals().items()):
            for outcome, number in sorted(outcomes.items()):
                found.add_metric((part, outcome), number)
        return found

    def _own(self) -> Iterator[GaugeMetricFamily]:
        problems = self._admission()
        if problems is not None:
            yield GaugeMetricFamily(
                "bulkhead_admission_problems",
                "Admission policies or bindings that are missing or weaker than they were installed.",
                value=len(problems),
            )
        books = GaugeMetricFamily("bulkhead_leases", "Leases of credentials on the books, by state.", labels=("state",))
        for state, number in sorted(self._leases().items()):
            books.add_metric((state,), number)
        yield books
        yield GaugeMetricFamily("bulkhead_leader", "1 on the replica that builds.", value=int(self._is_leader()))
        depth = GaugeMetricFamily("bulkhead_queue_depth", "Keys that wait in a lane.", labels=("lane",))
        for lane in Lane:
            depth.add_metric((lane.value,), self._queue.depth(lane))
        yield depth
