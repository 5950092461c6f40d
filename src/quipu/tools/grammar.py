"""What an answer that may call tools looks like, as a grammar: text is free, and a call is always one that validates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quipu.tools.schema import closed, definitions, refers_elsewhere
from quipu.tools.tool import Tool, ToolUse
from quipu.tools.written import Form, is_keyword, json_opening, json_text, python_opening, python_text
from quipu.types import COMPACT_JSON

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
        self._count = 0

    def lines(self) -> Iterator[str]:
        """Rules, ``start`` first."""
        tools = list(enumerate(self._use.callable))
        more = MOST_CALLS - 1 if self._use.parallel else 0
        names = "|".join(re.escape(tool.name) for _, tool in tools)
        optional = "" if self._marker is None else f"{self._marker}? "
        if self._use.required:
            yield f"start: {optional}{self._form}"
        else:
            begun = " | ".join(f"json_after_{i} json_rest_{i} json_more | call_after_{i} call_rest_{i} call_more"
                               for i, _ in tools)  # fmt: skip
            marked = "" if self._marker is None else f" | TEXT? {self._marker} {self._form}"
            yield f'start: "" | TEXT | {begun}{marked}'
            yield rf"TEXT: /(?s:.+)/ & ~/(?s:.*)({json_opening(names)}|{python_opening(names)})(?s:.*)/"
        yield f"json: ({self._each('json_first_', 'json_rest_')}) json_more"
        yield f'pythonic: "[" ({self._each("call_first_", "call_rest_")}) call_more'
        yield (
            f"json_more: (JSON_GAP ({self._each('json_first_', 'json_rest_')})){{0,{more}}}"
            if more
            else 'json_more: ""'
        )
        yield r"JSON_GAP: /[;,][ \n]?|\n/"
        yield (f'call_more: (", " ({self._each("call_first_", "call_rest_")})){{0,{more}}} "]"' if more
               else 'call_more: "]"')  # fmt: skip
        for i, tool in tools:
            yield from self._of_tool(i, tool)
        yield from self._rules

    def _each(self, first: str, rest: str) -> str:
        return " | ".join(f"{first}{i} {rest}{i}" for i in range(len(self._use.callable)))

    def _of_tool(self, i: int, tool: Tool) -> Iterator[str]:
        name, parameters = tool.name, closed(tool.parameters)
        if not self._use.required:
            yield rf"json_after_{i}[lazy]: /(?s:.*){json_opening(re.escape(name))}/"
            yield rf"call_after_{i}[lazy]: /(?s:.*){python_opening(re.escape(name))}/"
        begun, then = _literal('{"name": "' + name + '"'), _literal(', "parameters": ')
        yield f"json_first_{i}: {begun}"
        yield f'json_rest_{i}: {then} {inlined(parameters)} "}}"'
        yield f"call_first_{i}: {_literal(name + '(')}"
        yield f'call_rest_{i}: {self._keywords(parameters)} ")"'

    def _rule(self, body: str) -> str:
        self._count += 1
        self._rules.append(f"v{self._count}: {body}")
        return f"v{self._count}"

    def _keywords(self, schema: Mapping[str, Any]) -> str:
        """The arguments of a call in Python: ``name=value, ...``, or ``**{...}`` where that cannot say them."""
        properties = schema.get("properties")
        closed_object = isinstance(properties, Mapping) and schema.get("additionalProperties") is False
        if (
            not closed_object
            or schema.keys() - _OF_OBJECTS - _SAYS_NOTHING
            or refers_elsewhere(schema)
            or not all(map(is_keyword, properties))
        ):
            return f'"**" {inlined(schema)}'
        shared = definitions(schema)
        return self._members(schema, shared, lambda name: f"{name}=")

    def _members(self, schema: Mapping[str, Any], shared: Mapping[str, Any], label: Callable[[str], str]) -> str:
        """Properties in the schema's order, those that are not required left out or not, commas between."""
        required = schema.get("required", ())
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
        return inlined({**schema, **shared})


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
