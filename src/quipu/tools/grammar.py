"""What an answer that may call tools looks like, as a grammar: text is free, and a call is one that validates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from quipu.errors import InvalidRequest
from quipu.tools.schema import closed, definitions, refers_elsewhere
from quipu.tools.tool import ToolUse
from quipu.tools.written import JSON_OPENING, PYTHON_OPENING, Form, is_keyword, json_text, python_text
from quipu.types import COMPACT_JSON

_FORMS: Sequence[Form] = ("json", "pythonic")
_OPENING: Mapping[Form, str] = {"json": JSON_OPENING, "pythonic": PYTHON_OPENING}
_NAME, _ARGUMENTS = '"name": "', ', "parameters": '
_END: Mapping[Form, str] = {"json": '"', "pythonic": "("}
LONGEST = 512 << 10
"""Characters of the rules of arguments: what the engine compiles at most."""
MOST_CALLS = 16
"""Calls of one answer: a small model that has begun to repeat itself would go on to the end of the context."""


def call_grammar(use: ToolUse, form: Form, marker: str | None = None) -> str:
    """Lark, in llguidance's dialect, for an answer that ``use`` allows.

    Where a call is required it comes first, in ``form``. Otherwise text is free until a call of a known tool begins, in
    either form; from there on it is kept to that tool's schema, and the answer ends after the last call. ``marker`` is
    a special token that the model may write before its calls.
    """
    return "\n".join(_Grammar(use, form, marker).lines()) + "\n"


class _Grammar:
    def __init__(self, use: ToolUse, form: Form, marker: str | None) -> None:
        self._use, self._form, self._marker = use, form, marker
        self._rules: list[str] = []
        self._known: dict[str, str] = {}
        self._count = self._size = 0

    def lines(self) -> Iterator[str]:
        """Rules, ``start`` first."""
        marker = "" if self._marker is None else f"{self._marker}? "
        if self._use.required:
            yield f"start: {marker}{self._form}"
        else:
            yield from self._text(f" | TEXT? {self._marker} {self._form}" if self._marker else "")
        more = MOST_CALLS - 1 if self._use.parallel else 0
        json_calls, python_calls = (self._any(form) for form in _FORMS)
        yield f"json: {_literal('{' + _NAME)} json_calls"
        yield 'pythonic: "[" pythonic_calls'
        yield f"json_calls: {json_calls}" + f" (JSON_GAP {_literal('{' + _NAME)} {json_calls}){{0,{more}}}" * bool(more)
        yield f"pythonic_calls: {python_calls}" + f' (", " {python_calls}){{0,{more}}}' * bool(more) + ' "]"'
        yield r"JSON_GAP: /[;,][ \n]?|\n/"
        for i, tool in enumerate(self._use.callable):
            parameters = closed(tool.parameters)
            yield f'json_{i}: {_literal(tool.name + _END["json"])} {_literal(_ARGUMENTS)} {inlined(parameters)} "}}"'
            yield f'pythonic_{i}: {_literal(tool.name + _END["pythonic"])} {self._keywords(parameters)} ")"'
        yield from self._rules

    def _any(self, form: str) -> str:
        """A call of any tool, from its name on."""
        return f"({' | '.join(f'{form}_{i}' for i in range(len(self._use.callable)))})"

    def _text(self, also: str) -> Iterator[str]:
        """Text, cut wherever a call could begin: there follows a tool's name, or text that does not begin with one.

        What comes after a cut is read from the left: a rule that contained itself at its end would be as deep as the
        text is long.
        """
        names = "|".join(re.escape(tool.name) for tool in self._use.callable)
        no_opening = f"~/(?s:.*)({'|'.join(_OPENING.values())})(?s:.*)/"
        yield 'start: "" | TEXT | ' + " | ".join(
            f"after_{form} {form.upper()}_TEXT? | after_{form} {form}_calls" for form in _FORMS
        ) + also  # fmt: skip
        yield f"TEXT: /(?s:.+)/ & {no_opening}"
        for form in _FORMS:
            no_name = f"~/({names}){re.escape(_END[form])}(?s:.*)/"
            yield f"{form.upper()}_TEXT: /(?s:.+)/ & {no_name} & {no_opening}"
            yield f"first_{form}[lazy]: /(?s:.*){_OPENING[form]}/"
            before = " | ".join(f"after_{other} {other}_to_{form}" for other in _FORMS)
            yield f"after_{form}: first_{form} | {before}"
            for other in _FORMS:
                yield f"{form}_to_{other}[lazy]: {form.upper()}_TO_{other.upper()}"
                yield f"{form.upper()}_TO_{other.upper()}: /(?s:.*){_OPENING[other]}/ & {no_name}"

    def _rule(self, body: str) -> str:
        self._count += 1
        self._spend(body)
        self._rules.append(f"v{self._count}: {body}")
        return f"v{self._count}"

    def _keywords(self, schema: Mapping[str, Any]) -> str:
        """The arguments of a call in Python: ``name=value, ...``, or ``**{...}`` where that cannot say them."""
        properties = schema.get("properties")
        if (
            not isinstance(properties, Mapping)
            or schema.get("additionalProperties") is not False
            or schema.keys() - _OF_OBJECTS - _SAYS_NOTHING
            or refers_elsewhere(schema)
            or not all(map(is_keyword, properties))
        ):
            return f'"**" {inlined(schema)}'
        shared = definitions(schema)
        return self._members(schema, shared, lambda name: f"{name}=")

    def _members(self, schema: Mapping[str, Any], shared: Mapping[str, Any], label: Callable[[str], str]) -> str:
        """Properties in the schema's order, those that are not required left out or not, commas between."""
        required = frozenset(schema.get("required", ()))
        first, after = '""', '""'  # what may follow at the end: nothing, after no member or after one
        for name, each in reversed(schema["properties"].items()):
            member = self._rule(f"{_literal(label(name))} {self._value(each, shared)}")
            if name in required:
                first, after = self._rule(f"{member} {after}"), self._rule(f'", " {member} {after}')
            else:
                first, after = (
                    self._rule(f"{member} {after} | {first}"), self._rule(f'", " {member} {after} | {after}'),
                )  # fmt: skip
        return first

    def _value(self, schema: Any, shared: Mapping[str, Any]) -> str:
        """A value as Python writes it where the schema is of a kind that is common; elsewhere as JSON does."""
        if not isinstance(schema, Mapping):
            return inlined(schema)
        told = {key: value for key, value in schema.items() if key not in _SAYS_NOTHING}
        match told:
            case {"enum": [*values], **rest} if not rest.keys() - {"type"} and values:
                return self._rule(" | ".join(_literal(python_text(value)) for value in values))
            case {"const": value, **rest} if not rest.keys() - {"type"}:
                return _literal(python_text(value))
            case {"anyOf": [*branches], **rest} if not rest and branches:
                return self._rule(" | ".join(self._value(branch, shared) for branch in branches))
            case {"type": "boolean", **rest} if not rest:
                return '("True" | "False")'
            case {"type": "null", **rest} if not rest:
                return '"None"'
            case {"type": "array", "items": items, **rest} if not rest:
                item = self._value(items, shared)
                return self._rule(f'"[" ({item} (", " {item})*)? "]"')
            case {"type": "object", "properties": Mapping(), "additionalProperties": False, **rest} if not (
                rest.keys() - {"required"}
            ):
                members = self._members(told, shared, lambda name: f"{json_text(name)}: ")
                return self._rule(f'"{{" {members} "}}"')
        return self._inlined({**schema, **shared})

    def _inlined(self, schema: Any) -> str:
        """``schema`` in a rule of its own, one for all that are alike: each brings all definitions along."""
        text = inlined(schema)
        if text not in self._known:
            self._known[text] = self._rule(text)
        return self._known[text]

    def _spend(self, text: str) -> None:
        """Refuse before memory is full: parts of a schema may each need all definitions of it."""
        self._size += len(text)
        if self._size > LONGEST:
            raise InvalidRequest(
                f"tools make a grammar of more than {LONGEST} characters, which is beyond the limit; give fewer or "
                "simpler ones, with fewer $ref to large $defs",
                param="tools",
            )


_SAYS_NOTHING = frozenset(
    ("title", "description", "default", "examples", "example", "$comment", "deprecated", "strict")
)


_OF_OBJECTS = frozenset(("type", "properties", "required", "additionalProperties", "$defs", "definitions"))


def inlined(schema: Any) -> str:
    """``schema`` as a part of a grammar, spaced as all constrained JSON is."""
    spaced = {**schema, "x-guidance": COMPACT_JSON} if isinstance(schema, Mapping) else schema
    return f"%json {json.dumps(spaced)}"


def _literal(text: str) -> str:
    """``text`` as Lark writes it: as JSON does."""
    return json.dumps(text, ensure_ascii=False)
