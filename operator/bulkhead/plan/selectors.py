"""Label selectors, as Kubernetes reads them (metav1.LabelSelector, `LabelSelectorAsSelector` of apimachinery)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_FIELDS: Final = frozenset({"matchLabels", "matchExpressions"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that labels must meet.

    Attributes:
        key: of the label.
        operator: In, NotIn, Exists or DoesNotExist.
        values: for In and NotIn.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def met(self, labels: Mapping[str, str]) -> bool:
        """Says whether labels meet it. NotIn is met where the label is missing, too."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        return (value is not None) == (self.operator == "Exists")


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector that was read and checked. Every requirement must be met.

    Attributes:
        requirements: None selects nothing; an empty tuple everything.
    """

    requirements: tuple[Requirement, ...] | None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Says whether labels are selected."""
        return self.requirements is not None and all(one.met(labels) for one in self.requirements)


NOTHING: Final = Selector(None)
EVERYTHING: Final = Selector(())


def read(selector: Any) -> Selector:
    """Reads a metav1.LabelSelector. None selects nothing, `{}` everything.

    Raises:
        ValueError: it is none. What an unknown field or operator narrows down cannot be told, so it is not guessed.
    """
    if selector is None:
        return NOTHING
    if not isinstance(selector, dict) or not selector.keys() <= _FIELDS:
        raise ValueError("accepted in a label selector are matchLabels and matchExpressions")
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(labels, dict) or not isinstance(expressions, list):
        raise ValueError("accepted are matchLabels that are a map and matchExpressions that are a list")
    if not all(isinstance(text, str) for pair in labels.items() for text in pair):
        raise ValueError("accepted in matchLabels are strings")
    wanted = tuple(Requirement(key, "In", frozenset({value})) for key, value in labels.items())
    return Selector(wanted + tuple(map(_requirement, expressions)))


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Says whether a metav1.LabelSelector in plain form selects these labels. None selects nothing, `{}` everything.

    Raises:
        ValueError: see `read`.
    """
    return read(selector).matches(labels)


def _requirement(expression: Any) -> Requirement:
    if not isinstance(expression, dict) or not expression.keys() <= {"key", "operator", "values"}:
        raise ValueError("accepted in matchExpressions are key, operator and values")
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError("accepted in matchExpressions are a key that is a string and values that are strings")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        raise ValueError("accepted as operator are In, NotIn, Exists and DoesNotExist")
    if (operator in ("In", "NotIn")) != bool(values):
        raise ValueError("accepted with In and NotIn is at least one value, with Exists and DoesNotExist none")
    return Requirement(key, operator, frozenset(values))
