"""One line a request: when, what, how it ended, how many tokens, how long. Prompts only where they were asked for."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.types import Usage

Write = Callable[[Mapping[str, Any]], None]
"""Takes what is known of a request when it is over."""


class Generated(Protocol):
    """What a request had a model do."""

    @property
    def given(self) -> Sequence[Any]:
        """Prompts or inputs, as JSON."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens of what is complete."""
        ...

    @property
    def first_token_seconds(self) -> float | None:
        """From the beginning to the first token; None if there was none."""
        ...


class LogRequests:
    """ASGI middleware: gives every request an id, the client's if it has one, and writes down what became of it.

    The id is in the answer's ``X-Request-Id``. ``write`` None only gives ids.
    """

    def __init__(self, app: ASGIApp, write: Write | None, prompts: bool = False) -> None:
        self._app = app
        self._write = write
        self._prompts = prompts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and write its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        began, start = datetime.now(UTC), time.perf_counter()
        identity = request_id(Headers(scope=scope).get("x-request-id"))

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.setdefault("status", message["status"])
                MutableHeaders(raw=message.setdefault("headers", []))["x-request-id"] = identity
            await send(message)

        try:
            await self._app(scope, receive, identified)
        finally:
            if self._write is not None:
                line = {
                    "time": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "id": identity,
                    "method": scope["method"],
                    # Of the route: what else a client writes into an address does not belong into a log.
                    "route": state.get("route") or (scope["route"].path if "route" in scope else "unknown"),
                    "status": state.get("status", 500),
                    "model": state.get("model"),
                    **_generated(state.get("generation"), self._prompts),
                    "seconds": round(time.perf_counter() - start, 6),
                }
                self._write(line)


def request_id(given: str | None) -> str:
    """The client's id if it is one that is safe to repeat in a header and a log, else a new one."""
    return given if given and re.fullmatch(r"[\w.:-]{1,128}", given, re.ASCII) else uuid.uuid4().hex


def _generated(generation: Generated | None, prompts: bool) -> dict[str, Any]:
    if generation is None:
        return {}
    usage, first = generation.usage, generation.first_token_seconds
    known: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "first_token_seconds": None if first is None else round(first, 6),
    }
    return known | ({"prompts": generation.given} if prompts else {})


def write_json(line: Mapping[str, Any]) -> None:
    """As one JSON object on standard error."""
    print(json.dumps(line), file=sys.stderr, flush=True)


def write_text(line: Mapping[str, Any]) -> None:
    """For people, on standard error: what is always there, then NAME=VALUE."""
    head = " ".join(str(line[name]) for name in ("time", "method", "route", "status"))
    rest = [
        f"{name}={value if isinstance(value, str | int | float) else json.dumps(value)}"
        for name, value in line.items()
        if name not in ("time", "method", "route", "status") and value is not None
    ]
    print(head, *rest, file=sys.stderr, flush=True)


WRITERS: Mapping[str, Write] = {"text": write_text, "json": write_json}
