"""KillSwitches as the API server checks and stores them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from bulkhead.api.killswitch import InvalidSpec, KillSwitchSpec, parse_kill_switch
from bulkhead.api.killswitchstatus import KillSwitchStatus
from bulkhead.api.structural import structural
from devcluster.api import RunningCluster
from tests import killswitch_specs, specs
from tests.apiserver.rest import APPLY, Answer, Rest
from tests.policy_specs import NEAR_MISSES, mutated

SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"
NAME = "crd-test"
TRIES = settings(max_examples=80)


def switch(spec: Any, name: str = NAME) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "KillSwitch",
        "metadata": {"name": name, "labels": {"example.test/by": "test-crd-killswitch"}},
        "spec": spec,
    }


def dry_run(rest: Rest, spec: Any, name: str = NAME) -> Answer:
    return rest.post(SWITCHES, switch(spec, name), dryRun="All", fieldValidation="Strict")


def accepts(spec: Any) -> bool:
    try:
        parse_kill_switch(spec, name=NAME)
    except InvalidSpec:
        return False
    return True


@pytest.fixture
def switches(rest: Rest) -> Iterator[Rest]:
    """For tests that store kill switches, which are deleted after them: they are the whole cluster's."""
    yield rest
    assert rest.delete(SWITCHES, labelSelector="example.test/by=test-crd-killswitch").ok


def create(rest: Rest, spec: Any) -> dict[str, Any]:
    answer = rest.post(SWITCHES, switch(spec), fieldValidation="Strict")
    assert answer.ok, answer.message
    return answer.body


@pytest.mark.parametrize("case", killswitch_specs.REFUSED.values(), ids=killswitch_specs.REFUSED.keys())
def test_a_bad_kill_switch_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", killswitch_specs.ACCEPTED.values(), ids=killswitch_specs.ACCEPTED.keys())
def test_a_good_kill_switch_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize(
    "spec, path", killswitch_specs.UNKNOWN_FIELDS.values(), ids=killswitch_specs.UNKNOWN_FIELDS.keys()
)
def test_an_unknown_field_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


@pytest.mark.parametrize("name", ["n" * 64, "a.b"])
def test_a_name_that_does_not_fit_into_a_label_is_refused(rest: Rest, name: str) -> None:
    answer = dry_run(rest, killswitch_specs.switch(all=True), name)
    assert answer.status == 422
    assert "accepted as metadata.name are up to 63 lower case letters" in answer.message


@TRIES
@given(killswitch_specs.switches())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_kill_switch(stored.body["spec"], name=NAME) == parse_kill_switch(spec, name=NAME)


@TRIES
@given(mutated(killswitch_specs.switches(), NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


@pytest.mark.parametrize("change", killswitch_specs.CHANGES.values(), ids=killswitch_specs.CHANGES.keys())
def test_nothing_but_the_reason_can_be_changed(switches: Rest, change: killswitch_specs.Change) -> None:
    stored = create(switches, change.before)
    wanted = {**switch(change.after), "metadata": stored["metadata"]}
    answer = switches.send("PUT", f"{SWITCHES}/{NAME}", wanted)
    if change.says is None:
        assert answer.ok, answer.message
    else:
        assert answer.status == 422
        assert change.says in answer.message
        assert switches.get(f"{SWITCHES}/{NAME}").body["spec"] == stored["spec"]


def test_a_selector_cannot_be_narrowed_by_patch_or_apply_either(switches: Rest) -> None:
    create(switches, killswitch_specs.switch(tenants=["a", "b"]))
    path = f"{SWITCHES}/{NAME}"
    assert switches.patch(path, {"spec": {"selector": {"tenants": ["a"]}}}).status == 422
    assert switches.patch(path, {"spec": {"selector": {"namespaces": ["x"]}}}).status == 422
    narrower = switch(killswitch_specs.switch(namespaces=["x"]))
    assert switches.patch(path, narrower, content_type=APPLY, fieldManager="other", force="true").status == 422
    assert switches.patch(path, {"spec": {"reason": "still"}}).ok


def test_the_largest_kill_switch_can_be_stored_and_its_reason_changed(switches: Rest) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    create(switches, killswitch_specs.ACCEPTED["the most of each bound"])
    answer = switches.patch(f"{SWITCHES}/{NAME}", {"spec": {"reason": "s" * 1024}})
    assert answer.ok, answer.message


STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "matched": 3,
    "cutOff": 3,
    "stopped": 2,
    "pending": ["agents/crawler"],
    "startedAt": "2026-01-02T03:04:05.000006Z",
    "cutOffAt": "2026-01-02T03:04:05.100006Z",
    "stoppedAt": "2026-01-02T03:04:09.000006Z",
    "seconds": "4.0",
    "conditions": [
        {
            "type": "Stopped",
            "status": "False",
            "reason": "Stopping",
            "message": "1 of 3 agents has pods",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ],
}


def test_a_whole_status_is_stored_and_read_back_and_leaves_the_spec(switches: Rest) -> None:
    spec = create(switches, killswitch_specs.switch(tenants=["acme"]))["spec"]
    change = {"status": STATUS, "spec": {"reason": "another"}}
    answer = switches.patch(f"{SWITCHES}/{NAME}/status", change, fieldValidation="Strict")
    assert answer.ok, answer.message
    stored = switches.get(f"{SWITCHES}/{NAME}").body
    assert (stored["spec"], stored["status"]) == (spec, STATUS)
    assert KillSwitchStatus.model_validate(stored["status"]).model_dump(by_alias=True) == STATUS


def test_a_user_leaves_the_status(switches: Rest) -> None:
    create(switches, killswitch_specs.switch(tenants=["acme"]))
    assert switches.patch(f"{SWITCHES}/{NAME}", {"status": {"stopped": 8}}).ok
    assert "status" not in switches.get(f"{SWITCHES}/{NAME}").body


def test_the_example_of_a_status_has_every_field_there_is() -> None:
    assert STATUS.keys() == structural(KillSwitchStatus)["properties"].keys()


def test_kubectl_shows_the_columns(switches: Rest, apiserver: RunningCluster) -> None:
    create(switches, killswitch_specs.switch(tenants=["acme"], reason="spends"))
    switches.patch(f"{SWITCHES}/{NAME}/status", {"status": STATUS})
    narrow = apiserver.kubectl("get", "ks", NAME).splitlines()
    assert narrow[0].split() == ["NAME", "MATCHED", "CUT-OFF", "STOPPED", "SECONDS", "REASON", "AGE"]
    assert narrow[1].split()[:6] == [NAME, "3", "3", "2", "4.0", "spends"]
    wide = apiserver.kubectl("get", "killswitches", NAME, "--output=wide").splitlines()
    assert wide[0].split()[-1] == "PENDING"
    assert "agents/crawler" in wide[1]


def documented(schema: dict[str, Any]) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield name
        yield from documented(field.get("items", field))


@pytest.mark.parametrize("part, model", [("spec", KillSwitchSpec), ("status", KillSwitchStatus)])
def test_kubectl_explains_every_field(apiserver: RunningCluster, part: str, model: Any) -> None:
    listed = apiserver.kubectl("explain", f"killswitch.{part}", "--recursive")
    for name in documented(structural(model)):
        assert re.search(rf"^\s+{re.escape(name)}\t<", listed, re.MULTILINE), name


@pytest.mark.parametrize(
    "path, words",
    [
        ("ks", "what matches later never starts"),
        ("ks.spec.selector", "Every field that is given must match"),
        ("ks.spec.selector.workflows", "has its own name as workflow"),
        ("ks.spec.reason", "in the status of each agent that it stops"),
        ("ks.status.stopped", "as the API server and not a cache showed"),
    ],
)
def test_kubectl_explains_a_field_in_its_own_words(apiserver: RunningCluster, path: str, words: str) -> None:
    assert words in " ".join(apiserver.kubectl("explain", path).split())
