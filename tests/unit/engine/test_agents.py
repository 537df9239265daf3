"""The store of agents: newest copy, told of once, no resurrection, no ghosts."""

from __future__ import annotations

import json
from typing import Any

from bulkhead.engine.agents import AgentStore


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def agent(name: str = "scout", *, version: int = 1, uid: str = "u1", namespace: str = "lab") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version), "managedFields": []}
    return {"metadata": metadata}


class Told:
    """What a store told, as versions before and after."""

    def __init__(self) -> None:
        self.changes: list[tuple[str | None, str | None]] = []

    def __call__(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        self.changes.append((self._version(old), self._version(new)))

    @staticmethod
    def _version(agent: dict[str, Any] | None) -> str | None:
        return None if agent is None else str(agent["metadata"]["resourceVersion"])


def test_an_older_copy_never_replaces_a_newer_one() -> None:
    told = Told()
    store = AgentStore(clock=Clock(), on_change=told)
    for version in (9, 10, 9):
        store.observe(agent(version=version))
    assert told.changes == [(None, "9"), ("9", "10")]
    found = store.get("lab", "scout")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "10"
    assert "managedFields" not in found["metadata"]


def test_the_same_copy_again_is_not_news_but_a_sign_of_life() -> None:
    clock = Clock()
    told = Told()
    store = AgentStore(clock=clock, on_change=told)
    store.observe(agent(version=9))
    clock.time = 60.0
    assert store.age("lab", "scout") == 60.0
    store.observe(agent(version=9))
    assert told.changes == [(None, "9")]
    assert store.age("lab", "scout") == 0.0
    assert store.age("lab", "nobody") == float("inf")


def test_the_answer_to_a_write_is_news_but_brings_nobody_back_to_life() -> None:
    told = Told()
    store = AgentStore(clock=Clock(), on_change=told)
    store.observe(agent(version=9))
    store.answered(agent(version=11))
    store.observe(agent(version=10))
    assert told.changes == [(None, "9"), ("9", "11")]
    store.remove("lab", "scout", uid="u1")
    store.answered(agent(version=12))
    assert len(store) == 0
    assert told.changes == [(None, "9"), ("9", "11"), ("11", None)]


def test_the_deletion_of_a_predecessor_leaves_its_successor() -> None:
    told = Told()
    store = AgentStore(clock=Clock(), on_change=told)
    store.observe(agent(version=9, uid="u1"))
    store.observe(agent(version=10, uid="u2"))
    store.remove("lab", "scout", uid="u1")
    assert store.get("lab", "scout") is not None
    store.remove("lab", "scout", uid="u2")
    assert told.changes == [(None, "9"), ("9", "10"), ("10", None)]
    assert len(store) == 0
    assert list(store.in_namespace("lab")) == []


def test_what_a_full_list_does_not_have_is_dropped_unless_it_was_seen_since() -> None:
    clock = Clock()
    store = AgentStore(clock=clock, on_change=Told())
    store.observe(agent("ghost", uid="u1"))
    store.observe(agent("listed", uid="u2"))
    clock.time = 10.0
    store.observe(agent("new", uid="u3"))
    ghosts = store.keep_only({"u2"}, seen_before=5.0)
    assert [one["metadata"]["name"] for one in ghosts] == ["ghost"]
    assert sorted(one["metadata"]["name"] for one in store) == ["listed", "new"]


def test_of_many_agents_the_same_words_are_kept_once() -> None:
    store = AgentStore(clock=Clock(), on_change=Told())
    for name in ("scout", "ranger"):
        store.observe(json.loads(json.dumps(agent(name, namespace="a long name"))))
    scout, ranger = (store.get("a long name", name) for name in ("scout", "ranger"))
    assert scout is not None
    assert ranger is not None
    assert scout["metadata"]["namespace"] is ranger["metadata"]["namespace"]
