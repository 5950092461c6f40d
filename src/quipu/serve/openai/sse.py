"""Server-sent events as the OpenAI API sends them: one ``data:`` line an event, then ``data: [DONE]``."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
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


class Source(Protocol):
    """Work whose results come one by one; it ends with StopAsyncIteration, or with a QuipuError."""

    async def __anext__(self) -> Any:
        """The next one. Cancelling the wait for it loses nothing."""
        ...

    def abort(self) -> None:
        """End the work; idempotent."""
        ...


class LiveStream(Response, ABC):
    """Streams what comes from ``source``; aborts it when the client leaves, or when anything goes wrong.

    An error in mid-stream becomes an event, and no ``[DONE]`` follows it. While nothing comes for
    ``keep_alive_seconds``, a comment line keeps proxies and clients from giving up. Other ways to write a stream
    override ``keep_alive``, ``done``, ``frame`` and ``error_frame``; bytes that are empty are not sent.
    """

    media_type = "text/event-stream"
    keep_alive = b": keep-alive\n\n"
    done = b"data: [DONE]\n\n"

    def __init__(self, source: Source, keep_alive_seconds: float) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._keep_alive_seconds = keep_alive_seconds

    @abstractmethod
    async def frames(self, item: Any) -> Sequence[bytes]:
        """What is sent of ``item``, which ``source`` gave."""

    def last_frames(self) -> Iterator[bytes]:
        """What is sent after everything."""
        yield from ()

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
            self._source.abort()

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
                        item = await anext(self._source)
                except TimeoutError:
                    yield self.keep_alive
                except StopAsyncIteration:
                    break
                else:
                    for line in await self.frames(item):
                        yield line
        except QuipuError as error:
            scope["state"]["status"] = error.status
            yield self.error_frame(error)
            return
        for line in self.last_frames():
            yield line
        scope["state"]["status"] = 200
        yield self.done


class EventStream(LiveStream):
    """Streams a generation as the events of ``answer``."""

    def __init__(self, generation: Generation, answer: Streamed, keep_alive_seconds: float) -> None:
        super().__init__(generation, keep_alive_seconds)
        self._answer = answer
        self._echoes = False
        self._begun: set[tuple[int, int]] = set()

    async def frames(self, item: tuple[int, Chunk]) -> Sequence[bytes]:
        """The events of one chunk of the answer to one prompt."""
        prompt, chunk = item
        self._echoes |= chunk.prompt_logprobs is not None
        place = (prompt, chunk.index)
        if self._echoes and place not in self._begun and chunk.prompt_logprobs is None:
            self._begun.add(place)  # its first event repeats the prompt, whose scores may be megabytes
            return await asyncio.to_thread(self._frames, prompt, chunk, encode_large)
        return self._frames(prompt, chunk, encode)

    def last_frames(self) -> Iterator[bytes]:
        """What the answer ends with."""
        for event in self._answer.last_events():
            yield self.frame(event, encode(event))

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
