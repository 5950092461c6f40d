"""Listens: uvicorn around the application, from the first connection to a clean end."""

from __future__ import annotations

import asyncio
import json
import resource
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from quipu.errors import CannotListen
from quipu.serve import interpreter
from quipu.serve.connection import Connection
from quipu.serve.service import Service

GRACE_SECONDS = 2.0
"""How long answers may still take once the server is told to stop."""
TIDIED_AT = (1, 25)
"""Looks without a request in progress: at once, and again when threads that nobody waits for any more have ended."""
ACCEPTED_AT_ONCE = 64
"""Connections that are accepted each time that the event loop goes round, so that those in a flood wait, not others."""
BACKLOG = 2048
"""Connections that the kernel keeps for us until they are accepted."""
OTHER_FILES = 256
"""Open files beside connections: models, libraries, pipes."""
TICKS = 2
"""uvicorn's ticks, tenths of a second, between two looks at slow connections."""


def run(
    app: FastAPI,
    listener: socket.socket,
    *,
    announce: Callable[[str], None] | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """Serve ``app`` on ``listener`` until SIGINT or SIGTERM; returns when everything is closed, its models too.

    ``announce`` is given the address and an example, once connections are accepted; by default they are printed.
    Open streams get ``grace_seconds`` to complete, and then an error event.
    """
    service: Service = app.state.service
    open_files(service.limits.connections + OTHER_FILES)
    interpreter.prepare()
    try:
        Server(app, service, announce or _print, grace_seconds).run([listener])
    finally:
        service.close()


@contextmanager
def background(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port of this machine, in a thread, while the block runs; its address is given."""
    ready = threading.Event()
    with bind("127.0.0.1", 0) as listener:
        server = Server(app, app.state.service, lambda _: ready.set(), GRACE_SECONDS)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name="quipu-server")
        thread.start()
        try:
            while not ready.wait(0.1):
                if not thread.is_alive():
                    raise CannotListen("the server ended before it listened; its messages say why")
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()


def open_files(count: int) -> None:
    """Let this process have ``count`` open files, which shells often do not. Raises CannotListen if it must not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise CannotListen(
            f"this process may have {hard} open files, too few for --max-connections {count - OTHER_FILES}; raise the "
            f"limit (ulimit -Hn {count}), or lower --max-connections",
            param="connections",
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port`` (0: a free one) that does not accept connections yet.

    Done before models are loaded, so that a port in use is not found out a minute later. Raises CannotListen.
    """
    if not 0 <= port <= 65535:  # the resolver takes it modulo 65536
        raise CannotListen(f"port {port} does not exist; give --port a number between 0 and 65535", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error}; try --host 127.0.0.1", param="host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error}; choose another port with --port, or stop what uses this one",
            param="port",
        ) from None
    return listener


class Server(uvicorn.Server):
    """uvicorn, which also says when it is ready, and ends open streams with an error event before it stops."""

    def __init__(self, app: FastAPI, service: Service, announce: Callable[[str], None], grace_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            # h11, pure Python and strict. "auto" would take whichever parser happens to be installed.
            http=type("Connection", (Connection,), {"limits": service.limits, "metrics": service.metrics, "idle": {}}),
            backlog=ACCEPTED_AT_ONCE,
            h11_max_incomplete_event_size=service.limits.header_bytes,
            ws="none",
            # The last resort, for a client that reads so slowly that even the end of its stream cannot be sent.
            timeout_graceful_shutdown=int(grace_seconds) + 3,
        )
        super().__init__(config)
        self._locked = bool(app.state.locked)
        self._service = service
        self._announce = announce
        self._grace_seconds = grace_seconds
        self._quiet_looks = TIDIED_AT[-1]  # nothing happened yet

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # uvicorn has one number for this and for how many it accepts at once
        if self.started and sockets:
            self._announce(greeting(address(sockets[0]), self._service.names[0], self._locked))

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if counter % TICKS == 0:
            now = time.monotonic()
            connections = [each for each in self.server_state.connections if isinstance(each, Connection)]
            for connection in connections:
                connection.watch(now)
            busy = any(connection.busy for connection in connections)
            self._quiet_looks = 0 if busy else self._quiet_looks + 1
            if self._quiet_looks in TIDIED_AT:
                interpreter.tidy()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let answers complete for a while, end the rest."""
        ending = asyncio.create_task(self._end_streams())
        await super().shutdown(sockets)
        ending.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second signal at once. uvicorn's would raise the signal again after a clean end."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def _end_streams(self) -> None:
        await asyncio.sleep(self._grace_seconds)
        await asyncio.to_thread(self._service.close)


def address(listener: socket.socket) -> str:
    """The URL at which this machine reaches ``listener``."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def greeting(url: str, model: str, locked: bool = False) -> str:
    """Where the server is, and a command that talks to it; ``locked``: with the key, from the environment."""
    # Greedy, so that the first answer anyone sees is the model's best.
    messages = [{"role": "user", "content": "What is the capital of Japan?"}]
    question = {"model": model, "messages": messages, "temperature": 0}
    return (
        f"quipu serves {model} at {url} (documentation: {url}/docs, stop: Ctrl-C). Try it:\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        + ('    -H "Authorization: Bearer $QUIPU_API_KEY" \\\n' if locked else "")
        + f"    -d {shlex.quote(json.dumps(question))}\n"
    )


def _print(text: str) -> None:
    print(text, flush=True)  # at once, also where it goes to a file
