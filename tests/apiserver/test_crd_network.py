"""The network section of AgentDeployments as the API server checks it, with the verdicts and words of the parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from bulkhead.api.agentdeployment import parse_spec
from tests import network_specs, specs
from tests.apiserver.dryrun import accepts, dry_run
from tests.apiserver.rest import AGENTS, Rest
from tests.policy_specs import NEAR_MISSES, mutated

TRIES = settings(max_examples=80)


@pytest.mark.parametrize("case", network_specs.REFUSED.values(), ids=network_specs.REFUSED.keys())
def test_a_bad_network_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", network_specs.ACCEPTED.values(), ids=network_specs.ACCEPTED.keys())
def test_a_good_network_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize("spec, path", network_specs.UNKNOWN_FIELDS.values(), ids=network_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_a_network_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


@pytest.mark.parametrize("text, accepted", network_specs.CIDRS.items(), ids=map(repr, network_specs.CIDRS))
def test_a_network_has_one_accepted_spelling(rest: Rest, text: str, accepted: bool) -> None:
    spec = network_specs.egress({"cidr": text}, ports=[{"port": 443}])
    answer = dry_run(rest, spec)
    assert answer.ok is accepted, answer.message
    assert accepts(spec) is accepted


def test_an_agent_without_a_network_section_shows_that_it_has_no_network(rest: Rest) -> None:
    assert dry_run(rest, specs.minimal()).body["spec"]["network"] == {"dns": "None"}


def test_what_is_left_out_of_a_network_is_written_out_for_the_user_to_see(rest: Rest) -> None:
    spec = network_specs.ingress({"cidr": "203.0.113.0/24"}, ports=[{"port": 8080}])
    assert dry_run(rest, spec).body["spec"]["network"] == {
        "dns": "None",
        "ingress": [{"from": {"cidr": "203.0.113.0/24"}, "ports": [{"port": 8080, "protocol": "TCP"}]}],
    }


@TRIES
@given(network_specs.specs_with_networks())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_spec(stored.body["spec"], name="agent") == parse_spec(spec, name="agent")


@TRIES
@given(mutated(network_specs.specs_with_networks(), NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


def test_the_largest_network_can_be_stored_and_changed(rest: Rest, sandbox: str) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    path = AGENTS.format(namespace=sandbox)
    spec = network_specs.ACCEPTED["the most of each bound of a network"]
    created = rest.post(
        path,
        {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "agent"}, "spec": spec},
    )
    assert created.ok, created.message
    egress = spec["network"]["egress"]
    changed = [{**entry, "ports": [{"port": port}]} for port, entry in enumerate(egress, start=1)]
    answer = rest.patch(f"{path}/agent", {"spec": {"network": {"egress": changed}}})
    assert answer.ok, answer.message
