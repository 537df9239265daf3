"""Turns what pydantic found wrong with a spec into sentences for the person who wrote it."""

import difflib
import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bulkhead.api.conditions import shorten
from bulkhead.api.fields import PROBLEM, Rule

MAX_PROBLEMS: Final = 20
"""Sentences at most; what a condition's message and a person can hold."""
MAX_GIVEN: Final = 80
"""Characters of a refused value that are repeated."""

_VEILED: Final = frozenset({"env", "args", "command", "httpHeaders", "parameters"})
"""Fields in which people put secrets although they should not: their values are described, never repeated."""
_HARMLESS: Final = frozenset({"name", "fieldPath"})
"""What is repeated inside of veiled fields all the same."""

_TYPES: Final = {
    "bool_type": "accepted is true or false",
    "dict_type": "accepted is an object",
    "int_type": "accepted is a whole number",
    "list_type": "accepted is a list",
    "model_attributes_type": "accepted is an object",
    "model_type": "accepted is an object",
    "string_type": "accepted is a string",
}
"""Clauses where pydantic's own words are about Python."""

_Spec = TypeVar("_Spec", bound=BaseModel)

Location = tuple[int | str, ...]


class InvalidSpec(ValueError):  # noqa: N818 (it says what the spec is)
    """A spec that must not be acted on.

    Attributes:
        problems: one sentence for each problem: where, what was given (bounded) and what would be accepted.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keeps at most `MAX_PROBLEMS` sentences and says how many were left out."""
        kept = list(problems[:MAX_PROBLEMS])
        if len(problems) > MAX_PROBLEMS:
            kept.append(f"{len(problems) - MAX_PROBLEMS} more problems are not listed.")
        self.problems: tuple[str, ...] = tuple(kept)
        super().__init__(" ".join(self.problems))


def validated(model: type[_Spec], raw: Any, *, name: str, name_rule: Rule) -> _Spec:
    """Reads the spec of an object as the API server stores it, and checks the object's name.

    Everything that the CRD checks is checked again: the object may have been stored before a rule existed. Rules about
    changes are the API server's alone.

    Args:
        model: of the spec.
        raw: `spec` of the object; anything that JSON can hold.
        name: `metadata.name` of the object.
        name_rule: what names may be.

    Raises:
        InvalidSpec: with a sentence for each problem.
    """
    problems: list[str] = []
    if name_rule.holds is not None and not name_rule.holds(name):
        problems.append(f"metadata.name: {given(name)} was given; {name_rule.message}.")
    spec = None
    try:
        spec = model.model_validate(raw)
    except ValidationError as error:
        problems += problems_of(error, model, root="spec")
    if problems or spec is None:
        raise InvalidSpec(problems)
    return spec


def problems_of(error: ValidationError, model: type[BaseModel], *, root: str) -> list[str]:
    """Returns a sentence for each problem, in the order of the fields.

    Args:
        error: what pydantic raised.
        model: the model that was validated; known field names are looked up in it.
        root: the path of the validated value, such as "spec".
    """
    sentences: list[str] = []
    for details in error.errors(include_url=False):
        sentences.extend(_sentences(details, model, root))
    return list(dict.fromkeys(sentences))


def path_of(location: Location, *, root: str) -> str:
    """Formats a location as Kubernetes does: `spec.env[2].name`."""
    path = root
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{shorten(_printable(step), MAX_GIVEN)}"
    return path


def given(value: Any, *, veiled: bool = False) -> str:
    """Describes a refused value in a bounded way; collections and veiled values by their kind and size alone."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if veiled:
        return f"a string of {len(value)} characters" if isinstance(value, str) else "a value of another type"
    # Cut before it is formatted too: the value may be a megabyte long.
    return shorten(json.dumps(value[:MAX_GIVEN] if isinstance(value, str) else value, default=str), MAX_GIVEN)


def _sentences(details: ErrorDetails, model: type[BaseModel], root: str) -> list[str]:
    location: Location = details["loc"]
    kind = details["type"]
    if kind == "missing":
        return [f"{path_of(location, root=root)} is required and was not given."]
    if kind == "extra_forbidden":
        *parent, name = location
        known = _fields_at(model, tuple(parent))
        close = difflib.get_close_matches(str(name)[:MAX_GIVEN], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"accepted are {', '.join(known)}."
        return [f"{path_of(location, root=root)} is not a field; {hint}"]
    if location and location[-1] == "[key]":
        # pydantic names the key itself one step before.
        location = location[:-1]
    if kind != PROBLEM:
        return [_sentence(location, details["input"], _clause(details), root)]
    messages = details["ctx"]["messages"]
    fields = details["ctx"].get("fields") or [""] * len(messages)
    return [
        _sentence((*location, field), details["input"].get(field), message, root)
        if field and isinstance(details["input"], dict)
        else _sentence(location, details["input"], message, root)
        for message, field in zip(messages, fields, strict=True)
    ]


def _sentence(location: Location, value: Any, message: str, root: str) -> str:
    veiled = any(step in _VEILED for step in location) and location[-1] not in _HARMLESS
    return f"{path_of(location, root=root)}: {given(value, veiled=veiled)} was given; {message}."


def _clause(details: ErrorDetails) -> str:
    """Says what would be accepted, where pydantic and not a rule refused."""
    kind = details["type"]
    if kind == "too_short":
        return f"accepted are {details['ctx']['min_length']} or more entries"
    if kind == "too_long":
        return f"accepted are up to {details['ctx']['max_length']} entries"
    clause = _TYPES.get(kind) or details["msg"].replace("Input should be", "accepted is", 1)
    return clause[:1].lower() + clause[1:]


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Returns the names accepted in the object at this location, following fields, list items and map values."""
    for step in location:
        if isinstance(step, int):
            continue
        field = next((f for name, f in model.model_fields.items() if step in (f.alias, name)), None)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _printable(step: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in step[: MAX_GIVEN + 1])
