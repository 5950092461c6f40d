"""One connection: uvicorn's HTTP/1.1, which also gives up on clients that send or read too slowly."""

from __future__ import annotations

import asyncio
import sys
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from quipu.errors import HeadersTooLarge, InvalidRequest, QuipuError, ServerBusy
from quipu.serve.limits import Limits
from quipu.serve.openai.errors import quipu_error_response


class Connection(H11Protocol):
    """Set ``limits`` in a subclass: uvicorn makes the instances. Errors of the protocol are OpenAI's object, too."""

    limits: Limits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; if there are too many, close the one that has had no request for longest."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._idle_since = self._read_at = time.monotonic()
        self._unread = 0
        if len(self.connections) > self.limits.connections:
            others = [each for each in self.connections if isinstance(each, Connection) and not each.busy]
            idle = min(others, key=lambda each: each._idle_since)
            idle.refuse(
                ServerBusy(
                    f"too many connections; this server takes {self.limits.told('connections')}. Try again shortly.",
                    retry_after=1,
                )
            )

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
        super().on_response_complete()

    def refuse(self, error: QuipuError) -> None:
        """Answer with ``error``, whatever was asked, and close."""
        self.connections.discard(self)  # no longer counted, even if closing takes a moment
        response = quipu_error_response(error)
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            headers = [*response.raw_headers, (b"connection", b"close")]
            self._write(h11.Response(status_code=error.status, headers=headers, reason=b""))
            self._write(h11.Data(data=bytes(response.body)))
            self._write(h11.EndOfMessage())
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles the parser's error, which knows more than ``msg``."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self.refuse(HeadersTooLarge(f"address and headers: {self.limits.told('header_bytes')}"))
        else:
            self.refuse(InvalidRequest(f"this is not HTTP/1.1 as it should be: {error}"))

    def _write(self, event: h11.Event) -> None:
        data = self.conn.send(event)
        if data:
            self.transport.write(data)
