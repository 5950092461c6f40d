"""Meta's own chat formats, for checkpoints that carry no template: turns to ids, and the model's text to a reply."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from quipu.errors import InvalidRequest, MissingTemplate
from quipu.model.tokenizer import Tokenizer
from quipu.picture import Image
from quipu.tools.reader import read
from quipu.types import Message, ToolCall

ToolPromptFormat = Literal["json", "function_tag", "python_list"]
StopReason = Literal["end_of_turn", "end_of_message", "out_of_tokens"]

_SEARCHES = ("brave_search", "wolfram_alpha", "photogen")
_CODE = "code_interpreter"


class Reply(NamedTuple):
    """What the model said: text, why it stopped, and the calls it makes, without which ``content`` is."""

    content: str
    stop_reason: StopReason
    tool_calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class MetaFormat:
    """The special tokens of one family; the shape of a turn is the same in all.

    ``code`` comes before a code interpreter's call, and ``code_end`` after it. ``pauses_for_tools``: every turn that
    calls a tool, or tells what it returned, ends with ``end_of_message``. Source: llama_models
    ``ChatFormat.encode_dialog_prompt``.
    """

    begin: str
    header_start: str
    header_end: str
    end_of_turn: str
    end_of_message: str
    code: str
    code_end: str = ""
    pauses_for_tools: bool = False

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tool_prompt_format: ToolPromptFormat,
        show: Callable[[Image], list[int]],
    ) -> list[int]:
        """Ids of the conversation; ``show`` gives those of a picture.

        Raises MissingTemplate where the vocabulary lacks the family's tokens.
        """
        ids = [self._id(tokenizer, self.begin)]
        for message in messages:
            ids += self._header(tokenizer, "ipython" if message.role == "tool" else message.role)
            ids += self._body(tokenizer, message, tool_prompt_format, show)
            ids.append(self._id(tokenizer, self.end_of_message if self._pauses(message) else self.end_of_turn))
        return ids + (self._header(tokenizer, "assistant") if add_generation_prompt else [])

    def _pauses(self, message: Message) -> bool:
        if self.pauses_for_tools and (message.tool_calls or message.role == "tool"):
            return True
        return message.role == "assistant" and message.stop_reason == "end_of_message"

    def _header(self, tokenizer: Tokenizer, role: str) -> list[int]:
        start, end = self._id(tokenizer, self.header_start), self._id(tokenizer, self.header_end)
        return [start, *tokenizer.encode(role), end, *tokenizer.encode("\n\n")]

    def _body(
        self,
        tokenizer: Tokenizer,
        message: Message,
        tool_prompt_format: ToolPromptFormat,
        show: Callable[[Image], list[int]],
    ) -> list[int]:
        """Each text is encoded by itself, as Meta does: joined first, they could give other ids."""
        texts: list[str | Image] = list(message.parts) or [message.content]
        if message.role == "user" and message.context is not None:
            texts += ["\n\n", message.context]
        calls = message.tool_calls if message.role == "assistant" else ()
        texts += [tool_call_text(call, tool_prompt_format) for call in calls]
        marked = calls and calls[0].name == _CODE and not self.code_end
        ids = [self._id(tokenizer, self.code)] if marked else []
        for part in texts:
            ids += show(part) if isinstance(part, Image) else tokenizer.encode(part)
        return ids

    def _id(self, tokenizer: Tokenizer, name: str) -> int:
        if name not in tokenizer.specials:
            raise MissingTemplate(
                f"this checkpoint has no chat template, and its vocabulary lacks {name}, which Meta's chat format of "
                "its family needs. Use an instruction-tuned checkpoint, give a template, or ask for a raw completion"
            )
        return tokenizer.specials[name]

    def parse(self, text: str) -> Reply:
        """Read what the model wrote. All calls of a list are returned (Meta's own parser keeps the first)."""
        content = text.strip(" ").removeprefix(f"{self.header_start}assistant{self.header_end}\n\n")
        is_code = content.startswith(self.code)
        content = content.removeprefix(self.code)
        stop_reason: StopReason = "out_of_tokens"
        if content.endswith(self.end_of_turn):
            content, stop_reason = content.removesuffix(self.end_of_turn), "end_of_turn"
        elif content.endswith(self.end_of_message):
            content, stop_reason = content.removesuffix(self.end_of_message), "end_of_message"
        content = content.removesuffix(self.code_end)
        said, calls = content, _tagged_calls(content)
        if not calls:
            said, calls = read(content)
        calls = calls or _search_call(content)
        if not calls and is_code:
            calls = (ToolCall(_CODE, {"code": content}),)
        return Reply(said if not calls or said != content else "", stop_reason, tuple(map(_as_search, calls)))


LLAMA3 = MetaFormat(
    begin="<|begin_of_text|>",
    header_start="<|start_header_id|>",
    header_end="<|end_header_id|>",
    end_of_turn="<|eot_id|>",
    end_of_message="<|eom_id|>",
    code="<|python_tag|>",
)
LLAMA4 = MetaFormat(
    begin="<|begin_of_text|>",
    header_start="<|header_start|>",
    header_end="<|header_end|>",
    end_of_turn="<|eot|>",
    end_of_message="<|eom|>",
    code="<|python_start|>",
    code_end="<|python_end|>",
    pauses_for_tools=True,
)


def tool_call_text(call: ToolCall, tool_prompt_format: ToolPromptFormat) -> str:
    """How a call is written in the conversation. Raises InvalidRequest for a built-in tool without its argument."""
    if call.name in _SEARCHES:
        return f'{call.name}.call(query="{_argument(call, "query")}")'
    if call.name == _CODE:
        return str(_argument(call, "code"))
    if tool_prompt_format == "json":
        return json.dumps({"type": "function", "name": call.name, "parameters": dict(call.arguments)})
    if tool_prompt_format == "function_tag":
        return f"<function={call.name}>{json.dumps(dict(call.arguments))}</function>"
    if tool_prompt_format == "python_list":
        return f"[{call.name}({_keywords(call.arguments)})]"
    raise InvalidRequest(
        f"tool_prompt_format is {tool_prompt_format!r}; it must be json, function_tag or python_list",
        param="tool_prompt_format",
    )


def _argument(call: ToolCall, name: str) -> Any:
    if name not in call.arguments:
        raise InvalidRequest(f"a call of {call.name} needs the argument {name!r}", param="messages")
    return call.arguments[name]


def _keywords(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_python(value)}" for name, value in arguments.items())


def _python(value: Any) -> str:
    """Meta's spelling: strings are not escaped and a dict comes out as {k="v"}. The model was trained on that."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return f"{{{_keywords(value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_python, value))}]"
    return str(value)


def _tagged_calls(text: str) -> tuple[ToolCall, ...]:
    """``<function=name>{...}``"""
    calls = []
    for match in re.finditer(r"<function=([^}>]+)>(?=\{)", text):
        for spelling in (text[match.end() :], text[match.end() :].replace("'", '"')):
            arguments = _leading_json(spelling)
            if isinstance(arguments, dict):
                calls.append(ToolCall(match[1], arguments))
                break
    return tuple(calls)


def _leading_json(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _search_call(text: str) -> tuple[ToolCall, ...]:
    """``brave_search.call(query="...")``"""
    match = re.search(r'\b(\w+)\.call\(query="([^"]*)"\)', text)
    return (ToolCall(match[1], {"query": match[2]}),) if match else ()


def _as_search(call: ToolCall) -> ToolCall:
    """A built-in search tool has one argument, whatever the model called it."""
    if call.name in _SEARCHES and call.arguments:
        return ToolCall(call.name, {"query": next(iter(call.arguments.values()))})
    return call
