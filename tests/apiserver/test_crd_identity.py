"""The identity section of AgentDeployments as the API server checks it, with the verdicts and words of the parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from bulkhead.api.agentdeployment import parse_spec
from devcluster.api import RunningCluster
from tests import identity_specs, specs
from tests.apiserver.dryrun import accepts, agent, dry_run
from tests.apiserver.rest import AGENTS, Rest
from tests.policy_specs import NEAR_MISSES, mutated

TRIES = settings(max_examples=80)


@pytest.mark.parametrize("case", identity_specs.REFUSED.values(), ids=identity_specs.REFUSED.keys())
def test_a_bad_identity_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", identity_specs.ACCEPTED.values(), ids=identity_specs.ACCEPTED.keys())
def test_a_good_identity_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize("spec, path", identity_specs.UNKNOWN_FIELDS.values(), ids=identity_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_an_identity_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


def test_paths_outside_of_namespaces_are_never_stored_whatever_the_client_says(rest: Rest) -> None:
    spec = identity_specs.api(identity_specs.rule(nonResourceURLs=["/metrics"]))
    answer = rest.post(AGENTS.format(namespace="default"), agent(spec), dryRun="All", fieldValidation="Ignore")
    assert answer.ok, answer.message
    assert answer.body["spec"]["identity"]["kubernetesApi"]["rules"] == [identity_specs.rule()]


def test_an_agent_without_an_identity_section_is_stored_without_one(rest: Rest) -> None:
    stored = dry_run(rest, specs.minimal()).body["spec"]
    assert not stored.keys() & {"identity", "credentials"}


def test_seconds_that_are_left_out_are_written_out_for_the_user_to_see(rest: Rest) -> None:
    spec = identity_specs.identity(
        kubernetesApi={"rules": [identity_specs.rule()]}, tokens=[{"audience": "a", "path": "p"}]
    )
    assert dry_run(rest, spec).body["spec"]["identity"] == {
        "kubernetesApi": {"rules": [identity_specs.rule()], "tokenSeconds": 600},
        "tokens": [{"audience": "a", "path": "p", "expirationSeconds": 600}],
    }


@pytest.mark.parametrize("rule", identity_specs.GOOD_RULES.values(), ids=identity_specs.GOOD_RULES.keys())
def test_a_rule_of_a_good_form_is_one_that_a_role_can_have(rest: Rest, rule: specs.Spec) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [rule]}
    answer = rest.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", role, dryRun="All")
    assert answer.ok, answer.message
    written = {**rule} if rule.get("resourceNames") else {key: rule[key] for key in rule if key != "resourceNames"}
    assert answer.body["rules"] == [written]


@TRIES
@given(identity_specs.specs_with_identities())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_spec(stored.body["spec"], name="agent") == parse_spec(spec, name="agent")


@TRIES
@given(mutated(identity_specs.specs_with_identities(), NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


def test_the_largest_identity_can_be_stored_and_changed(rest: Rest, sandbox: str) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    path = AGENTS.format(namespace=sandbox)
    created = rest.post(path, agent(identity_specs.ACCEPTED["the most of each bound of an identity"]))
    assert created.ok, created.message
    rules = created.body["spec"]["identity"]["kubernetesApi"]["rules"]
    changed = [{**rule, "verbs": ["get", "list"]} for rule in rules]
    answer = rest.patch(f"{path}/agent", {"spec": {"identity": {"kubernetesApi": {"rules": changed}}}})
    assert answer.ok, answer.message


@pytest.mark.parametrize(
    "path, words",
    [
        (
            "agentdeployment.spec.identity.kubernetesApi",
            "Not given: no token in the pod and no route to the API server.",
        ),
        (
            "agentdeployment.spec.identity.kubernetesApi.rules.resourceNames",
            "create and deletecollection are never allowed",
        ),
        ("agentdeployment.spec.identity.tokens.path", "Name of its file in /var/run/bulkhead/tokens."),
        ("sandboxpolicy.spec.identity.kubernetesApi.rules", "each verb on each resource inside of one rule"),
    ],
)
def test_kubectl_explains_an_identity_in_its_own_words(apiserver: RunningCluster, path: str, words: str) -> None:
    assert words in " ".join(apiserver.kubectl("explain", path).split())
