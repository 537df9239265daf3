"""Label selectors and maps of labels, as Kubernetes has them (metav1.LabelSelector), bounded.

`plan.selectors` says what a selector selects; this module says what one may look like.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from bulkhead.api.fields import (
    ATOMIC,
    LABEL_KEY_RULES,
    LABEL_VALUE_RULES,
    LabelKey,
    Model,
    Rule,
    Text,
    broken,
)

MAX_LABELS: Final = 16
LabelMap = Annotated[
    dict[Annotated[str, Text(317)], Annotated[str, Text(63, shortest=0)]],
    Field(max_length=MAX_LABELS),
]
"""Labels by key. The keys are checked by a rule of the model that has the map (`label_map_rules`): a structural schema
has no rules for keys."""


def label_map_rules(field: str, attribute: str) -> tuple[Rule, ...]:
    """Returns the rules for a model with a map of labels: that its keys are label keys and its values label values.

    Args:
        field: name of the map in the schema.
        attribute: its name in the model.
    """
    labels = f"self.{field}"
    keys = " && ".join(rule.cel.replace("self.", "k.", 1) for rule in LABEL_KEY_RULES)
    value = LABEL_VALUE_RULES[0].cel.replace("self.", f"{labels}[k].", 1)
    return (
        Rule(
            f"!has({labels}) || {labels}.all(k, {keys})",
            f"accepted in {field} are label keys: up to 63 letters, digits, '-', '_' and '.', "
            "after an optional DNS prefix and '/'",
            lambda model: not any(broken(key, LABEL_KEY_RULES) for key in getattr(model, attribute)),
        ),
        Rule(
            f"!has({labels}) || {labels}.all(k, {labels}[k] == '' || {value})",
            f"{LABEL_VALUE_RULES[0].message} ({field})",
            lambda model: (
                not any(value and broken(value, LABEL_VALUE_RULES) for value in getattr(model, attribute).values())
            ),
        ),
    )


class LabelRequirement(Model):
    """One requirement of a selector: a key, an operator and values."""

    key: LabelKey
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label is compared. NotIn is met where the label is missing, too."""
    values: Annotated[list[Annotated[str, Text(63, shortest=0)]], Field(max_length=16, json_schema_extra=ATOMIC)] = (
        Field(default_factory=list)
    )
    """Values to compare with, for In and NotIn."""

    RULES = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "accepted with In and NotIn is at least one value, with Exists and DoesNotExist none",
            lambda requirement: (requirement.operator in ("In", "NotIn")) == bool(requirement.values),
        ),
        Rule(
            "!has(self.values) || self.values.all(v, v == '' || "
            + LABEL_VALUE_RULES[0].cel.replace("self.", "v.", 1)
            + ")",
            f"{LABEL_VALUE_RULES[0].message} (values)",
            lambda requirement: not any(value and broken(value, LABEL_VALUE_RULES) for value in requirement.values),
        ),
    )


class LabelSelector(Model):
    """Selects by labels. Every requirement must be met; without one, everything is selected."""

    # As in Kubernetes' own kinds: requirements of two managers merged into one selector would be nobody's intent.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: LabelMap = Field(default_factory=dict)
    """Labels that must be there with these values."""
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Further requirements."""

    RULES = label_map_rules("matchLabels", "match_labels")

    def plain(self) -> dict[str, Any]:
        """Returns the selector as Kubernetes objects hold it; `{}` if it selects everything."""
        return self.model_dump(by_alias=True, exclude_defaults=True)

    @property
    def selects_everything(self) -> bool:
        """Whether it has no requirement at all."""
        return not self.match_labels and not self.match_expressions
