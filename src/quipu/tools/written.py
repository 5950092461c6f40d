"""How calls are written: as Meta's models write them, in JSON or a list in Python, and as the OpenAI API has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import Any, Literal

from quipu.picture import Image
from quipu.types import Message, ToolCall

Form = Literal["json", "pythonic"]
"""``{"name": "f", "parameters": {"x": 1}}``, several with ``; `` between; or ``[f(x=1), g(y="a")]``."""

SPACE = r"[ \t\r\n]*"
"""White space, as a pattern, that models leave around the signs of a call."""


_TYPED = rf'"type"{SPACE}:{SPACE}"function"{SPACE},{SPACE}'
JSON_OPENING = rf'\{{{SPACE}(?:{_TYPED})?"name"{SPACE}:{SPACE}"'
"""What comes before the name of a call in JSON, as a pattern; after the name is a quotation mark."""
PYTHON_OPENING = rf"\[{SPACE}"
"""What comes before the first name of a list of calls in Python; after a name is a parenthesis."""


def written(calls: Iterable[ToolCall], form: Form) -> str:
    """``calls`` in ``form``; ``reader.read`` of it are the same calls. Arguments are JSON values."""
    if form == "pythonic":
        return f"[{', '.join(f'{call.name}({_keywords(call.arguments)})' for call in calls)}]"
    return "; ".join(
        f'{{"name": {json.dumps(call.name)}, "parameters": {json_text(call.arguments)}}}' for call in calls
    )


def call_dict(call: ToolCall) -> dict[str, Any]:
    """``call`` as a message of the OpenAI API has it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json_text(call.arguments)}}


def message_dict(message: Message) -> dict[str, Any]:
    """``message`` as the OpenAI API has it."""
    parts = [part.as_part() if isinstance(part, Image) else {"type": "text", "text": part} for part in message.parts]
    known = {
        "role": message.role,
        "content": parts or message.content,
        "name": message.name,
        "tool_calls": [call_dict(call) for call in message.tool_calls] or None,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in known.items() if value is not None}


def json_text(value: Any) -> str:
    """JSON on one line, readable in any language. Halves of surrogate pairs stay escaped, so that it can be encoded."""
    value = dict(value) if isinstance(value, Mapping) else value
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def is_keyword(name: str) -> bool:
    """Whether Python takes an argument of this name as ``name=value``; others go into ``**{...}``."""
    return name.isascii() and name.isidentifier() and not iskeyword(name)


def _keywords(arguments: Mapping[str, Any]) -> str:
    if not all(map(is_keyword, arguments)):
        return f"**{python_text(arguments)}"
    return ", ".join(f"{name}={python_text(value)}" for name, value in arguments.items())


def python_text(value: Any) -> str:
    """A JSON value as a Python literal; strings as JSON has them, which Python reads alike."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json_text(key)}: {python_text(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(python_text, value))}]"
    return json_text(value)
