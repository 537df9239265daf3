"""How a live object differs from what is wanted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.cluster.drift import ABSENT, Accepted, Difference, differences, fingerprint, merged

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)
LABELS = st.dictionaries(
    st.sampled_from(["bulkhead.dev/a", "bulkhead.dev/b", "app.kubernetes.io/name", "team.example/x", "plain"]),
    st.sampled_from(["1", "2"]),
)
OWNERS = st.lists(st.sampled_from("uvw").map(lambda uid: {"uid": uid, "kind": "A"}), max_size=2, unique_by=str)
OBJECTS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("A"),
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": LABELS, "annotations": LABELS, "ownerReferences": OWNERS}
        ),
    },
    optional={"spec": VALUES, "data": VALUES, "status": VALUES},
)


def obj(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "A", "metadata": metadata, **({} if spec is None else {"spec": spec})}


@pytest.mark.parametrize(
    ("wanted", "found", "paths"),
    [
        (obj({"a": 1}), obj({"a": 1}), []),
        (obj({"a": 1}), obj({"a": 2}), ["spec/a"]),
        (obj({"a": 1}), obj({}), ["spec/a"]),
        (obj({}), obj({"a": 1}), ["spec/a"]),
        (obj({"a": None}), obj({}), ["spec/a"]),
        (obj({"a": [{"b": 1}]}), obj({"a": [{"b": 2}]}), ["spec/a/*/b"]),
        (obj({"a": [1, 2]}), obj({"a": [1]}), ["spec/a"]),
        (obj({"a": [1, 2]}), obj({"a": [2, 1]}), ["spec/a/*", "spec/a/*"]),
        (obj({"a": 1}), obj(), ["spec"]),
        (obj(), obj({"a": 1}), ["spec"]),
        (obj(labels={"a": "1"}), obj(labels={"a": "1", "theirs": "2"}), []),
        (obj(labels={"a": "1"}), obj(labels={"theirs": "2"}), ["metadata/labels/a"]),
        (obj(), obj(labels={"bulkhead.dev/x": "1"}), ["metadata/labels/bulkhead.dev/x"]),
        (obj(), obj(annotations={"app.kubernetes.io/x": "1"}), ["metadata/annotations/app.kubernetes.io/x"]),
        (obj(), obj(labels={"bulkhead.dev.evil/x": "1"}), []),
        (obj(), obj(finalizers=["theirs"], generation=3, uid="u"), []),
        (obj(ownerReferences=[{"uid": "u"}]), obj(ownerReferences=[]), ["metadata/ownerReferences"]),
        (
            obj(ownerReferences=[{"uid": "u"}, {"uid": "v"}]),
            obj(ownerReferences=[{"uid": "v"}, {"uid": "u"}]),
            [],
        ),
        (
            obj(ownerReferences=[{"uid": "u"}]),
            obj(ownerReferences=[{"uid": "u"}, {"uid": "v"}]),
            ["metadata/ownerReferences"],
        ),
        ({**obj(), "status": {"a": 1}}, {**obj(), "status": {"a": 2}}, []),
    ],
)
def test_differences_are_found_where_they_are(wanted: dict[str, Any], found: dict[str, Any], paths: list[str]) -> None:
    assert [difference.path for difference in differences(wanted, found)] == paths


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ("spec/template/spec", "spec"),
        ("spec", "spec"),
        ("metadata/labels/bulkhead.dev/x", "metadata/labels"),
        ("metadata/ownerReferences/*/uid", "metadata/ownerReferences"),
    ],
)
def test_the_section_is_what_has_to_be_written(path: str, section: str) -> None:
    assert Difference(path, 1, 2).section == section


@given(OBJECTS)
def test_an_object_does_not_differ_from_itself(wanted: dict[str, Any]) -> None:
    assert differences(wanted, copy.deepcopy(wanted)) == []


@given(OBJECTS, OBJECTS)
def test_writing_the_sections_that_differ_settles_every_difference(
    wanted: dict[str, Any], found: dict[str, Any]
) -> None:
    settled = copy.deepcopy(found)
    for section in {difference.section for difference in differences(wanted, found)}:
        first, _, field = section.partition("/")
        if first == "metadata":
            value = wanted["metadata"].get(field, []) if field == "ownerReferences" else merged(wanted, found, field)
            settled["metadata"][field] = value
        elif section in wanted:
            settled[section] = wanted[section]
        else:
            del settled[section]
    assert differences(wanted, settled) == []
    for field in ("labels", "annotations"):
        theirs = {k: v for k, v in (found["metadata"].get(field) or {}).items() if k in ("team.example/x", "plain")}
        kept = settled["metadata"].get(field) or {}
        assert all(kept[key] == (wanted["metadata"].get(field) or {}).get(key, theirs[key]) for key in theirs)


@given(OBJECTS, OBJECTS)
def test_no_difference_means_that_all_but_the_metadata_is_equal(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    ignored = {"metadata", "status"}
    if not differences(wanted, found):
        assert {k: v for k, v in wanted.items() if k not in ignored} == {
            k: v for k, v in found.items() if k not in ignored
        }


@given(OBJECTS)
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(wanted: dict[str, Any]) -> None:
    turned = {key: wanted[key] for key in reversed(wanted)}
    assert fingerprint(turned) == fingerprint(wanted)


def test_only_the_learned_value_in_the_learned_place_of_the_learned_kind_is_accepted() -> None:
    accepted = Accepted()
    learned = Difference("spec/dnsPolicy", ABSENT, "ClusterFirst")
    accepted.learn("Pod", learned)
    others = [
        Difference("spec/dnsPolicy", ABSENT, "Default"),
        Difference("spec/other", ABSENT, "ClusterFirst"),
        Difference("spec/dnsPolicy", "None", "ClusterFirst"),
        Difference("spec/dnsPolicy", None, "ClusterFirst"),
    ]
    assert accepted.remaining("Pod", [learned, *others]) == others
    assert accepted.remaining("StatefulSet", [learned]) == [learned]


def test_what_was_learned_first_is_forgotten_beyond_the_limit() -> None:
    accepted = Accepted(limit=2)
    found = [Difference(f"spec/{number}", ABSENT, 1) for number in range(3)]
    for difference in found:
        accepted.learn("Pod", difference)
    assert len(accepted) == 2
    assert accepted.remaining("Pod", found) == found[:1]
