"""GET /chat: the chat page. It is static; what it shows it asks the API for, and what is said stays in the browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, RedirectResponse

PAGE = Path(__file__).parent / "static" / "chat" / "index.html"

HEADERS = {"cache-control": "no-cache"}
"""Checked each time, so that a new version of quipu shows at once."""


def routes() -> APIRouter:
    """The page, and the way to it from ``/``. Addresses are relative: the server may be below a proxy's path."""
    router = APIRouter(include_in_schema=False)

    @router.get("/chat")
    async def chat() -> FileResponse:
        return FileResponse(PAGE, headers=HEADERS)

    @router.get("/")
    async def front() -> RedirectResponse:
        return RedirectResponse("chat")

    return router
