"""The application: every route of the server over the models it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

import quipu
from quipu.serve.body_limit import LimitBody
from quipu.serve.metrics import CountRequests
from quipu.serve.ollama import generation as ollama_generation
from quipu.serve.ollama import models as ollama_models
from quipu.serve.openai import chat, completions, embeddings, models, responses, tokenize
from quipu.serve.openai.errors import add_error_handlers
from quipu.serve.openai.schemas import ErrorAnswer
from quipu.serve.request_log import LogRequests, Write
from quipu.serve.residents import Source
from quipu.serve.service import Service

STATIC = Path(__file__).parent / "static"
MAX_BODY_BYTES = 32 * 2**20


def create_app(
    served: Mapping[str, Source],
    *,
    keep_alive_seconds: float = 10.0,
    max_body_bytes: int = MAX_BODY_BYTES,
    unload_after_seconds: float | None = None,
    log: Write | None = None,
    log_prompts: bool = False,
) -> FastAPI:
    """The ASGI application that offers each of ``served`` by its name; it closes them when it shuts down.

    What is given as a function is loaded by calling it when first asked for, and unloaded when no request wanted it for
    ``unload_after_seconds`` (None: never) or when another needs its memory. ``keep_alive_seconds``: how long a stream
    may be silent before it says so. ``log`` is told of every request when it is over, of the prompts only with
    ``log_prompts``. ``app.state.service`` is what the routes share. Raises InvalidRequest if there is
    no model.
    """
    service = Service(served, keep_alive_seconds, unload_after_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="quipu",
        description="An OpenAI-compatible server for Llama models.",
        version=quipu.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorAnswer, "description": "The request was refused; the message says why."}},
    )
    app.state.service = service
    add_error_handlers(app)
    app.add_middleware(LimitBody, limit=max_body_bytes)
    app.add_middleware(CountRequests, metrics=service.metrics)
    app.add_middleware(LogRequests, write=log, prompts=log_prompts)
    for room in (chat, completions, responses, embeddings, models, tokenize, ollama_generation, ollama_models):
        app.include_router(room.routes(service))
    _add_operations(app, service)
    _add_documentation(app)
    return app


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the server answers", tags=["Operations"])
    async def health() -> dict[str, Any]:
        return {"status": "ok", "models": service.names}

    @app.get("/metrics", summary="Counts and times for Prometheus", tags=["Operations"], response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})


def _add_documentation(app: FastAPI) -> None:
    """Swagger UI from this package's own files: the framework's page would fetch them from the internet."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="quipu",
            swagger_js_url="static/swagger-ui/swagger-ui-bundle.js",
            swagger_css_url="static/swagger-ui/swagger-ui.css",
            swagger_favicon_url="static/swagger-ui/favicon-32x32.png",
            swagger_ui_parameters={"validatorUrl": None},  # else the schema is sent to a site that validates it
        )
