"""What is remembered of pods that are gone, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.engine import departed
from bulkhead.engine.departed import Departed
from bulkhead.plan import exits

TIMES = ("2026-03-01T12:00:00Z", "2026-03-01T12:05:00Z")


def agent(status: dict[str, Any] | None = None, *, uid: str = "agent-1") -> dict[str, Any]:
    return {"metadata": {"name": "scout", "namespace": "lab", "uid": uid}, "status": status or {}}


def pod(*, finished: str | None = TIMES[0], code: int = 0, name: str = "scout-0") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "finishedAt": finished}} if finished else {"running": {}}
    return {
        "metadata": {"name": name, "namespace": "lab", "uid": f"uid-{name}"},
        "status": {"containerStatuses": [{"name": "agent", "state": state}]},
    }


def test_how_a_departed_pod_ended_is_told_until_the_status_says_it() -> None:
    known = Departed()
    known.remember(pod(code=3), agent_uid="agent-1")
    for _ in range(2):
        assert [one.exit_code for one in known.of(agent())] == [3]
    assert known.of(agent({"suspension": {"exits": exits.write(known.of(agent()))}})) == ()
    assert len(known) == 0
    assert known.of(agent()) == (), "once told it is told"


def test_a_successor_of_the_same_name_learns_nothing_of_its_predecessor() -> None:
    known = Departed()
    known.remember(pod(), agent_uid="agent-1")
    assert known.of(agent(uid="agent-2")) == ()


def test_of_a_pod_that_departs_again_and_again_the_last_end_is_remembered() -> None:
    known = Departed()
    known.remember(pod(finished=TIMES[1], code=2), agent_uid="agent-1")
    known.remember(pod(finished=TIMES[0], code=1), agent_uid="agent-1")
    assert [one.exit_code for one in known.of(agent())] == [2]


def test_a_pod_that_was_last_seen_running_leaves_nothing() -> None:
    known = Departed()
    known.remember(pod(finished=None), agent_uid="agent-1")
    assert len(known) == 0


def test_who_waits_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departed, "AGENTS_REMEMBERED", 2)
    known = Departed()
    for uid in ("agent-1", "agent-2", "agent-1", "agent-3"):
        known.remember(pod(), agent_uid=uid)
    assert len(known) == 2
    assert [bool(known.of(agent(uid=f"agent-{number}"))) for number in (1, 2, 3)] == [True, False, True]
