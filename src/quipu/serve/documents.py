"""POST /v1/documents: a file to its text, so that a page needs no reader of PDF."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from quipu import documents
from quipu.documents import Document
from quipu.serve.metrics import LEFT
from quipu.serve.openai.generation import unless_disconnected
from quipu.serve.openai.sse import encode_large

AT_ONCE = 2
"""Files that are read at the same time: each may take a processor and 2 GiB. Others wait."""
PATH = "/v1/documents"
Done = TypeVar("Done")


class DocumentText(BaseModel):
    """What was read. ``notes`` say what had to be guessed or is not in the text."""

    text: str
    characters: int
    pages: int | None
    title: str | None
    media_type: str
    notes: list[str]


CONTENT = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in documents.MEDIA_TYPES.values()
}


def routes() -> APIRouter:
    """The route. How long a file may take to read, and how much memory, ``quipu.documents`` says."""
    router = APIRouter(tags=["Capabilities"])
    places = asyncio.Semaphore(AT_ONCE)

    @router.post(
        PATH,
        summary="The text of a PDF, HTML, Markdown or text file",
        response_class=Response,
        responses={200: {"model": DocumentText, "content": {"application/json": {}}}},
        openapi_extra={"requestBody": {"required": True, "content": CONTENT}},
    )
    async def read_document(
        request: Request,
        name: Annotated[str, Query(max_length=1000, description="Its name, for messages and for its ending")] = "",
    ) -> Response:
        data = await request.body()
        read = partial(_read, data, name or "the file", request.headers.get("content-type"))
        answer = await unless_disconnected(request.receive, _in_thread(read, places))
        if answer is None:
            return Response(status_code=LEFT)
        return Response(answer, media_type="application/json")

    return router


def _read(data: bytes, name: str, media_type: str | None) -> bytes:
    document = documents.read_bytes(data, name, media_type=media_type)
    return encode_large(_as_dict(document))


def _as_dict(document: Document) -> dict[str, Any]:
    return {
        "text": document.text,
        "characters": len(document.text),
        "pages": document.pages,
        "title": document.title,
        "media_type": document.media_type,
        "notes": document.notes,
    }


async def _in_thread(work: Callable[[], Done], places: asyncio.Semaphore) -> Done:
    """``work`` in a thread that has one of ``places`` until it is done, also when nobody waits for it any more.

    Not one of the event loop's own, which are few, and which the end of the program would wait for.
    """
    await places.acquire()
    loop = asyncio.get_running_loop()
    future: Future[Done] = Future()
    future.set_running_or_notify_cancel()  # from now on it ends with its work only

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone
            loop.call_soon_threadsafe(places.release)

    threading.Thread(target=run, name="quipu-document", daemon=True).start()
    return await asyncio.wrap_future(future)
