"""Answers to a JSON Schema, with the probabilities of their tokens where the model tells any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quipu.capabilities.parts.calls import Calls
from quipu.errors import InvalidRequest
from quipu.types import Chunk, Constraint, Message, TokenLogprob


@dataclass(slots=True)
class ConstrainedAnswer:
    """One answer of the model with what is known of its tokens."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    incomplete: tuple[str, ...] = ()

    def take(self, chunk: Chunk) -> None:
        """Add the next piece."""
        self.text += chunk.text
        self.tokens += chunk.logprobs
        self.incomplete = self.incomplete or chunk.incomplete


def constrained(
    calls: Calls, messages: Sequence[Message], longest: int, schema: Mapping[str, Any], **more: Any
) -> Iterator[Chunk]:
    """An answer to ``schema``, with probabilities where the model tells any. What is wrong with it, ``wanted`` is."""
    constraint = Constraint("json_schema", schema)
    try:
        yield from calls.chunks(messages, longest, constraint=constraint, logprobs=0, **more)
    except InvalidRequest as error:
        if error.param == "logprobs":  # an endpoint that tells none
            yield from calls.chunks(messages, longest, constraint=constraint, **more)
        elif str(error.param).startswith(("json_schema", "constraint")):
            raise InvalidRequest(f"what is wanted cannot be extracted: {error}", param="wanted") from None
        else:
            raise
