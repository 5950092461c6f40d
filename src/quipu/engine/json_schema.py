"""JSON Schemas at the door: what a grammar cannot keep is refused by keyword and path. And the check of what comes out.

llguidance compiles schemas and refuses what it does not know; this says where, and refuses what it would let pass.
Answers are checked by jsonschema-rs, another implementation, whose patterns take linear time: those of the jsonschema
package are Python's, which a client's ``(a+)+$`` would keep busy for ever, and every thread with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import jsonschema_rs

from quipu.errors import InvalidRequest, did_you_mean, field_path
from quipu.types import finite, no_constant

MAX_BYTES = 256 << 10
"""Of a schema as JSON."""
MAX_DEPTH = 64
"""Schemas in schemas."""
MAX_SCHEMAS = 10_000
"""In one schema, itself counted."""
MAX_MULTIPLE = 10_000
"""The least common multiple of all ``multipleOf``, in units of their last digit: that many states has a number."""
MAX_DIGITS = 4_000
"""Of an integer that is checked to the last one."""
PLAIN_SCHEMAS = 300
"""More than these are tried apart, too, whatever they say."""

REFUSED: Mapping[str, str] = {
    "not": "say what is allowed instead",
    "if": "use anyOf with the cases",
    "then": "use anyOf with the cases",
    "else": "use anyOf with the cases",
    "uniqueItems": "check the answer for duplicates",
    "contains": "use prefixItems, or check the answer",
    "minContains": "use prefixItems, or check the answer",
    "maxContains": "use prefixItems, or check the answer",
    "propertyNames": "use patternProperties with additionalProperties: false",
    "dependentRequired": "use anyOf with the cases",
    "dependentSchemas": "use anyOf with the cases",
    "dependencies": "use anyOf with the cases",
    "unevaluatedItems": "use items: false",
    "unevaluatedProperties": "use additionalProperties: false",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "contentSchema": "say in the messages what it holds",
    "nullable": 'use type: ["...", "null"]',
    "x-guidance": "white space and separators are not for the request to choose",
}
"""Keywords that a grammar cannot keep -> what to do instead."""
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown")
KEPT = (
    "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "properties", "required",
    "patternProperties", "additionalProperties", "minProperties", "maxProperties", "items", "prefixItems",
    "additionalItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
NOTES = (
    "$schema", "$id", "id", "$anchor", "$comment", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly",
)  # fmt: skip
COSTLY = ("pattern", "patternProperties", "multipleOf", "allOf", "oneOf")
"""Keywords whose compilation may take any time. The others take as long as they are many."""
_ONE = ("additionalProperties", "items", "additionalItems")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")


def check_schema(schema: Mapping[str, Any] | bool, name: str) -> bool:
    """Whether ``schema``, the request's field ``name``, is plain: cheap to compile for sure.

    Raises InvalidRequest, with the path, for what cannot be kept, is no JSON Schema, or exceeds a limit.
    """
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except RecursionError:
        raise _limit(name, "nesting", MAX_DEPTH) from None
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{name} is not JSON: {error}", param=name) from None
    if size > MAX_BYTES:
        raise _limit(name, "bytes", MAX_BYTES)
    count, costly, multiple = 0, False, 1
    for path, each in _schemas(schema, (), name):
        count += 1
        if count > MAX_SCHEMAS:
            raise _limit(name, "schemas in it", MAX_SCHEMAS)
        _check_keywords(each, path, name)
        costly = costly or any(keyword in each for keyword in COSTLY)
        multiple = _common(multiple, each, path, name)
    return not costly and count <= PLAIN_SCHEMAS


def validator(schema: Mapping[str, Any] | bool, name: str) -> jsonschema_rs.Validator:
    """Checks answers against ``schema``; raises InvalidRequest, with the path, if that is no JSON Schema."""
    try:
        made: jsonschema_rs.Validator = jsonschema_rs.validator_for(
            schema if isinstance(schema, bool) else dict(schema),
            pattern_options=jsonschema_rs.RegexOptions(),
            offline=True,
        )
        return made
    except jsonschema_rs.ValidationError as error:
        where = _at(name, tuple(error.instance_path))
        said = error.message.splitlines()[0][:300]
        raise InvalidRequest(f"{where} is not valid in a JSON Schema: {said}", param=where) from None
    except (jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise InvalidRequest(f"{name} is no JSON Schema that can be checked: {error!s:.300}", param=name) from None


def patterns_in(schema: Mapping[str, Any] | bool) -> list[str]:
    """The patterns of strings and names in ``schema``."""
    found: list[str] = []
    for _, each in _schemas(schema, (), "schema"):
        found += [each["pattern"]] if isinstance(each.get("pattern"), str) else []
        found += each.get("patternProperties") or {}
    return found


def complaint_of(checker: jsonschema_rs.Validator, text: str) -> str:
    """What is wrong with the answer ``text``; "" for nothing."""
    try:
        value = json.loads(text, parse_constant=no_constant, parse_float=finite, parse_int=_readable)
        checker.validate(value)
    except jsonschema_rs.ValidationError as error:
        return f"{field_path(tuple(error.instance_path)) or 'it'}: {error.message.splitlines()[0][:300]}"
    except (ValueError, RecursionError) as error:
        return f"it is no JSON that can be read: {error!s:.300}"
    return ""


def _readable(number: str) -> int:
    """Python reads no integer of more digits, which is for clients to know; it is a number all the same."""
    return int(number) if len(number) <= MAX_DIGITS else int(finite(number))


def _schemas(schema: Any, path: tuple[str | int, ...], name: str) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """``schema`` and all in it, with their paths; those that are true or false are left out."""
    if len(path) > 2 * MAX_DEPTH:
        raise _limit(name, "nesting", MAX_DEPTH)
    if not isinstance(schema, Mapping):
        return  # the meta-schema has its say about what is neither
    yield path, schema
    for keyword in _ONE:
        yield from _schemas(schema.get(keyword), (*path, keyword), name)
    for keyword in _LISTS:
        listed = schema.get(keyword)
        for place, each in enumerate(listed) if isinstance(listed, list | tuple) else ():
            yield from _schemas(each, (*path, keyword, place), name)
    for keyword in _MAPS:
        named = schema.get(keyword)
        for key, each in named.items() if isinstance(named, Mapping) else ():
            yield from _schemas(each, (*path, keyword, str(key)), name)


def _check_keywords(schema: Mapping[str, Any], path: tuple[str | int, ...], name: str) -> None:
    for keyword, value in schema.items():
        where = _at(name, (*path, str(keyword)))
        if keyword in REFUSED and not (keyword in ("uniqueItems", "nullable") and value is False):
            raise InvalidRequest(
                f"{where}: answers cannot be held to {keyword}; {REFUSED[keyword]}, or leave it out", param=where
            )
        if keyword not in (*KEPT, *NOTES, *REFUSED):
            hint = did_you_mean(str(keyword), KEPT, "")
            if hint:
                raise InvalidRequest(f"{where} is no keyword of JSON Schema; {hint}", param=where)
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        where = _at(name, (*path, "$ref"))
        raise InvalidRequest(
            f"{where} is {reference!r:.100}; other documents are not read: copy it into $defs and refer to "
            '"#/$defs/..."',
            param=where,
        )
    form = schema.get("format")
    if isinstance(form, str) and form not in FORMATS:
        where = _at(name, (*path, "format"))
        raise InvalidRequest(
            f"{where}: answers cannot be held to the format {form!r:.80}; known: {', '.join(FORMATS[:-1])}. Use a "
            "pattern, or leave it out",
            param=where,
        )
    least, required = schema.get("minProperties"), schema.get("required")
    if isinstance(least, int) and least > len(set(required) if isinstance(required, list | tuple) else ()):
        where = _at(name, (*path, "minProperties"))
        raise InvalidRequest(
            f"{where}: answers cannot be held to more properties than are required; name them in required", param=where
        )


def _common(multiple: int, schema: Mapping[str, Any], path: tuple[str | int, ...], name: str) -> int:
    """The least common multiple of ``multiple`` and the schema's ``multipleOf``, without its decimal point."""
    step = schema.get("multipleOf")
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        return multiple
    exact = Fraction(str(step))
    while exact.denominator > 1 and exact.numerator <= MAX_MULTIPLE:
        exact *= 10
    multiple = math.lcm(multiple, exact.numerator)
    if multiple > MAX_MULTIPLE or exact.denominator > 1:
        where = _at(name, (*path, "multipleOf"))
        raise InvalidRequest(
            f"{where}: {step} is beyond the limit: the least common multiple of all multipleOf may have the value "
            f"{MAX_MULTIPLE} without its decimal point. Use fewer digits, or leave it out",
            param=where,
        )
    return multiple


def _at(name: str, path: tuple[str | int, ...]) -> str:
    return field_path((name, *path))


def _limit(name: str, what: str, most: int) -> InvalidRequest:
    return InvalidRequest(f"{name} is beyond the limit of {most} for {what}; make it simpler", param=name)
