"""GET /chat and GET /capabilities: the pages. They are static; what they show they ask the API for."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, RedirectResponse

STATIC = Path(__file__).parent / "static"

HEADERS = {"cache-control": "no-cache"}
"""Checked each time, so that a new version of quipu shows at once."""


def routes() -> APIRouter:
    """The pages, and the way to one from ``/``. Addresses are relative: the server may be below a proxy's path."""
    router = APIRouter(include_in_schema=False)

    @router.get("/chat")
    async def chat() -> FileResponse:
        return FileResponse(STATIC / "chat" / "index.html", headers=HEADERS)

    @router.get("/capabilities")
    async def capabilities() -> FileResponse:
        return FileResponse(STATIC / "capabilities" / "index.html", headers=HEADERS)

    @router.get("/")
    async def front() -> RedirectResponse:
        return RedirectResponse("chat")

    return router
