"""Every failure as the error object of the OpenAI API: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from quipu.errors import QuipuError, Unparsed, field_path


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """The error object as JSON."""
    return encoded({"error": {"message": message, "type": kind, "param": param, "code": code}})


def quipu_error_body(error: QuipuError) -> bytes:
    """The error object of ``error``."""
    return encoded({"error": error_object(error)})


def error_object(error: QuipuError) -> dict[str, Any]:
    """What is told of ``error``; of an answer that could not be read, the answer too."""
    said = {"message": str(error), "type": error.type, "param": error.param, "code": error.code}
    return said | ({"text": error.text} if isinstance(error, Unparsed) else {})


def encoded(value: Mapping[str, Any]) -> bytes:
    """JSON. Half a surrogate pair, which an error may quote, is escaped instead of raising."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def quipu_error_response(error: QuipuError) -> Response:
    """The answer to a request that ended with ``error``."""
    headers = None if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return _response(error.status, quipu_error_body(error), headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let ``app`` answer every exception, its own and the framework's, in this shape."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _unexpected)


async def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request that raised one of the errors that are expected: ours, or the framework's."""
    for kind, handler in _HANDLERS.items():
        if isinstance(error, kind):
            return await handler(request, error)
    raise error


def _response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


async def _quipu_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QuipuError)
    return quipu_error_response(error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    message, param = _describe(error.errors()[0], request)
    return _response(400, error_body(message, "invalid_request_error", param))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, QuipuError):  # the framework wraps what reading the body raises
        return quipu_error_response(cause)
    route = f"{request.method} {request.url.path}"
    message, code = str(error.detail), None
    if error.status_code == 404:
        message, code = f"unknown URL: {route}; /docs lists what there is", "unknown_url"
    elif error.status_code == 405:
        message, code = f"{request.url.path} does not take {request.method}; /docs says what it takes", None
    elif isinstance(cause, UnicodeDecodeError):
        message = f"the body is not UTF-8: byte {cause.start} is {cause.object[cause.start]:#04x}"
    elif isinstance(cause, ValueError | RecursionError):
        message = f"the body is not JSON that can be read: {cause}"
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return _response(error.status_code, error_body(message, kind, code=code), error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A bug. The server logs the traceback; the client hears no more than what kind of error it was."""
    body = error_body(f"internal error: {type(error).__name__}", "server_error", code="internal_error")
    return _response(500, body, {"connection": "close"})  # uvicorn will hang up; the client must not reuse it


_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    QuipuError: _quipu_error,
    RequestValidationError: _validation_error,
    HTTPException: _http_error,
}


def _describe(fault: Mapping[str, Any], request: Request) -> tuple[str, str | None]:
    """What is wrong, and the path of the field, as in ``messages[2]``."""
    kind, (place, *path), context = fault["type"], fault["loc"], fault.get("ctx") or {}
    if kind == "json_invalid":
        position = path[0] if path else 0
        return f"the body is not JSON: {context.get('error', 'it cannot be read')} at character {position}", None
    field = field_path([*path, *filter(None, [context.get("field")])]) or None
    if kind == "refused":
        return fault["msg"], field
    if not path:
        kind_sent = request.headers.get("content-type")
        if kind_sent is None or "json" not in kind_sent:
            return f"send JSON, with the header Content-Type: application/json (it was {kind_sent or 'missing'})", None
        return f"the {place} must be a JSON object with the fields that /docs lists", None
    if kind == "missing":
        return f"{field} is missing", field
    if kind == "extra_forbidden":  # inside of a field; those of the request itself are told the nearest
        return f"unknown field {field}; /docs lists those that there are", field
    complaint = fault["msg"].removeprefix("Input ")
    return f"{field} {complaint}, got {fault['input']!r:.80}", field
