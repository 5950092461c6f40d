"""One answer as it arrives: its text, its calls, its counts, and how fast it came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from quipu.tools.closing import ClosingCalls
from quipu.tools.written import call_dict
from quipu.types import Chunk, FinishReason, ToolCall, ToolCallDelta, Usage, joined_calls


class Answer:
    """Listens to the chunks of one answer. Times are in seconds since it was made.

    ``reading``: calls that the model writes at its end, though it was told of no tools, are calls and no text to show.
    """

    def __init__(self, *, reading: bool = False) -> None:
        self._closing = ClosingCalls() if reading else None
        self._deltas: list[ToolCallDelta] = []
        self.calls: tuple[ToolCall, ...] = ()
        """Once it is over."""
        self._start = time.perf_counter()
        self._pieces: list[str] = []
        self.line_open = False
        """Whether what was shown of it does not end a line."""
        self.tokens = 0
        self.first: float | None = None
        self.last = 0.0
        self.finish_reason: FinishReason = "abort"
        self.usage: Usage | None = None

    def watch(self, chunks: Iterator[Chunk]) -> Iterator[str]:
        """The texts of ``chunks`` to show, while remembering what they say. ``rest`` comes after them."""
        for chunk in chunks:
            self.last = time.perf_counter() - self._start
            if self.first is None:
                self.first = self.last
            self._pieces.append(chunk.text)
            self.tokens += len(chunk.token_ids)
            self.finish_reason = chunk.finish_reason or self.finish_reason
            if chunk.usage is not None:
                self.usage, self.tokens = chunk.usage, chunk.usage.completion_tokens
            self._deltas += chunk.tool_calls
            yield self._shown(chunk.text if self._closing is None else self._closing.push(chunk.text))

    def rest(self) -> str:
        """It is over: what text of it was not shown. From now on there are ``calls``; a stopped answer has none."""
        if self._closing is None:
            self.calls = () if self.finish_reason == "abort" else joined_calls(self._deltas)
            return ""
        said, self.calls = self._closing.finish()
        return self._shown(said)

    def _shown(self, text: str) -> str:
        if text:
            self.line_open = not text.endswith("\n")
        return text

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._pieces)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token, which waits for the prompt; None when there was only one."""
        seconds = self.last - (self.first or 0.0)
        return (self.tokens - 1) / seconds if self.tokens > 1 and seconds > 0 else None

    def summary(self, context_length: int) -> str:
        """One line for people."""
        parts = [f"{self.tokens} tokens"]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.first is not None:
            parts.append(f"first after {self.first:.2f} s")
        if self.usage is not None:
            used = self.usage.prompt_tokens + self.usage.completion_tokens
            parts.append(f"{self.usage.cached_tokens} of {self.usage.prompt_tokens} prompt tokens cached")
            parts.append(f"context {used} of {context_length}")
        if self.finish_reason == "length":
            parts.append("cut off: no more tokens allowed")
        elif self.finish_reason == "abort":
            parts.append("stopped")
        return " · ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``usage`` as the OpenAI API has it."""
        return {
            "text": self.text,
            **({"tool_calls": [call_dict(call) for call in self.calls]} if self.calls else {}),
            "finish_reason": self.finish_reason,
            "usage": usage_dict(self.usage or Usage(completion_tokens=self.tokens)),
            "timings": {
                "first_token_seconds": self.first,
                "seconds": self.last,
                "tokens_per_second": self.tokens_per_second,
            },
        }


def usage_dict(usage: Usage) -> dict[str, Any]:
    """``usage`` for JSON, as the OpenAI API has it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
