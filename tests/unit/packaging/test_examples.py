"""The examples: each is accepted, and the agents among them by the policy among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.sandboxpolicy import parse_policy
from bulkhead.plan import policy

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"


def example(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def namespaces() -> list[dict[str, Any]]:
    """The examples' namespace and another, with the label that the API server adds."""
    found = [example("namespace"), {"metadata": {"name": "tools", "labels": {}}}]
    for namespace in found:
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = namespace["metadata"]["name"]
    return found


def test_the_policy_is_accepted() -> None:
    manifest = example("sandboxpolicy")
    spec = parse_policy(manifest["spec"], name=manifest["metadata"]["name"])
    assert spec.production.canaries


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_an_agent_is_accepted_by_the_policy_beside_it(name: str) -> None:
    agent, [sandbox, *others] = example(name), namespaces()
    spec = parse_spec(agent["spec"], name=agent["metadata"]["name"])
    bounds = policy.bounds([policy.parse(example("sandboxpolicy"))], namespace=sandbox, namespaces=[sandbox, *others])
    assert [applied.name for applied in bounds.policies] == ["research"]
    issuers = {"warehouse": "postgres", "vault": "vault"}
    namespace = agent["metadata"]["namespace"]
    assert policy.violations(spec, bounds, namespace=namespace, reserved=(), issuers=issuers) == ()
