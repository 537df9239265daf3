"""Turns a model into a structural schema, as the API server demands it of a CRD.

Pydantic's JSON schema is not one: references are resolved here, `null` branches, titles and
`additionalProperties: false` are taken away. What cannot be said structurally stops the generator.
"""

from typing import Any, Final

from pydantic import BaseModel

from bulkhead.api.fields import JsonSchema

KEPT: Final = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
    }
)
"""Keywords that are taken over as they are."""
DROPPED: Final = frozenset({"title", "propertyNames"})
"""Keywords without a structural counterpart that nothing depends on: rules in CEL say the same."""


def structural(model: type[BaseModel]) -> JsonSchema:
    """Returns the structural schema of a model.

    Raises:
        ValueError: the model has something that a structural schema cannot say; the message has the path.
    """
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, definitions=schema.get("$defs", {}), path=model.__name__)


def _convert(schema: JsonSchema, *, definitions: dict[str, JsonSchema], path: str) -> JsonSchema:
    source = _resolve(schema, definitions)
    result = {key: source[key] for key in sorted(source) if key in KEPT}
    if "description" in result:
        # A docstring may be broken into lines; kubectl breaks them where its terminal ends.
        result["description"] = " ".join(result["description"].split())
    if "default" in result:
        default = _without_nothing(result.pop("default"))
        result |= {} if default is None else {"default": default}
    if "properties" in source:
        result["properties"] = {
            name: _convert(field, definitions=definitions, path=f"{path}.{name}")
            for name, field in source["properties"].items()
        }
        for name, field in result["properties"].items():
            if "description" not in field:
                raise ValueError(f"{path}.{name} has no description; accepted are fields with a docstring")
    if isinstance(source.get("additionalProperties"), dict):
        result["additionalProperties"] = _convert(
            source["additionalProperties"], definitions=definitions, path=f"{path}[*]"
        )
    if "items" in source:
        result["items"] = _convert(source["items"], definitions=definitions, path=f"{path}[]")
    unknown = source.keys() - KEPT - DROPPED - {"properties", "additionalProperties", "items", "$defs"}
    if unknown:
        raise ValueError(f"{path} has {', '.join(sorted(unknown))}, which a structural schema cannot say")
    _require_bounds(result, path)
    return result


def _resolve(schema: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """Follows `$ref` and takes the `null` branch from `X | None`; what stands beside them wins over what they name.

    The description beside a reference is the field's and says what the field is for; that of the model goes.
    """
    beside = dict(schema)
    reference = beside.pop("$ref", None)
    if reference is not None:
        return {**_resolve(definitions[reference.rsplit("/", 1)[1]], definitions), **beside}
    branches = [branch for branch in beside.get("anyOf", []) if branch.get("type") != "null"]
    if len(branches) == 1:
        del beside["anyOf"]
        return {**_resolve(branches[0], definitions), **beside}
    return beside


def _without_nothing(value: Any) -> Any:
    """Returns a default without what is not given: null is no value in a structural schema, and empty says nothing."""
    if isinstance(value, dict):
        parts = {key: _without_nothing(inner) for key, inner in value.items()}
        return {key: inner for key, inner in parts.items() if inner not in (None, [], {})}
    return value


def _require_bounds(schema: JsonSchema, path: str) -> None:
    """Checks that strings, lists and maps are bounded: the API server estimates the cost of CEL from the bounds."""
    kind = schema.get("type")
    bounded = {
        "array": "maxItems" in schema and "x-kubernetes-list-type" in schema,
        "string": "maxLength" in schema or "enum" in schema,
        "object": "properties" in schema or "maxProperties" in schema,
    }
    if not bounded.get(str(kind), True):
        raise ValueError(f"{path} is a {kind} without a bound or, for a list, without a list type")
