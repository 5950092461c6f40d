"""No request makes the server hold more bytes, or parse more JSON, or wait longer for it, than it is meant to."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.errors import InvalidRequest, RequestTooLarge, SlowRequest
from quipu.serve.limits import Limits
from quipu.serve.openai.errors import quipu_error_response

_OPENING, _CLOSING = b"[{", b"]}"
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _OPENING + _CLOSING)


class LimitBody:
    """ASGI middleware: refuses a body beyond ``limits``; before reading it, where its length is announced.

    On the path ``raw`` a body is a file: brackets in it are no JSON.
    Starlette's own answers with plain text, which clients of the OpenAI API cannot read.
    """

    def __init__(self, app: ASGIApp, limits: Limits, raw: str = "") -> None:
        self._app = app
        self._limits = limits
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limits.body_bytes:
            await quipu_error_response(self._too_large())(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._limits.receive_seconds
        shape = JsonShape(self._limits)
        received, complete = 0, False

        async def checked() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is the client leaving, for which there is no deadline
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise SlowRequest(
                    f"the body did not arrive within {self._limits.receive_seconds:g} seconds "
                    "(--receive-timeout sets how long the server waits)"
                ) from None
            piece = message.get("body", b"")
            received += len(piece)
            if received > self._limits.body_bytes:
                raise self._too_large()
            if scope["path"] != self._raw:
                shape.add(piece)
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, checked, send)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body of the request is larger than {self._limits.body_bytes} bytes, the most this server reads; "
            "send less, or start it with a larger --max-body"
        )


class JsonShape:
    """Counts the values and the depth of JSON as it arrives, before anything is parsed.

    Parsing holds the interpreter lock, in a thread as well as on the event loop, so what bounds the pause is how much
    there is to parse. This look at it comes in the pieces of the network, a few milliseconds each at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in_string = False
        self._rest = b""
        self._values = 0
        self._depth = 0

    def add(self, piece: bytes) -> None:
        """Count the next bytes. Raises RequestTooLarge or InvalidRequest as soon as there are too many."""
        piece = self._rest + piece
        escapes = len(piece) - len(piece.rstrip(b"\\"))
        cut = len(piece) - escapes % 2  # half an escape waits for its other half
        piece, self._rest = piece[:cut], piece[cut:]
        # Pairs first: of a run of backslashes before a quote, an odd one is left, and escapes it.
        parts = piece.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        brackets = outside.translate(None, _NOT_BRACKETS)
        self._values += outside.count(b",") + sum(map(brackets.count, (b"[", b"{")))
        if self._values > self._limits.json_values:
            raise RequestTooLarge(
                f"the body has more than {self._limits.json_values} values, the most this server reads; send less, "
                "or start it with a larger --max-json-values"
            )
        for bracket in brackets:
            self._depth += 1 if bracket in _OPENING else -1
            if self._depth > self._limits.json_depth:
                raise InvalidRequest(
                    f"the body is nested more than {self._limits.json_depth} deep, the most this server reads; "
                    "send flatter JSON, or start it with a larger --max-json-depth"
                )
