"""POST /api/chat and /api/generate: Ollama's ways to ask, streamed as one JSON object a line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.engine.local import LocalModel
from quipu.errors import InvalidRequest, QuipuError
from quipu.serve.metrics import LEFT
from quipu.serve.ollama.errors import OllamaRoute, message_body
from quipu.serve.ollama.names import served_name
from quipu.serve.ollama.schemas import ChatRequest, GenerateRequest, GenerationFields, Options, with_images
from quipu.serve.openai.answer import begin, incomplete_field
from quipu.serve.openai.generation import Generation, unless_disconnected
from quipu.serve.openai.sse import EventStream, encode
from quipu.serve.service import Service
from quipu.tools.tool import ToolUse
from quipu.types import Chunk, Prompt, ToolCall, ToolCallDelta, Usage, joined_calls

CONTENT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "application/x-ndjson": {}}}}


class Said(Protocol):
    """A piece of text, and calls -> the fields that carry them."""

    def __call__(self, text: str, calls: Sequence[ToolCall] = ()) -> Mapping[str, Any]:
        """The fields of one object."""
        ...


def routes(service: Service) -> APIRouter:
    """The routes, for the models of ``service``."""
    router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)

    @router.post("/api/chat", summary="Answer a conversation", responses=CONTENT)
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await _respond(service, request, body, body.turns() or None, _message, body.tool_use())

    @router.post("/api/generate", summary="Answer a prompt", responses=CONTENT)
    async def generate(body: GenerateRequest, request: Request) -> Response:
        return await _respond(service, request, body, _prompt(body), _response)

    return router


def _message(text: str, calls: Sequence[ToolCall] = ()) -> Mapping[str, Any]:
    message = {"role": "assistant", "content": text}
    if not calls:
        return {"message": message}
    made = [{"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
    return {"message": {**message, "tool_calls": made}}


def _response(text: str, calls: Sequence[ToolCall] = ()) -> Mapping[str, Any]:
    return {"response": text}


def _prompt(body: GenerateRequest) -> Prompt | None:
    if not body.prompt:
        return None
    if body.raw:
        return body.prompt
    system = [{"role": "system", "content": body.system}] if body.system else []
    asked = {"role": "user", "content": body.prompt}
    return [*system, with_images({**asked, "images": body.images} if body.images else asked, "images")]


async def _respond(
    service: Service,
    request: Request,
    body: GenerationFields,
    prompt: Prompt | None,
    said: Said,
    use: ToolUse | None = None,
) -> Response:
    answer = OllamaAnswer(body.model, said)
    body = body.model_copy(update={"model": served_name(service, body.model)})
    with await service.borrow(body.model, request) as model:
        check_context(model, body.options)
        if prompt is None:  # Ollama's way to load a model before it is needed
            return Response(encode(answer.loaded()), media_type="application/json")
        generation = await begin(service, request, body, [prompt], use)
    answer.begun()
    if body.streams:
        return JSONLines(generation, answer, service.keep_alive_seconds)
    try:
        whole = await unless_disconnected(request.receive, _whole(generation, answer, said))
    finally:
        generation.abort()
    if whole is None:
        return Response(status_code=LEFT)  # nobody reads it; the metrics count it
    return Response(encode(whole), media_type="application/json")


def check_context(model: LocalModel, options: Options | None) -> None:
    """Raises InvalidRequest if ``options`` ask for a larger context than ``model`` was loaded with."""
    asked = None if options is None else options.num_ctx
    loaded = model.context_length
    if asked is not None and asked > loaded:
        raise InvalidRequest(
            f"options.num_ctx is {asked}; this model is loaded with a context of {loaded} tokens. Ask for at most "
            "that, or start the server with a larger --context if the model allows one.",
            param="options.num_ctx",
        )


async def _whole(generation: Generation, answer: OllamaAnswer, said: Said) -> Mapping[str, Any]:
    """The last object, which has the counts, with all of the text in it."""
    texts = []
    async for _, chunk in generation:
        texts.append(chunk.text)
        answer.hear(chunk)
    return {**answer.end(), **said("".join(texts), answer.calls)}


class OllamaAnswer:
    """Ollama's objects: one a piece of text, and a last one with counts and times. See ``sse.Streamed``.

    Durations are in nanoseconds: until the model was there, until the first token, and from then to the end.
    """

    def __init__(self, model: str, said: Said) -> None:
        self._model = model
        self._said = said
        self._start = self._begun = time.perf_counter_ns()
        self._first: int | None = None
        self._reason = "stop"
        self._usage = Usage()
        self._incomplete: tuple[str, ...] = ()
        self._deltas: list[ToolCallDelta] = []

    @property
    def calls(self) -> Sequence[ToolCall]:
        """The calls made so far, all of them complete."""
        return joined_calls(self._deltas)

    def begun(self) -> None:
        """The model is loaded and has the prompt."""
        self._begun = time.perf_counter_ns()

    def hear(self, chunk: Chunk) -> None:
        """Note when the first token came, why the answer ended, and how many tokens it took."""
        if self._first is None and chunk.token_ids:
            self._first = time.perf_counter_ns()
        self._deltas += chunk.tool_calls
        self._reason = "stop" if chunk.finish_reason == "tool_calls" else chunk.finish_reason or self._reason
        self._usage = chunk.usage or self._usage
        self._incomplete = chunk.incomplete or self._incomplete

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """The text, if there is any; the calls, whole, when there are all."""
        self.hear(chunk)
        calls = self.calls if chunk.finish_reason is not None else ()
        if chunk.text or calls:
            yield {**self._head(), **self._said(chunk.text, calls), "done": False}

    def last_events(self) -> Iterator[Mapping[str, Any]]:
        """Why the answer ended, counts and times."""
        yield self.end()

    def end(self) -> dict[str, Any]:
        """The last object of an answer."""
        now = time.perf_counter_ns()
        first = self._first or now
        return {
            **self._head(),
            **self._said(""),
            "done": True,
            "done_reason": self._reason,
            **incomplete_field(self._incomplete),
            "total_duration": now - self._start,
            "load_duration": self._begun - self._start,
            "prompt_eval_count": self._usage.prompt_tokens,
            "prompt_eval_duration": first - self._begun,
            "eval_count": self._usage.completion_tokens,
            "eval_duration": now - first,
        }

    def loaded(self) -> dict[str, Any]:
        """What is said when nothing was asked but to load the model."""
        return {**self._head(), **self._said(""), "done": True, "done_reason": "load"}

    def _head(self) -> dict[str, Any]:
        return {"model": self._model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


class JSONLines(EventStream):
    """A stream of one JSON object a line, which has no place for comments or an end mark."""

    media_type = "application/x-ndjson"
    keep_alive = b""
    done = b""

    def frame(self, event: Mapping[str, Any], data: bytes) -> bytes:
        """One line."""
        return data + b"\n"

    def error_frame(self, error: QuipuError) -> bytes:
        """The last line of a stream that failed."""
        return message_body(str(error)) + b"\n"
