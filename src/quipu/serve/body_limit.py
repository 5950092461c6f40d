"""No request makes the server hold more bytes, or parse more JSON, or wait longer for it, than it is meant to."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.errors import LimitExceeded, RequestTooLarge, ServerBusy, SlowRequest
from quipu.serve.limits import Limits
from quipu.serve.openai.errors import quipu_error_response

LARGE_BYTES = 64 * 2**10
"""A body of more than this is large: it waits its turn, and is counted with the other large ones."""
_OPENING, _CLOSING = b"[{", b"]}"
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _OPENING + _CLOSING)


class LimitBody:
    """ASGI middleware: refuses a body beyond ``limits``; before reading it, where its length is announced.

    Starlette's own answers with plain text, which clients of the OpenAI API cannot read. Of large bodies one piece is
    read each time that the event loop goes round, so that many of them at once keep nobody else waiting.

    On the path ``raw`` a body is a file: brackets in it are no JSON.
    """

    def __init__(self, app: ASGIApp, limits: Limits, raw: str = "") -> None:
        self._app = app
        self._limits = limits
        self._raw = raw
        self._large_bytes = 0
        self._turn = asyncio.Lock()

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
        received, large, complete = 0, 0, False

        async def checked() -> Message:
            nonlocal received, large, complete
            if complete:  # what comes now is the client leaving, for which there is no deadline
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    if received > LARGE_BYTES:
                        async with self._turn:
                            await asyncio.sleep(0)
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
            if received > LARGE_BYTES:
                self._large_bytes += received - large
                large = received
                if self._large_bytes > self._limits.bodies_bytes:
                    raise ServerBusy(
                        f"the large bodies of requests in progress have {self._large_bytes} bytes together; this "
                        f"server takes {self._limits.told('bodies_bytes')}. Try again shortly.",
                        retry_after=1,
                    )
            if scope["path"] != self._raw:
                shape.add(piece)
            complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, checked, send)
        finally:
            self._large_bytes -= large

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body of the request is larger than {self._limits.body_bytes} bytes, the most this server reads; "
            "send less, or start it with a larger --max-body"
        )


class JsonShape:
    """Counts the values, the lists, objects and names, and the depth of JSON as it arrives, before it is parsed.

    Parsing holds the interpreter lock, in a thread as well as on the event loop, so what bounds the pause is how much
    there is to parse. This look at it comes in the pieces of the network, a few milliseconds each at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in_string = False
        self._rest = b""
        self._values = self._nodes = 0
        self._depth = 0

    def add(self, piece: bytes) -> None:
        """Count the next bytes. Raises RequestTooLarge or LimitExceeded as soon as there are too many."""
        piece = self._rest + piece
        escapes = len(piece) - len(piece.rstrip(b"\\"))
        cut = len(piece) - escapes % 2  # half an escape waits for its other half
        piece, self._rest = piece[:cut], piece[cut:]
        # Pairs first: of a run of backslashes before a quote, an odd one is left, and escapes it.
        parts = piece.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        brackets = outside.translate(None, _NOT_BRACKETS)
        opened = sum(map(brackets.count, (b"[", b"{")))
        self._values += outside.count(b",") + opened
        self._nodes += outside.count(b":") + opened
        if self._values > self._limits.json_values:
            raise RequestTooLarge(
                f"the body has more than {self._limits.json_values} values, the most this server reads; send less, "
                "or start it with a larger --max-json-values"
            )
        for bracket in brackets:
            self._depth += 1 if bracket in _OPENING else -1
            if self._depth > self._limits.json_depth:
                raise LimitExceeded(
                    f"the body is nested more than {self._limits.json_depth} deep, the most this server reads; "
                    "send flatter JSON, or start it with a larger --max-json-depth"
                )
        if self._nodes > self._limits.json_nodes:
            raise RequestTooLarge(
                f"the body has more than {self._limits.json_nodes} lists, objects and names, the most this server "
                "reads; send less, or start it with a larger --max-json-nodes"
            )
