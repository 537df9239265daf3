"""The page about identity: its example is what the plan says, and its floor is the floor."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import accessfloor, identityceilings, policy
from tests.unit.plan.policies import bounds_of

TEXT = (Path(__file__).parents[3] / "docs" / "identity.md").read_text(encoding="utf-8")
FLOOR = TEXT.partition("### The floor")[2].partition("## The token")[0]


def test_the_refusals_of_the_example_are_those_of_the_plan() -> None:
    agent, given = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    [told] = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)

    spec = parse_spec(agent["spec"], name=agent["metadata"]["name"])
    found = identityceilings.identity(spec, bounds_of(policy.parse(given)), api_audiences=())
    assert [str(one) for one in found] == told.splitlines()


def test_every_part_of_the_floor_is_on_the_page() -> None:
    told = set(re.findall(r"[a-z0-9./*]+", FLOOR))
    for closed in accessfloor.FLOOR:
        words = closed.resources if closed.groups == ("",) else closed.groups
        assert {word.partition(".")[0] for word in words} & {word.partition(".")[0] for word in told}, closed
    assert ", ".join(accessfloor.VERBS) in FLOOR
