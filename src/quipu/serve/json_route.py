"""Routes that read JSON: what is large is parsed in a thread, and one at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from quipu.serve.body_limit import LARGE_BYTES

# The parser holds the interpreter lock, so more threads would be no quicker; but every one that wants the lock makes
# the event loop wait longer for it.
_PARSER = ThreadPoolExecutor(1, "json")
RESTS = 6
"""Times as long as a large body took to parse, until the next may be: checking its fields takes up to three times as
long, in one go on the event loop, and an answer for which the loop goes round three times should wait for only one."""


class JSONRequest(Request):
    """A request whose body is parsed off the event loop, if it is large."""

    async def json(self) -> Any:
        """The value of the body."""
        body = await self.body()
        if len(body) <= LARGE_BYTES:
            return json.loads(body)
        turn: asyncio.Lock = self.app.state.turn
        await turn.acquire()
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            return await loop.run_in_executor(_PARSER, json.loads, body)
        finally:
            loop.call_later(RESTS * (loop.time() - start), turn.release)


class JSONRoute(APIRoute):
    """A route that gets a JSONRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, for such a request."""
        handle = super().get_route_handler()

        async def parsed(request: Request) -> Response:
            return await handle(JSONRequest(request.scope, request.receive))

        return parsed
