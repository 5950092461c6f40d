"""What the answers of both generating routes share: the envelope, the token counts, and how one is sent."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

import quipu
from quipu.engine.local import LocalModel
from quipu.errors import TookTooLong
from quipu.serve.metrics import LEFT
from quipu.serve.openai.generation import Generation, unless_disconnected
from quipu.serve.openai.schemas import SamplingFields
from quipu.serve.openai.sse import EventStream, Streamed, encode, encode_large
from quipu.serve.service import Service
from quipu.tools.tool import ToolUse
from quipu.types import Completion, Constraint, Prompt, Usage

if TYPE_CHECKING:
    from quipu.engine.grammar import Grammar

CONTENT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "text/event-stream": {}}}}
"""For the documentation: an answer comes whole or as a stream."""


class Envelope:
    """The fields around the choices, the same on every chunk of one answer. Counts the tokens, too."""

    def __init__(self, prefix: str, kind: str, request: SamplingFields, model: LocalModel) -> None:
        self.usage = Usage()
        self._include_usage = request.include_usage
        self._fields = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": fingerprint(model),
        }

    def count(self, usage: Usage | None) -> None:
        """Add what one prompt and its answers took."""
        if usage is not None:
            self.usage += usage

    def chunk(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """One event of a stream; ``usage`` is announced with null if the last one will have it."""
        return {**self._fields, "choices": [choice]} | ({"usage": None} if self._include_usage else {})

    def last(self) -> Iterator[dict[str, Any]]:
        """The event with the token counts, if it was asked for."""
        if self._include_usage:
            yield {**self._fields, "choices": [], "usage": usage_object(self.usage)}

    def whole(self, choices: Sequence[Mapping[str, Any]], completions: Sequence[Completion]) -> dict[str, Any]:
        """The one object of an answer that is not streamed."""
        usage = sum((completion.usage for completion in completions), Usage())
        return {**self._fields, "choices": choices, "usage": usage_object(usage)}


class Asked(Protocol):
    """What every generating route knows of a request."""

    @property
    def model(self) -> str:
        """The name of the model."""
        ...

    def sampling(self) -> Mapping[str, Any]:
        """Fields of ``types.Sampling`` that the request sets."""
        ...

    def constraint(self) -> tuple[Constraint, str] | None:
        """What the answer must look like, and the field that says so."""
        ...


class Answer(Streamed, Protocol):
    """Says a generation in the objects of one route: piece by piece, or whole."""

    def whole(self, completions: Sequence[Completion]) -> Mapping[str, Any]:
        """All answers to all prompts in one object."""
        ...


async def begin(
    service: Service, request: Request, fields: Asked, prompts: Sequence[Prompt], use: ToolUse | None = None
) -> Generation:
    """Find the model, submit ``prompts`` to it, and what answers may call. Raises by field name what is wrong."""
    loan = await service.borrow(fields.model, request)
    try:
        sampling = loan.model.sampling(fields.sampling())
        grammar = await _grammar(loan.model, fields.constraint(), use, service.limits.request_seconds)
        clock = service.clock(fields.model)
        generation = Generation(loan, prompts, sampling, clock, service.limits, grammar, use, service.remote_images)
    except BaseException:
        loan.give_back()
        raise
    request.scope["state"]["generation"] = generation  # for the log
    return await generation.start()


async def _grammar(
    model: LocalModel, asked: tuple[Constraint, str] | None, use: ToolUse | None, seconds: float
) -> Grammar | None:
    """``asked``, or what ``use`` allows, compiled, while the event loop goes on."""
    if asked is None and use is None:
        return None
    constraint, name = asked or (None, "tools")
    try:
        async with asyncio.timeout(seconds):
            compiling = await asyncio.to_thread(model.compile_for, use, constraint, name)
            assert compiling is not None
            return await asyncio.wrap_future(compiling)
    except TimeoutError:
        raise TookTooLong.of(seconds, f"make {name} simpler", f"compiling {name}") from None


async def respond(
    service: Service, request: Request, fields: SamplingFields, generation: Generation, answer: Answer
) -> Response:
    """The answer as a stream or whole, as ``fields`` ask. ``generation`` is aborted when the client leaves."""
    if fields.stream:
        return EventStream(generation, answer, service.keep_alive_seconds)
    try:
        completions = await unless_disconnected(request.receive, generation.completions())
    finally:
        generation.abort()
    if completions is None:
        return Response(status_code=LEFT)  # nobody reads it; the metrics count it
    if generation.sampling.logprobs is not None:  # it may be megabytes, which must not keep the event loop from others
        return Response(await asyncio.to_thread(_large, answer, completions), media_type="application/json")
    return Response(encode(answer.whole(completions)), media_type="application/json")


def _large(answer: Answer, completions: Sequence[Completion]) -> bytes:
    return encode_large(answer.whole(completions))


def incomplete_field(incomplete: Sequence[str]) -> dict[str, Any]:
    """What a choice says of fields that its limit of tokens cut: nothing, where there are none."""
    return {"incomplete": list(incomplete)} if incomplete else {}


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's ``usage``."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens}
        | ({"image_tokens": usage.image_tokens, "encoded_images": usage.encoded_images} if usage.image_tokens else {}),
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def fingerprint(model: LocalModel) -> str:
    """Changes when the same seed may bring another answer: with the weights, their precision, or what computes."""
    facts = model.facts
    stored = sorted(facts.quantization.items())
    told = repr((quipu.__version__, facts.architecture, facts.parameters, stored, facts.dtype, model.runner))
    return f"fp_{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def finite(logprob: float) -> float:
    """JSON has no minus infinity; the OpenAI API says -9999."""
    return max(logprob, -9999.0)
