"""Credentials of AgentDeployments as the API server checks them, and credentials where none belong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.conditions import is_true
from bulkhead.api.crd import agent_deployment_crd
from bulkhead.api.secretformats import FORMATS, found
from devcluster.api import RunningCluster
from tests import credential_specs, specs
from tests.apiserver.dryrun import accepts, agent, dry_run
from tests.apiserver.rest import AGENTS, Rest
from tests.credential_specs import CREDENTIALS, ORDINARY
from tests.policy_specs import NEAR_MISSES, mutated

TRIES = settings(max_examples=80)


@pytest.mark.parametrize("case", credential_specs.REFUSED.values(), ids=credential_specs.REFUSED.keys())
def test_a_bad_credential_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", credential_specs.ACCEPTED.values(), ids=credential_specs.ACCEPTED.keys())
def test_a_good_credential_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize(
    "spec, path", credential_specs.UNKNOWN_FIELDS.values(), ids=credential_specs.UNKNOWN_FIELDS.keys()
)
def test_an_unknown_field_of_a_credential_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


def test_seconds_that_are_left_out_are_written_out_for_the_user_to_see(rest: Rest) -> None:
    [credential] = dry_run(rest, credential_specs.credential()).body["spec"]["credentials"]
    assert credential["ttlSeconds"] == 900


@TRIES
@given(credential_specs.specs_with_credentials())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_spec(stored.body["spec"], name="agent") == parse_spec(spec, name="agent")


@TRIES
@given(mutated(credential_specs.specs_with_credentials(), NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


def test_the_most_credentials_can_be_stored_and_changed(rest: Rest, sandbox: str) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    path = AGENTS.format(namespace=sandbox)
    created = rest.post(path, agent(credential_specs.ACCEPTED["the most of each bound of credentials"]))
    assert created.ok, created.message
    changed = [{**credential, "ttlSeconds": 60} for credential in created.body["spec"]["credentials"]]
    answer = rest.patch(f"{path}/agent", {"spec": {"credentials": changed}})
    assert answer.ok, answer.message


@pytest.mark.parametrize("text, says", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_a_credential_in_the_environment_is_refused_and_the_answer_does_not_hold_it(
    rest: Rest, text: str, says: str
) -> None:
    answer = dry_run(rest, credential_specs.environment(text))
    assert answer.status == 422, answer.message
    assert "spec.env[0].value: Invalid value: accepted is text without credentials" in answer.message
    assert says in answer.message
    assert "spec.credentials" in answer.message
    for spelling in (text, json.dumps(text), text.splitlines()[-1]):
        assert spelling not in json.dumps(answer.body)


@pytest.mark.parametrize("name", ["a token of GitHub, ghp_", "a JSON web token in a header", "a URL with a password"])
def test_a_credential_in_a_header_is_refused_and_the_answer_does_not_hold_it(rest: Rest, name: str) -> None:
    text, says = CREDENTIALS[name]
    answer = dry_run(rest, credential_specs.header(text))
    assert answer.status == 422, answer.message
    assert "spec.probes.readiness.httpGet.httpHeaders[0].value: Invalid value: accepted is" in answer.message
    assert says in answer.message
    assert text not in json.dumps(answer.body)


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY.keys())
def test_what_is_ordinary_passes(rest: Rest, text: str) -> None:
    answer = dry_run(rest, credential_specs.environment(text))
    assert answer.ok, answer.message


@pytest.mark.parametrize(
    "spec",
    [
        credential_specs.environment("hunter2\x00"),
        credential_specs.header("hunter2\n"),
        credential_specs.custom({"a": "hunter2\n"}),
        specs.minimal(args=["hunter2\x00"]),
        specs.minimal(command=["hunter2\x00"]),
        specs.minimal(probes={"liveness": {"exec": {"command": ["hunter2\x00"]}}}),
    ],
    ids=["env", "header", "parameter", "args", "command", "exec"],
)
def test_a_value_in_which_people_hide_secrets_is_not_repeated_by_the_api_server(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 422, answer.message
    assert "hunter2" not in json.dumps(answer.body)


_PIECES = [*[mark for format in FORMATS for mark in format.marks], *[text for text, _ in CREDENTIALS.values()]]


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(_PIECES),
            st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6),
        ),
        max_size=5,
    ).map("".join)
)
def test_the_api_server_and_the_parser_find_the_same_credentials(rest: Rest, text: str) -> None:
    answer = dry_run(rest, credential_specs.environment(text))
    assert answer.ok is (found(text) is None), (answer.message, json.dumps(text))


def test_a_great_environment_is_searched_within_what_the_api_server_lets_rules_cost(rest: Rest) -> None:
    # About a megabyte: what etcd takes of one object, with room for the rest.
    text = "Summarise what you read, see https://docs.example/a?b=c:d@e and ask. " * 237
    env = [{"name": f"V{number}", "value": text[:16_384]} for number in range(64)]
    answer = dry_run(rest, specs.minimal(env=env))
    assert answer.ok, answer.message


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def twin() -> dict[str, Any]:
    """The CRD of AgentDeployments under another name."""
    text = json.dumps(agent_deployment_crd()).replace("agentdeployment", "twindeployment")
    crd: dict[str, Any] = json.loads(text.replace("AgentDeployment", "TwinDeployment"))
    for key in ("shortNames", "categories"):
        crd["spec"]["names"].pop(key)
    return crd


def properties(crd: dict[str, Any]) -> dict[str, Any]:
    """The fields of the spec that a CRD describes."""
    fields: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return fields


def with_ballast(rules: int) -> dict[str, Any]:
    """The twin with rules that cost 8.4 million each beside its own."""
    crd = twin()
    rule = {"rule": f"!self.matches('{'a' * 40}')", "message": "ballast"}
    texts = {"type": "string", "maxLength": 16_384, "x-kubernetes-validations": [rule] * rules}
    properties(crd)["ballast"] = {
        "type": "array",
        "maxItems": 128,
        "items": texts,
    }
    return crd


def test_the_rules_of_an_agent_leave_room_in_what_the_api_server_lets_a_crd_cost(rest: Rest) -> None:
    answer = rest.post(CRDS, with_ballast(2), dryRun="All")
    assert answer.ok, answer.message
    # The limit is there, and the ballast counts: another two rules are too many.
    assert "exceeds budget" in rest.post(CRDS, with_ballast(4), dryRun="All").message


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, f"not within 120 s: {what}"
        time.sleep(0.1)


def is_served(rest: Rest, path: str) -> bool:
    """Whether a collection is served: "Established" is written before the handler of requests has read it."""
    try:
        return rest.get(path).ok
    except ValueError:  # of a kind that it does not serve yet the API server says so in plain text
        return False


@pytest.fixture
def old_twin(rest: Rest) -> Iterator[str]:
    """The path of a twin that is served from a definition of before these rules existed."""
    crd = twin()
    properties(crd)["env"]["items"].pop("x-kubernetes-validations")
    assert rest.post(CRDS, crd).ok
    path = AGENTS.format(namespace="default").replace("agentdeployments", "twindeployments")
    name = f"{CRDS}/{crd['metadata']['name']}"
    until(lambda: is_true(rest.get(name).body["status"].get("conditions") or [], "Established"), "it is established")
    until(lambda: is_served(rest, path), "it is served")
    yield path
    assert rest.delete(name).ok
    until(lambda: rest.get(name).status == 404, "it is gone")


def test_an_agent_with_a_credential_from_before_the_rule_can_be_suspended_and_mended(rest: Rest, old_twin: str) -> None:
    text, _ = CREDENTIALS["a token of GitHub, ghp_"]
    stored = {**agent(credential_specs.environment(text)), "kind": "TwinDeployment"}
    assert rest.post(old_twin, stored).ok
    now = twin()
    assert rest.patch(f"{CRDS}/{now['metadata']['name']}", {"spec": now["spec"]}).ok
    other = {**stored, "metadata": {"name": "other"}}
    until(lambda: rest.post(old_twin, other, dryRun="All").status == 422, "the rule is in force")
    answer = rest.patch(f"{old_twin}/agent", {"spec": {"suspend": True}})
    assert answer.ok, answer.message
    assert rest.patch(f"{old_twin}/agent", {"spec": {"env": [{"name": "SETTING", "value": text + "x"}]}}).status == 422
    assert rest.patch(f"{old_twin}/agent", {"spec": {"env": []}}).ok


@pytest.mark.parametrize(
    "path, words",
    [
        ("agentdeployment.spec.credentials", "Its files are in /var/run/bulkhead/credentials/NAME"),
        ("agentdeployment.spec.credentials.vault.path", "It must answer with a lease."),
        ("agentdeployment.spec.env.value", "Secrets come by spec.credentials."),
        ("agentdeployment.status.credentials", "without their values"),
        ("sandboxpolicy.spec.credentials.vault.paths", "with /* at its end for everything below"),
    ],
)
def test_kubectl_explains_credentials_in_their_own_words(apiserver: RunningCluster, path: str, words: str) -> None:
    assert words in " ".join(apiserver.kubectl("explain", path).split())
