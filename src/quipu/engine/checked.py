"""A listener around another that lets no constrained answer end before it was checked, and says what its limit cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from quipu.engine.answers import Answers
from quipu.errors import QuipuError
from quipu.types import Chunk, FinishReason

if TYPE_CHECKING:
    from quipu.engine.grammar import Guide


class Checked:
    """See ``request.Listener``. ``later`` runs what it is given in another thread, in order.

    An answer that a stop string ended is what its client wanted, whole or not, and is not checked.
    """

    def __init__(
        self,
        answers: Answers,
        guides: Sequence[Guide],
        on_event: Callable[[Chunk | QuipuError], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._answers, self._guides, self._on_event, self._later = answers, guides, on_event, later
        self.prompt_scored, self.token, self.failed = answers.prompt_scored, answers.token, answers.failed

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        """Tell of the end, once the answer is checked."""
        chunk = self._answers.last(index, reason, generated, cached)
        if reason == "abort" or self._answers.stopped(index):
            # Behind those that are being checked: the last one has the usage.
            self._later(lambda: self._on_event(chunk))
        else:
            self._later(lambda: self._end(index, chunk))

    def _end(self, index: int, chunk: Chunk) -> None:
        text, guide = self._answers.text(index), self._guides[index]
        try:
            wrong = guide.grammar.check(text)
            if not wrong and chunk.finish_reason == "length":
                written = len(text.encode()) if guide.written is None else guide.written
                characters = len(text.encode()[:written].decode(errors="ignore"))
                chunk = dataclasses.replace(chunk, incomplete=guide.grammar.fields(text, characters))
        except Exception as error:  # a mistake of ours: the client must hear of it instead of waiting for ever
            wrong = f"checking it failed: {error}"
        self._on_event(QuipuError(f"the answer does not keep to its constraint: {wrong}") if wrong else chunk)
