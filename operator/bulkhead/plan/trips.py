"""The evidence for and against a breaker: what the pods, the proof, the queries and the alerts of one agent tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from bulkhead.api import conditions
from bulkhead.plan import names, pods, proof
from bulkhead.plan.breakerrules import Counting, Rules, queries
from bulkhead.plan.circuit import MAX_COUNTED, MAX_NAME, MAX_WINDOW, Circuit, Counted, Occurrence, State, Trip, TripType
from bulkhead.plan.exits import Exit
from bulkhead.plan.observed import Object, Observed
from bulkhead.plan.querytrips import Run, Sight, look

if TYPE_CHECKING:
    from bulkhead.plan.isolation import Evidence as Proof
    from bulkhead.plan.signals import Alert

__all__ = ["Evidence", "collect", "counted_trips", "queries", "settled"]

OOM_KILLED: Final = "OOMKilled"
"""The kubelet's reason for a container that ended for want of memory."""
POD: Final = "(pod)"
"""Stands for the container where a pod as a whole has failed."""
NODE_AHEAD: Final = timedelta(seconds=60)
"""How far the clock of a node may be ahead of ours for its times to be believed."""
UNKNOWN_RUN: Final = timedelta(days=1)
"""How long a run counts as going on whose beginning is not known: longer than any limit has to be exceeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known at one moment.

    Attributes:
        occurrences: what happened since the circuit was last written and counts in a window.
        counted: the containers' own counters as they are now.
        exits: how the agent's containers ended, for the words of a trip. Redacted.
        standing: what opens a breaker by itself, as it is now.
        sight: what the queries tell.
        ready: whether every replica runs and is ready.
        unquiet: why an open breaker is not tried again yet, in sentences.
        next_look: when something of this may change by the time alone.
    """

    occurrences: tuple[Occurrence, ...] = ()
    counted: tuple[Counted, ...] = ()
    exits: tuple[Exit, ...] = ()
    standing: tuple[Trip, ...] = ()
    sight: Sight = field(default_factory=Sight)
    ready: bool = False
    unquiet: tuple[str, ...] = ()
    next_look: timedelta | None = None


def collect(
    observed: Observed,
    circuit: Circuit,
    rules: Rules,
    *,
    isolation: Proof | None,
    wanted: int,
    runs: bool,
    now: datetime,
) -> Evidence:
    """Collects the evidence about one agent.

    Args:
        observed: what is known of the agent.
        circuit: its breaker, with a due reset honoured: what was before that is forgiven.
        rules: what is in force for it.
        isolation: what the gate in its pods says; None where that could not be told.
        wanted: replicas that it asks for.
        runs: whether nothing but the breaker may hold it.
        now: the time.
    """
    looked = [_look(pod, circuit, now=now) for pod in observed.pods]
    ready = _is_ready(observed.pods, wanted)
    known = observed.surroundings.signals if observed.surroundings is not None else None
    sight = look(circuit, rules, known, run=_run(observed, circuit, runs=runs, ready=ready, now=now), now=now)
    late, start_look = _unstarted(observed.pods, circuit, rules, now=now)
    standing = [*_lost(isolation, now=now), *late, *_alerts(observed.alerts, circuit, rules, now=now)]
    # Only who may build asks for what is left. Another replica may see the pods of a new run before its record, and
    # would cut what the leader builds.
    unquiet = ["its pods are not gone yet"] if observed.pods and known is not None else []
    if isolation is not None and isolation.result == proof.LOST:
        unquiet.append("its pod still says that its isolation is lost")
    return Evidence(
        occurrences=tuple(one for occurred, _ in looked for one in occurred),
        counted=_kept(counter for _, counters in looked for counter in counters),
        exits=observed.exits,
        standing=(*standing, *sight.trips),
        sight=sight,
        ready=ready,
        unquiet=(*unquiet, *sight.unquiet),
        next_look=min((one for one in (start_look, sight.next_look) if one is not None), default=None),
    )


def settled(alerts: Iterable[Alert], circuit: Circuit, rules: Rules) -> tuple[Alert, ...]:
    """Returns the alerts whose records are needed no longer: in the circuit, forgiven, or of no concern."""
    return tuple(one for one in alerts if not _is_news(one, circuit, rules))


def counted_trips(
    window: Iterable[Occurrence], rules: Rules, exits: Iterable[Exit], *, now: datetime
) -> tuple[Trip, ...]:
    """Returns the trips of what is counted: of each kind the first rule that has enough of them in its window."""
    occurred, ends = list(window), list(exits)
    found = []
    for kind, countings in ((TripType.RESTARTS, rules.restarts), (TripType.OUT_OF_MEMORY, rules.out_of_memory)):
        for one in countings:
            number = sum(each.count for each in occurred if each.type == kind and each.at >= now - one.window)
            if number >= one.count:
                found.append(_counted_trip(kind, number, one, ends, now=now))
                break
    return tuple(found)


def first_trips(occurrences: Iterable[Occurrence], exits: Iterable[Exit], *, now: datetime) -> tuple[Trip, ...]:
    """Returns the trips of an agent on trial, which the first of each kind is."""
    numbers: dict[TripType, int] = {}
    for one in occurrences:
        numbers[one.type] = numbers.get(one.type, 0) + one.count
    trial = Counting(count=1, window=timedelta(0), by="the trial")
    ends = list(exits)
    return tuple(_counted_trip(kind, number, trial, ends, now=now) for kind, number in sorted(numbers.items()))


def added(
    window: tuple[Occurrence, ...], new: Iterable[Occurrence], rules: Rules, *, now: datetime
) -> tuple[Occurrence, ...]:
    """Returns a window with what happened now, without what no rule counts any more; the same if nothing happened."""
    fresh = tuple(new)
    if not fresh:
        return window
    longest = max(one.window for one in (*rules.restarts, *rules.out_of_memory))
    kept = sorted(
        (one for one in (*window, *fresh) if one.at >= now - longest), key=lambda one: (one.at, one.type, one.pod_uid)
    )
    while len(kept) > MAX_WINDOW:
        _merge_oldest(kept)
    return tuple(kept)


def _merge_oldest(kept: list[Occurrence]) -> None:
    """Adds the oldest to the next of its kind: counted a little too long rather than not at all."""
    oldest = kept.pop(0)
    for at, one in enumerate(kept):
        if one.type == oldest.type:
            kept[at] = replace(one, count=one.count + oldest.count)
            return


def _counted_trip(kind: TripType, number: int, rule: Counting, exits: list[Exit], *, now: datetime) -> Trip:
    wanted = [one for one in exits if kind is not TripType.OUT_OF_MEMORY or one.reason == OOM_KILLED]
    last = max(wanted, key=lambda one: one.finished_at or now, default=None)
    what = "was restarted" if kind is TripType.RESTARTS else "ran out of memory"
    times = "once" if number == 1 else f"{number} times"
    seconds = rule.window.total_seconds()
    within = f" within {seconds:g} s" if seconds else " on trial"
    message = f"the agent {what} {times}{within}, and {rule.by} opens at {rule.count}"
    if last is not None:
        at = f" at {conditions.format_time(last.finished_at)}" if last.finished_at is not None else ""
        message += f"; the last end was {last.words}{at}"
        message += f"; it wrote last: {last.message}" if last.message else ""
    return Trip(
        type=kind,
        at=now,
        message=message,
        value=str(number),
        threshold=f"{rule.count} in {seconds:g} s" if seconds else "1 on trial",
    )


def _look(pod: Object, circuit: Circuit, *, now: datetime) -> tuple[list[Occurrence], list[Counted]]:
    """Compares a pod's counters with what was seen of them last, and returns what happened and the counters now."""
    uid = str(pod["metadata"]["uid"])
    known = {one.container: one for one in circuit.counted if one.pod_uid == uid}
    found: list[Occurrence] = []
    counters: list[Counted] = []
    for status in _statuses(pod):
        before = known.get(status["name"]) or Counted(pod_uid=uid, container=status["name"])
        occurred, counter = _compared(status, before, now=now)
        found += occurred
        counters.append(counter)
    if (pod.get("status") or {}).get("phase") == "Failed" and not pods.is_being_deleted(pod):
        # An evicted pod is replaced by one whose counters begin at zero: a loop that no container's counter shows.
        counters.append(Counted(pod_uid=uid, container=POD, restarts=1))
        if POD not in known:
            found.append(Occurrence(at=now, type=TripType.RESTARTS, pod_uid=uid, container=POD))
    forgiven = circuit.reset_at
    return [one for one in found if forgiven is None or one.at > forgiven], counters


def _compared(status: Object, before: Counted, *, now: datetime) -> tuple[list[Occurrence], Counted]:
    """Compares one container.

    A kubelet tells how a container ended last, and how often it was restarted. The restarts before the last one, which
    nobody saw, were over when the run began that ended last: they count as of then. Ends for want of memory that
    nobody saw are taken to be as many as the restarts, if the last end was one.

    An end is known by the kubelet's own time. A node's clock may be ahead, and an end that was remembered by our time
    was another one at each look. One without a time is told by the restart that follows.
    """
    restarts = int(status.get("restartCount") or 0)
    last, current = _terminated(status, "lastState"), _terminated(status, "state")
    new = max(restarts - before.restarts, 0)
    ended_at = conditions.read_time(last.get("finishedAt"))
    at = min(ended_at or now, now)
    began = min(conditions.read_time(last.get("startedAt")) or at, at)
    known_oom = before.oom_at
    times = {conditions.read_time(one.get("finishedAt")) for one in (last, current) if one.get("reason") == OOM_KILLED}
    ooms = sorted(one for one in times if one is not None)
    fresh = [one for one in ooms if known_oom is None or one > known_oom]
    unseen_ooms = new - 1 if last.get("reason") == OOM_KILLED and ended_at in fresh else 0
    if (
        new
        and last.get("reason") == OOM_KILLED
        and ended_at not in fresh
        and (ended_at is None or ended_at != known_oom)
    ):
        # It has no time, or the node's clock was set back.
        fresh.append(at)
        unseen_ooms = new - 1

    def occurrence(kind: TripType, when: datetime, count: int = 1) -> Occurrence:
        return Occurrence(at=when, type=kind, pod_uid=before.pod_uid, container=before.container, count=count)

    found = [occurrence(TripType.OUT_OF_MEMORY, min(one, now)) for one in fresh]
    if new:
        found.append(occurrence(TripType.RESTARTS, at))
    if new > 1:
        found.append(occurrence(TripType.RESTARTS, began, new - 1))
    if unseen_ooms > 0:
        found.append(occurrence(TripType.OUT_OF_MEMORY, began, unseen_ooms))
    return found, replace(
        before, restarts=restarts, oom_at=max([*ooms, *([known_oom] if known_oom else [])], default=None)
    )


def _statuses(pod: Object) -> list[Object]:
    listed = (pod.get("status") or {}).get("containerStatuses") or ()
    return [one for one in listed if one.get("name") == names.CONTAINER]


def _terminated(status: Object, field: str) -> Object:
    found: Object = (status.get(field) or {}).get("terminated") or {}
    return found


def _kept(counters: Iterable[Counted]) -> tuple[Counted, ...]:
    """Returns the counters that differ from those of a container that nobody has seen."""
    telling = [one for one in counters if one.restarts or one.oom_at]
    return tuple(sorted(telling, key=lambda one: (one.pod_uid, one.container))[:MAX_COUNTED])


def _lost(isolation: Proof | None, *, now: datetime) -> list[Trip]:
    if isolation is None or isolation.result != proof.LOST:
        return []
    message = f"the agent's pod reached what it must not reach: {isolation.message}"
    return [Trip(type=TripType.ISOLATION_LOST, at=now, message=message)]


def _unstarted(
    own_pods: Iterable[Object], circuit: Circuit, rules: Rules, *, now: datetime
) -> tuple[list[Trip], timedelta | None]:
    """Returns the trip of the pods that did not get to run in time, and when the next will not have."""
    late: list[tuple[Object, datetime]] = []
    looks = []
    for pod in own_pods:
        created = conditions.read_time(pod["metadata"].get("creationTimestamp"))
        if created is None or pods.is_being_deleted(pod) or any(map(_has_run, _statuses(pod))):
            continue
        waited = max(created, circuit.reset_at or created)
        left = waited + rules.start.limit - now
        if left > timedelta(0):
            looks.append(left)
        else:
            late.append((pod, waited))
    if not late:
        return [], min(looks, default=None)
    pod, waited = min(late, key=lambda one: (one[1], str(one[0]["metadata"]["name"])))
    seconds = (now - waited).total_seconds()
    cause = pods.trouble(pod)
    words = f": {cause.reason}: {cause.message}" if cause is not None else ""
    message = (
        f"pod {pod['metadata']['name']} did not get to run in {seconds:.0f} s, and {rules.start.by} bears "
        f"{rules.start.limit.total_seconds():g} s{words}"
    )
    limit = f"{rules.start.limit.total_seconds():g} s"
    return [Trip(type=TripType.CANNOT_START, at=now, message=message, value=f"{seconds:.0f} s", threshold=limit)], None


def _has_run(status: Object) -> bool:
    state = status.get("state") or {}
    return bool(
        "running" in state
        or status.get("restartCount")
        or _terminated(status, "state")
        or _terminated(status, "lastState")
    )


def _alerts(alerts: Iterable[Alert], circuit: Circuit, rules: Rules, *, now: datetime) -> list[Trip]:
    return [
        Trip(
            type=TripType.ALERT,
            name=one.name[:MAX_NAME],
            at=now,
            message=f"alert {one.name} fires since {conditions.format_time(one.began)}: {one.message}",
            value=_alert_value(one),
        )
        for one in alerts
        if _is_news(one, circuit, rules)
    ]


def _alert_value(alert: Alert) -> str:
    return conditions.format_micro_time(alert.starts_at)


def _is_news(alert: Alert, circuit: Circuit, rules: Rules) -> bool:
    """Says whether an alert opens: it is wanted, began after the last reset, and was not counted already.

    Alertmanager delivers an alert again and again while it fires, with the time at which it began.
    """
    if not rules.opens(alert.name) or (circuit.reset_at is not None and alert.began <= circuit.reset_at):
        return False
    told = {(one.name, one.value) for one in circuit.trips if one.type is TripType.ALERT}
    return (alert.name[:MAX_NAME], _alert_value(alert)) not in told


def _is_ready(own_pods: tuple[Object, ...], wanted: int) -> bool:
    return 0 < wanted <= sum(map(pods.is_ready, own_pods))


def _run(observed: Observed, circuit: Circuit, *, runs: bool, ready: bool, now: datetime) -> Run | None:
    """Returns the present run, of which samples can be; None where nothing runs.

    A beginning that lies ahead is from before the clock was set back. It is left out, for until then every sample would
    be of an earlier run and no query could trip.
    """
    started = (observed.agent.get("status") or {}).get("runStartedAt")
    if not runs or circuit.state is State.OPEN or not started:
        return None
    trial = circuit.since if circuit.state is State.HALF_OPEN else None
    began = (conditions.read_time(started), circuit.reset_at, trial)
    known = max((one for one in began if one is not None and one <= now), default=now - UNKNOWN_RUN)
    conditions_met = (pods.condition(pod, "Ready") or {} for pod in observed.pods)
    since = (conditions.read_time(one.get("lastTransitionTime")) for one in conditions_met)
    # A node's clock may be a little ahead: an agent that is ready just now must not count as ready from its beginning.
    told = (min(one, now) for one in since if one is not None and one <= now + NODE_AHEAD)
    ready_since = max([known, *told]) if ready else None
    up = any("running" in (one.get("state") or {}) for pod in observed.pods for one in _statuses(pod))
    return Run(began=known, ready_since=ready_since, up=up)
