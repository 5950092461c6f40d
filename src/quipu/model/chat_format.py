"""Conversation -> token ids: the only chat formatter in the tree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from quipu.errors import CannotSee, InvalidRequest, MissingTemplate, UnsupportedCheckpoint
from quipu.model.chat_template import PINNED_DATE, ChatTemplate
from quipu.model.config import VisionConfig
from quipu.model.image import Tiles, read_tiles
from quipu.model.image_tokens import PLACEHOLDER, PromptIds, image_ids, placed
from quipu.model.meta_format import LLAMA3, LLAMA4, Reply, ToolPromptFormat
from quipu.model.shield import Shield, SpecialTexts
from quipu.model.tokenizer import Tokenizer
from quipu.model.tool_teaching import Teaching
from quipu.picture import Image
from quipu.tools.tool import Tool
from quipu.types import Message, ToolCall

FAMILIES = {"llama3": LLAMA3, "llama4": LLAMA4}
"""Meta's formats, used where a checkpoint carries no template."""


class ChatFormat:
    """The checkpoint's own template if it has one, else Meta's format of its ``family``; safe from several threads.

    A checkpoint with neither can still be loaded (for raw completions); only ``encode`` raises MissingTemplate.
    ``date`` is what a template that asks for today's date is told. ``vision``: what the model sees pictures with, None
    if it reads text only. Raises UnsupportedCheckpoint for a template that does not compile or a family without a
    format.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str | None = None,
        family: str | None = None,
        *,
        date: str = PINNED_DATE,
        vision: VisionConfig | None = None,
    ) -> None:
        if family is not None and family not in FAMILIES:
            raise UnsupportedCheckpoint(
                f"no chat format is known for the family {family!r}; known: {', '.join(FAMILIES)}"
            )
        self._tokenizer, self._vision = tokenizer, vision
        self._format = FAMILIES[family] if family is not None else None
        self._template = None
        self.name = family or "none"
        """SHA-256 of the template, in hex, or the name of Meta's format: what tells formats apart."""
        if template is not None:
            self.name = hashlib.sha256(template.encode(errors="replace")).hexdigest()
            bos, eos = (_text(tokenizer, token) for token in (tokenizer.bos_id, tokenizer.eos_id))
            self._template = ChatTemplate(template, bos_token=bos, eos_token=eos, date=date)
            self._specials = SpecialTexts(tokenizer.specials)

    def encode(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Tool] = (),
        tool_prompt_format: ToolPromptFormat = "python_list",
    ) -> PromptIds:
        """Ids of the conversation and, unless told otherwise, of the beginning of the assistant's turn.

        What a message says stays text even where it looks like a special token. BOS is there once or not at all, as
        the template has it. ``tools`` are what the model may call. ``tool_prompt_format`` is how earlier calls are
        written in Meta's format; a template writes them in its own. Raises MissingTemplate, InvalidRequest where the
        template refuses the conversation or the model cannot see, and UnsupportedCheckpoint where it fails.
        """
        images = [self._seen(image) for message in messages for image in message.images]
        ids = self._encode(messages, add_generation_prompt, tools, tool_prompt_format, iter(images))
        return placed(ids, self._vision.patch_token, images) if self._vision is not None else PromptIds(ids)

    def _seen(self, image: Image) -> Tiles:
        if self._vision is None:
            raise CannotSee
        return read_tiles(image, self._vision)

    def _encode(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Tool],
        tool_prompt_format: ToolPromptFormat,
        images: Iterator[Tiles],
    ) -> list[int]:
        def show(_: object) -> list[int]:
            assert self._vision is not None
            return image_ids(self._tokenizer.specials, next(images), self._vision.tile_tokens)

        if tools or any(message.tool_calls for message in messages):
            messages, tools = self.teaching.prepared(messages, tools)
        if self._template is not None:
            return self._render(self._template, messages, tools, add_generation_prompt, show)
        if self._format is None:
            raise MissingTemplate(
                "this checkpoint carries no chat template and none is known for its family. Use an "
                "instruction-tuned checkpoint, give a template, or ask for a raw completion"
            )
        return self._format.encode(self._tokenizer, messages, add_generation_prompt, tool_prompt_format, show)

    @cached_property
    def teaching(self) -> Teaching:
        """What the format does for tools by itself, and how calls are written in it."""
        template = self._template
        if template is None:
            return Teaching(lists=False, calls=True, several=True, form="pythonic")
        return Teaching.of(
            lambda messages, tools: template.render(
                [_as_dict(message, str) for message in messages], tools=[tool.as_dict() for tool in tools]
            )
        )

    @property
    def call_marker(self) -> str | None:
        """The special token that a model of this vocabulary may write before a call, if there is one."""
        known = ("<|python_start|>", "<|python_tag|>")
        return next((marker for marker in known if marker in self._tokenizer.specials), None)

    def parse_assistant(self, text: str) -> Reply:
        """Text of the model, special tokens included, in Meta's formats -> content, stop reason, tool calls."""
        return (self._format or LLAMA3).parse(text)

    def _render(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        add_generation_prompt: bool,
        show: Callable[[object], list[int]],
    ) -> list[int]:
        shield = Shield(self._specials, template.source)
        for message in messages:
            _as_dict(message, shield.see)
        for tool in tools:
            _mapped(tool.as_dict(), shield.see)
        rendered = template.render(
            [_as_dict(message, shield.hide) for message in messages],
            add_generation_prompt,
            tools=[_mapped(tool.as_dict(), shield.hide) for tool in tools],
        )
        parts = self._tokenizer.split(rendered)
        ids = self._tokenizer.encode_parts(part if isinstance(part, int) else shield.reveal(part) for part in parts)
        bos = self._tokenizer.bos_id
        while len(ids) > 1 and bos is not None and ids[0] == ids[1] == bos:
            del ids[0]
        shown = sum(len(message.images) for message in messages)
        place = self._tokenizer.specials.get(PLACEHOLDER, -1)
        if not shown:
            return ids
        if ids.count(place) != shown:
            raise InvalidRequest(
                f"the model's chat template has places for {ids.count(place)} of {shown} pictures; it may be made for "
                "text only",
                param="messages",
            )
        return [token for each in ids for token in (show(each) if each == place else [each])]


def _text(tokenizer: Tokenizer, token: int | None) -> str:
    return "" if token is None else tokenizer.token_bytes(token).decode("utf-8", "replace")


def _as_dict(message: Message, hide: Callable[[str], str]) -> dict[str, Any]:
    """As templates expect it, with ``hide`` applied to all that a user wrote; a field it does not have is absent."""
    content = message.content if message.context is None else f"{message.content}\n\n{message.context}"
    value: dict[str, Any] = {"role": message.role, "content": hide(content)}
    if message.parts:
        texts = [message.context] if message.context is not None else []
        value["content"] = [
            {"type": "image"} if isinstance(part, Image) else {"type": "text", "text": hide(part)}
            for part in (*message.parts, *texts)
        ]
    if message.name is not None:
        value["name"] = hide(message.name)
    if message.tool_call_id is not None:
        value["tool_call_id"] = hide(message.tool_call_id)
    if message.tool_calls:
        value["tool_calls"] = [_call_as_dict(call, hide) for call in message.tool_calls]
    return value


def _call_as_dict(call: ToolCall, hide: Callable[[str], str]) -> dict[str, Any]:
    function = {"name": hide(call.name), "arguments": _mapped(call.arguments, hide)}
    value = {"type": "function", "function": function}
    return value if call.id is None else value | {"id": hide(call.id)}


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """JSON ``value`` with ``change`` applied to every text in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_mapped(item, change) for item in value]
    return value
