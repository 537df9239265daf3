"""SandboxPolicies as the API server checks and stores them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from bulkhead.api.policystatus import SandboxPolicyStatus
from bulkhead.api.sandboxpolicy import InvalidSpec, SandboxPolicySpec, parse_policy
from bulkhead.api.structural import structural
from devcluster.api import RunningCluster
from tests import network_specs, policy_specs, specs
from tests.apiserver.rest import APPLY, Answer, Rest

POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
TRIES = settings(max_examples=80)


def policy(spec: Any, name: str = "policy") -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": name, "labels": {"example.test/by": "test-crd-policy"}},
        "spec": spec,
    }


def dry_run(rest: Rest, spec: Any, name: str = "policy") -> Answer:
    return rest.post(POLICIES, policy(spec, name), dryRun="All", fieldValidation="Strict")


def create(rest: Rest, spec: Any, name: str = "policy") -> dict[str, Any]:
    answer = rest.post(POLICIES, policy(spec, name), fieldValidation="Strict")
    assert answer.ok, answer.message
    return answer.body


def accepts(spec: Any) -> bool:
    try:
        parse_policy(spec, name="policy")
    except InvalidSpec:
        return False
    return True


@pytest.fixture
def policies(rest: Rest) -> Iterator[Rest]:
    """For tests that store policies, which are deleted after them: policies are the whole cluster's."""
    yield rest
    assert rest.delete(POLICIES, labelSelector="example.test/by=test-crd-policy").ok


@pytest.mark.parametrize("case", policy_specs.REFUSED.values(), ids=policy_specs.REFUSED.keys())
def test_a_bad_policy_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", policy_specs.ACCEPTED.values(), ids=policy_specs.ACCEPTED.keys())
def test_a_good_policy_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize("spec, path", policy_specs.UNKNOWN_FIELDS.values(), ids=policy_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


@pytest.mark.parametrize("name", ["n" * 64, "n" * 253, "a.b"])
def test_a_name_that_does_not_fit_into_a_label_is_refused(rest: Rest, name: str) -> None:
    answer = dry_run(rest, {}, name)
    assert answer.status == 422
    assert "accepted as metadata.name are up to 63 lower case letters" in answer.message


def test_a_name_of_63_characters_is_accepted(rest: Rest) -> None:
    assert dry_run(rest, {}, "n" * 63).ok


def test_a_policy_without_a_spec_is_refused(rest: Rest) -> None:
    answer = rest.post(POLICIES, {key: value for key, value in policy({}).items() if key != "spec"}, dryRun="All")
    assert answer.status == 422
    assert "spec: Required value" in answer.message


@pytest.mark.parametrize("text, accepted", network_specs.CIDRS.items(), ids=map(repr, network_specs.CIDRS))
@pytest.mark.parametrize("part, field", [("production", "cidrs"), ("network", "egressCIDRs")])
def test_a_network_has_one_accepted_spelling(rest: Rest, part: str, field: str, text: str, accepted: bool) -> None:
    spec = {part: {field: [text]}}
    answer = dry_run(rest, spec)
    assert answer.ok is accepted, answer.message
    assert accepts(spec) is accepted


@pytest.mark.parametrize("text, accepted", network_specs.ADDRESSES.items(), ids=map(repr, network_specs.ADDRESSES))
def test_a_canary_is_one_address_that_another_machine_can_have(rest: Rest, text: str, accepted: bool) -> None:
    spec = {"production": {"canaries": [{"name": "db", "address": text, "port": 5432}]}}
    answer = dry_run(rest, spec)
    assert answer.ok is accepted, answer.message
    assert accepts(spec) is accepted


def test_what_is_left_out_is_written_out_for_the_user_to_see(rest: Rest) -> None:
    spec = {"production": {"canaries": [{"name": "db", "address": "10.0.0.1", "port": 5432}]}}
    assert dry_run(rest, spec).body["spec"] == {
        "namespaceSelector": {},
        "production": {"canaries": [{"name": "db", "address": "10.0.0.1", "port": 5432, "protocol": "TCP"}]},
        "network": {"clusterDNS": False},
        "workload": {"requireDigest": False},
        "identity": {"maxTokenSeconds": 3600},
        "credentials": {"maxTTLSeconds": 3600},
        "isolation": {"mode": "Continuous", "intervalSeconds": 10},
        "circuitBreaker": {
            "restarts": {"count": 5, "windowSeconds": 600},
            "outOfMemory": {"count": 3, "windowSeconds": 600},
            "cannotStartSeconds": 600,
            "blind": {"action": "Open", "patienceSeconds": 300},
            "recovery": {"mode": "Automatic", "coolDownSeconds": 30, "maxAttempts": 5, "trialSeconds": 300},
        },
    }


@TRIES
@given(policy_specs.policies())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_policy(stored.body["spec"], name="policy") == parse_policy(spec, name="policy")


@TRIES
@given(policy_specs.mutated(policy_specs.policies(), policy_specs.NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


def test_the_largest_policy_can_be_stored_and_changed(policies: Rest) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    create(policies, policy_specs.ACCEPTED["the most of each bound"])
    change = {"spec": {"production": {"cidrs": policy_specs.numbered_cidrs(64)}}}
    answer = policies.patch(f"{POLICIES}/policy", change)
    assert answer.ok, answer.message


def test_64_policies_of_64_networks_each_can_be_stored_and_read_in_one_list(policies: Rest) -> None:
    for number in range(64):
        networks = policy_specs.numbered_cidrs(64, second=number)
        spec = {"production": {"cidrs": networks}, "network": {"egressCIDRs": networks}}
        create(policies, spec, f"policy-{number}")
    listed = policies.get(POLICIES, labelSelector="example.test/by=test-crd-policy").body["items"]
    assert len(listed) == 64
    stored = [parse_policy(item["spec"], name=item["metadata"]["name"]) for item in listed]
    assert len({cidr for spec in stored for cidr in spec.production.cidrs}) == 64 * 64


def test_two_managers_own_different_networks_of_the_same_policy(policies: Rest) -> None:
    for manager, cidr in (("one", "10.0.0.0/8"), ("two", "2001:db8::/32")):
        wanted = policy({"production": {"cidrs": [cidr]}})
        answer = policies.patch(f"{POLICIES}/policy", wanted, content_type=APPLY, fieldManager=manager)
        assert answer.ok, answer.message
    assert policies.get(f"{POLICIES}/policy").body["spec"]["production"]["cidrs"] == ["10.0.0.0/8", "2001:db8::/32"]


def test_a_selector_belongs_to_one_manager_as_a_whole(policies: Rest) -> None:
    for manager, label, accepted in (("one", "a", True), ("two", "b", False)):
        wanted = policy({"namespaceSelector": {"matchLabels": {label: "x"}}})
        answer = policies.patch(f"{POLICIES}/policy", wanted, content_type=APPLY, fieldManager=manager)
        assert answer.ok is accepted, answer.message
    assert policies.get(f"{POLICIES}/policy").body["spec"]["namespaceSelector"] == {"matchLabels": {"a": "x"}}


STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "namespaces": 2,
    "agents": 40,
    "violating": 1,
    "violators": [{"namespace": "research", "name": "crawler", "message": "3 replicas; accepted are up to 2"}],
    "productionNamespaces": ["payments"],
    "canaries": [
        {"name": "db", "reachable": False, "since": "2026-01-02T03:04:05.000006Z", "message": "connection refused"}
    ],
    "queries": [
        {"name": "tool-calls", "ok": False, "since": "2026-01-02T03:04:05.000006Z", "message": "it does not parse"}
    ],
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "InForce",
            "message": "it applies to 2 namespaces",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ],
}


def test_a_whole_status_is_stored_and_read_back(policies: Rest) -> None:
    create(policies, {})
    answer = policies.patch(f"{POLICIES}/policy/status", {"status": STATUS}, fieldValidation="Strict")
    assert answer.ok, answer.message
    stored = policies.get(f"{POLICIES}/policy").body["status"]
    assert stored == STATUS
    assert SandboxPolicyStatus.model_validate(stored).model_dump(by_alias=True) == STATUS


def test_the_example_of_a_status_has_every_field_there_is() -> None:
    schema = structural(SandboxPolicyStatus)["properties"]
    assert STATUS.keys() == schema.keys()
    for field in ("violators", "canaries", "queries", "conditions"):
        [item] = STATUS[field]
        assert item.keys() == schema[field]["items"]["properties"].keys()


def test_the_status_subresource_leaves_the_spec_and_a_user_leaves_the_status(policies: Rest) -> None:
    create(policies, {"network": {"clusterDNS": False}})
    change = {"spec": {"network": {"clusterDNS": True}}, "status": {"agents": 7}}
    assert policies.patch(f"{POLICIES}/policy/status", change).ok
    assert policies.patch(f"{POLICIES}/policy", {"status": {"agents": 8}}).ok
    stored = policies.get(f"{POLICIES}/policy").body
    assert stored["spec"]["network"]["clusterDNS"] is False
    assert stored["status"]["agents"] == 7


def test_the_generation_counts_changes_of_the_spec_alone(policies: Rest) -> None:
    assert create(policies, {})["metadata"]["generation"] == 1
    assert policies.patch(f"{POLICIES}/policy/status", {"status": {"agents": 7}}).ok
    answer = policies.patch(f"{POLICIES}/policy", {"spec": {"isolation": {"mode": "AtStart"}}})
    assert answer.body["metadata"]["generation"] == 2


def test_kubectl_shows_the_columns(policies: Rest, apiserver: RunningCluster) -> None:
    create(policies, {})
    policies.patch(f"{POLICIES}/policy/status", {"status": STATUS})
    narrow = apiserver.kubectl("get", "sbxp", "policy").splitlines()
    assert narrow[0].split() == ["NAME", "NAMESPACES", "AGENTS", "VIOLATING", "READY", "AGE"]
    assert narrow[1].split()[:5] == ["policy", "2", "40", "1", "True"]
    wide = apiserver.kubectl("get", "sandboxpolicies", "policy", "--output=wide").splitlines()
    assert wide[0].split()[-1] == "MESSAGE"
    assert "it applies to 2 namespaces" in wide[1]


def documented(schema: dict[str, Any]) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield name
        yield from documented(field.get("items", field))


@pytest.mark.parametrize("part, model", [("spec", SandboxPolicySpec), ("status", SandboxPolicyStatus)])
def test_kubectl_explains_every_field(apiserver: RunningCluster, part: str, model: Any) -> None:
    listed = apiserver.kubectl("explain", f"sandboxpolicy.{part}", "--recursive")
    for name in documented(structural(model)):
        assert re.search(rf"^\s+{re.escape(name)}\t<", listed, re.MULTILINE), name


def test_kubectl_explains_a_field_in_its_own_words(apiserver: RunningCluster) -> None:
    words = " ".join(apiserver.kubectl("explain", "sbxp.spec.production.canaries").split())
    assert "Addresses in production by which isolation is proven" in words
