"""How a text is read to extract from it: in sections, of a size that leaves an answer room in a model's context."""

from __future__ import annotations

from quipu.capabilities.parts.extract_request import request
from quipu.capabilities.parts.record_schema import RecordSchema
from quipu.capabilities.parts.sections import sections
from quipu.errors import ContextLengthExceeded, InvalidRequest
from quipu.types import Generator, Message

SECTION = 2000
"""Most tokens read at once, also where the context is longer: models miss more of what they read the more it is."""
SMALLEST_SECTION = 128
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

    def sections(self, text: str, max_calls: int) -> list[str]:
        """Those of ``text``. Raises ContextLengthExceeded and InvalidRequest with the numbers."""
        if self._size < SMALLEST_SECTION:
            raise ContextLengthExceeded(
                f"the context of this model, {self._model.context_length} tokens, leaves {max(0, self._size)} for a "
                f"text beside what is wanted and an answer; it takes {SMALLEST_SECTION}. Want fewer fields, or load "
                "the model with a larger --context.",
                param="wanted",
            )
        pieces: list[str] = []
        for piece in sections(text, self._size, lambda piece: self._model.count([Message("user", piece)])):
            pieces.append(piece)
            if len(pieces) > max_calls:
                calls = len(pieces) * len(text) // sum(map(len, pieces))
                raise InvalidRequest(
                    f"a text of {len(text):,} characters takes about {calls:,} calls of this model, in sections of "
                    f"{self._size:,} tokens; max_calls is {max_calls}. Give a shorter text, or raise max_calls.",
                    param="max_calls",
                )
        return pieces
