"""Generators that answer by rule: for tests of everything that asks a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from quipu.types import Chunk, Message, Prompt, Sampling, Usage


@dataclasses.dataclass(frozen=True)
class Named:
    """The facts of a model that is none."""

    name: str = "oracle"

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Oracle:
    """Answers a conversation with what ``answer`` makes of it, word by word. ``asked`` are the conversations so far."""

    facts = Named()

    def __init__(self, answer: Callable[[Sequence[Message]], str], context_length: int = 10_000_000) -> None:
        self.context_length = context_length
        self.asked: list[list[Message]] = []
        self.options: list[dict[str, Any]] = []
        self._answer = answer

    def count(self, messages: Prompt) -> int:
        return sum(len(message.content.split()) + 4 for message in map(Message.of, messages))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **options: Any) -> Iterator[Chunk]:
        messages = [Message.of(message) for message in prompt]
        self.asked.append(messages)
        self.options.append(options)
        text = self._answer(messages)
        for start in range(0, len(text), 7):
            yield Chunk(text[start : start + 7], token_ids=(0,))
        yield Chunk(finish_reason="stop", usage=Usage(self.count(messages), len(text.split()), 0))


def saying(text: str) -> Oracle:
    """Says ``text`` whatever it is asked."""
    return Oracle(lambda messages: text)
