"""POST /v1/completions: continue texts or token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.serve.json_route import JSONRoute
from quipu.serve.openai.answer import CONTENT, Envelope, begin, incomplete_field, respond
from quipu.serve.openai.generation import Generation
from quipu.serve.openai.schemas import CompletionRequest
from quipu.serve.openai.text_logprobs import TextLogprobs
from quipu.serve.service import Service
from quipu.types import Chunk, Completion, TokenLogprob


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"], route_class=JSONRoute)

    @router.post("/v1/completions", summary="Continue texts or token ids", responses=CONTENT)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        generation = await begin(service, request, body, body.prompt)
        return await respond(service, request, body, generation, CompletionAnswer(body, generation))

    return router


class CompletionAnswer:
    """``text_completion`` objects, which look the same streamed and whole. See ``answer.Answer``.

    The answers to prompt number p are the choices p * n to p * n + n - 1. With ``echo``, each begins with the prompt.
    """

    def __init__(self, request: CompletionRequest, generation: Generation) -> None:
        self._envelope = Envelope("cmpl", "text_completion", request, generation.model)
        self._request = request
        self._generation = generation
        self._n = generation.sampling.n
        self._echoed: dict[int, tuple[str, tuple[TokenLogprob, ...]]] = {}
        self._writers: dict[int, TextLogprobs] = {}

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """The prompt, before the first text of each answer, if it is echoed; text; why the answer ended."""
        self._envelope.count(chunk.usage)
        if chunk.prompt_logprobs is not None:
            self._echoed[prompt] = (self._prompt_text(prompt), chunk.prompt_logprobs)
            return  # nothing is said of any answer yet
        place = prompt * self._n + chunk.index
        begins = place not in self._writers
        text, tokens = self._echo(prompt) if begins else ("", ())
        text, tokens = text + chunk.text, (*tokens, *chunk.logprobs)
        logprobs = self._logprobs(prompt, place, tokens)
        if text or tokens:
            yield self._envelope.chunk(_choice(place, text, logprobs, None))
        if chunk.finish_reason is not None:
            ended = _choice(place, "", None, chunk.finish_reason) | incomplete_field(chunk.incomplete)
            yield self._envelope.chunk(ended)

    def last_events(self) -> Iterator[Mapping[str, Any]]:
        """The token counts, if they were asked for."""
        return self._envelope.last()

    def whole(self, completions: Sequence[Completion]) -> Mapping[str, Any]:
        """The ``text_completion`` object with the answers to all prompts."""
        choices = []
        for prompt, completion in enumerate(completions):
            if completion.prompt_logprobs is not None:
                self._echoed[prompt] = (self._prompt_text(prompt), completion.prompt_logprobs)
            for index, choice in enumerate(completion.choices):
                place = prompt * self._n + index
                text, tokens = self._echo(prompt)
                logprobs = self._logprobs(prompt, place, (*tokens, *choice.logprobs))
                said = _choice(place, text + choice.text, logprobs, choice.finish_reason)
                choices.append(said | incomplete_field(choice.incomplete))
        return self._envelope.whole(choices, completions)

    def _echo(self, prompt: int) -> tuple[str, tuple[TokenLogprob, ...]]:
        if not self._request.echo:
            return "", ()
        if prompt not in self._echoed:  # without log-probabilities the engine says nothing of the prompt
            self._echoed[prompt] = (self._prompt_text(prompt), ())
        return self._echoed[prompt]

    def _prompt_text(self, prompt: int) -> str:
        given = self._request.prompt[prompt]
        return given if isinstance(given, str) else self._generation.model.tokenizer.decode(given)

    def _logprobs(self, prompt: int, place: int, tokens: Sequence[TokenLogprob]) -> Mapping[str, Any] | None:
        if place not in self._writers:
            of_text = isinstance(self._request.prompt[prompt], str)
            special = self._generation.model.tokenizer.is_special if of_text else None
            self._writers[place] = TextLogprobs(special)
        return None if self._request.logprobs is None else self._writers[place].write(tokens)


def _choice(index: int, text: str, logprobs: Mapping[str, Any] | None, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}
