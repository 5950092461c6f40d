"""JSON Schemas of arguments, seen as a caller means them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMBINED = frozenset(
    ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "patternProperties",
     "unevaluatedProperties", "dependentSchemas", "propertyNames")
)  # fmt: skip
_OF_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "prefixItems")


def closed(schema: Any) -> Any:
    """``schema`` without arguments that nobody has defined: a model would make them up.

    JSON Schema allows them wherever it does not say otherwise. Objects that are put together from several schemas stay
    as they are: closing one part would forbid what another has.
    """
    if not isinstance(schema, Mapping):
        return schema
    made = {
        key: {name: closed(each) for name, each in value.items()} if key in _OF_SCHEMAS and isinstance(value, Mapping)
        else [closed(each) for each in value] if key in _LISTS and isinstance(value, list)
        else closed(value) if key == "items"
        else value
        for key, value in schema.items()
    }  # fmt: skip
    if isinstance(made.get("properties"), Mapping) and not _COMBINED & made.keys():
        made.setdefault("additionalProperties", False)
    return made


def definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of ``schema`` may refer to."""
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def refers_elsewhere(schema: Any) -> bool:
    """Whether something in it refers to anything but its definitions: a part of it would not stand alone."""
    if isinstance(schema, Mapping):
        target = schema.get("$ref")
        away = isinstance(target, str) and not target.startswith(("#/$defs/", "#/definitions/"))
        return away or "$dynamicRef" in schema or any(map(refers_elsewhere, schema.values()))
    return isinstance(schema, list) and any(map(refers_elsewhere, schema))
