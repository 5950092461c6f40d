"""POST /v1/responses: OpenAI's newer way to ask, without anything kept between requests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.errors import QuipuError
from quipu.serve.json_route import JSONRoute
from quipu.serve.metrics import LEFT
from quipu.serve.openai.answer import CONTENT, begin
from quipu.serve.openai.generation import Generation, unless_disconnected
from quipu.serve.openai.responses_items import CallItem, Fields, MessageItem
from quipu.serve.openai.responses_schema import ResponsesRequest
from quipu.serve.openai.sse import EventStream, encode
from quipu.serve.service import Service
from quipu.tools.tool import Tool
from quipu.types import Chunk, Usage

Event = Mapping[str, Any]


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"], route_class=JSONRoute)

    @router.post("/v1/responses", summary="Answer an input", responses=CONTENT)
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        generation = await begin(service, request, body, [body.conversation()], body.tool_use())
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

    Its output is a message, or calls, or a message and then calls.
    """

    def __init__(self, request: ResponsesRequest, generation: Generation) -> None:
        self._request = request
        self._sampling = generation.sampling
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._items: list[MessageItem | CallItem] = []
        self._status = "in_progress"
        self._usage: Usage | None = None
        self._error: QuipuError | None = None
        self._number = -1
        self._incomplete: tuple[str, ...] = ()

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Event]:
        """What comes before everything, and what the chunk adds: text, and calls."""
        if self._number < 0:
            yield self._event("created", response=self.response())
            yield self._event("in_progress", response=self.response())
        if chunk.text:
            if not self._items or not isinstance(self._items[-1], MessageItem):
                yield from self._begun(MessageItem())
            yield from self._of_last(self._items[-1].more(chunk.text))
        for delta in chunk.tool_calls:
            if delta.name is not None:
                yield from self._begun(CallItem(delta))
            yield from self._of_last(self._items[-1].more(delta.arguments))
        if chunk.finish_reason is not None:
            self._status = "completed" if chunk.finish_reason in ("stop", "tool_calls") else "incomplete"
            self._incomplete = chunk.incomplete
            self._usage = chunk.usage
            if not self._items:  # an empty answer is a message, too
                yield from self._begun(MessageItem())

    def last_events(self) -> Iterator[Event]:
        """The last item and the response once more, complete."""
        yield from self._of_last(self._items[-1].closing(self._status))
        yield self._event(self._status, response=self.response())

    def failed(self, error: QuipuError) -> Event:
        """The event that ends a stream in the middle."""
        self._status, self._error = "failed", error
        return self._event("failed", response=self.response())

    def response(self) -> dict[str, Any]:
        """The object as it is now."""
        request = self._request
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
            "output": self._output() if self._status != "in_progress" else [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,  # nothing is, whatever was asked
            "temperature": self._sampling.temperature,
            "text": {"format": (request.text or {}).get("format") or {"type": "text"}},
            "tool_choice": request.tool_choice or "auto",
            "tools": [{"type": "function", "strict": True, **_function(tool)} for tool in request.told_tools()],
            "top_p": self._sampling.top_p,
            "truncation": "disabled",
            "usage": None if self._usage is None else _usage(self._usage),
            "user": request.user,
            "metadata": request.metadata or {},
        }

    def _incomplete_details(self) -> dict[str, Any]:
        """Why the answer is incomplete, and which fields of it are, if it is constrained to JSON."""
        return {"reason": "max_output_tokens"} | ({"fields": list(self._incomplete)} if self._incomplete else {})

    def _output(self) -> list[dict[str, Any]]:
        last = "incomplete" if self._status == "failed" else self._status
        return [item.object(last if item is self._items[-1] else "completed") for item in self._items]

    def _begun(self, item: MessageItem | CallItem) -> Iterator[Event]:
        """The one before is complete, if there is one."""
        if self._items:
            yield from self._of_last(self._items[-1].closing("completed"))
        self._items.append(item)
        yield from self._of_last(item.opening())

    def _of_last(self, told: Iterable[Fields]) -> Iterator[Event]:
        for kind, fields in told:
            yield self._event(kind, output_index=len(self._items) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": f"response.{kind}", "sequence_number": self._number, **fields}


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


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
