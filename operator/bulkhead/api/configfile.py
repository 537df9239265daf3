"""The files that the operator itself is configured by: reading them, and saying what is wrong in them.

What was given is never repeated in a message: people do write a password where the name of its file belongs, and these
messages go to the log.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bulkhead.api.problems import path_of

_Model = TypeVar("_Model", bound=BaseModel)

_CLAUSES = {
    "bool_type": "accepted is true or false",
    "dict_type": "accepted is a map",
    "float_type": "accepted is a number",
    "int_type": "accepted is a whole number",
    "list_type": "accepted is a list",
    "model_type": "accepted is a map",
    "path_type": "accepted is the path of a file",
    "string_type": "accepted is text",
    "tuple_type": "accepted is a list",
}


class SettingsError(ValueError):
    """What the operator was told in one of its files cannot be used.

    Attributes:
        problems: a sentence for each: where, what is wrong, and what would be accepted.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


def load(path: Path, *, what: str) -> Any:
    """Reads a YAML file; an empty one is an empty map.

    Args:
        path: the file.
        what: what it is, with its article: `the file of issuers`.

    Raises:
        SettingsError: it cannot be read, or is no YAML.
    """
    beginning = what[:1].upper() + what[1:]
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{beginning} cannot be read: {path}: {type(error).__name__}."]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" near line {mark.line + 1}" if mark else ""
        raise SettingsError([f"{beginning} is not YAML: {path}{line}."]) from None
    return {} if raw is None else raw


def validated(
    model: type[_Model],
    raw: Any,
    *,
    where: str,
    what: str,
    parts: Mapping[str, type[BaseModel]] | None = None,
) -> _Model:
    """Checks plain data against a model.

    Args:
        model: of what is expected.
        raw: what was given.
        where: the path of it in the file, for messages; empty for the file itself.
        what: what the file is, with its article.
        parts: models of what is below the model, by the field that holds them, for hints about misspelt settings.

    Raises:
        SettingsError: with a sentence for each problem.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        # Without the input: it may be a password, and this goes to the log.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError([_sentence(dict(one), model, where, what, parts or {}) for one in found]) from None


def _sentence(
    details: Mapping[str, Any], model: type[BaseModel], where: str, what: str, parts: Mapping[str, type[BaseModel]]
) -> str:
    location = details["loc"]
    path = path_of(location, root=where).lstrip(".") or what
    match details["type"]:
        case "missing":
            return f"{path} is required and was not given."
        case "extra_forbidden":
            holder = parts.get(str(location[0]), model) if len(location) > 1 else model
            return f"{path} is not a setting{_hint(str(location[-1]), holder)}."
    clause = _CLAUSES.get(details["type"]) or details["msg"].removeprefix("Value error, ").replace(
        "Input should be", "accepted is", 1
    )
    return f"{path}: {clause[:1].lower()}{clause[1:]}."


def _hint(name: str, model: type[BaseModel]) -> str:
    """Names what is close to a name that was given, or everything that is accepted, where that is known."""
    known = [one.alias or field_name for field_name, one in model.model_fields.items()]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; perhaps {close[0]} was meant" if close else f"; accepted are {', '.join(known)}"
