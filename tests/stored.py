"""Whether the API server would store a status as it is: what is written is held against the schema of the CRD.

A status that does not fit is refused as a whole, and one with an unknown field loses it without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from bulkhead.api.policystatus import SandboxPolicyStatus
from bulkhead.api.status import AgentDeploymentStatus
from bulkhead.api.structural import structural

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "object": dict,
    "string": str,
}


@cache
def _schema(model: type) -> dict[str, Any]:
    return structural(model)


def unfit_agent_status(status: Any) -> list[str]:
    """What is wrong with a status of an AgentDeployment; nothing if it is stored as it is."""
    return list(unfit(status, _schema(AgentDeploymentStatus), "status"))


def unfit_policy_status(status: Any) -> list[str]:
    """What is wrong with a status of a SandboxPolicy; nothing if it is stored as it is."""
    return list(unfit(status, _schema(SandboxPolicyStatus), "status"))


def unfit(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """What is wrong with a value under a structural schema, each with its path."""
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        yield f"{path} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {value!r}"
    if kind in _CHECKS:
        yield from _CHECKS[kind](value, schema, path)


def _string(value: str, schema: dict[str, Any], path: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path} has {len(value)} characters"


def _integer(value: int, schema: dict[str, Any], path: str) -> Iterator[str]:
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path} is {value}"


def _array(value: list[Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema["maxItems"]:
        yield f"{path} has {len(value)} items"
    keys = schema.get("x-kubernetes-list-map-keys")
    marks = [str(item) if not keys else str([item.get(key) for key in keys]) for item in value]
    if schema["x-kubernetes-list-type"] != "atomic" and len(set(marks)) < len(marks):
        yield f"{path} has doubles"
    for index, item in enumerate(value):
        yield from unfit(item, schema["items"], f"{path}[{index}]")


def _object(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    fields = schema["properties"]
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{path}.{key} is missing"
    for key, field in fields.items():
        # The API server would write it: the next look would find a difference, and write again.
        if "default" in field and key not in value:
            yield f"{path}.{key} has a default and is left out"
    for key, inner in value.items():
        if key not in fields:
            yield f"{path}.{key} is unknown"
        else:
            yield from unfit(inner, fields[key], f"{path}.{key}")


_CHECKS: dict[str, Callable[[Any, dict[str, Any], str], Iterator[str]]] = {
    "array": _array,
    "integer": _integer,
    "object": _object,
    "string": _string,
}
