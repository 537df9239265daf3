from __future__ import annotations

from typing import Any

import pytest

from bulkhead.api.agentdeployment import MAX_NAME, parse_spec
from bulkhead.plan import names
from tests import specs

AGENT: dict[str, Any] = {"metadata": {"name": "demo", "namespace": "sandbox", "uid": "uid-1"}}


def test_children_are_named_after_the_agent() -> None:
    assert names.stateful_set_name("demo") == "demo"
    assert names.service_account_name("demo") == "agent-demo"
    assert names.pod_name("demo", 3) == "demo-3"
    assert names.claim_name("demo", 0) == "workspace-demo-0"


def test_an_agent_called_default_does_not_take_the_default_service_account() -> None:
    assert names.service_account_name("default") != "default"


@pytest.mark.parametrize("name", ["n" * MAX_NAME, "a"])
def test_what_is_derived_from_the_longest_name_fits_into_a_label(name: str) -> None:
    # The StatefulSet controller labels pods with NAME-HASH (up to 10 characters) and with the pod's name.
    assert len(f"{name}-{'h' * 10}") <= 63
    assert len(names.pod_name(name, 99)) <= 63


def test_the_workflow_is_the_agent_s_name_unless_given() -> None:
    plain = names.child_labels(AGENT, parse_spec(specs.minimal(), name="demo"))
    named = names.child_labels(AGENT, parse_spec(specs.minimal(workflow="nightly"), name="demo"))
    assert plain["bulkhead.dev/workflow"] == "demo"
    assert named["bulkhead.dev/workflow"] == "nightly"


def test_there_is_no_tenant_label_without_a_tenant() -> None:
    assert "bulkhead.dev/tenant" not in names.child_labels(AGENT, parse_spec(specs.minimal(), name="demo"))
    labels = names.child_labels(AGENT, parse_spec(specs.minimal(tenant="acme"), name="demo"))
    assert labels["bulkhead.dev/tenant"] == "acme"


def test_identity_labels_are_among_the_child_labels_and_never_change() -> None:
    identity = names.identity_labels(AGENT)
    assert identity == {
        "app.kubernetes.io/managed-by": "bulkhead",
        "bulkhead.dev/agent": "demo",
        "bulkhead.dev/agent-uid": "uid-1",
    }
    assert identity.items() <= names.child_labels(AGENT, parse_spec(specs.minimal(tenant="t"), name="demo")).items()


def test_pods_are_selected_by_uid_and_never_by_name() -> None:
    assert names.pod_selector(AGENT) == {"bulkhead.dev/agent-uid": "uid-1"}
    assert names.selector_string(AGENT) == "bulkhead.dev/agent-uid=uid-1"


def test_a_selector_is_the_same_text_whatever_the_order_of_its_labels() -> None:
    assert names.label_selector({"b": "2", "a": "1"}) == names.label_selector({"a": "1", "b": "2"}) == "a=1,b=2"
