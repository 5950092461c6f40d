"""What is wanted, said in a sentence, as JSON Schema: a model lists the fields, and can list nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quipu.capabilities.parts.notations import TYPES, record
from quipu.errors import Unparsed
from quipu.types import Message

SCALARS = ("string", "integer", "number", "boolean", "date")
MOST_FIELDS, MOST_LISTED = 12, 8
NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,29}$"}
_SCALAR = {
    "type": "object",
    "properties": {"name": NAME, "type": {"enum": list(SCALARS)}, "description": {"type": "string", "maxLength": 60}},
    "required": ["name", "type", "description"],
    "additionalProperties": False,
}
_LIST = {
    "type": "object",
    "properties": {
        "name": NAME,
        "type": {"const": "list"},
        "fields": {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": MOST_LISTED},
    },
    "required": ["name", "type", "fields"],
    "additionalProperties": False,
}
FIELDS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "fields": {"type": "array", "items": {"anyOf": [_SCALAR, _LIST]}, "minItems": 1, "maxItems": MOST_FIELDS}
    },
    "required": ["fields"],
    "additionalProperties": False,
}
"""The schema of schemas: what an answer may be."""
LONGEST = 512
"""Tokens of an answer."""


def _field(name: str, kind: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "description": description}


EXAMPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "who wrote the letter, when, and whether it is a reminder",
        {
            "fields": [
                _field("writer", "string", "who wrote the letter"),
                _field("date", "date", "when it was written"),
                _field("is_reminder", "boolean", "whether it is a reminder"),
            ]
        },
    ),
    (
        "the guest, the nights and each room with its price",
        {
            "fields": [
                _field("guest", "string", "the guest"),
                _field("nights", "integer", "how many nights"),
                {
                    "name": "rooms",
                    "type": "list",
                    "fields": [_field("room", "string", "the room"), _field("price", "number", "its price")],
                },
            ]
        },
    ),
)


def request(sentence: str) -> list[Message]:
    """The conversation that asks for the fields."""
    ask = "List the fields to extract, as JSON: {}"
    turns = []
    for said, fields in EXAMPLES:
        turns += [Message("user", ask.format(said)), Message("assistant", json.dumps(fields))]
    return [*turns, Message("user", ask.format(sentence.strip()))]


def schema_from(text: str) -> dict[str, Any]:
    """The JSON Schema of the fields in an answer; of a single list, that of a list. Raises Unparsed."""
    try:
        fields = json.loads(text)["fields"]
        named = {each["name"]: _property(each) for each in fields}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unparsed(
            "the model's answer lists no fields; name them, as in name:str, total:float", text=text
        ) from None
    only = next(iter(named.values())) if len(named) == 1 else {}
    return only if only.get("type") == "array" else record(named)


def _property(field: Mapping[str, Any]) -> dict[str, Any]:
    if field["type"] == "list":
        return {"type": "array", "items": record({each["name"]: _property(each) for each in field["fields"]})}
    kind = TYPES[field["type"]]
    described = {"description": field["description"]} if field["description"] else {}
    return {**kind, "type": [kind["type"], "null"], **described}
