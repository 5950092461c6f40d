"""GET /chat: the chat page. It is static; what it shows it asks the API for, and what is said stays in the browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, RedirectResponse

PAGE = Path(__file__).parent / "static" / "chat" / "index.html"

# A model's answer is hostile text. Should some of it get past the page's sanitiser, it still cannot run a script,
# load an image from elsewhere, or send anything but to this server.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # checked each time, so that a new version of quipu shows at once
}


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
