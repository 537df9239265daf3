"""What a kill switch says of itself: matched, cut off, stopped, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bulkhead.api.conditions import find
from bulkhead.api.killswitchstatus import KillSwitchStatus
from bulkhead.plan import killswitch, switchstatus
from bulkhead.plan.switchstatus import Progress
from tests.killswitch_specs import switch
from tests.unit.plan.samples import NOW

Object = dict[str, Any]
SCOUTS = frozenset({"lab/one", "lab/two", "den/three"})
NOBODY: frozenset[str] = frozenset()


def switch_object(spec: Object | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": "stop", "uid": "s", "generation": 1},
        "spec": switch(all=True) if spec is None else spec,
        "status": status,
    }


def told(obj: Object, progress: Progress, *, after: float = 0.0) -> Object:
    found = switchstatus.status(killswitch.read(obj), obj, progress, seen=NOW, now=NOW + timedelta(seconds=after))
    KillSwitchStatus.model_validate(found)
    return found


def verdict(status: Object, kind: str) -> tuple[str, str]:
    found = find(status["conditions"], kind)
    assert found is not None
    return found["status"], found["reason"]


def progress(matched: frozenset[str] = SCOUTS, *, connected: Any = NOBODY, running: Any = NOBODY) -> Progress:
    return Progress(matched=matched, connected=frozenset(connected), running=frozenset(running))


def test_it_goes_from_pending_to_cut_off_to_stopped_and_says_when() -> None:
    first = told(switch_object(), progress(connected=SCOUTS, running=SCOUTS))
    assert (first["matched"], first["cutOff"], first["stopped"]) == (3, 0, 0)
    assert first["pending"] == ["den/three", "lab/one", "lab/two"]
    assert verdict(first, "CutOff") == verdict(first, "Stopped") == ("False", "Pending")
    second = told(switch_object(**first), progress(running={"lab/two"}), after=0.25)
    assert (second["cutOff"], second["stopped"], second["pending"]) == (3, 2, ["lab/two"])
    assert verdict(second, "CutOff") == ("True", "NetworkRemoved")
    assert verdict(second, "Stopped") == ("False", "Pending")
    assert second["startedAt"] == first["startedAt"]
    third = told(switch_object(**second), progress(), after=6.5)
    assert verdict(third, "Stopped") == ("True", "Verified")
    assert (third["stopped"], third["seconds"]) == (3, "6.500")
    assert "pending" not in third
    assert third["cutOffAt"] < third["stoppedAt"]
    assert switchstatus.is_settled(third)
    assert not switchstatus.is_settled(second)


def test_what_is_stopped_by_the_first_look_took_the_time_since_the_switch_was_seen() -> None:
    found = told(switch_object(), progress(), after=0.75)
    assert found["seconds"] == "0.750"
    assert found["startedAt"] < found["cutOffAt"] == found["stoppedAt"]


def test_it_does_not_change_with_the_time_alone() -> None:
    for one in (progress(connected=SCOUTS, running=SCOUTS), progress(), progress(NOBODY)):
        first = told(switch_object(), one)
        assert told(switch_object(**first), one, after=1000) == first


def test_a_switch_that_matches_nobody_is_done_and_says_what_becomes_of_those_who_come() -> None:
    found = told(switch_object(), progress(NOBODY))
    assert verdict(found, "Stopped") == verdict(found, "CutOff") == ("True", "NothingMatches")
    assert found["matched"] == 0
    condition = find(found["conditions"], "Stopped")
    assert condition is not None
    assert "will not start" in condition["message"]


def test_an_agent_that_was_deleted_meanwhile_holds_the_proof_up_and_is_not_counted_as_matched() -> None:
    found = told(switch_object(), progress(frozenset({"lab/one"}), running={"lab/gone"}))
    assert verdict(found, "Stopped") == ("False", "Pending")
    assert (found["matched"], found["stopped"], found["pending"]) == (1, 1, ["lab/gone"])
    alone = told(switch_object(), progress(NOBODY, running={"lab/gone"}))
    assert verdict(alone, "Stopped") == ("False", "Pending")


def test_the_times_are_those_of_the_first_stop_whatever_appears_later() -> None:
    done = told(switch_object(**told(switch_object(), progress(running=SCOUTS))), progress(), after=3)
    more = SCOUTS | {"lab/four"}
    later = told(switch_object(**done), progress(more, running={"lab/four"}), after=60)
    assert verdict(later, "Stopped") == ("False", "Pending")
    again = told(switch_object(**later), progress(more), after=61)
    assert verdict(again, "Stopped") == ("True", "Verified")
    assert (again["seconds"], again["stoppedAt"]) == (done["seconds"], done["stoppedAt"])


def test_a_clock_that_was_set_back_gives_no_negative_seconds() -> None:
    first = told(switch_object(), progress(running=SCOUTS))
    assert told(switch_object(**first), progress(), after=-30)["seconds"] == "0.000"


def test_a_switch_that_is_not_understood_says_so_and_that_it_stops_nobody() -> None:
    found = told(switch_object({"selector": {}, "reason": "x"}), progress(NOBODY))
    assert verdict(found, "CutOff") == verdict(found, "Stopped") == ("False", "Invalid")
    condition = find(found["conditions"], "Stopped")
    assert condition is not None
    assert "stops nobody" in condition["message"]
    assert "nothing at all is not taken for everything" in condition["message"]
    assert "matched" not in found
    assert [one.reason for one in switchstatus.transitions({}, found)] == ["Invalid"]


def test_of_many_that_are_pending_64_are_listed_and_8_named() -> None:
    many = frozenset(f"lab/n{number:03}" for number in range(200))
    found = told(switch_object(), progress(many, connected=many, running=many))
    assert found["pending"] == sorted(many)[:64]
    condition = find(found["conditions"], "Stopped")
    assert condition is not None
    assert "lab/n007" in condition["message"]
    assert "lab/n008" not in condition["message"]


def test_events_tell_of_what_was_reached_and_of_what_was_lost_again() -> None:
    first = told(switch_object(), progress(connected=SCOUTS, running=SCOUTS))
    assert switchstatus.transitions({}, first) == ()
    second = told(switch_object(**first), progress(running=SCOUTS))
    assert [(one.type, one.reason) for one in switchstatus.transitions(first, second)] == [("Normal", "CutOff")]
    third = told(switch_object(**second), progress())
    assert [(one.type, one.reason) for one in switchstatus.transitions(second, third)] == [("Normal", "Stopped")]
    fourth = told(switch_object(**third), progress(running={"lab/one"}))
    assert [(one.type, one.reason) for one in switchstatus.transitions(third, fourth)] == [("Warning", "NotStopped")]
