"""The KillSwitch: as long as it exists, what it selects is suspended, and what appears later and matches never starts.

Cluster-scoped. Creating one and removing one are two rights (see docs/killswitch.md), which is why its spec cannot be
changed: narrowing the selector would be a removal by who may only create.
"""

from typing import Annotated, Any, Final

from pydantic import Field

from bulkhead.api.fields import DNS_LABEL_PATTERN, Distinct, LabelValue, Model, Rule, Text, broken, lacks, matches
from bulkhead.api.network import NamespaceName
from bulkhead.api.problems import InvalidSpec, validated
from bulkhead.api.selectors import LabelSelector

__all__ = ["InvalidSpec", "KillSwitchSelector", "KillSwitchSpec", "parse_kill_switch"]

MAX_SELECTED: Final = 256
"""Values in one list of a selector."""
MAX_NAME: Final = 63
MIN_GRACE_SECONDS: Final = 2

NAME_RULE: Final = Rule(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches(r'^{DNS_LABEL_PATTERN}$')",
    f"accepted as metadata.name are up to {MAX_NAME} lower case letters, digits and '-', "
    "beginning and ending with a letter or digit",
    lambda name: len(name) <= MAX_NAME and not broken(name, (matches(DNS_LABEL_PATTERN, ""),)),
)

Reason = Annotated[
    str,
    Text(
        1024,
        rules=(
            lacks(r"^[\x00-\x20\x7f]*$", "accepted is a reason in words, not blank"),
            lacks(
                r"[\x00-\x08\x0b-\x1f\x7f-\x9f]",
                "accepted is text without control characters; line breaks and tabs are accepted",
            ),
        ),
    ),
]

_PARTS: Final = ("tenants", "workflows", "namespaces", "labels")
_GIVEN: Final = " || ".join(f"has(self.{part})" for part in _PARTS)


def _named(selector: "KillSwitchSelector") -> bool:
    return any(getattr(selector, part) is not None for part in _PARTS)


class KillSwitchSelector(Model):
    """Which agents: all of them, or those that match every field that is given. Values of one list are alternatives."""

    all: bool = False
    """True selects every agent of the cluster."""
    tenants: Annotated[list[LabelValue], Field(min_length=1, max_length=MAX_SELECTED), Distinct()] | None = None
    """Agents of one of these tenants, by spec.tenant."""
    workflows: Annotated[list[LabelValue], Field(min_length=1, max_length=MAX_SELECTED), Distinct()] | None = None
    """Agents of one of these workflows, by spec.workflow; an agent without one has its own name as workflow."""
    namespaces: Annotated[list[NamespaceName], Field(min_length=1, max_length=MAX_SELECTED), Distinct()] | None = None
    """Agents in one of these namespaces."""
    labels: LabelSelector | None = None
    """Agents by the labels of the AgentDeployment."""

    RULES = (
        Rule(
            f"(has(self.all) && self.all) || {_GIVEN}",
            "accepted is all: true, or at least one of tenants, workflows, namespaces and labels; nothing at all is "
            "not taken for everything",
            lambda selector: selector.all or _named(selector),
        ),
        Rule(
            f"!has(self.all) || !self.all || !({_GIVEN})",
            "accepted with all: true is none of tenants, workflows, namespaces and labels, which would not narrow it",
            lambda selector: not (selector.all and _named(selector)),
        ),
        Rule(
            "!has(self.labels) || (has(self.labels.matchLabels) && self.labels.matchLabels.size() > 0) || "
            "(has(self.labels.matchExpressions) && self.labels.matchExpressions.size() > 0)",
            "accepted as labels is a selector with at least one requirement; for every agent say all: true",
            lambda selector: selector.labels is None or not selector.labels.selects_everything,
        ),
        Rule(
            "self == oldSelf",
            "the selector of a kill switch cannot be changed; accepted is the one it has. To stop more agents create "
            "another KillSwitch, to let some run delete this one",
        ),
    )


class KillSwitchSpec(Model):
    """Which agents must not run, and why. Only the reason can be changed."""

    selector: KillSwitchSelector
    """Which agents. Every field that is given must match."""
    reason: Reason
    """Why, for people. It is in the status of each agent that it stops."""
    grace_seconds: Annotated[int, Field(ge=MIN_GRACE_SECONDS, le=30)] | None = None
    """Seconds between SIGTERM and SIGKILL, where that is less than the agent's suspendGraceSeconds; those if not
    given."""

    RULES = (
        Rule(
            "has(self.graceSeconds) == has(oldSelf.graceSeconds) && "
            "(!has(self.graceSeconds) || self.graceSeconds == oldSelf.graceSeconds)",
            "graceSeconds of a kill switch cannot be changed; accepted is what it has. Create another KillSwitch for "
            "the same agents instead: the shortest grace counts",
        ),
    )


def parse_kill_switch(raw: Any, *, name: str) -> KillSwitchSpec:
    """Reads the spec of a KillSwitch as the API server stores it.

    Everything that the CRD checks is checked again, the name too: the object may have been stored before a rule
    existed. Rules about changes are the API server's alone.

    Args:
        raw: `spec` of the object; anything that JSON can hold.
        name: `metadata.name` of the object.

    Raises:
        InvalidSpec: with a sentence for each problem.
    """
    return validated(KillSwitchSpec, raw, name=name, name_rule=NAME_RULE)
