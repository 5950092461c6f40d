"""Requests to /v1/responses: a text or a list of messages, and how to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator

from quipu.errors import InvalidRequest, check_fields
from quipu.picture import Image
from quipu.serve.openai.response_format import Asked, of_response_format
from quipu.serve.openai.schemas import Schema, ToolChoice, Tools, fault
from quipu.tools.tool import Tool, ToolUse

# Not supported; the values given here ask for nothing. See ``schemas.NEUTRAL``.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include": ([],),
    "moderation": (),
    "previous_response_id": (),  # nothing is kept from earlier requests
    "prompt": (),
    "reasoning": ({}, {"effort": "none"}),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
TEXT_PARTS = ("input_text", "output_text", "text")
PART_FIELDS = ("type", "text", "annotations", "logprobs")
CALL_FIELDS = ("type", "id", "call_id", "name", "arguments", "status")
OUTPUT_FIELDS = ("type", "id", "call_id", "output", "status")
MESSAGE_FIELDS = ("type", "role", "content", "id", "status", "phase")


def _input(value: Any) -> str | list[dict[str, Any]]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    raise fault("input must be a string or a list of message items, not empty")


Input = Annotated[
    str | list[dict[str, Any]],
    PlainValidator(_input, json_schema_input_type=str | list[dict[str, Any]]),
]


class ResponsesStreamOptions(Schema):
    """What a stream carries beside the answer: padding may only be refused."""

    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(Schema):
    """Answer an input. ``store`` is accepted either way: nothing is ever stored."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL

    model: str
    input: Input
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    tools: Tools = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    # Accepted because programs send them; nothing here depends on them.
    max_tool_calls: int | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        return {name: value for name, value in given.items() if value is not None}

    def told_tools(self) -> tuple[Tool, ...]:
        """The tools, whether they may be called or not."""
        use = ToolUse.of(self.tools)
        return () if use is None else use.tools

    def tool_use(self) -> ToolUse | None:
        """What the answer may call. Raises InvalidRequest by field name."""
        return ToolUse.of(self.tools, self.tool_choice, self.parallel_tool_calls)

    def constraint(self) -> Asked | None:
        """What the answer must look like, and the field that says so. Raises InvalidRequest by field name."""
        text = self.text or {}
        check_fields({name: value for name, value in text.items() if value is not None}, ("format",), "text")
        form = text.get("format")
        if not isinstance(form, Mapping | None):
            raise InvalidRequest(f"text.format must be an object with a type, got {form!r:.80}", param="text.format")
        return of_response_format(form, "text.format")

    def conversation(self) -> list[dict[str, Any]]:
        """The messages that the model answers. Raises InvalidRequest by field name."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*system, {"role": "user", "content": self.input}]
        turns: list[dict[str, Any]] = []
        for place, item in enumerate(self.input):
            turn = _turn(item, f"input[{place}]")
            if turns and "tool_calls" in turn and turns[-1]["role"] == "assistant":  # what one answer said and called
                turns[-1]["tool_calls"] = [*turns[-1].get("tool_calls", ()), *turn["tool_calls"]]
            else:
                turns.append(turn)
        return [*system, *turns]


def _turn(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "function_call":
        check_fields(item, CALL_FIELDS, where)
        call = {"id": item.get("call_id"), "function": {"name": item.get("name"), "arguments": item.get("arguments")}}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        check_fields(item, OUTPUT_FIELDS, where)
        return {
            "role": "tool",
            "tool_call_id": item.get("call_id"),
            "content": _text(item.get("output"), f"{where}.output"),
        }
    if kind != "message":
        raise InvalidRequest(
            f"{where}.type is {kind!r:.80}; it must be message, function_call or function_call_output",
            param=f"{where}.type",
        )
    check_fields(item, MESSAGE_FIELDS, where)
    role = item.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise InvalidRequest(
            f"{where}.role is {role!r:.80}; it must be one of system, developer, user, assistant", param=f"{where}.role"
        )
    return {"role": role, "content": _content(item.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> Any:
    """Text, or parts as chat completions have them where some are pictures."""
    if not isinstance(content, list) or not any(_is_picture(part) for part in content):
        return _text(content, where)
    return [
        _picture(part, f"{where}[{place}]")
        if _is_picture(part)
        else {"type": "text", "text": _part_text(part, f"{where}[{place}]")}
        for place, part in enumerate(content)
    ]


def _is_picture(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "input_image"


def _picture(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    check_fields(part, ("type", "image_url", "detail"), where)
    if not isinstance(part.get("image_url"), str):
        raise InvalidRequest(f"{where}.image_url is missing; give a data URL", param=f"{where}.image_url")
    made = {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail") or "auto"}}
    if not part["image_url"].startswith(("http://", "https://")):  # which the server may fetch
        Image.of_url(part["image_url"], f"{where}.image_url")  # a mistake is told by the field it is in
    return made


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or a list of text parts, got {content!r:.80}", param=where)
    return "".join(_part_text(part, f"{where}[{place}]") for place, part in enumerate(content))


def _part_text(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") in TEXT_PARTS else None
    if not isinstance(text, str):
        raise InvalidRequest(
            f'{where} is neither a text nor a picture: {{"type": "input_text", "text": "..."}} or '
            '{"type": "input_image", "image_url": "data:image/png;base64,..."}',
            param=where,
        )
    check_fields(part, PART_FIELDS, where)
    return text
