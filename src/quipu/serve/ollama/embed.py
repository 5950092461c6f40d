"""POST /api/embed: Ollama's way to ask for the vectors of /v1/embeddings."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.serve.metrics import LEFT
from quipu.serve.ollama.errors import OllamaRoute
from quipu.serve.ollama.generation import check_context
from quipu.serve.ollama.names import served_name
from quipu.serve.ollama.schemas import EmbedRequest
from quipu.serve.openai.embeddings import embedded
from quipu.serve.openai.sse import encode
from quipu.serve.service import Service


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)

    @router.post("/api/embed", summary="Texts to vectors", response_class=Response)
    async def embed(body: EmbedRequest, request: Request) -> Response:
        start = time.perf_counter_ns()
        with await service.borrow(served_name(service, body.model), request) as model:
            loaded = time.perf_counter_ns()
            check_context(model, body.options)
            found = await embedded(model, request, body.input, body.dimensions, service.limits)
        if found is None:
            return Response(status_code=LEFT)  # nobody reads it; the metrics count it
        vectors, tokens = found
        answer: dict[str, Any] = {
            "model": body.model,
            "embeddings": vectors.tolist(),
            "total_duration": time.perf_counter_ns() - start,
            "load_duration": loaded - start,
            "prompt_eval_count": tokens,
        }
        return Response(encode(answer), media_type="application/json")

    return router
