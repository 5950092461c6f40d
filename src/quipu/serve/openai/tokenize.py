"""POST /tokenize and /detokenize, in vLLM's shapes."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.engine.local import LocalModel
from quipu.serve.json_route import JSONRoute
from quipu.serve.openai.schemas import DetokenizeRequest, TokenizeRequest
from quipu.serve.openai.sse import encode, encode_large
from quipu.serve.service import Service


def routes(service: Service) -> APIRouter:
    """The routes, for the models of ``service``. Long texts are worked on in a thread."""
    router = APIRouter(tags=["Tokens"], route_class=JSONRoute)

    @router.post("/tokenize", summary="Text or messages to token ids", response_class=Response)
    async def tokenize(body: TokenizeRequest, request: Request) -> Response:
        if body.messages is not None:
            service.limits.check_messages(body.messages)
        with await service.borrow(body.model, request) as model:
            answer = await asyncio.to_thread(lambda: encode_large(_tokenize(model, body)))
        return Response(answer, media_type="application/json")

    @router.post("/detokenize", summary="Token ids to text", response_class=Response)
    async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
        with await service.borrow(body.model, request) as model:
            answer = await asyncio.to_thread(lambda: encode({"prompt": model.tokenizer.decode(body.tokens)}))
        return Response(answer, media_type="application/json")

    return router


def _tokenize(model: LocalModel, body: TokenizeRequest) -> dict[str, Any]:
    if body.messages is not None:
        ids = model.prompt_ids(body.messages)
    elif body.add_special_tokens is False:
        ids = model.tokenizer.encode(body.prompt or "")
    else:
        ids = model.prompt_ids(body.prompt or "")
    texts = [model.tokenizer.decode([token]) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": model.context_length, "tokens": ids, "token_strs": texts}
