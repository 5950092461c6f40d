"""What keeps an answer to the tools it may call: their schemas checked, and one grammar of all of them."""

from __future__ import annotations

from quipu.engine.json_schema import check_schema, validator
from quipu.model.chat_format import ChatFormat
from quipu.tools.grammar import call_grammar
from quipu.tools.tool import ToolUse
from quipu.types import Constraint


def call_constraint(use: ToolUse, chat_format: ChatFormat | None) -> Constraint:
    """The grammar of an answer that ``use`` allows, in the form that ``chat_format`` teaches.

    Raises InvalidRequest, with the path, for a schema that cannot be kept.
    """
    for tool in use.callable:
        check_schema(tool.parameters, tool.path)
        validator(tool.parameters, tool.path)
    if chat_format is None:
        return Constraint("grammar", call_grammar(use, "json"))
    return Constraint("grammar", call_grammar(use, chat_format.teaching.form, chat_format.call_marker))
