"""How containers ended: what a pod tells, what a status keeps, and what has been written down already."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.plan import exits
from bulkhead.plan.exits import Exit
from tests.stored import unfit_agent_status

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def terminated(seconds: float | None = 0, *, code: Any = 1, reason: str = "Error", **fields: Any) -> dict[str, Any]:
    finished = {} if seconds is None else {"finishedAt": at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {"terminated": {"exitCode": code, "reason": reason, **finished, **fields}}


def pod(*statuses: dict[str, Any], name: str = "scout-0", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "lab", "uid": f"uid-{name}"},
        "status": {"containerStatuses": list(statuses), **status},
    }


def container(name: str = "agent", **fields: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": 0, "state": {"running": {}}, **fields}


def ended(seconds: float | None = 0, *, name: str = "scout-0", container: str = "agent", code: int = 1) -> Exit:
    return Exit(
        pod=name,
        container=container,
        exit_code=code,
        reason="Error",
        finished_at=None if seconds is None else at(seconds),
    )


def test_an_exit_has_what_the_kubelet_told_of_it() -> None:
    told = terminated(7, code=137, reason="OOMKilled", message="the last lines\n")
    [found] = exits.of_pod(pod(container(state=told)))
    assert found == Exit(
        pod="scout-0",
        pod_uid="uid-scout-0",
        container="agent",
        exit_code=137,
        reason="OOMKilled",
        finished_at=at(7),
        message="the last lines",
    )
    assert found.words == "scout-0/agent: OOMKilled, code 137"


# What a pod's status says, and the seconds at which exits are found in it.
TOLD: dict[str, tuple[dict[str, Any], list[float | None]]] = {
    "nothing yet": ({"metadata": {"name": "p", "uid": "u"}}, []),
    "a container that runs": (pod(container()), []),
    "one that ended": (pod(container(state=terminated(3))), [3]),
    "one that was restarted": (pod(container(lastState=terminated(3))), [3]),
    "one that was restarted and ended again": (
        pod(container(lastState=terminated(3), state=terminated(9))),
        [3, 9],
    ),
    "one whose end both fields tell of": (pod(container(lastState=terminated(3), state=terminated(3))), [3]),
    "one that waits after a crash": (
        pod(container(lastState=terminated(3), state={"waiting": {"reason": "CrashLoopBackOff"}})),
        [3],
    ),
    "one whose end nobody saw": (pod(container(state=terminated(None, code=137))), [None]),
    "one whose time is no time": (pod(container(state=terminated(None, finishedAt="noon"))), [None]),
    "an exit without a code": (pod(container(state={"terminated": {"reason": "Error"}})), []),
    "the gate's containers": (
        pod(
            container("isolation-watch", state=terminated(1)),
            initContainerStatuses=[container("isolation-gate", state=terminated(2))],
        ),
        [],
    ),
}


@pytest.mark.parametrize(("told", "seconds"), TOLD.values(), ids=TOLD.keys())
def test_a_pod_tells_of_exits(told: dict[str, Any], seconds: list[float | None]) -> None:
    assert [one.finished_at for one in exits.of_pod(told)] == [None if one is None else at(one) for one in seconds]


# Two states of a pod, and whether an agent has to be looked at again for them.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "it ended": (container(), container(state=terminated(3)), True),
    "it was started again": (container(), container(restartCount=1, lastState=terminated(3)), True),
    "it crashed as before, later": (
        container(restartCount=1, lastState=terminated(3)),
        container(restartCount=2, lastState=terminated(9)),
        True,
    ),
    "it became ready": (container(ready=False), container(ready=True), False),
    "another text of the same end": (
        container(state=terminated(3, message="a")),
        container(state=terminated(3, message="b")),
        False,
    ),
    "the watch was started again": (
        container("isolation-watch"),
        container("isolation-watch", restartCount=1),
        False,
    ),
}


@pytest.mark.parametrize(("before", "after", "tells"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_news_about_containers(before: dict[str, Any], after: dict[str, Any], tells: bool) -> None:
    assert (exits.telling(pod(before)) != exits.telling(pod(after))) is tells


def test_of_each_container_the_last_exit_is_kept_and_the_newest_come_first() -> None:
    found = [ended(1), ended(5), ended(3, name="scout-1"), ended(2, container="helper"), ended(None, name="scout-2")]
    assert exits.newest(found) == (ended(5), found[2], found[3], found[4])


def test_the_order_in_which_exits_are_found_does_not_matter() -> None:
    found = [ended(1, name=f"scout-{number}") for number in range(5)]
    assert exits.newest(found) == exits.newest(reversed(found))


def test_a_status_lists_so_many_exits_and_no_more() -> None:
    found = [ended(number, name=f"scout-{number}") for number in range(100)]
    kept = exits.during(None, found, since=NOW)
    assert [one["pod"] for one in kept] == [f"scout-{number}" for number in range(99, 67, -1)]


def test_a_suspension_lists_what_ended_in_it_and_the_second_in_which_it_began_is_its_own() -> None:
    since = at(0.9)
    found = [ended(-1, name="before"), ended(0, name="same-second"), ended(2, name="after"), ended(None, name="unseen")]
    assert [one["pod"] for one in exits.during(None, found, since=since)] == ["after", "same-second", "unseen"]
    assert [one["pod"] for one in exits.last({}, found, before=since)] == ["before"]


def test_an_exit_stays_on_record_when_its_pod_is_not_there_any_more() -> None:
    recorded = {"exits": exits.during(None, [ended(2)], since=NOW)}
    assert exits.during(recorded, [], since=NOW) == recorded["exits"]
    status = {"lastExits": exits.last({}, [ended(-2)], before=NOW)}
    assert exits.last(status, [], before=None) == status["lastExits"]


def test_what_ended_in_a_suspension_is_not_told_again_as_an_end_of_its_own_after_the_resume() -> None:
    found = [ended(2)]
    status = {"lastSuspension": {"exits": exits.during(None, found, since=NOW)}}
    assert exits.last(status, found, before=None) == []
    assert [one["exitCode"] for one in exits.last(status, [*found, ended(60, code=9)], before=None)] == [9]


# What is known, what a status tells of, and what is still to be told.
UNRECORDED: dict[str, tuple[list[Exit], dict[str, Any], list[Exit]]] = {
    "no status": ([ended(1)], {}, [ended(1)]),
    "in the suspension": ([ended(1)], {"suspension": {"exits": exits.write([ended(1)])}}, []),
    "in the suspension before": ([ended(1)], {"lastSuspension": {"exits": exits.write([ended(1)])}}, []),
    "by itself": ([ended(1)], {"lastExits": exits.write([ended(1)])}, []),
    "an earlier one is": ([ended(5)], {"lastExits": exits.write([ended(1)])}, [ended(5)]),
    "a later one is": ([ended(1)], {"lastExits": exits.write([ended(5)])}, []),
    "that of another pod is": ([ended(1)], {"lastExits": exits.write([ended(5, name="scout-1")])}, [ended(1)]),
    "one without a time": ([ended(None)], {"lastExits": exits.write([ended(None)])}, []),
}


@pytest.mark.parametrize(("known", "status", "left"), UNRECORDED.values(), ids=UNRECORDED.keys())
def test_an_exit_is_to_be_told_until_a_status_tells_of_it(
    known: list[Exit], status: dict[str, Any], left: list[Exit]
) -> None:
    assert list(exits.unrecorded(known, status)) == left


def test_of_a_long_message_the_end_is_kept() -> None:
    [found] = exits.of_pod(pod(container(state=terminated(message="x" * 5000 + "the cause"))))
    assert len(found.message) == exits.MESSAGE_LENGTH
    assert found.message.startswith("…x") and found.message.endswith("the cause")


_EXITS = st.builds(
    Exit,
    pod=st.sampled_from(["scout-0", "scout-1"]),
    container=st.sampled_from(["agent", "helper"]),
    exit_code=st.integers(0, 255),
    reason=st.text(max_size=20).map(str.strip),
    finished_at=st.none() | st.integers(-9, 9).map(at),
    message=st.text(max_size=40).map(str.strip),
)


@given(st.lists(_EXITS))
def test_what_is_written_is_read_back(found: list[Exit]) -> None:
    assert list(exits.read(json.loads(json.dumps(exits.write(found))))) == found


@given(st.lists(_EXITS), st.integers(-9, 9))
def test_a_second_look_at_the_same_changes_nothing(found: list[Exit], seconds: int) -> None:
    since = at(seconds)
    once = {"exits": exits.during(None, found, since=since)}
    before = {"lastExits": exits.last({}, found, before=since), "suspension": once}
    assert exits.during(once, found, since=since) == once["exits"]
    assert exits.last(before, found, before=since) == before["lastExits"]
    assert exits.unrecorded(exits.newest(found), before) == ()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, st.integers(-9, 9))
def test_a_status_that_somebody_else_wrote_is_read_without_an_error_and_written_as_the_api_takes_it(
    odd: Any, seconds: int
) -> None:
    entry = {"pod": "scout-0", "container": "agent", "exitCode": 1}
    spoilt = [{**entry, field: odd} for field in (*entry, "reason", "finishedAt", "message")]
    for listed in (odd, [odd], spoilt):
        written = {
            "lastExits": exits.last({"lastExits": listed, "lastSuspension": {"exits": listed}}, [], before=None),
            "suspension": {"exits": exits.during({"exits": listed}, [], since=at(seconds))},
        }
        assert unfit_agent_status(written) == []


@given(st.lists(_EXITS), st.integers(-9, 9))
def test_what_is_written_is_stored_as_it_is(found: list[Exit], seconds: int) -> None:
    since = at(seconds)
    written = {"exits": exits.during(None, found, since=since)}
    assert unfit_agent_status({"suspension": written, "lastExits": exits.last({}, found, before=since)}) == []
