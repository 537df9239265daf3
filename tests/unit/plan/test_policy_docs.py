"""The page about policies: its example is what the plan says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import policy
from tests.unit.plan.policies import bounds_of, refused

TEXT = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")


def test_the_refusals_of_the_example_are_those_of_the_plan() -> None:
    given, agent = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    [told] = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)

    spec = parse_spec(agent["spec"], name=agent["metadata"]["name"])
    found = refused(spec, bounds_of(policy.parse(given)))
    assert [str(one) for one in found] == told.splitlines()


def test_the_bounds_that_the_page_gives_are_those_of_the_code() -> None:
    assert f"At most {policy.MAX_VIOLATIONS} refusals" in TEXT
