"""GET /v1/models: what is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from quipu.serve.service import Service


def routes(service: Service) -> APIRouter:
    """The routes, for the models of ``service``."""
    router = APIRouter(tags=["OpenAI"])

    def describe(name: str) -> dict[str, Any]:
        loaded = service.models.get(name)
        return {
            "id": name,
            "object": "model",
            "created": service.created,
            "owned_by": "quipu",
            "max_model_len": None if loaded is None else loaded.context_length,  # vLLM's name for the context
            "loaded": loaded is not None,
            "input_modalities": None if loaded is None else ["text", *(["image"] if loaded.sees else [])],
        }

    @router.get("/v1/models", summary="The models that are served")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(name) for name in service.names]}

    @router.get("/v1/models/{name:path}", summary="One model")
    async def model(name: str, request: Request) -> dict[str, Any]:
        service.find(name, request)
        return describe(name)

    return router
