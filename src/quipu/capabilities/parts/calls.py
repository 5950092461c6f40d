"""The calls of a model that one call of a capability makes: streamed, counted, and all ended together."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, TypeVar

from quipu.types import Chunk, Chunks, FinishReason, Generator, Message, ToolCall, ToolCallDelta, Usage, joined_calls

T = TypeVar("T")

TOGETHER = 16
"""Most answers of one call that are at the model at once."""
LONGEST_TOKEN = 128
"""Characters: no token of a Llama's vocabulary has more (Llama 3 has one of 128 spaces)."""


class Calls:
    """A model with the sampling options of one call. ``usage`` and ``finish_reason`` tell of the calls so far."""

    def __init__(self, model: Generator, sampling: Mapping[str, Any]) -> None:
        self.model = model
        self.usage = Usage()
        self.finish_reason: FinishReason = "stop"
        """``length`` once any answer was cut off."""
        self._sampling = dict(sampling)
        self._lock = threading.Lock()
        self._open: set[Chunks] = set()
        self._ended = False
        self._deltas: list[ToolCallDelta] = []

    def room(self, messages: Sequence[Message]) -> int:
        """Tokens that the context has left for an answer to ``messages``; below 1 if they do not fit."""
        least = sum(len(message.content) for message in messages) // LONGEST_TOKEN
        if least > self.model.context_length:  # counting would take seconds for each 10 MB
            return self.model.context_length - least
        return self.model.context_length - self.model.count(messages)

    @property
    def tool_calls(self) -> Sequence[ToolCall]:
        """What the answer to the last question with tools calls."""
        return joined_calls(self._deltas)

    def stream(self, messages: Sequence[Message], longest: int, *, tools: Sequence[Any] = ()) -> Steps[str, None, None]:
        """The texts of ``chunks``. It may call ``tools``; its calls are in ``tool_calls``, when it is over."""
        more = {"tools": tools} if tools else {}
        with contextlib.closing(self.chunks(messages, longest, **more)) as chunks:
            for chunk in chunks:
                if tools:
                    self._deltas += chunk.tool_calls
                if chunk.text:
                    yield chunk.text

    def chunks(self, messages: Sequence[Message], longest: int, **more: Any) -> Steps[Chunk, None, None]:
        """The answer, piece by piece: at most ``longest`` tokens, and what the context has room for.

        A ``max_tokens`` of the caller's goes over both; ``more`` is what the model's ``stream`` takes beside. Closing
        the iterator ends it. Raises ContextLengthExceeded when the messages do not fit.
        """
        options = {**self._sampling, **more}
        tools = list(more.get("tools", ()))
        if options.get("max_tokens") is None:
            told = [Message("user", json.dumps(tools, indent=8))] if tools else []  # as templates write them
            room = self.room([*messages, *told])
            # Without room the model is asked all the same: its refusal has the numbers and the remedy.
            options["max_tokens"] = min(longest, room) if room > 0 else None
        if tools:
            self._deltas = []
        with contextlib.closing(self.model.stream(messages, **options)) as chunks, self._registered(chunks):
            for chunk in () if self._ended else chunks:
                if self._ended:
                    return
                self._note(chunk.usage, chunk.finish_reason)
                yield chunk

    def close(self) -> None:
        """End every answer that is still being made; from any thread, idempotent."""
        with self._lock:
            self._ended = True
            opened = list(self._open)
        for chunks in opened:
            # A Python generator refuses while another thread is in it; ``stream`` then ends it at its next chunk.
            with contextlib.suppress(ValueError):
                chunks.close()

    def answer(self, messages: Sequence[Message], longest: int) -> str:
        """The whole answer; see ``stream``."""
        return "".join(self.stream(messages, longest))

    def answers(self, conversations: Sequence[Sequence[Message]], longest: int) -> Iterator[tuple[int, str]]:
        """The place and the whole answer of each conversation, as they are ready: the model batches them.

        Closing the iterator, or an error of one of them, ends all.
        """
        return self.all([partial(self.answer, messages, longest) for messages in conversations])

    def all(self, asking: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        """The place and what comes of each of ``asking``, which call the model; see ``answers``."""
        with ThreadPoolExecutor(min(TOGETHER, max(1, len(asking)))) as pool:
            waiting = {pool.submit(ask): place for place, ask in enumerate(asking)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    @contextlib.contextmanager
    def _registered(self, chunks: Chunks) -> Iterator[None]:
        """``close`` reaches ``chunks`` meanwhile."""
        with self._lock:
            self._open.add(chunks)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(chunks)

    def _note(self, usage: Usage | None, finish_reason: FinishReason | None) -> None:
        with self._lock:
            if usage is not None:
                self.usage += usage
            if finish_reason not in (None, "stop", "tool_calls"):
                self.finish_reason = finish_reason
