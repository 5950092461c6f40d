"""How a text is read to extract from it: in sections, of a size that leaves an answer room in a model's context."""

from __future__ import annotations

from functools import cached_property

from quipu.capabilities.parts.extract_request import request
from quipu.capabilities.parts.record_schema import RecordSchema
from quipu.capabilities.parts.sections import Span, spans
from quipu.errors import ContextLengthExceeded, InvalidRequest
from quipu.types import Generator, Message

SECTION = 2000
"""Most tokens read at once, also where the context is longer: models miss more of what they read the more it is."""
SMALLEST_SECTION = 128
OVERLAP = 250
"""Tokens of a section that the next has again, so that a record at the border is whole in one of them."""
LARGEST_SHARE = 6
"""The overlap is at most this part of a section: where the context is short, most calls are for what is new."""
SHORTEST_ANSWER = 256
"""Tokens that an answer may take, however short its text; a longer text's answer may take as many as the text."""


class SectionPlan:
    """For records of ``shape``, asked of ``model``."""

    def __init__(self, model: Generator, shape: RecordSchema) -> None:
        self._model = model
        room = model.context_length - model.count(request("", shape)) - 16
        self._size = min(SECTION, (room - SHORTEST_ANSWER) // 2)
        """Tokens of a section."""

    @property
    def longest(self) -> int:
        """Tokens that the answer about a section may take."""
        return self._size + SHORTEST_ANSWER

    @property
    def overlap(self) -> int:
        """Tokens of a section that the next has again."""
        return min(OVERLAP, self._size // LARGEST_SHARE)

    def sections(self, text: str, max_calls: int) -> list[Span]:
        """Where those of ``text`` are. Raises ContextLengthExceeded and InvalidRequest with the numbers."""
        if self._size < SMALLEST_SECTION:
            raise ContextLengthExceeded(
                f"the context of this model, {self._model.context_length} tokens, leaves {max(0, self._size)} for a "
                f"text beside what is wanted and an answer; it takes {SMALLEST_SECTION}. Want fewer fields, or load "
                "the model with a larger --context.",
                param="wanted",
            )
        found: list[Span] = []
        for span in spans(text, self._size, self._count, self.overlap):
            found.append(span)
            if len(found) > max_calls:
                calls = len(found) * len(text) // span[1]
                raise InvalidRequest(
                    f"a text of {len(text):,} characters takes about {calls:,} calls of this model, in sections of "
                    f"{self._size:,} tokens; max_calls is {max_calls}. Give a shorter text, or raise max_calls.",
                    param="max_calls",
                )
        return found

    def _count(self, piece: str) -> int:
        return self._model.count([Message("user", piece)]) - self._around

    @cached_property
    def _around(self) -> int:
        """Tokens of a message beside its text, which is no part of what two sections share."""
        return self._model.count([Message("user", "")])
