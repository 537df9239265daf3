"""What the models of the API are made of: rules that hold in the API server and in Python alike.

A rule is written once, as a CEL expression for the CRD (KEP-2876) and as a Python predicate that must agree with it.
The API server checks the first when an object is written; the operator checks the second whenever it reads one,
because an object may have been stored before the rule existed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bulkhead.api.quantity import Quantity

JsonSchema = dict[str, Any]

RULES_KEY = "x-kubernetes-validations"
PROBLEM = "bulkhead_rule"
"""The type of the pydantic error that carries broken rules; its context has their messages, and the field that
each is about where a model has the rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in both languages.

    Attributes:
        cel: the expression; `self` is the value that carries the rule. Empty for what the operator checks alone,
            because the API server would refuse the CRD for its cost.
        message: what would be accepted, as the end of a sentence.
        holds: the same in Python. None for rules about a change (`oldSelf`), which only the API server can see.
        field: of a rule about one field of a model, that field (the same name in the schema and in Python). It stands
            on the model where the text must not be repeated: the API server repeats a refused text in its answer, but
            not a refused object.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field: str = ""


def validations(rules: tuple[Rule, ...]) -> JsonSchema:
    """Returns the `x-kubernetes-validations` of a schema, or nothing without rules."""
    entries = [
        {"rule": rule.cel, "message": rule.message} | ({"fieldPath": f".{rule.field}"} if rule.field else {})
        for rule in rules
        if rule.cel
    ]
    return {RULES_KEY: entries} if entries else {}


def matches(pattern: str, accepted: str) -> Rule:
    r"""A rule that a string matches a pattern as a whole.

    Args:
        pattern: without anchors, in the syntax that RE2 and Python share. Classes such as \s are ASCII in both.
        accepted: what would be accepted.
    """
    compiled = re.compile(pattern, re.ASCII)
    return Rule(f"self.matches(r'^(?:{pattern})$')", accepted, lambda text: compiled.fullmatch(text) is not None)


def lacks(pattern: str, accepted: str) -> Rule:
    """A rule that a pattern is found nowhere in a string."""
    compiled = re.compile(pattern, re.ASCII)
    return Rule(f"!self.matches(r'{pattern}')", accepted, lambda text: compiled.search(text) is None)


def broken(value: Any, rules: tuple[Rule, ...]) -> list[str]:
    """Returns the messages of the rules that a value breaks."""
    return [rule.message for rule in _failed(value, rules)]


def refuse(value: Any, rules: tuple[Rule, ...]) -> None:
    """Raises the pydantic error for the rules that a value breaks, if it breaks any."""
    failed = _failed(value, rules)
    if failed:
        raise _problem([rule.message for rule in failed], [rule.field for rule in failed])


def _failed(value: Any, rules: tuple[Rule, ...]) -> list[Rule]:
    return [rule for rule in rules if rule.holds is not None and not rule.holds(value)]


def _problem(messages: list[str], fields: list[str] | None = None) -> PydanticCustomError:
    context = {"summary": "; ".join(messages), "messages": messages, "fields": fields}
    return PydanticCustomError(PROBLEM, "{summary}", context)


@dataclass(frozen=True, slots=True)
class Text:
    """Annotates a string with bounds and rules; gives the validator and the CRD's schema.

    Attributes:
        longest: characters at most. The API server estimates the cost of CEL from it, so every string has one.
        shortest: characters at least.
        rules: in the order in which they are reported.
    """

    longest: int
    shortest: int = 1
    rules: tuple[Rule, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Builds the validator."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Adds the bounds and rules to the schema of a string."""
        result: JsonSchema = {**handler(schema), "maxLength": self.longest}
        if self.shortest:
            result["minLength"] = self.shortest
        return {**result, **validations(self.rules)}

    def _check(self, text: str) -> str:
        if not self.shortest <= len(text) <= self.longest:
            raise _problem([f"accepted are {self.shortest} to {self.longest} characters"])
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
            # JSON can spell half of a surrogate pair, but no text that is sent anywhere can hold it.
            raise _problem(["accepted is text that is valid Unicode"])
        refuse(text, self.rules)
        return text


@dataclass(frozen=True, slots=True)
class Amount:
    """Annotates a string that holds a quantity within bounds; its value becomes the canonical form.

    Attributes:
        smallest: the least that is accepted, a quantity.
        largest: the most that is accepted, a quantity.
        form: the pattern of accepted spellings; together with the bounds it keeps CEL's `quantity()` from failing.
        unit: shown in the message.
        example: shown in the message.
    """

    smallest: str
    largest: str
    form: str
    unit: str
    example: str

    LONGEST: ClassVar[int] = 20

    @property
    def rule(self) -> Rule:
        """Form and bounds in one rule: the second part of it would fail on a text of another form."""
        low, high = Quantity.parse(self.smallest), Quantity.parse(self.largest)

        def holds(text: str) -> bool:
            if re.fullmatch(self.form, text) is None:
                return False
            try:
                amount = Quantity.parse(text)
            except ValueError:  # larger than any quantity
                return False
            return low <= amount <= high

        cel = f"self.matches(r'^(?:{self.form})$')"
        cel += f" && quantity(self).compareTo(quantity('{self.smallest}')) >= 0"
        cel += f" && quantity(self).compareTo(quantity('{self.largest}')) <= 0"
        return Rule(
            cel, f"accepted is {self.smallest} to {self.largest} {self.unit}, for example {self.example}", holds
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Builds the validator."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Adds the rule to the schema of a string."""
        return {**handler(schema), "minLength": 1, "maxLength": self.LONGEST, **validations((self.rule,))}

    def _check(self, text: str) -> str:
        if len(text) > self.LONGEST:
            raise _problem([self.rule.message])
        refuse(text, (self.rule,))
        return str(Quantity.parse(text))


CPU_FORM = r"[0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}m"
"""The API server rounds CPU up to thousandths, silently; what is finer is refused here instead."""
BYTES_FORM = (
    r"[0-9]{1,15}|[0-9]{1,15}(\.[0-9]{1,3})?(k|M|G|T|P)"
    r"|[0-9]{1,15}(\.(0{1,3}|125|250?|375|50{0,2}|625|750?|875))?(Ki|Mi|Gi|Ti|Pi)"
)
"""Whole bytes by their form: with three decimals a multiple of 1024 is whole only in eighths. CEL's `isInteger` is no
help, it says no to 1.5Gi."""

Cpu = Annotated[str, Amount("1m", "1024", CPU_FORM, "cores", "500m or 2")]
Memory = Annotated[str, Amount("8Mi", "16Ti", BYTES_FORM, "in whole bytes", "512Mi")]
Storage = Annotated[str, Amount("1Mi", "64Ti", BYTES_FORM, "in whole bytes", "1Gi")]


class Model(BaseModel):
    """Base of all models: camelCase names, exact types, no unknown fields, unchangeable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Rules about several fields of this model together."""

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        refuse(self, self.RULES)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Adds the rules to the schema of the object."""
        reference = handler(schema)
        result = handler.resolve_ref_schema(reference)
        result.update(validations(cls.RULES))
        return reference


class Keyed:
    """Annotates a list whose items are told apart by some of their fields; server-side apply merges by these."""

    def __init__(self, *attributes: str) -> None:
        """Takes the names of the fields in Python."""
        self.attributes = attributes
        self.keys = [to_camel(attribute) for attribute in attributes]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Builds the validator."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Adds the list type, by which the API server refuses doubles."""
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": self.keys}

    def _check(self, items: list[Any]) -> list[Any]:
        if not unique(items, *self.attributes):
            raise _problem([f"accepted are items that differ in {' or '.join(self.keys)}"])
        return items


class Distinct:
    """Annotates a list of strings of which no two are the same; server-side apply merges by the strings themselves."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Builds the validator."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Adds the list type, by which the API server refuses doubles."""
        return {**handler(schema), "x-kubernetes-list-type": "set"}

    def _check(self, items: list[str]) -> list[str]:
        if len(items) != len(set(items)):
            raise _problem(["accepted are items of which no two are the same"])
        return items


ATOMIC: JsonSchema = {"x-kubernetes-list-type": "atomic"}
"""Schema of a list that is replaced as a whole."""


def unique(items: list[Any], *attributes: str) -> bool:
    """Tells whether no two items agree in all these attributes."""
    seen = [tuple(getattr(item, attribute) for attribute in attributes) for item in items]
    return len(seen) == len(set(seen))


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
DNS_LABEL_PATTERN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
DNS_NAME_PATTERN = rf"{DNS_LABEL_PATTERN}(\.{DNS_LABEL_PATTERN})*"

_LABEL_ACCEPTED = "accepted are up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
_KEY_ACCEPTED = (
    "accepted is a label key: up to 63 letters, digits, '-', '_' and '.', after an optional DNS prefix and '/'"
)
_DNS_ACCEPTED = "accepted are lower case letters and digits, with '-' and '.' between them"

LABEL_VALUE_RULES = (matches(_LABEL, _LABEL_ACCEPTED),)
LABEL_KEY_RULES = (
    matches(rf"({DNS_NAME_PATTERN}/)?{_LABEL}", _KEY_ACCEPTED),
    matches("([^/]{1,253}/)?[^/]+", _KEY_ACCEPTED),
)

LabelValue = Annotated[str, Text(63, rules=LABEL_VALUE_RULES)]
LabelKey = Annotated[str, Text(317, rules=LABEL_KEY_RULES)]
DnsName = Annotated[str, Text(253, rules=(matches(DNS_NAME_PATTERN, _DNS_ACCEPTED),))]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
