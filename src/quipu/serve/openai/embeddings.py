"""POST /v1/embeddings: texts or token ids to vectors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from quipu.engine.embedding import EMBEDDED_AT_ONCE, Embedded, normalized
from quipu.engine.engine import Handle
from quipu.engine.local import LocalModel
from quipu.errors import ContextLengthExceeded, InvalidRequest, QuipuError, TookTooLong
from quipu.serve.json_route import JSONRoute
from quipu.serve.limits import Limits
from quipu.serve.metrics import LEFT
from quipu.serve.openai.generation import unless_disconnected
from quipu.serve.openai.schemas import EmbeddingRequest
from quipu.serve.openai.sse import encode
from quipu.serve.service import Service

Result = TypeVar("Result")


def routes(service: Service) -> APIRouter:
    """The route, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"], route_class=JSONRoute)

    @router.post("/v1/embeddings", summary="Texts or token ids to vectors", response_class=Response)
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        with await service.borrow(body.model, request) as model:
            found = await embedded(model, request, body.input, body.dimensions, service.limits)
        if found is None:
            return Response(status_code=LEFT)  # nobody reads it; the metrics count it
        answer = await asyncio.to_thread(_answer, body, *found)
        return Response(answer, media_type="application/json")

    return router


async def embedded(
    model: LocalModel, request: Request, inputs: Sequence[str | list[int]], dimensions: int | None, limits: Limits
) -> tuple[NDArray[np.float32], int] | None:
    """float32 [inputs, hidden size], and how many tokens the inputs have; None if the client left meanwhile.

    Raises InvalidRequest unless ``dimensions`` is None or the model's own size, ContextLengthExceeded,
    LimitExceeded, and TookTooLong.
    """
    _check_dimensions(dimensions, model)
    ids = await asyncio.to_thread(_ids, model, inputs, limits)
    vectors = await unless_disconnected(request.receive, _in_time(_embed(model, ids), limits))
    return None if vectors is None else (vectors, sum(map(len, ids)))


def _check_dimensions(dimensions: int | None, model: LocalModel) -> None:
    size = model.facts.hidden_size
    if dimensions not in (None, size):
        raise InvalidRequest(
            f"dimensions is {dimensions}; vectors of this model have {size} and cannot be shortened: leave it out",
            param="dimensions",
        )


def _ids(model: LocalModel, inputs: Sequence[str | list[int]], limits: Limits) -> list[list[int]]:
    limits.check_inputs(len(inputs))
    result: list[list[int]] = []
    for place, each in enumerate(inputs):
        model.check_length(each, f"input[{place}]")
        ids = model.prompt_ids(each)
        if len(ids) > model.context_length:
            raise ContextLengthExceeded.of(len(ids), model.context_length, name=f"input[{place}]")
        result.append(ids)
    limits.check_input_tokens(sum(map(len, result)))
    return result


async def _in_time(work: Coroutine[Any, Any, Result], limits: Limits) -> Result:
    try:
        async with asyncio.timeout(limits.request_seconds):
            return await work
    except TimeoutError:
        raise TookTooLong.of(limits.request_seconds, "send fewer or shorter inputs") from None


async def _embed(model: LocalModel, inputs: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """float32 [inputs, hidden size]; cancelled, it aborts what is at the engine."""
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(inputs), EMBEDDED_AT_ONCE):
        vectors += await _together(model, inputs[start : start + EMBEDDED_AT_ONCE])
    return normalized(np.stack(vectors))


async def _together(model: LocalModel, inputs: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[NDArray[np.float32]]] = [loop.create_future() for _ in inputs]
    handles: list[Handle] = []
    try:
        for ids, future in zip(inputs, futures, strict=True):
            handles.append(model.submit_embedding(ids, partial(_deliver, loop, future)))
        return await asyncio.gather(*futures)
    finally:
        for handle in handles:
            handle.abort()


def _deliver(loop: asyncio.AbstractEventLoop, future: asyncio.Future[NDArray[np.float32]], result: Embedded) -> None:
    """Called from the engine's thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, and nobody listens
        loop.call_soon_threadsafe(_settle, future, result)


def _settle(future: asyncio.Future[NDArray[np.float32]], result: Embedded) -> None:
    if future.done():
        return
    if isinstance(result, QuipuError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _answer(body: EmbeddingRequest, vectors: NDArray[np.float32], tokens: int) -> bytes:
    written = _base64 if body.encoding_format == "base64" else _numbers
    data = [
        {"object": "embedding", "index": index, "embedding": written(vector)} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return encode({"object": "list", "data": data, "model": body.model, "usage": usage})


def _numbers(vector: NDArray[np.float32]) -> Any:
    return vector.tolist()


def _base64(vector: NDArray[np.float32]) -> str:
    """Of the numbers as little-endian float32, as in the OpenAI API."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
