"""A model as one call of a capability has it: several answers, one request. Counted, timed, limited, ended together."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from quipu.capabilities.parts.calls import TOGETHER
from quipu.engine.local import LocalModel
from quipu.engine.stream import Stream
from quipu.errors import HungUp, Overloaded
from quipu.serve.limits import Limits
from quipu.serve.metrics import Clock
from quipu.types import Chunk, Constraint, Facts, Prompt, Sampling, Usage

PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Borrowed:
    """See ``types.Generator``. Safe from several threads; ``hang_up`` ends what is running and refuses what comes.

    At most ``TOGETHER`` answers are at the model at once, whatever the capability does. While the queue is full, the
    first answer is refused as any other request is; once a call has begun, its further ones wait for a place, so that
    a long work is not lost to a busy minute.
    """

    def __init__(self, model: LocalModel, limits: Limits, clock: Clock) -> None:
        self.usage = Usage()
        """Tokens of the answers that are complete so far."""
        self.first_token_seconds: float | None = None
        self._model = model
        self._limits = limits
        self._clock = clock
        self._start = time.perf_counter()
        self._changed = threading.Condition()
        self._open: set[Answer] = set()
        self._places = TOGETHER
        self._numbers = itertools.count()
        self._beginning = threading.Lock()
        self._begun = False
        self._ended = False

    @property
    def facts(self) -> Facts:
        """What is known of the model."""
        return self._model.facts

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._model.context_length

    def count(self, messages: Prompt) -> int:
        """Tokens of the prompt after chat formatting."""
        self.check()
        return self._model.count(messages)

    def running(self) -> int:
        """Answers, of everyone, that are being generated or wait for it now."""
        return self._model.running()

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        constraint: Constraint | None = None,
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
        parallel_tool_calls: bool | None = None,
        **options: Any,
    ) -> Answer:
        """One answer. Raises what is wrong with the request, and HungUp after the end."""
        self._limits.check(sampling or self._model.sampling(options), [prompt])
        self._take_place()
        try:
            calling = {"tools": tools, "tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
            stream = self._submitted(prompt, sampling, {**options, **calling, "constraint": constraint})
            answer = Answer(self, stream, next(self._numbers))
        except BaseException:
            self._give_place()
            raise
        with self._changed:
            self._open.add(answer)
        if self._ended:  # meanwhile
            answer.close()
        return answer

    def hang_up(self) -> None:
        """End every answer before the engine's next step; from any thread, idempotent."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            opened = list(self._open)
        for answer in opened:
            answer.close()

    def heard(self, answer: Answer, chunk: Chunk) -> None:
        """Count and time a chunk. Raises HungUp after the end."""
        self.check()
        with self._changed:
            if self.first_token_seconds is None and chunk.token_ids:
                self.first_token_seconds = time.perf_counter() - self._start
            if chunk.usage is not None:
                self.usage += chunk.usage
            self._clock.heard(answer.number, len(chunk.token_ids))

    def closed(self, answer: Answer) -> None:
        """``answer`` is over."""
        with self._changed:
            if answer not in self._open:
                return
            self._open.discard(answer)
        self._give_place()

    def check(self) -> None:
        """Raise HungUp after the end."""
        if self._ended:
            raise HungUp("the request ended before the work did")

    def _submitted(self, prompt: Prompt, sampling: Sampling | None, options: dict[str, Any]) -> Stream:
        with self._beginning:  # one at a time, until one was taken: then the others may wait
            if not self._begun:
                stream = self._model.stream(prompt, sampling, **options)
                self._begun = True
                return stream
        pause = PAUSE_SECONDS
        while True:
            with contextlib.suppress(Overloaded):
                return self._model.stream(prompt, sampling, **options)
            with self._changed:
                self._changed.wait(pause)
            self.check()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _take_place(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._places or self._ended)
            self.check()
            self._places -= 1

    def _give_place(self) -> None:
        with self._changed:
            self._places += 1
            self._changed.notify_all()


class Answer(Iterator[Chunk]):
    """One answer of a ``Borrowed`` model. See ``types.Chunks``."""

    def __init__(self, lender: Borrowed, stream: Stream, number: int) -> None:
        self.number = number
        self._lender = lender
        self._stream = stream

    def __next__(self) -> Chunk:
        try:
            chunk = next(self._stream)
        except BaseException as error:
            self.close()
            if isinstance(error, StopIteration):
                self._lender.check()  # an answer that was cut off must not be taken for a short one
            raise
        self._lender.heard(self, chunk)
        if chunk.usage is not None:  # the last one
            self.close()
        return chunk

    def close(self) -> None:
        """End it; idempotent."""
        self._stream.close()
        self._lender.closed(self)
