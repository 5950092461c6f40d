"""No request makes the server hold more than so many bytes."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.errors import RequestTooLarge
from quipu.serve.openai.errors import quipu_error_response


class LimitBody:
    """ASGI middleware: refuses a body of more than ``limit`` bytes, before reading it where its length is announced.

    Starlette's own answers with plain text, which clients of the OpenAI API cannot read.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            await quipu_error_response(self._refusal())(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._refusal()
            return message

        await self._app(scope, count, send)

    def _refusal(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body of the request is larger than {self._limit} bytes, the most this server reads; send less"
        )
