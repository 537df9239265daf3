"""The manifests of the demo and of the examples are what the API takes, and what the demo's policy allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.killswitch import parse_kill_switch
from bulkhead.plan import policy
from demo import breaker, killswitch

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = "[]"
"""What the demo fills in where a manifest says so."""


def read(file: Path) -> list[dict[str, Any]]:
    """The objects of a file, those of lists one by one."""
    found = [one for one in yaml.safe_load_all(file.read_text().replace("$ENVIRONMENT", ENVIRONMENT)) if one]
    return [item for one in found for item in (one["items"] if one["kind"] == "List" else [one])]


MANIFESTS = {
    f"{file.parent.name}/{file.name}: {one['kind']} {one['metadata']['name']}": one
    for folder in ("demo", "examples/checkpointing")
    for file in sorted((REPOSITORY / folder).glob("*.yaml"))
    if file.name not in ("values.yaml", "trips.yaml")
    for one in read(file)
}
AGENTS = {name: one for name, one in MANIFESTS.items() if one["kind"] == "AgentDeployment"}
SWITCHES = {name: one for name, one in MANIFESTS.items() if one["kind"] == "KillSwitch"}


@pytest.mark.parametrize("manifest", AGENTS.values(), ids=AGENTS.keys())
def test_each_agent_is_one(manifest: dict[str, Any]) -> None:
    assert parse_spec(manifest["spec"], name=manifest["metadata"]["name"]).owner


@pytest.mark.parametrize("manifest", SWITCHES.values(), ids=SWITCHES.keys())
def test_each_kill_switch_is_one(manifest: dict[str, Any]) -> None:
    assert parse_kill_switch(manifest["spec"], name=manifest["metadata"]["name"]).reason


def test_the_demo_s_kill_switch_names_the_tenant_of_three_agents_and_of_the_latecomer() -> None:
    [switch] = SWITCHES.values()
    [tenant] = switch["spec"]["selector"]["tenants"]
    of_it = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in AGENTS.values()
        if one["spec"].get("tenant") == tenant
    }
    assert of_it == {*killswitch.TENANT, (killswitch.TRADING, killswitch.LATECOMER)}


def test_the_demo_s_policy_is_one_with_and_without_its_trips() -> None:
    spec = yaml.safe_load((REPOSITORY / "demo" / "values.yaml").read_text())["policy"]["spec"]
    trips = yaml.safe_load((REPOSITORY / breaker.TRIPS).read_text())["spec"]
    for merged in (spec, {**spec, **trips}):
        parsed = policy.parse(
            {
                "apiVersion": "bulkhead.dev/v1alpha1",
                "kind": "SandboxPolicy",
                "metadata": {"name": "default", "uid": "1", "generation": 1},
                "spec": merged,
            }
        )
        assert parsed.problems == ()
    [query] = trips["circuitBreaker"]["queries"]
    assert (query["query"], float(query["above"]), query["intervalSeconds"]) == (
        breaker.QUERY,
        breaker.THRESHOLD,
        breaker.INTERVAL_SECONDS,
    )
