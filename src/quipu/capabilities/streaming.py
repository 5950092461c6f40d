"""Answers that arrive while they are written: how soon, how evenly, whether complete, how fast they can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Event, Progress, Result
from quipu.types import Generator, Message, Usage

CANCELLED = 5
"""Answers that are stopped on purpose."""
PATIENCE_SECONDS = 10.0
"""After which an answer that was stopped and still runs counts as not stopped."""


class Input(base.Input):
    """How hard to try the service."""

    requests: int = Field(16, ge=1, le=1000, description="Answers that are streamed")
    together: int = Field(4, ge=1, le=64, description="Answers that are streamed at the same time")
    tokens: int = Field(64, ge=2, le=4096, description="Length of each answer, in tokens")
    prompt: str = Field("Write a long story about a lighthouse.", min_length=1, description="What is asked each time")


class Output(base.Output):
    """What was seen. Times are milliseconds; p50 and p99 are percentiles over answers, or gaps between pieces."""

    first_token_p50: float = Field(description="Time to the first token, median")
    first_token_p99: float = Field(description="Time to the first token, 99th percentile")
    inter_token_p50: float | None = Field(description="Time between pieces, median; none if answers had one piece")
    inter_token_p99: float | None = Field(description="Time between pieces, 99th percentile")
    tokens_per_second: float = Field(description="Tokens a second, of all answers together")
    complete: float = Field(description="Share of answers that ended with a reason and their token counts")
    ordered: float = Field(description="Share of answers with nothing after their end")
    cancel_p50: float | None = Field(description="Time from hanging up to the end of the work, median; none if unknown")
    requests: int = Field(description="Answers that were streamed")
    together: int = Field(description="Answers at the same time")


@runtime_checkable
class Watched(Protocol):
    """A service that tells how many requests it works on."""

    def running(self) -> int | None:
        """Requests running or waiting now; None where that cannot be known."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer. Seconds from the request to each piece of text."""

    times: Sequence[float]
    usage: Usage | None
    endings: int
    late: bool
    """Whether text came after the end."""


class Streaming(base.Measured):
    """How the service streams."""

    title = "Streaming"
    description = (
        "Streams answers token by token over HTTP with server-sent events: time to the first token, evenness of the "
        "flow, completeness and order of events, and how soon a cancelled answer stops costing anything."
    )
    phrases = (
        "stream tokens as they are generated",
        "server-sent events API",
        "real-time output over HTTP",
        "how long until the first token",
        "low latency responses",
        "cancel an answer while it is running",
        "Antworten live anzeigen",
        "réponse en continu, jeton par jeton",
    )
    input = Input
    output = Output

    def measure(self, service: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """Stream all requests, then stop a few on purpose."""
        options = {"temperature": 0, **sampling, "max_tokens": given.tokens}
        total = given.requests + CANCELLED
        # Numbered, so that no answer is found in the prefix cache of the one before.
        prompts = [[Message("user", f"({number}) {given.prompt}")] for number in range(total)]
        _stream(service, [Message("user", given.prompt)], {**options, "max_tokens": 2})  # connected, and warm
        start, answers = time.perf_counter(), []
        with ThreadPoolExecutor(given.together) as pool:
            waiting = [pool.submit(_stream, service, prompt, options) for prompt in prompts[: given.requests]]
            for done in as_completed(waiting):
                answers.append(done.result())
                yield Progress(len(answers), total, "streaming")
        seconds = time.perf_counter() - start
        cancelled = []
        for prompt in prompts[given.requests :]:
            cancelled.append(_cancel(service, prompt, options))
            yield Progress(given.requests + len(cancelled), total, "cancelling")
        yield Result(_output(given, answers, cancelled, seconds), usage=_usage(answers))

    def shows(self, found: Mapping[str, Any]) -> bool | None:
        """Whether every answer came in pieces, in order, and to its end."""
        whole = all(found.get(name) == 1 for name in ("complete", "ordered"))
        return whole and found.get("inter_token_p50") is not None


def _stream(model: Generator, prompt: Sequence[Message], options: Mapping[str, Any]) -> Answer:
    start = time.perf_counter()
    times, usage, endings, late = [], None, 0, False
    with closing(model.stream(prompt, **options)) as chunks:
        for chunk in chunks:
            if chunk.text:
                times.append(time.perf_counter() - start)
                late = late or endings > 0
            endings += chunk.finish_reason in ("stop", "length")
            usage = chunk.usage or usage
    return Answer(times, usage, endings, late)


def _cancel(model: Generator, prompt: Sequence[Message], options: Mapping[str, Any]) -> float | None:
    """Seconds from hanging up, after the first piece, until the service works on no more than before; None: unknown."""
    before = model.running() if isinstance(model, Watched) else None
    chunks = model.stream(prompt, **{**options, "max_tokens": 4 * options["max_tokens"]})
    with closing(chunks):
        for chunk in chunks:
            if chunk.text:
                break
    start = time.perf_counter()
    if before is None or not isinstance(model, Watched):
        return None
    pause = threading.Event()
    while (now := model.running()) is not None and now > before:
        if time.perf_counter() - start > PATIENCE_SECONDS:
            return PATIENCE_SECONDS
        pause.wait(0.001)
    return time.perf_counter() - start


def _output(given: Input, answers: Sequence[Answer], cancelled: Sequence[float | None], seconds: float) -> Output:
    first = [answer.times[0] for answer in answers if answer.times] or [seconds]
    gaps = [after - before for answer in answers for before, after in pairwise(answer.times)]
    known = [each for each in cancelled if each is not None]
    complete = [answer.endings == 1 and answer.usage is not None and bool(answer.times) for answer in answers]
    return Output(
        first_token_p50=_milliseconds(first, 50),
        first_token_p99=_milliseconds(first, 99),
        inter_token_p50=_milliseconds(gaps, 50) if gaps else None,
        inter_token_p99=_milliseconds(gaps, 99) if gaps else None,
        tokens_per_second=round(_usage(answers).completion_tokens / seconds, 1),
        complete=sum(complete) / len(answers),
        ordered=sum(not answer.late for answer in answers) / len(answers),
        cancel_p50=_milliseconds(known, 50) if known else None,
        requests=given.requests,
        together=given.together,
    )


def _usage(answers: Sequence[Answer]) -> Usage:
    return sum((answer.usage for answer in answers if answer.usage is not None), Usage())


def _milliseconds(seconds: Sequence[float], percentile: float) -> float:
    import numpy as np  # here, because a list of capabilities does without

    return round(1000 * float(np.percentile(seconds, percentile)), 2)
