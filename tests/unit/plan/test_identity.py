from __future__ import annotations

from typing import Any

import pytest

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import identity
from tests import specs

AGENT: dict[str, Any] = {
    "apiVersion": "bulkhead.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "demo", "namespace": "sandbox", "uid": "uid-1"},
}
SPEC = parse_spec(specs.minimal(tenant="acme"), name="demo")


def test_the_account_is_the_agent_s_own_and_mounts_no_token() -> None:
    assert identity.service_account(AGENT, SPEC) == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "agent-demo",
            "namespace": "sandbox",
            "labels": {
                "app.kubernetes.io/managed-by": "bulkhead",
                "bulkhead.dev/agent": "demo",
                "bulkhead.dev/agent-uid": "uid-1",
                "bulkhead.dev/tenant": "acme",
                "bulkhead.dev/workflow": "demo",
            },
            "ownerReferences": [
                {
                    "apiVersion": "bulkhead.dev/v1alpha1",
                    "kind": "AgentDeployment",
                    "name": "demo",
                    "uid": "uid-1",
                    "controller": True,
                }
            ],
        },
        "automountServiceAccountToken": False,
    }


def test_pull_secrets_are_taken_over_once_and_in_one_order() -> None:
    account = identity.service_account(AGENT, SPEC, pull_secrets=["b", "a", "b"])
    assert account["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize(
    "account, found",
    [
        (None, []),
        ({}, []),
        ({"imagePullSecrets": None}, []),
        ({"imagePullSecrets": [{"name": "b"}, {}, {"name": "a"}, {"name": "b"}]}, ["a", "b"]),
    ],
)
def test_the_namespace_s_pull_secrets_are_those_of_its_default_account(account: Any, found: list[str]) -> None:
    assert identity.pull_secret_names(account) == found


RULES = [
    {"apiGroups": ["", "batch"], "resources": ["pods/log", "jobs"], "verbs": ["watch", "get"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["b", "a"], "verbs": ["update"]},
]
WITH_RULES = parse_spec(specs.minimal(identity={"kubernetesApi": {"rules": RULES}}), name="demo")


def test_an_agent_without_rules_has_neither_role_nor_binding() -> None:
    tokens = parse_spec(specs.minimal(identity={"tokens": [{"audience": "vault", "path": "vault"}]}), name="demo")
    for spec in (SPEC, tokens):
        assert not identity.wants_api(spec)
        assert identity.role(AGENT, spec) is None
        assert identity.role_binding(AGENT, spec) is None


def test_the_role_has_the_rules_as_they_are_asked_for_and_belongs_to_the_agent() -> None:
    role = identity.role(AGENT, WITH_RULES)
    account = identity.service_account(AGENT, WITH_RULES)
    assert role == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": account["metadata"],
        "rules": RULES,
    }


def test_the_binding_gives_the_role_to_the_agent_s_account_and_to_nobody_else() -> None:
    binding = identity.role_binding(AGENT, WITH_RULES)
    account = identity.service_account(AGENT, WITH_RULES)
    assert binding == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": account["metadata"],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent-demo"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent-demo", "namespace": "sandbox"}],
    }
