"""Conditions, the one word for the column, the record of a suspension, and the events that follow from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bulkhead.plan import status, suspension
from bulkhead.plan.agent import plan
from bulkhead.plan.exits import Exit
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.observed import Cut, Observed, Outcome, Taken
from bulkhead.plan.signals import Alert
from bulkhead.plan.status import transitions
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, observed, pod, stateful_set

FULL_CUT = Cut(
    since=NOW - timedelta(seconds=3),
    network=NOW - timedelta(seconds=2.9),
    credentials=NOW - timedelta(seconds=2.8),
    processes=NOW - timedelta(seconds=2.7),
    stopped=NOW,
)
BEGUN = replace(FULL_CUT, stopped=None)


def made(known: Observed, *, outcome: Outcome | None = None, cut: Cut | None = None) -> dict[str, Any]:
    decided = plan(known, now=NOW)
    if decided.suspends and cut is None:
        cut = FULL_CUT
    return status.status(known, decided, outcome or Outcome(), cut=cut, now=NOW)


def condition(of: dict[str, Any], kind: str) -> tuple[str, str, str]:
    (found,) = [one for one in of["conditions"] if one["type"] == kind]
    return found["status"], found["reason"], found["message"]


def running(of: dict[str, Any], *pods: dict[str, Any], **known: Any) -> Observed:
    return observed(of, stateful_set=stateful_set(of), pods=pods, **known)


CREATING = pod(waiting=("ContainerCreating", ""))
NO_IMAGE = pod(waiting=("ErrImagePull", "x"))
TAKEN = (Taken(kind="ServiceAccount", name="agent-scout", owner="Deployment web"),)


@pytest.mark.parametrize(
    ("case", "known", "outcome", "state", "ready", "reason"),
    [
        ("all ready", running(agent(), pod(ready=True)), Outcome(), "Running", "True", "AllReplicasReady"),
        (
            "starting",
            running(agent(), pod(waiting=("ContainerCreating", ""))),
            Outcome(),
            "Starting",
            "False",
            "RollingOut",
        ),
        ("nothing yet", observed(agent()), Outcome(), "Starting", "False", "RollingOut"),
        ("none wanted", running(agent(replicas=0)), Outcome(), "ScaledToZero", "True", "AllReplicasReady"),
        (
            "bad image",
            running(agent(), pod(waiting=("ErrImagePull", "x"))),
            Outcome(),
            "Failing",
            "False",
            "ErrImagePull",
        ),
        ("refused", observed(agent()), Outcome(refused=("no quota",)), "Failing", "False", "Refused"),
        ("name taken", observed(agent()), Outcome(taken=TAKEN), "Conflict", "False", "Conflict"),
        ("suspended", observed(agent(suspend=True)), Outcome(), "Suspended", "False", "Requested"),
        ("invalid", observed(agent(replicas=-1)), Outcome(), "Invalid", "False", "Invalid"),
        ("no sandbox", observed(agent(), namespace=None), Outcome(), "Refused", "False", "NotASandbox"),
        ("held by a conflict", observed(agent(), taken=TAKEN), Outcome(), "Conflict", "False", "Conflict"),
    ],
)
def test_one_word_and_the_ready_condition_sum_an_agent_up(
    case: str, known: Observed, outcome: Outcome, state: str, ready: str, reason: str
) -> None:
    found = made(known, outcome=outcome)
    assert found["state"] == state
    assert condition(found, "Ready")[:2] == (ready, reason)
    assert found["observedGeneration"] == 3


def test_a_conflict_names_the_objects_and_their_owners() -> None:
    found = made(observed(agent(), taken=TAKEN))
    assert "ServiceAccount agent-scout (owned by Deployment web)" in condition(found, "Ready")[2]


def test_suspended_is_true_only_after_the_proof() -> None:
    held = running(agent(suspend=True), pod(deleting=True))
    begun = made(held, cut=BEGUN)
    assert condition(begun, "Suspended")[:2] == ("False", "Stopping")
    assert "pod scout-0 on node n1" in condition(begun, "Suspended")[2]
    assert begun["state"] == "Suspending"
    assert begun["suspension"]["pending"] == ["scout-0"]
    assert "stoppedAt" not in begun["suspension"]
    done = made(observed(agent(suspend=True)), cut=FULL_CUT)
    assert condition(done, "Suspended")[:2] == ("True", "Requested")
    assert "pending" not in done["suspension"]


def test_each_step_of_a_suspension_has_its_time_to_the_microsecond() -> None:
    record = made(observed(agent(suspend=True, suspendReason="audit")), cut=FULL_CUT)["suspension"]
    assert record == {
        "reasons": [{"type": "Requested", "message": "spec.suspend is true: audit"}],
        "graceSeconds": 5,
        "since": "2026-03-01T11:59:57.000000Z",
        "networkCutAt": "2026-03-01T11:59:57.100000Z",
        "credentialsRevokedAt": "2026-03-01T11:59:57.200000Z",
        "processesSignalledAt": "2026-03-01T11:59:57.300000Z",
        "stoppedAt": "2026-03-01T12:00:00.000000Z",
    }


def test_a_restarted_operator_keeps_the_times_that_are_recorded() -> None:
    first = made(observed(agent(suspend=True)), cut=BEGUN)
    later = Cut(since=NOW, network=NOW, credentials=NOW, processes=NOW, stopped=NOW)
    second = made(observed(agent(suspend=True, status=first)), cut=later)["suspension"]
    assert {key: second[key] for key in first["suspension"]} == first["suspension"]
    assert second["stoppedAt"] == "2026-03-01T12:00:00.000000Z"


ENDED = Exit(pod="scout-0", container="agent", exit_code=143, reason="Error", finished_at=NOW, message="saved")
CRASHED = replace(ENDED, exit_code=1, finished_at=NOW - timedelta(seconds=60), message="no route")


def test_how_containers_ended_in_a_suspension_stays_on_record_when_the_pods_are_gone_and_it_resumes() -> None:
    ended = {"pod": "scout-0", "container": "agent", "exitCode": 143, "reason": "Error"}
    ended |= {"finishedAt": "2026-03-01T12:00:00Z", "message": "saved"}
    worked = replace(FULL_CUT, worked=True)
    stopping = made(running(agent(suspend=True), pod(deleting=True), exits=(ENDED,)), cut=worked)
    assert stopping["suspension"]["exits"] == [ended]
    again = made(observed(agent(suspend=True, status=stopping)), cut=worked)
    assert again["suspension"] == {**stopping["suspension"]}, "the same suspension, planned with once more"
    assert made(running(agent(status=again)))["lastSuspension"]["exits"] == [ended]


def test_how_a_container_ended_by_itself_is_told_while_it_runs_and_when_it_is_stopped() -> None:
    crashed = made(running(agent(), pod(ready=True), exits=(CRASHED,)))
    assert [(one["exitCode"], one["message"]) for one in crashed["lastExits"]] == [(1, "no route")]
    stopped = made(observed(agent(suspend=True, status=crashed), exits=(CRASHED, ENDED)), cut=BEGUN)
    assert stopped["lastExits"] == crashed["lastExits"]
    assert [one["exitCode"] for one in stopped["suspension"]["exits"]] == [143]


def test_a_second_suspension_does_not_wear_the_times_of_the_first() -> None:
    first = made(observed(agent(suspend=True)), cut=FULL_CUT)
    later = replace(FULL_CUT, since=NOW + timedelta(seconds=60), stopped=None, worked=True)
    second = made(running(agent(suspend=True, status=first), pod(deleting=True)), cut=later)["suspension"]
    assert second["since"] == "2026-03-01T12:01:00.000000Z"
    assert "stoppedAt" not in second


def test_a_resumed_agent_keeps_the_record_of_its_last_suspension() -> None:
    held = made(observed(agent(suspend=True)), cut=FULL_CUT)
    resumed = made(running(agent(status=held), pod(ready=True)))
    assert "suspension" not in resumed
    assert resumed["lastSuspension"] == held["suspension"]
    assert condition(resumed, "Suspended")[:2] == ("False", "Running")
    again = made(running(agent(status=resumed), pod(ready=True)))
    assert again["lastSuspension"] == held["suspension"]


def test_the_clock_of_a_lifetime_starts_with_the_run_and_stops_with_it() -> None:
    of = agent(lifetime={"maxSeconds": 60})
    assert "runStartedAt" not in made(observed(of))
    started = made(running(of, pod(ready=True)))
    assert started["runStartedAt"] == "2026-03-01T12:00:00Z"
    old = {"runStartedAt": samples.seconds_ago(100)}
    expired = made(observed(agent(lifetime={"maxSeconds": 60}, status=old)))
    assert expired["runStartedAt"] == old["runStartedAt"]
    both = made(observed(agent(lifetime={"maxSeconds": 60}, suspend=True, status=old)))
    assert "runStartedAt" not in both


def test_a_run_that_began_by_a_clock_that_was_set_back_begins_now() -> None:
    of = agent(lifetime={"maxSeconds": 60}, status={"runStartedAt": samples.seconds_ago(-3600)})
    assert made(running(of, pod(ready=True)))["runStartedAt"] == samples.seconds_ago(0)


ALERTING = samples.sandbox_policy(circuitBreaker={"alerts": {"names": ["*"]}})
ALERT = Alert(name="A", fingerprint="aa", starts_at=NOW, received_at=NOW, message="", record="x")
JOINING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a kill switch": ({}, {"switches": (Switch(name="s", uid="u", reason="r"),)}),
    "an alert": ({}, {"alerts": (ALERT,), "surroundings": samples.surroundings(ALERTING)}),
    "a policy": ({}, {"surroundings": samples.surroundings(samples.sandbox_policy(images={"allowed": ["a.test/*"]}))}),
    "a spec that cannot be read": ({"replicas": -1}, {}),
}


@pytest.mark.parametrize("case", JOINING)
def test_an_expired_run_stays_expired_when_another_reason_joins_and_goes_again(case: str) -> None:
    changed, around = JOINING[case]
    lifetime = {"maxSeconds": 60}
    expired = made(observed(agent(lifetime=lifetime, status={"runStartedAt": samples.seconds_ago(100)})))
    joined = made(observed(agent(lifetime=lifetime, status=expired, **changed), **around))
    assert [one["type"] for one in joined["suspension"]["reasons"]] != ["LifetimeExpired"]

    still = made(observed(agent(lifetime=lifetime, status=joined, **changed), **around))

    assert still["runStartedAt"] == joined["runStartedAt"] == samples.seconds_ago(100)
    again = plan(observed(agent(lifetime=lifetime, status=still)), now=NOW)
    assert "LifetimeExpired" in [one.type for one in again.reasons]


def test_a_run_that_was_stopped_before_it_expired_is_over() -> None:
    lifetime = {"maxSeconds": 600}
    begun = {"runStartedAt": samples.seconds_ago(100)}
    assert "runStartedAt" not in made(observed(agent(lifetime=lifetime, replicas=-1, status=begun)))


def test_a_step_that_the_api_server_refused_is_told() -> None:
    found = made(running(agent(suspend=True), pod()), cut=BEGUN, outcome=Outcome(refused=("403 Forbidden: no",)))
    assert "403 Forbidden: no" in condition(found, "Suspended")[2]


STARTING = made(observed(agent()))
READY = made(running(agent(), pod(ready=True)))
FAILING = made(running(agent(), pod(waiting=("ErrImagePull", "x"))))
STOPPING = made(running(agent(suspend=True), pod(deleting=True)), cut=BEGUN)
STOPPED = made(observed(agent(suspend=True, status=STOPPING)))
CONFLICTED = made(observed(agent(), taken=TAKEN))


@pytest.mark.parametrize(
    ("case", "before", "after", "events"),
    [
        ("first look", {}, STARTING, []),
        ("ready", STARTING, READY, [("Normal", "Ready")]),
        ("still ready", READY, READY, []),
        ("fails", STARTING, FAILING, [("Warning", "ErrImagePull")]),
        ("still fails", FAILING, FAILING, []),
        ("suspension begins", READY, STOPPING, [("Normal", "Suspending")]),
        ("suspension is complete", STOPPING, STOPPED, [("Normal", "Suspended")]),
        ("still suspended", STOPPED, STOPPED, []),
        ("resumes", STOPPED, STARTING, [("Normal", "Resumed")]),
        ("conflict at once", {}, CONFLICTED, [("Warning", "Suspending"), ("Normal", "Suspended")]),
    ],
)
def test_events_are_for_transitions_only(
    case: str, before: dict[str, Any], after: dict[str, Any], events: list[tuple[str, str]]
) -> None:
    assert [(one.type, one.reason) for one in transitions(before, after)] == events


def test_the_event_of_a_complete_suspension_tells_how_long_each_step_took() -> None:
    (event,) = transitions(STOPPING, STOPPED)
    assert event.note == (
        "network cut after 0.100 s, credentials revoked after 0.200 s, processes told to end after 0.300 s, "
        "all gone after 3.000 s"
    )


def test_a_suspension_names_at_most_sixteen_of_what_is_pending() -> None:
    many = tuple(f"scout-{one}" for one in range(40))
    record = suspension.record(None, found=(), cut=BEGUN, grace=5, pending=many, unrevoked=many)
    assert record["pending"] == record["unrevoked"] == list(many[:16])


def test_a_canary_that_is_silent_changes_nothing_in_the_status_of_an_agent_that_is_stopped_anyway() -> None:
    before = made(observed(agent(suspend=True), pods_are_live=True))

    silent = observed(
        agent(suspend=True, status=before), pods_are_live=True, surroundings=samples.surroundings(controls={})
    )
    after = made(silent)

    assert after == before
    assert [one["type"] for one in after["suspension"]["reasons"]] == ["Requested"]
