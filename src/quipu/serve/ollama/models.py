"""GET /api/tags, /api/ps, /api/version and POST /api/show: which models there are, and what they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu.engine.local import LocalModel
from quipu.serve.ollama.errors import OllamaRoute
from quipu.serve.ollama.names import served_name, tagged
from quipu.serve.ollama.schemas import ShowRequest
from quipu.serve.openai.sse import encode
from quipu.serve.service import Service

API_VERSION = "0.9.0"
"""The version of Ollama whose API this follows. Tools compare it with what they need."""
FAR_AWAY = "9999-12-31T23:59:59Z"


def routes(service: Service) -> APIRouter:
    """The routes, for the models of ``service``."""
    router = APIRouter(tags=["Ollama"], route_class=OllamaRoute)

    @router.get("/api/version", summary="The version of Ollama's API")
    async def version() -> dict[str, str]:
        return {"version": API_VERSION}

    @router.get("/api/tags", summary="The models that are served")
    async def tags() -> dict[str, Any]:
        return {"models": [_entry(name, service) for name in service.names]}

    @router.get("/api/ps", summary="The models that are loaded")
    async def loaded() -> dict[str, Any]:
        return {
            "models": [
                _entry(name, service) | {"expires_at": FAR_AWAY, "context_length": model.context_length}
                for name, model in service.models.items()
            ]
        }

    @router.post("/api/show", summary="What a model is", response_class=Response)
    async def show(body: ShowRequest, request: Request) -> Response:
        name = served_name(service, body.model or body.name or "")
        with await service.borrow(name, request) as model:
            return Response(encode(_description(model, service)), media_type="application/json")

    return router


def _entry(name: str, service: Service) -> dict[str, Any]:
    """A model in a list; of one that is not loaded, only the name is known."""
    model = service.models.get(name)
    # Not of the files, whose hash would take minutes to compute when a tool only lists models.
    digest = hashlib.sha256(repr((name, model and model.facts)).encode()).hexdigest()
    return {
        "name": tagged(name),
        "model": tagged(name),
        "modified_at": _started(service),
        "size": 0 if model is None else _bytes(model),
        "digest": digest,
        "details": {} if model is None else _details(model),
    }


def _description(model: LocalModel, service: Service) -> dict[str, Any]:
    facts = model.facts
    family = facts.architecture
    return {
        "modified_at": _started(service),
        "license": facts.license or "",
        "modelfile": "",
        "parameters": "\n".join(f"{name} {value}" for name, value in model.sampling_defaults.items()),
        "template": "",
        "details": _details(model),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": facts.parameters,
            f"{family}.context_length": model.context_length,  # as loaded: what a tool may use
            f"{family}.embedding_length": facts.hidden_size,
            f"{family}.block_count": facts.layers,
            f"{family}.attention.head_count": facts.heads,
            f"{family}.attention.head_count_kv": facts.kv_heads,
            f"{family}.vocab_size": facts.vocabulary,
        },
        "capabilities": ["completion", *(["vision"] if model.sees else [])],
    }


def _details(model: LocalModel) -> dict[str, Any]:
    facts = model.facts
    path = Path(facts.file)
    stored = Counter(facts.quantization).most_common(1)
    return {
        "parent_model": "",
        "format": path.suffix.removeprefix(".") or "folder",
        "family": facts.architecture,
        "families": [facts.architecture],
        "parameter_size": parameter_size(facts.parameters),
        "quantization_level": stored[0][0] if stored else facts.dtype,
    }


def parameter_size(parameters: int) -> str:
    """As Ollama writes it: 134.5M, 8.0B."""
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"


def _bytes(model: LocalModel) -> int:
    path = Path(model.facts.file)
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        return path.stat().st_size
    except OSError:  # removed while it is served; the model in memory is not affected
        return 0


def _started(service: Service) -> str:
    return datetime.fromtimestamp(service.created, UTC).isoformat()
