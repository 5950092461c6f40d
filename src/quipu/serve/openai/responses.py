"""POST /v1/responses: OpenAI's newer way to ask, without anything kept between requests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.errors import QuipuError
from quipu.serve.json_route import JSONRoute
from quipu.serve.metrics import LEFT
from quipu.serve.openai.answer import CONTENT, begin
from quipu.serve.openai.generation import Generation, unless_disconnected
from quipu.serve.openai.responses_schema import ResponsesRequest
from quipu.serve.openai.sse import EventStream, encode
from quipu.serve.service import Service
from quipu.types import Chunk, Usage

Event = Mapping[str, Any]


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"], route_class=JSONRoute)

    @router.post("/v1/responses", summary="Answer an input", responses=CONTENT)
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        generation = await begin(service, request, body, [body.conversation()])
        answer = ResponsesAnswer(body, generation)
        if body.stream:
            return NamedEvents(generation, answer, service.keep_alive_seconds)
        try:
            whole = await unless_disconnected(request.receive, _whole(generation, answer))
        finally:
            generation.abort()
        if whole is None:
            return Response(status_code=LEFT)  # nobody reads it; the metrics count it
        return Response(encode(whole), media_type="application/json")

    return router


async def _whole(generation: Generation, answer: ResponsesAnswer) -> Mapping[str, Any]:
    async for prompt, chunk in generation:
        for _ in answer.events(prompt, chunk):
            pass
    return answer.response()


class ResponsesAnswer:
    """A ``response`` object, and the events that tell how it comes to be. See ``sse.Streamed``.

    One output item, a message, with one part, its text.
    """

    def __init__(self, request: ResponsesRequest, generation: Generation) -> None:
        self._request = request
        self._sampling = generation.sampling
        self._id = f"resp_{uuid.uuid4().hex}"
        self._item = f"msg_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._texts: list[str] = []
        self._status = "in_progress"
        self._usage: Usage | None = None
        self._error: QuipuError | None = None
        self._number = -1
        self._incomplete: tuple[str, ...] = ()

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Event]:
        """What comes before the first text, and the text."""
        if self._number < 0:
            yield from self._opening()
        if chunk.text:
            self._texts.append(chunk.text)
            yield self._of_part("response.output_text.delta", delta=chunk.text, logprobs=[])
        if chunk.finish_reason is not None:
            self._status = "completed" if chunk.finish_reason == "stop" else "incomplete"
            self._incomplete = chunk.incomplete
            self._usage = chunk.usage

    def last_events(self) -> Iterator[Event]:
        """The text, its part, its item and the response once more, complete."""
        yield self._of_part("response.output_text.done", text=self._text, logprobs=[])
        yield self._of_part("response.content_part.done", part=self._part())
        yield self._event("response.output_item.done", output_index=0, item=self._message())
        yield self._event(f"response.{self._status}", response=self.response())

    def failed(self, error: QuipuError) -> Event:
        """The event that ends a stream in the middle."""
        self._status, self._error = "failed", error
        return self._event("response.failed", response=self.response())

    def response(self) -> dict[str, Any]:
        """The object as it is now."""
        request, begun = self._request, self._status != "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": None if self._error is None else {"code": "server_error", "message": str(self._error)},
            "incomplete_details": self._incomplete_details() if self._status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": request.model,
            "output": [self._message()] if begun else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,  # nothing is, whatever was asked
            "temperature": self._sampling.temperature,
            "text": {"format": (request.text or {}).get("format") or {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": self._sampling.top_p,
            "truncation": "disabled",
            "usage": None if self._usage is None else _usage(self._usage),
            "user": request.user,
            "metadata": request.metadata or {},
        }

    def _incomplete_details(self) -> dict[str, Any]:
        """Why the answer is incomplete, and which fields of it are, if it is constrained to JSON."""
        return {"reason": "max_output_tokens"} | ({"fields": list(self._incomplete)} if self._incomplete else {})

    def _opening(self) -> Iterator[Event]:
        yield self._event("response.created", response=self.response())
        yield self._event("response.in_progress", response=self.response())
        yield self._event("response.output_item.added", output_index=0, item=self._message() | {"content": []})
        yield self._of_part("response.content_part.added", part=self._part())

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def _of_part(self, kind: str, **fields: Any) -> Event:
        return self._event(kind, item_id=self._item, output_index=0, content_index=0, **fields)

    def _message(self) -> dict[str, Any]:
        status = "incomplete" if self._status == "failed" else self._status
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": [self._part()]}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": []}

    @property
    def _text(self) -> str:
        return "".join(self._texts)


class NamedEvents(EventStream):
    """Server-sent events with their names, as this route has them; the last one is the end mark."""

    done = b""

    def __init__(self, generation: Generation, answer: ResponsesAnswer, keep_alive_seconds: float) -> None:
        super().__init__(generation, answer, keep_alive_seconds)
        self._response = answer

    def frame(self, event: Event, data: bytes) -> bytes:
        """The event under its name."""
        name: str = event["type"]
        return f"event: {name}\n".encode() + super().frame(event, data)

    def error_frame(self, error: QuipuError) -> bytes:
        """The response, failed."""
        event = self._response.failed(error)
        return self.frame(event, encode(event))


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
