"""A Constraint as llguidance's source, and the budgets of compiling it. Imports nothing else: the trial starts fast."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from llguidance import LLMatcher, LLParserLimits

from quipu.types import COMPACT_JSON, Constraint

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

LIMITS: Mapping[str, Any] = {
    "initial_lexer_fuel": 300_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
"""llguidance's own, tighter than its defaults: a step's mask takes milliseconds at most, states tens of megabytes."""


def grammar_source(constraint: Constraint) -> str:
    """What llguidance compiles."""
    value: Any = constraint.value
    match constraint.kind:
        case "json_schema":
            return _of_schema(_object(value))
        case "json_object":
            return _of_schema({"type": "object"})
        case "regex":
            return str(LLMatcher.grammar_from_regex(value))
        case "choice":
            texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in value)
            return str(LLMatcher.grammar_from_lark(f"start: {texts}"))
        case "grammar":
            return str(LLMatcher.grammar_from_lark(value))


def limits() -> LLParserLimits:
    """LIMITS, as llguidance takes them."""
    return LLParserLimits(**LIMITS)


def _of_schema(schema: Mapping[str, Any]) -> str:
    overrides = cast("JsonCompileOptions", dict(COMPACT_JSON))
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=overrides))


def _object(schema: Any) -> Mapping[str, Any]:
    """A JSON Schema that is true or false, as the object that means the same."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return dict(schema)
