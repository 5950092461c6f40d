"""One connection: uvicorn's HTTP/1.1, which also gives up on clients that send or read too slowly."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from functools import cache

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from quipu.errors import HeadersTooLarge, InvalidRequest, QuipuError, ServerBusy
from quipu.serve.guard import OPEN_PATH, REFUSED, too_many_requests
from quipu.serve.limits import Limits
from quipu.serve.metrics import Metrics
from quipu.serve.openai.errors import quipu_error_response

_OPEN = re.compile(rb"[A-Z]+ %s[ ?]" % OPEN_PATH.encode())


class Connection(H11Protocol):
    """Set ``limits``, ``metrics`` and ``idle`` in a subclass: uvicorn makes the instances.

    Errors of the protocol are OpenAI's object, too.
    """

    limits: Limits
    metrics: Metrics
    idle: dict[Connection, None]
    """In the order in which they became idle; those that are busy again are still in it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; if there are too many, close the one that has had no request for longest."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._idle_since = self._read_at = time.monotonic()
        self._unread = 0
        self.idle[self] = None
        if len(self.connections) > self.limits.connections:
            self._longest_idle().refuse(_too_many(self.limits))

    def data_received(self, data: bytes) -> None:
        """Pass ``data`` on, or refuse what begins while too much is in progress already.

        The guard would refuse it as well, but in a flood its few tenths of a millisecond, for each of hundreds that
        arrive at once, are what keeps everyone else waiting.
        """
        if len(self.tasks) >= self.limits.requests and not self.busy and not _OPEN.match(data):
            self.metrics.requests.labels("", REFUSED, ServerBusy.status).inc()
            self.refuse(_too_many_requests(self.limits))
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.idle.pop(self, None)
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """A request has arrived, at least its headers, and its answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def watch(self, now: float) -> None:
        """Called every second or so: drop the connection if its client is too slow. ``now``: as time.monotonic."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread:
            self._read_at = now
        self._unread = unread
        if now - self._read_at > self.limits.send_seconds or (
            not self.busy and now - self._idle_since > self.limits.receive_seconds
        ):
            self.transport.abort()  # close() would wait for what the client does not read

    def on_response_complete(self) -> None:
        """From here on the client may be idle."""
        self._idle_since = time.monotonic()
        self.idle.pop(self, None)
        self.idle[self] = None
        super().on_response_complete()

    def refuse(self, answer: bytes) -> None:
        """Send ``answer``, whatever was asked, and close."""
        self.connections.discard(self)  # no longer counted, even if closing takes a moment
        self.idle.pop(self, None)
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            self.transport.write(answer)
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles the parser's error, which knows more than ``msg``."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self.refuse(_answer(HeadersTooLarge(f"address and headers: {self.limits.told('header_bytes')}")))
        else:
            self.refuse(_answer(InvalidRequest(f"this is not HTTP/1.1 as it should be: {error}")))

    def _longest_idle(self) -> Connection:
        while (first := next(iter(self.idle))).busy:
            del self.idle[first]  # until its answer is complete
        return first


@cache
def _too_many(limits: Limits) -> bytes:
    """Kept, because a flood is when there is no time to write it again and again."""
    return _answer(
        ServerBusy(
            f"too many connections; this server takes {limits.told('connections')}. Try again shortly.", retry_after=1
        )
    )


@cache
def _too_many_requests(limits: Limits) -> bytes:
    return _answer(too_many_requests(limits.requests, limits))


def _answer(error: QuipuError) -> bytes:
    """``error`` as the last answer on a connection."""
    response = quipu_error_response(error)
    connection = h11.Connection(h11.SERVER)
    headers = [*response.raw_headers, (b"connection", b"close")]
    events = (
        h11.Response(status_code=error.status, headers=headers, reason=b""),
        h11.Data(data=bytes(response.body)),
        h11.EndOfMessage(),
    )
    return b"".join(filter(None, map(connection.send, events)))
