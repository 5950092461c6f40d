"""The application: every route of the server over the models it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import quipu
from quipu.evidence.store import MEMORY
from quipu.serve import capabilities, documents, evidence_api, evidence_pages, pages
from quipu.serve.access import checked_key, checked_origin
from quipu.serve.body_limit import LimitBody
from quipu.serve.evidence import Evidence
from quipu.serve.guard import Guard
from quipu.serve.limits import Limits
from quipu.serve.metrics import CountRequests
from quipu.serve.ollama import embed as ollama_embed
from quipu.serve.ollama import generation as ollama_generation
from quipu.serve.ollama import models as ollama_models
from quipu.serve.openai import chat, completions, embeddings, models, responses, tokenize
from quipu.serve.openai.errors import add_error_handlers
from quipu.serve.openai.schemas import ErrorAnswer
from quipu.serve.remote_images import RemoteImages
from quipu.serve.request_log import LogRequests, Write
from quipu.serve.residents import Source
from quipu.serve.service import Service

STATIC = Path(__file__).parent / "static"


class Application(FastAPI):
    """FastAPI inside ``around``, which nothing is reached around, not even the framework's own error answers."""

    def __init__(self, around: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._around = around

    def build_middleware_stack(self) -> ASGIApp:
        """Called by Starlette once, at the first request."""
        return self._around(super().build_middleware_stack())


def create_app(
    served: Mapping[str, Source],
    *,
    keep_alive_seconds: float = 10.0,
    unload_after_seconds: float | None = None,
    limits: Limits | None = None,
    key: str | None = None,
    allowed_hosts: Collection[str] = (),
    cors_origins: Collection[str] = (),
    log: Write | None = None,
    log_prompts: bool = False,
    evidence_url: str | None = MEMORY,
    remote_images: RemoteImages | None = None,
) -> FastAPI:
    """The ASGI application that offers each of ``served`` by its name; it closes them when it shuts down.

    What is given as a function is loaded by calling it when first asked for, and unloaded when no request wanted it for
    ``unload_after_seconds`` (None: never) or when another needs its memory. ``keep_alive_seconds``: how long a stream
    may be silent before it says so. ``limits``: what a client may ask for. ``key``, ``allowed_hosts`` and
    ``cors_origins``: see ``guard.Guard``; without a key only names of this machine are answered to. ``log`` is told of
    every request when it is over, of the prompts only with ``log_prompts``. ``evidence_url``: where the log is that the
    pages of evidence show (None: this user's own); there need not be one yet. ``remote_images`` fetches pictures that a
    client names by their address (None: they are refused). ``app.state.service`` is what the routes
    share. Raises InvalidRequest if there is no model, or for a key or an origin that no client could send.
    """
    service = Service(served, keep_alive_seconds, unload_after_seconds, limits, remote_images)
    evidence = Evidence(evidence_url)
    guard = partial(
        Guard,
        key=key if key is None else checked_key(key, "the key"),
        limits=service.limits,
        metrics=service.metrics,
        allowed_hosts=allowed_hosts,
        cors_origins=[checked_origin(origin) for origin in cors_origins],
    )

    def around(inside: ASGIApp) -> ASGIApp:
        # The log is outside of the guard: what is refused has an id and a line, too.
        return LogRequests(guard(inside), write=log, prompts=log_prompts)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)
        evidence.close()

    app = Application(
        around,
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
    app.state.locked = key is not None
    app.state.turn = asyncio.Lock()  # of large bodies, see json_route
    add_error_handlers(app)
    app.add_middleware(LimitBody, limits=service.limits, raw=documents.PATH)
    app.add_middleware(CountRequests, metrics=service.metrics)
    openai_rooms = (chat, completions, responses, embeddings, models, tokenize)
    for room in (*openai_rooms, ollama_generation, ollama_embed, ollama_models, capabilities):
        app.include_router(room.routes(service))
    app.include_router(documents.routes())
    app.include_router(pages.routes())
    app.include_router(evidence_api.routes(evidence))
    app.include_router(evidence_pages.routes(evidence))
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
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")
