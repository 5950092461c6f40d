"""Server-sent events as the OpenAI API sends them: one ``data:`` line an event, then ``data: [DONE]``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from itertools import islice
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quipu.errors import QuipuError
from quipu.serve.metrics import LEFT
from quipu.serve.openai.errors import quipu_error_body
from quipu.serve.openai.generation import Generation, unless_disconnected
from quipu.types import Chunk


class Streamed(Protocol):
    """Says a generation in the objects of one route, piece by piece."""

    def events(self, prompt: int, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """The events that ``chunk`` of an answer to prompt number ``prompt`` becomes."""
        ...

    def last_events(self) -> Iterator[Mapping[str, Any]]:
        """What follows when every answer is complete."""
        ...


class EventStream(Response):
    """Streams ``generation`` to the client; aborts it when the client leaves, or when anything goes wrong.

    An error in mid-stream becomes an event, and no ``[DONE]`` follows it. While nothing comes for
    ``keep_alive_seconds``, a comment line keeps proxies and clients from giving up. Other ways to write a stream
    override ``keep_alive``, ``done``, ``frame`` and ``error_frame``; bytes that are empty are not sent.
    """

    media_type = "text/event-stream"
    keep_alive = b": keep-alive\n\n"
    done = b"data: [DONE]\n\n"

    def __init__(self, generation: Generation, answer: Streamed, keep_alive_seconds: float) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._generation = generation
        self._answer = answer
        self._keep_alive_seconds = keep_alive_seconds
        self._echoes = False
        self._begun: set[tuple[int, int]] = set()

    def frame(self, event: Mapping[str, Any], data: bytes) -> bytes:
        """``event``, whose JSON is ``data``, as it is sent."""
        return b"data: " + data + b"\n\n"

    def error_frame(self, error: QuipuError) -> bytes:
        """The error that ends the stream, as it is sent."""
        return b"data: " + quipu_error_body(error) + b"\n\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client leaves first."""
        try:
            await unless_disconnected(receive, self._send(scope, send))
        finally:
            self._generation.abort()

    async def _send(self, scope: Scope, send: Send) -> None:
        scope["state"]["status"] = LEFT  # until it is known to be complete
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._lines(scope)) as lines:
            async for line in lines:
                if line:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _lines(self, scope: Scope) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                try:
                    async with asyncio.timeout(self._keep_alive_seconds):
                        prompt, chunk = await anext(self._generation)
                except TimeoutError:
                    yield self.keep_alive
                except StopAsyncIteration:
                    break
                else:
                    for line in await self._events(prompt, chunk):
                        yield line
        except QuipuError as error:
            scope["state"]["status"] = error.status
            yield self.error_frame(error)
            return
        for event in self._answer.last_events():
            yield self.frame(event, encode(event))
        scope["state"]["status"] = 200
        yield self.done

    async def _events(self, prompt: int, chunk: Chunk) -> list[bytes]:
        self._echoes |= chunk.prompt_logprobs is not None
        place = (prompt, chunk.index)
        if self._echoes and place not in self._begun and chunk.prompt_logprobs is None:
            self._begun.add(place)  # its first event repeats the prompt, whose scores may be megabytes
            return await asyncio.to_thread(self._frames, prompt, chunk, encode_large)
        return self._frames(prompt, chunk, encode)

    def _frames(self, prompt: int, chunk: Chunk, encoder: Callable[[Mapping[str, Any]], bytes]) -> list[bytes]:
        return [self.frame(event, encoder(event)) for event in self._answer.events(prompt, chunk)]


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON without spaces, in UTF-8. Texts come from decoded bytes, so no half of a surrogate pair is in them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def encode_large(value: Mapping[str, Any]) -> bytes:
    """As ``encode``, for a thread: slower, in Python, which lets go of the interpreter lock between the pieces."""
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    pieces, written = encoder.iterencode(value), bytearray()
    while part := "".join(islice(pieces, 10_000)):
        written += part.encode()
    return bytes(written)
