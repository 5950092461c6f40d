"""A JSON Schema as what one record of an extraction looks like: checked, and shown to a model in few words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from quipu.errors import InvalidRequest, Unparsed, did_you_mean, field_path
from quipu.tools.schema import definitions

if TYPE_CHECKING:
    from jsonschema_rs import Validator

VALUE = "value"
"""The one field of a record where what is wanted has no fields: a pattern, choices, a list of texts."""
RECORDS = "records"
_WORDS = """$schema $id $ref $defs definitions $comment title description default examples deprecated readOnly
    writeOnly type enum const properties required additionalProperties items prefixItems minItems maxItems uniqueItems
    contains anyOf oneOf allOf not if then else pattern format minLength maxLength minimum maximum exclusiveMinimum
    exclusiveMaximum multipleOf minProperties maxProperties patternProperties propertyNames dependentRequired
    dependentSchemas unevaluatedProperties unevaluatedItems minContains maxContains contentMediaType contentEncoding
    contentSchema $anchor $dynamicRef $dynamicAnchor $vocabulary discriminator x-guidance"""
KEYWORDS = frozenset(_WORDS.split())
OPEN = ("patternProperties", "propertyNames", "unevaluatedProperties", "$dynamicRef", "$anchor")
"""Keywords of objects whose fields have no names of their own, and references that a table cannot follow."""
DEFINITIONS = ("$defs", "definitions")
NESTED = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
DEEPEST = 8
"""Levels of a schema that a model is shown; one that refers to itself has no end."""
MOST_SHOWN = 2_000
"""Parts of a schema that a model is shown, those behind a reference as often as it is there: they may double with each
level."""


@dataclass(frozen=True)
class RecordSchema:
    """``record``: the schema of an object. ``many``: whether an answer lists them. ``definitions``: its $defs."""

    record: Mapping[str, Any]
    many: bool
    definitions: Mapping[str, Any]

    @classmethod
    def of(cls, schema: Mapping[str, Any], many: bool) -> RecordSchema:
        """Of any JSON Schema: a list is several records, what is no object a record with the field ``value``.

        An object has no fields beside those named, unless it says that it may. Raises InvalidRequest with the path of
        what is wrong in it.
        """
        _check(schema)
        schema = _closed(schema)
        shared = definitions(schema)
        inner = _followed({name: value for name, value in schema.items() if name not in DEFINITIONS}, schema)
        if inner.get("type") == "array":
            many = True
            inner = _followed(inner.get("items") or {}, schema)
        if not _is_object(inner):
            inner = {"type": "object", "properties": {VALUE: inner}, "required": [VALUE], "additionalProperties": False}
        return cls({name: value for name, value in inner.items() if name not in DEFINITIONS}, many, shared)

    @cached_property
    def whole(self) -> dict[str, Any]:
        """The schema of one record, with what it refers to."""
        return {**self.record, **self.definitions}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """What to give as ``wanted`` for the same again."""
        return {"type": "array", "items": self.record, **self.definitions} if self.many else self.whole

    @cached_property
    def answer(self) -> dict[str, Any]:
        """The schema of an answer. Of several records it is an object, too, as the OpenAI API wants it."""
        if not self.many:
            return self.whole
        listed = {"type": "array", "items": self.record}
        return {
            "type": "object",
            "properties": {RECORDS: listed},
            "required": [RECORDS],
            "additionalProperties": False,
            **self.definitions,
        }

    @property
    def names(self) -> list[str]:
        """The fields of a record, in order."""
        return list(self.record.get("properties", {}))

    @cached_property
    def shown(self) -> str:
        """Its fields for a model to read: ``buyer, total (number), items ([{name, price (number)}, ...])``."""
        return _Shown(self.whole).fields(self.record, 0)

    def records(self, value: Any, text: str) -> list[dict[str, Any]]:
        """The records in an answer, ``value``. Raises Unparsed, which keeps ``text``, for what is not to the schema.

        A field that may be null and is not there is null: models leave out what a text does not say.
        """
        if self.many and isinstance(value, dict) and set(value) == {RECORDS}:
            value = value[RECORDS]
        found = value if isinstance(value, list) else [value]
        if not self.many and len(found) != 1:
            raise Unparsed(f"the model's answer has {len(found)} records; one was asked for", text=text)
        return [self._checked(each, text) for each in found]

    def _checked(self, record: Any, text: str) -> dict[str, Any]:
        if isinstance(record, dict):
            record = {name: None for name in self.names if self._may_be_null(name)} | record
            record = {name: record[name] for name in [*self.names, *record] if name in record}
        fault = next(self._validator.iter_errors(record), None)
        if fault is not None or not isinstance(record, dict):
            where = field_path(list(fault.instance_path) if fault else [])
            said = fault.message.splitlines()[0] if fault else "it is no object"
            raise Unparsed(f"the model's answer is not to the schema: {where or 'it'}: {said:.200}", text=text)
        return record

    def _may_be_null(self, name: str) -> bool:
        kind = self.record["properties"][name]
        return isinstance(kind, Mapping) and _nullable(kind)

    @cached_property
    def _validator(self) -> Validator:
        return _validator(self.whole)


def _nullable(kind: Mapping[str, Any]) -> bool:
    named = kind.get("type")
    return (
        named == "null"
        or (isinstance(named, list) and "null" in named)
        or ("enum" in kind and None in kind["enum"])
        or any(isinstance(each, Mapping) and _nullable(each) for each in kind.get("anyOf", ()))
    )


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def _followed(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` without a reference at its top."""
    for _ in range(10):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target.get(part) if isinstance(target, Mapping) else None
        schema = {**(target or {}), **{name: value for name, value in schema.items() if name != "$ref"}}
    return dict(schema) if isinstance(schema, Mapping) else {}


def _check(schema: Mapping[str, Any]) -> None:
    try:
        for path, part in _parts(schema, ()):
            _check_part(field_path(path), part, schema)
    except RecursionError:
        raise InvalidRequest("wanted is a JSON Schema nested too deep", param="wanted") from None
    _validator(schema)


def _check_part(where: str, part: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    at = f"wanted, at {where}," if where else "wanted"
    for name in part:
        if name not in KEYWORDS:
            hint = did_you_mean(name, KEYWORDS, "names of fields stand under properties")
            raise InvalidRequest(f"{at} has {name!r:.80}, which is no keyword of JSON Schema; {hint}", param="wanted")
        if name in OPEN:
            raise InvalidRequest(f"{at} has {name}; the fields of a record need names: use properties", param="wanted")
    reference = part.get("$ref")
    if reference is not None and not _known(reference, root):
        raise InvalidRequest(
            f"{at} refers to {reference!r:.80}, which is not in it; a $ref is like #/$defs/Item", param="wanted"
        )


def _known(reference: Any, root: Mapping[str, Any]) -> bool:
    start, _, name = str(reference).rpartition("/")
    definitions = root.get(start.removeprefix("#/"))
    return start in ("#/$defs", "#/definitions") and isinstance(definitions, Mapping) and name in definitions


def _parts(schema: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Every schema in ``schema`` with its path."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for name in (*DEFINITIONS, "properties", "dependentSchemas"):
        if isinstance(schema.get(name), Mapping):
            for key, part in schema[name].items():
                yield from _parts(part, (*path, name, key))
    for name in NESTED:
        yield from _parts(schema.get(name), (*path, name))
    for name in LISTED:
        if isinstance(schema.get(name), list):
            for place, part in enumerate(schema[name]):
                yield from _parts(part, (*path, name, place))


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which no object takes more fields than it names; parts of ``allOf`` have to take those of others."""
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    for path, part in _parts(copy, ()):
        if "properties" in part and "allOf" not in part and "allOf" not in path:
            cast("dict[str, Any]", part).setdefault("additionalProperties", False)
    return copy


def _validator(schema: Mapping[str, Any]) -> Validator:
    """As the engine checks what it lets out: patterns take linear time, and nothing is ever fetched."""
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(dict(schema), pattern_options=jsonschema_rs.RegexOptions(), offline=True)
    except jsonschema_rs.ValidationError as error:
        where, said = field_path(list(error.instance_path)), error.message.splitlines()[0]
        raise InvalidRequest(f"wanted is no JSON Schema: {where or 'it'}: {said:.200}", param="wanted") from None
    except (jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise InvalidRequest(f"wanted is no JSON Schema: {error!s:.200}", param="wanted") from None


WORDS = {"integer": "whole number", "boolean": "true or false"}


class _Shown:
    """A schema in words, of which each reference says all that it refers to. Raises InvalidRequest for too many."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = MOST_SHOWN

    def fields(self, kind: Mapping[str, Any], depth: int) -> str:
        shown = ((name, self._of(each, depth + 1)) for name, each in kind.get("properties", {}).items())
        return ", ".join(f"{name} ({words})" if words else name for name, words in shown)

    def _of(self, kind: Any, depth: int) -> str:
        """``kind`` in few words; none for plain text."""
        self._left -= 1
        if self._left < 0:
            raise InvalidRequest(
                f"wanted has more than {MOST_SHOWN} fields with those that its $ref lead to, each as often as it is "
                "referred to; want fewer, or leave references out that refer to what they are in",
                param="wanted",
            )
        kind = _followed(kind, self._root) if depth < DEEPEST else {}
        if _is_object(kind):
            words = f"{{{self.fields(kind, depth)}}}"
        elif "enum" in kind or "const" in kind:
            options = kind.get("enum", [kind.get("const")])
            words = " or ".join(json.dumps(each, ensure_ascii=False) for each in options if each is not None)
        elif kind.get("type") == "array":
            words = f"[{self._of(kind.get('items', {}), depth + 1) or 'text'}, ...]"
        elif "anyOf" in kind:
            words = " or ".join(filter(None, (self._of(each, depth + 1) for each in kind["anyOf"])))
        else:
            words = _simple(kind)
        return ", ".join(filter(None, (words, kind.get("description"))))


def _simple(kind: Mapping[str, Any]) -> str:
    if "pattern" in kind:
        return f"text that matches {kind['pattern'].removeprefix('^(?:').removesuffix(')$')}"
    if kind.get("format") == "date":
        return "YYYY-MM-DD"
    types = kind.get("type", "string")
    named = [types] if isinstance(types, str) else types
    return " or ".join(WORDS.get(each, each) for each in named if each not in ("string", "null"))
