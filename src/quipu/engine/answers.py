"""The answers to one request as they come: tokens -> text, calls, what is told of tokens, and what was used."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Sequence

from quipu.engine.request import Score
from quipu.engine.text_stream import TextStream
from quipu.errors import QuipuError
from quipu.model.image_tokens import PlacedImage
from quipu.model.tokenizer import Tokenizer
from quipu.tools.reader import CallReader
from quipu.tools.tool import ToolUse
from quipu.types import Chunk, FinishReason, Sampling, TokenLogprob, ToolCallDelta, Usage

Event = Chunk | QuipuError
"""What a submitted request brings: chunks, or the error that ended one of its answers."""


class Answers:
    """The engine's listener for one request: turns tokens into text, finds stop strings, counts."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        prompt_tokens: int,
        sampling: Sampling,
        on_event: Callable[[Event], None],
        continues: bool,
        use: ToolUse | None,
        images: Sequence[PlacedImage] = (),
    ) -> None:
        self._images = images
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self._on_event = on_event
        self._unfinished = sampling.n
        self._generated = 0
        self._cached = 0
        self._answers = [_Answer(tokenizer, sampling.stop, continues, use) for _ in range(sampling.n)]

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        """See ``request.Listener``."""
        if index == 0:
            self._on_event(Chunk(prompt_logprobs=tuple(_named(score, self._tokenizer) for score in scores)))

    def token(self, index: int, token: int, score: Score | None) -> bool:
        """See ``request.Listener``."""
        answer = self._answers[index]
        answer.push(token, None if score is None else _named(score, self._tokenizer))
        if answer.has_news or answer.text is None:
            self._on_event(answer.chunk(index))
        return answer.stopped

    def _usage(self) -> Usage:
        seen = sum(len(image.positions) for image in self._images)
        encoded = sum(image.encoded for image in self._images)
        return Usage(self._prompt_tokens, self._generated, self._cached, seen, encoded)

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        """See ``request.Listener``."""
        self._on_event(self.last(index, reason, generated, cached))

    def last(self, index: int, reason: FinishReason, generated: int, cached: int) -> Chunk:
        """The last chunk of answer ``index``, for who tells of it instead of ``finished``."""
        self._unfinished -= 1
        self._generated += generated
        if index == 0:
            self._cached = cached
        usage = None if self._unfinished else self._usage()
        answer = self._answers[index]
        answer.finish()
        if reason == "stop" and answer.calls:
            reason = "tool_calls"
        return dataclasses.replace(answer.chunk(index), finish_reason=reason, usage=usage)

    def text(self, index: int) -> str:
        """All text of answer ``index``, calls included; after ``last``."""
        return "".join(self._answers[index].written)

    def stopped(self, index: int) -> bool:
        """Whether a stop string ended answer ``index``."""
        return self._answers[index].stopped

    def failed(self, index: int, error: QuipuError) -> None:
        """See ``request.Listener``."""
        self._unfinished -= 1
        self._on_event(error)


class _Answer:
    """Text and calls of one answer, and the tokens that belong to what is not yet shown."""

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str], continues: bool, use: ToolUse | None) -> None:
        self.text = None if tokenizer is None else TextStream(tokenizer, stop, continues=continues)
        self.calls = 0
        """How many calls it has begun."""
        # The grammar of the answer says that what begins like a call is one.
        self._reader = None if use is None else CallReader([tool.name for tool in use.callable], eager=True)
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self.written: list[str] = []
        """All text, calls included."""
        self._said = ""
        self._deltas: list[ToolCallDelta] = []

    @property
    def stopped(self) -> bool:
        return self.text is not None and self.text.stopped

    @property
    def has_news(self) -> bool:
        return bool(self._said or self._deltas)

    def push(self, token: int, logprob: TokenLogprob | None) -> None:
        self._tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        if self.text is not None:
            self._read(self.text.push(token))

    def finish(self) -> None:
        if self.text is not None:
            self._read(self.text.finish(), last=True)

    def chunk(self, index: int) -> Chunk:
        """A chunk of all that was pushed since the last one."""
        chunk = Chunk(self._said, index, tuple(self._tokens), tuple(self._logprobs), tool_calls=tuple(self._deltas))
        self._said, self._tokens, self._logprobs, self._deltas = "", [], [], []
        return chunk

    def _read(self, text: str, *, last: bool = False) -> None:
        self.written.append(text)
        if self._reader is None:
            self._said += text
            return
        for piece in self._reader.push(text) + (self._reader.finish() if last else []):
            if isinstance(piece, str):
                self._said += piece
            elif piece.name is not None:
                self.calls += 1
                self._deltas.append(dataclasses.replace(piece, id=f"call_{uuid.uuid4().hex[:24]}"))
            elif self._deltas:  # in OpenAI's streams a chunk has one delta of a call, and clients read no other
                before = self._deltas.pop()
                self._deltas.append(dataclasses.replace(before, arguments=before.arguments + piece.arguments))
            else:
                self._deltas.append(piece)


def _named(score: Score, tokenizer: Tokenizer | None) -> TokenLogprob:
    """A score with the text of its tokens."""
    top = tuple(_logprob(token, value, tokenizer) for token, value in score.top)
    return _logprob(score.token, score.logprob, tokenizer, top)


def _logprob(
    token: int, value: float | None, tokenizer: Tokenizer | None, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    raw = b"" if tokenizer is None else tokenizer.token_bytes(token)
    return TokenLogprob(token, raw.decode(errors="replace"), raw, value, top)
