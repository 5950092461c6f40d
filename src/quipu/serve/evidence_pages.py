"""The pages of evidence as HTML, the same below /agent/ as Markdown, and /llms.txt, which lists those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from quipu.errors import QuipuError
from quipu.evidence.snapshot import Snapshot
from quipu.serve.evidence import Evidence
from quipu.serve.evidence_templates import render, render_markdown
from quipu.serve.views import capability, claims, compare, methodology, model, observation, rank
from quipu.serve.views.view import View, asked

HEADERS = {"cache-control": "no-cache"}
"""Checked each time: the next observation changes the numbers."""
MARKDOWN = "text/markdown"

PAGES: Mapping[str, Callable[..., View]] = {
    "/compare": compare.index,
    "/compare/{pair:path}": compare.compared,
    "/models": model.models,
    "/models/{name:path}": model.model,
    "/capabilities/{name}": capability.capability,
    "/rank": rank.ranked,
    "/claims": claims.claims,
    "/methodology": methodology.methodology,
    "/observations": observation.observations,
    "/observations/{number:int}": observation.observation,
}
"""What is at which address. Names may have slashes in them, which arrive as themselves."""


def routes(evidence: Evidence) -> APIRouter:
    """The pages over ``evidence``. They are not of the API: their addresses stay out of its schema."""
    router = APIRouter(include_in_schema=False)
    for path, view in PAGES.items():
        router.add_api_route(path, _html(evidence, view), methods=["GET"], response_class=Response)
        router.add_api_route(f"/agent{path}", _markdown(evidence, view), methods=["GET"], response_class=Response)

    @router.get("/llms.txt")
    def llms(request: Request) -> Response:
        view = methodology.llms(evidence, {})
        return _text(render_markdown("llms", {**_common(request, view.snapshot), **view.told}))

    @router.get("/agent")
    def agent() -> RedirectResponse:
        return RedirectResponse("llms.txt")

    return router


def _html(evidence: Evidence, view: Callable[..., View]) -> Callable[[Request], Response]:
    # Not async: what is computed for a page must not keep the event loop from others' tokens.
    def page(request: Request) -> Response:
        try:
            found = view(evidence, asked(request), **request.path_params)
            told = {**_common(request, found.snapshot), "title": found.title, "markdown": _own(request), **found.told}
            if found.json is not None:
                told["json"] = found.json
            return HTMLResponse(render(found.template, told), headers=HEADERS)
        except QuipuError as error:
            told = {**_common(request, None), **_trouble(error)}
            return HTMLResponse(render("error", told), error.status, headers=HEADERS)

    return page


def _markdown(evidence: Evidence, view: Callable[..., View]) -> Callable[[Request], Response]:
    def page(request: Request) -> Response:
        try:
            found = view(evidence, asked(request), **request.path_params)
            told = {**_common(request, found.snapshot), "title": found.title, **found.told}
            return _text(render_markdown(found.template, told))
        except QuipuError as error:
            return _text(render_markdown("error", {**_common(request, None), **_trouble(error)}), error.status)

    return page


def _text(text: str, status: int = 200) -> Response:
    return PlainTextResponse(text, status, headers=HEADERS, media_type=MARKDOWN)


def _common(request: Request, snapshot: Snapshot | None) -> dict[str, Any]:
    """What every page is told. Addresses are relative: the server may be below a proxy's path."""
    path = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    told: dict[str, Any] = {"root": "../" * (path.count(b"/") - 1), "place": ""}
    if snapshot is not None:
        told["asof"] = as_of(snapshot)
    return told


def _own(request: Request) -> str:
    """The same page as Markdown, from the root."""
    query = request.url.query
    return f"agent{quote(request.scope['path'], safe='/')}{'?' + query if query else ''}"


def as_of(snapshot: Snapshot) -> dict[str, str]:
    """Which state of the log the numbers are of."""
    if snapshot.number == 0:
        return {"sentence": "The log of evidence is empty: nothing has been measured here.", "hash": ""}
    at = snapshot.at[:16].replace("T", " ")
    return {"sentence": f"As of entry {snapshot.number:,} of the log, {at} UTC.", "hash": snapshot.hash[:16]}


def _trouble(error: QuipuError) -> dict[str, Any]:
    title = {404: "There is no such thing here", 400: "That cannot be shown"}.get(error.status, "That did not work")
    message = str(error)
    return {
        "title": title,
        "message": message[:1].upper() + message[1:] + ("" if message.endswith("?") else "."),
        "near": [],
    }
