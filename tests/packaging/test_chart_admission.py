"""What the chart installs for admission and isolation: policies, what the operator compares them with, the canary."""

from __future__ import annotations

import json
from pathlib import Path

from tests.packaging.admission import ADMISSION, CONTENTS, GUARDS
from tests.packaging.rendering import Manifest, load, name_of, of_kind, render, the

DIGEST = "sha256:" + "0" * 64
TAKEN_AWAY = {"get", "list", "watch", "delete", "deletecollection"}
"""Verbs with which rights of agents are taken away, which is never a question of settings."""


def test_each_admission_policy_fails_closed_and_is_bound_to_deny(default_objects: list[Manifest]) -> None:
    bindings = {one["spec"]["policyName"]: one["spec"] for one in of_kind(default_objects, ADMISSION[1])}
    policies = of_kind(default_objects, ADMISSION[0])
    assert len(policies) == len(bindings) == len(GUARDS) + len(CONTENTS)
    for policy in policies:
        spec = policy["spec"]
        assert spec["failurePolicy"] == "Fail"
        assert all("message" in one or "messageExpression" in one for one in spec["validations"])
        assert bindings[policy["metadata"]["name"]]["validationActions"] == ["Deny"]


def test_the_operator_is_given_the_admission_objects_to_compare_with(
    default_objects: list[Manifest], pod: Manifest
) -> None:
    data = the(default_objects, "ConfigMap")["data"]
    given = [one for text in data.values() for one in load(text)]
    installed = [one for kind in ADMISSION for one in of_kind(default_objects, kind)]
    assert sorted(given, key=name_of) == sorted(installed, key=name_of)
    (container,) = pod["spec"]["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert mounts["admission"] == env["BULKHEAD_ADMISSION_DIR"] == "/etc/bulkhead/admission"


def test_the_operators_pods_are_made_anew_when_an_admission_policy_changes(helm: Path) -> None:
    def checksum(values: Manifest) -> str:
        template = the(render(helm, values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/admission"])

    assert checksum({}) == checksum({"logLevel": "debug"})
    assert checksum({}) != checksum({"admission": {"breakGlassGroups": []}})


def test_admission_names_the_account_that_the_operator_runs_as(helm: Path) -> None:
    objects = render(helm, {"serviceAccount": {"create": True, "name": "own"}}, namespace="elsewhere")
    policy = json.dumps(the(objects, ADMISSION[0], "bulkhead-network-policies"))
    assert "system:serviceaccount:elsewhere:own" in policy
    assert "bulkhead-system" not in policy


def test_break_glass_groups_are_those_of_the_values(helm: Path) -> None:
    text = json.dumps(
        of_kind(render(helm, {"admission": {"breakGlassGroups": ["oncall", "x@example.com"]}}), ADMISSION[0])
    )
    assert "g in ['oncall', 'x@example.com']" in text and "bulkhead:break-glass" not in text


def test_admission_can_be_left_out_whole(helm: Path) -> None:
    objects = render(helm, {"admission": {"enabled": False}})
    assert not {*ADMISSION, "ConfigMap"} & {one["kind"] for one in objects}
    text = json.dumps(objects)
    assert "BULKHEAD_ADMISSION_DIR" not in text and "validatingadmissionpolicies" not in text


def test_without_admission_the_operator_has_no_right_that_admission_would_have_to_hold(helm: Path) -> None:
    without = rights(render(helm, {"admission": {"enabled": False}}))
    assert not {"escalate", "bind"} & {verb for _, verb in without}
    assert "secrets" not in {resource for resource, _ in without}
    for resource in ("roles", "rolebindings", "ciliumnetworkpolicies"):
        assert {verb for named, verb in without if named == resource} == TAKEN_AWAY


def test_agents_without_rights_in_the_api_server_need_no_operator_that_gives_them(helm: Path) -> None:
    without = rights(render(helm, {"identity": {"kubernetesApi": {"enabled": False}}}))
    assert not {"escalate", "bind"} & {verb for _, verb in without}
    assert {verb for named, verb in without if named == "secrets"} == {"create", "patch", "delete"}
    for resource in ("roles", "rolebindings", "ciliumnetworkpolicies"):
        assert {verb for named, verb in without if named == resource} == TAKEN_AWAY


def rights(objects: list[Manifest]) -> set[tuple[str, str]]:
    role = the(objects, "ClusterRole", "bulkhead")
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


def test_no_policy_is_larger_than_what_the_api_server_stores_with_ease(default_objects: list[Manifest]) -> None:
    sizes = {name_of(one): len(json.dumps(one)) for one in of_kind(default_objects, ADMISSION[0])}
    assert max(sizes.values()) < 32 * 1024, sizes
    compared = the(default_objects, "ConfigMap")
    assert len(json.dumps(compared)) < 512 * 1024, "a ConfigMap holds a MiB"


def test_the_gates_image_is_the_operators_unless_another_is_given(helm: Path) -> None:
    def gate(values: Manifest) -> tuple[str, str]:
        (container,) = the(render(helm, values), "Deployment")["spec"]["template"]["spec"]["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        return env["BULKHEAD_GATE_IMAGE"], env["BULKHEAD_GATE_PULL_POLICY"]

    assert gate({"image": {"digest": DIGEST}}) == (f"bulkhead/operator@{DIGEST}", "IfNotPresent")
    assert gate({"gate": {"image": "registry.example/gate:1", "pullPolicy": "Always"}}) == (
        "registry.example/gate:1",
        "Always",
    )


def test_the_canary_is_a_service_of_the_operators_pods(default_objects: list[Manifest], pod: Manifest) -> None:
    spec = the(default_objects, "Service")["spec"]
    assert spec["selector"] == the(default_objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert spec["ports"] == [{"name": "canary", "port": 8082, "targetPort": "canary", "protocol": "TCP"}]
    env = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert env["BULKHEAD_CANARY_SERVICE"] == "bulkhead-system/bulkhead-canary"


def test_metrics_are_open_to_those_who_are_named_and_to_nobody_else(helm: Path) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rules = the(render(helm, {"networkPolicy": {"metricsFrom": [peer]}}), "NetworkPolicy")["spec"]["ingress"]
    assert rules[1:] == [{"from": [peer], "ports": [{"protocol": "TCP", "port": "readyz"}]}]
    assert len(the(render(helm), "NetworkPolicy")["spec"]["ingress"]) == 1
