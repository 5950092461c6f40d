"""POST /v1/chat/completions: answer a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.engine.local import LocalModel
from quipu.serve.json_route import JSONRoute
from quipu.serve.openai.answer import CONTENT, Envelope, begin, finite, incomplete_field, respond
from quipu.serve.openai.schemas import ChatCompletionRequest
from quipu.serve.service import Service
from quipu.tools.written import call_dict
from quipu.types import Choice, Chunk, Completion, TokenLogprob, ToolCallDelta


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"], route_class=JSONRoute)

    @router.post("/v1/chat/completions", summary="Answer a conversation", responses=CONTENT)
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        generation = await begin(service, request, body, [body.messages], body.tool_use())
        return await respond(service, request, body, generation, ChatAnswer(body, generation.model))

    return router


class ChatAnswer:
    """``chat.completion`` and ``chat.completion.chunk`` objects. See ``answer.Answer``."""

    def __init__(self, request: ChatCompletionRequest, model: LocalModel) -> None:
        self._envelope = Envelope(
            "chatcmpl", "chat.completion.chunk" if request.stream else "chat.completion", request, model
        )
        self._logprobs = bool(request.logprobs)
        self._started: set[int] = set()

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """The role, once an answer; its text; its calls; and the reason why it ended, in an event of its own."""
        self._envelope.count(chunk.usage)
        if chunk.index not in self._started:
            self._started.add(chunk.index)
            yield self._event(chunk.index, {"role": "assistant", "content": ""})
        if chunk.text or (self._logprobs and chunk.logprobs):
            yield self._event(chunk.index, {"content": chunk.text}, logprobs=self._logprobs_of(chunk.logprobs))
        if chunk.tool_calls:
            yield self._event(chunk.index, {"tool_calls": [_delta(call) for call in chunk.tool_calls]})
        if chunk.finish_reason is not None:
            yield self._event(chunk.index, {}, finish_reason=chunk.finish_reason, incomplete=chunk.incomplete)

    def last_events(self) -> Iterator[Mapping[str, Any]]:
        """The token counts, if they were asked for."""
        return self._envelope.last()

    def whole(self, completions: Sequence[Completion]) -> Mapping[str, Any]:
        """The ``chat.completion`` object."""
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": self._logprobs_of(choice.logprobs),
                "finish_reason": choice.finish_reason,
                **incomplete_field(choice.incomplete),
            }
            for index, choice in enumerate(completions[0].choices)
        ]
        return self._envelope.whole(choices, completions)

    def _event(
        self,
        index: int,
        delta: Mapping[str, Any],
        *,
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
        incomplete: Sequence[str] = (),
    ) -> Mapping[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._envelope.chunk(choice | incomplete_field(incomplete))

    def _logprobs_of(self, tokens: Sequence[TokenLogprob]) -> Mapping[str, Any] | None:
        if not self._logprobs:
            return None
        content = [_token(token) | {"top_logprobs": [_token(other) for other in token.top]} for token in tokens]
        return {"content": content, "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    assert token.logprob is not None  # only the first token of a prompt has none
    return {"token": token.text, "logprob": finite(token.logprob), "bytes": list(token.bytes)}


def _message(choice: Choice) -> Mapping[str, Any]:
    """The whole answer; ``content`` is null where all that it does is to call."""
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    if not choice.tool_calls:
        return message
    return {**message, "content": choice.text or None, "tool_calls": [call_dict(call) for call in choice.tool_calls]}


def _delta(call: ToolCallDelta) -> Mapping[str, Any]:
    """A piece of a call; the first one has its id and name."""
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}
