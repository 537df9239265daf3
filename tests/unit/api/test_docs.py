from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from bulkhead.api.agentdeployment import AgentDeploymentSpec, parse_spec
from bulkhead.api.killswitch import KillSwitchSpec, parse_kill_switch
from bulkhead.api.killswitchstatus import KillSwitchStatus
from bulkhead.api.policystatus import SandboxPolicyStatus
from bulkhead.api.sandboxpolicy import SandboxPolicySpec, parse_policy
from bulkhead.api.status import AgentDeploymentStatus
from bulkhead.api.structural import structural

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")

# Fields that are Kubernetes' own and are not told again.
KUBERNETES_OWN = frozenset({"probes", "tolerations", "httpHeaders", "conditions"})


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """The names of all fields, those of Kubernetes' own objects left out."""
    for name, field in schema.get("properties", {}).items():
        yield name
        if name not in KUBERNETES_OWN:
            yield from fields(field.get("items", field))


@pytest.mark.parametrize(
    "model",
    [
        AgentDeploymentSpec,
        AgentDeploymentStatus,
        SandboxPolicySpec,
        SandboxPolicyStatus,
        KillSwitchSpec,
        KillSwitchStatus,
    ],
)
def test_every_field_is_documented(model: Any) -> None:
    words = set(re.findall(r"[A-Za-z-]+", TEXT))
    assert [name for name in fields(structural(model)) if name not in words] == []


def test_the_examples_of_the_page_are_valid() -> None:
    agent, policy, switch = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    parse_spec(agent["spec"], name=agent["metadata"]["name"])
    parse_policy(policy["spec"], name=policy["metadata"]["name"])
    parse_kill_switch(switch["spec"], name=switch["metadata"]["name"])


def test_the_defaults_on_the_page_are_those_of_the_schema() -> None:
    parts = re.split("\n## The (?:SandboxPolicy|KillSwitch)\n", TEXT)
    models: tuple[type[BaseModel], ...] = (AgentDeploymentSpec, SandboxPolicySpec, KillSwitchSpec)
    for text, model, least in zip(parts, models, (4, 4, 1), strict=True):
        rows = re.findall(r"^\| `([a-zA-Z.]+)` \| `([^`]+)` \|", text, re.MULTILINE)
        assert len(rows) >= least
        for path, default in rows:
            field = structural(model)
            for step in path.split("."):
                field = field["properties"][step]
            assert str(field["default"]).lower() == default.lower(), path
