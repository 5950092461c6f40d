"""How a model is told of tools: what its chat template does for them, found out by rendering, and the rest in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from quipu.errors import QuipuError
from quipu.model.image_tokens import PLACEHOLDER
from quipu.picture import Image
from quipu.tools.tool import Tool
from quipu.tools.written import Form, written
from quipu.types import Message, ToolCall

Render = Callable[[Sequence[Message], Sequence[Tool]], str]
"""A conversation and the tools there are -> the prompt as text. May raise a QuipuError."""

INSTRUCTIONS: Mapping[Form, str] = {
    "json": (
        "You have access to the following functions. To call a function, please respond with JSON for a function call. "
        'Respond in the format {{"name": function name, "parameters": dictionary of argument name and its value}}. '
        "Do not use variables. If none of the functions can be used, answer without one.\n\n{tools}"
    ),
    "pythonic": (
        "You are an expert in composing functions. You are given a question and a set of possible functions. Based on "
        "the question, you will need to make one or more function/tool calls to achieve the purpose. If none of the "
        "functions can be used, point it out. If the given question lacks the parameters required by the function, "
        "also point it out. If you decide to invoke any of the function(s), you MUST put it in the format of "
        "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]. "
        "You SHOULD NOT include any other text in the response.\n\n"
        "Here is a list of functions in JSON format that you can invoke.\n\n{tools}"
    ),
}
"""Meta's own for zero-shot calling: Llama 3.1's in JSON, Llama 3.2's and 4's in Python. The first says, in addition,
that a question may need no function."""

_TOOL = Tool("probe_tool", "Probes.", {"type": "object", "properties": {"probe_argument": {"type": "string"}}})
_CALL = ToolCall("probe_tool", {"probe_argument": "1"}, "probe00id")
_ASK = Message("user", "probe")
_LOOK = Message.showing("probe", Image(b""))


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a format writes by itself.

    ``lists``: the tools. ``calls``: calls of earlier turns; ``several``: more than one in a turn. ``form``: how a call
    is written, in JSON if it does not say. ``beside_pictures``: a first question is still seen where it is shown with
    tools; Llama 4's own template makes words of it.
    """

    lists: bool
    calls: bool
    several: bool
    form: Form
    beside_pictures: bool = True

    @classmethod
    def of(cls, render: Render) -> Teaching:
        """Tried on conversations of a few words: a template says nowhere what it can do."""
        listed = _mentions(render, [_ASK], [_TOOL])
        plain = _mentions(render, _answered(), [_TOOL]) or 0
        once = _mentions(render, _answered(_CALL), [_TOOL])
        twice = _mentions(render, _answered(_CALL, replace(_CALL, id="probe01id")), [_TOOL])
        pythonic = once is not None and f"{_CALL.name}(" in render(_answered(_CALL), [_TOOL])
        return cls(
            lists=bool(listed),
            calls=once is None or once > plain,  # one that fails on so little is left to say so itself
            several=once is None or (twice is not None and twice > once),
            form="pythonic" if pythonic else "json",
            beside_pictures=not listed or not _shown(render, []) or _shown(render, [_TOOL]),
        )

    def prepared(self, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Sequence[Message], Sequence[Tool]]:
        """``messages`` with words in them for what the format does not write by itself, and the tools left to it."""
        made = [turn for message in messages for turn in self._turns(message)]
        if not self.several:
            made = _one_at_a_time(made)
        unseen = not self.beside_pictures and bool(next((each.images for each in made if each.role != "system"), ()))
        if tools and (unseen or not self.lists):
            made = _instructed(made, INSTRUCTIONS[self.form].format(tools=_listed(tools)))
        return made, () if unseen else tools

    def _turns(self, message: Message) -> list[Message]:
        if self.calls or not message.tool_calls:
            return [message]
        text = "\n\n".join(filter(None, (message.content, written(message.tool_calls, self.form))))
        return [replace(message, content=text, tool_calls=())]


def _answered(*calls: ToolCall) -> list[Message]:
    results = [Message("tool", "1", tool_call_id=call.id) for call in calls]
    return [_ASK, Message("assistant", "" if calls else "1", tool_calls=calls), *results]


def _mentions(render: Render, messages: Sequence[Message], tools: Sequence[Tool]) -> int | None:
    """How often the tool is named in the prompt; None where there is none."""
    try:
        return render(messages, tools).count(_TOOL.name)
    except QuipuError:
        return None


def _shown(render: Render, tools: Sequence[Tool]) -> bool:
    """Whether the prompt has a place for the picture of a first question."""
    try:
        return PLACEHOLDER in render([_LOOK], tools)
    except QuipuError:
        return False


def _listed(tools: Sequence[Tool]) -> str:
    return "\n\n".join(json.dumps(tool.as_dict(), ensure_ascii=False, indent=4) for tool in tools)


def _instructed(messages: Sequence[Message], text: str) -> list[Message]:
    """With ``text`` before what the system message says, if there is one."""
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{text}\n\n{messages[0].content}"), *messages[1:]]
    return [Message("system", text), *messages]


def _one_at_a_time(messages: Sequence[Message]) -> list[Message]:
    """Calls of one turn as turns of their own, each with its result after it: Llama 3.2's template refuses several."""
    made: list[Message] = []
    rest = list(messages)
    while rest:
        turn = rest.pop(0)
        if len(turn.tool_calls) < 2:
            made.append(turn)
            continue
        results = list(takewhile(lambda message: message.role == "tool", rest))
        rest = rest[len(results) :]
        for place, call in enumerate(turn.tool_calls):
            made.append(replace(turn, content=turn.content if place == 0 else "", tool_calls=(call,)))
            mine = next((i for i, each in enumerate(results) if each.tool_call_id in (None, call.id)), None)
            made += [] if mine is None else [results.pop(mine)]
        made += results
    return made
