"""A Constraint as llguidance's source, and the budgets of compiling it. Imports nothing else: the trial starts fast."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from quipu.types import COMPACT_JSON, Constraint

LIMITS = {
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
            return str(LLMatcher.grammar_from_json_schema(json.dumps(_object(value)), overrides=dict(COMPACT_JSON)))
        case "json_object":
            return str(LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=dict(COMPACT_JSON)))
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


def _object(schema: Any) -> Mapping[str, Any]:
    """A JSON Schema that is true or false, as the object that means the same."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return dict(schema)
