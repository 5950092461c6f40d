"""The ways in which people say what is to be extracted, all as JSON Schema; only a sentence takes a model to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from quipu.capabilities.parts.record_schema import KEYWORDS, VALUE
from quipu.errors import InvalidRequest, did_you_mean

Notation = Literal["auto", "schema", "columns", "regex", "choices", "sentence"]

WORDS = {
    "string": ("str", "string", "text"),
    "integer": ("int", "integer"),
    "number": ("float", "number", "decimal"),
    "boolean": ("bool", "boolean"),
}
TYPES: dict[str, dict[str, Any]] = {word: {"type": kind} for kind, words in WORDS.items() for word in words}
TYPES["date"] = {"type": "string", "format": "date"}
NAME = re.compile(r"[^\W\d]\w*")
LONG_NAME = re.compile(r"[^\W\d][\w -]*")
TYPE = re.compile(r"[\w|]+(?:\[\])?")


def written(wanted: Any) -> Any:
    """``wanted`` as text, where it is a type (Pydantic model, dataclass, ``list[Model]``), an object or a list."""
    if isinstance(wanted, str):
        return wanted
    if isinstance(wanted, Mapping | list | tuple):
        return json.dumps(wanted, ensure_ascii=False)
    if isinstance(wanted, type) or hasattr(wanted, "__origin__"):
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return json.dumps(TypeAdapter(wanted).json_schema(), ensure_ascii=False)
        except PydanticUserError as error:
            raise InvalidRequest(
                f"wanted is a type without JSON Schema: {error.message:.300}", param="wanted"
            ) from None
    return wanted


def schema_of(wanted: str, notation: Notation = "auto") -> dict[str, Any] | None:
    """The JSON Schema that ``wanted`` says; None for a sentence, of which a model makes one.

    Raises InvalidRequest, whose param is ``wanted``, for what begins as one of the notations and is none.
    """
    text = wanted.strip()
    if not text:
        raise InvalidRequest("wanted is empty; say what to extract, as in 'the buyer and the total'", param="wanted")
    match _told(text) if notation == "auto" else notation:
        case "schema":
            return _json(text)
        case "columns":
            return _columns(text)
        case "regex":
            return record({VALUE: {"type": ["string", "null"], "pattern": _anchored(text)}})
        case "choices":
            return record({VALUE: {"enum": _choices(text)}})
    return None


def record(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly ``properties``."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _told(text: str) -> Notation:
    """By its look."""
    if text.startswith(("{", "[")):
        return "schema"
    if len(text) > 2 and text[0] == text[-1] == "/" and "\n" not in text:
        return "regex"
    if _are_columns(list(_items(text)), lines="\n" in text):
        return "columns"
    parts = text.split("|")
    return "choices" if len(parts) > 1 and all(part.strip() for part in parts) and "\n" not in text else "sentence"


def _are_columns(items: list[str], *, lines: bool) -> bool:
    """Whether each is a word, or has a name, a colon and a type or, on a line of its own, anything."""
    for item in items:
        name, colon, said = (part.strip() for part in item.partition(":"))
        if not (LONG_NAME if colon else NAME).fullmatch(name) or (colon and not lines and not TYPE.fullmatch(said)):
            return False
    return bool(items)


def _json(text: str) -> dict[str, Any]:
    """A JSON Schema; an object that gives each name a type or a description; a list of choices."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"wanted begins as JSON and is none: {error}", param="wanted") from None
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return record({VALUE: {"enum": list(dict.fromkeys(value))}})
    if not isinstance(value, dict) or not value:
        raise InvalidRequest(
            "wanted is JSON, but neither a JSON Schema (an object with properties) nor a list of texts to choose from",
            param="wanted",
        )
    if not KEYWORDS & value.keys() and all(isinstance(each, str) for each in value.values()):
        return record({name: _typed(name, said) for name, said in value.items()})
    return value


def _columns(text: str) -> dict[str, Any]:
    """``name:type`` or ``name`` after commas or on lines, ``name: description`` on lines."""
    named: dict[str, Any] = {}
    for item in _items(text):
        name, _, said = (part.strip() for part in item.partition(":"))
        if not name:
            raise InvalidRequest(f"a column has no name in {text[:80]!r}", param="wanted")
        if name in named:
            raise InvalidRequest(f"wanted names {name!r:.80} twice", param="wanted")
        named[name] = _typed(name, said, strict="\n" not in text)
    return record(named)


def _items(text: str) -> Iterator[str]:
    lines = text.splitlines() if "\n" in text else re.split(r"[,;]", text)
    return (line.rstrip(",; ") for line in lines if line.strip(" ,;"))


def _typed(name: str, said: str, *, strict: bool = False) -> dict[str, Any]:
    """A type's name, choices with bars between them, or, unless ``strict``, a description. Each may be null."""
    word = said.strip()
    base, many = word.removesuffix("[]"), word.endswith("[]")
    if "|" in base and " " not in base:
        options = list(dict.fromkeys(filter(None, base.split("|"))))
        return {"type": "array", "items": {"enum": options}} if many else {"enum": [*options, None]}
    if not word or base in TYPES:
        kind = TYPES[base or "str"]
        return {"type": "array", "items": kind} if many else {**kind, "type": [kind["type"], "null"]}
    if strict:
        hint = did_you_mean(base, TYPES, f"known: {', '.join(TYPES)}, each with [] for a list, and choices as in a|b")
        raise InvalidRequest(f"the column {name!r:.80} has the unknown type {base!r:.40}; {hint}", param="wanted")
    return {"type": ["string", "null"], "description": said.strip()}


def _anchored(text: str) -> str:
    inner = text[1:-1] if len(text) > 2 and text[0] == text[-1] == "/" else text
    return f"^(?:{inner})$"


def _choices(text: str) -> list[str]:
    if text.startswith("["):
        return list(_json(text)["properties"][VALUE]["enum"])
    found = list(dict.fromkeys(part.strip() for part in re.split(r"[|\n]", text) if part.strip()))
    if len(found) < 2:
        raise InvalidRequest("wanted has fewer than two choices; write them as in 'spam | ham'", param="wanted")
    return found
