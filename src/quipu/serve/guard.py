"""One layer around the whole application: who may ask, from which web pages, and what browsers may do with answers."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Collection, Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quipu.errors import Forbidden, HeadersTooLarge, QuipuError, ServerBusy, WrongKey
from quipu.serve.access import checked_key, checked_origin, digest, given_key, host_name, is_this_machine
from quipu.serve.limits import Limits
from quipu.serve.metrics import Metrics
from quipu.serve.openai.errors import quipu_error_response

OPEN_PATH = "/health"
"""The one path that needs no key, and that is answered however busy the server is."""

REFUSED = "refused"
"""In metrics and log instead of the route, which a request that is refused here does not get to."""

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every answer. A page may load from this server only, and run no script that stands in its HTML: a model's answer
is hostile text, and should some of it get past the chat page's sanitiser, it still cannot run or send anything."""

_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)


class Guard:
    """ASGI middleware, outside of everything else: what it does not pass on, no route and no error handler sees.

    ``key``: what a request must carry as ``Authorization: Bearer KEY``, or as the password of HTTP Basic, which is
    how a browser asks for it. None is for a server that only this machine reaches. Then the name in ``Host`` must be
    one of this machine or of ``allowed_hosts``: a web page whose name was pointed at 127.0.0.1 (DNS rebinding) would
    otherwise be of the same origin. ``cors_origins``: web pages of other origins that may use the API.
    Raises InvalidRequest for a key or an origin that no client could send.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: str | None,
        limits: Limits,
        metrics: Metrics,
        allowed_hosts: Collection[str] = (),
        cors_origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._digest = None if key is None else digest(checked_key(key, "the key"))
        self._limits = limits
        self._metrics = metrics
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._origins = frozenset(checked_origin(origin) for origin in cors_origins)
        self._active = 0
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a WebSocket: nothing here speaks it, and nothing is to be reached around this layer
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        send = _protected(send, origin if origin in self._origins else None)
        try:
            self._check_size(scope)
            self._check_host(headers)
            self._check_origin(headers)
            if _is_preflight(scope, headers):
                await _preflight(headers)(scope, receive, send)
                return
            if scope["path"] != OPEN_PATH:
                self._check_key(headers)
                self._check_room()
        except QuipuError as error:
            self._metrics.requests.labels("", REFUSED, error.status).inc()
            scope["state"]["route"] = REFUSED  # for the log
            await _refusal(error)(scope, receive, send)
            return
        if scope["path"] == OPEN_PATH:
            await self._app(scope, receive, send)
            return
        self._active += 1
        try:
            # One begins each time that the event loop goes round, so that hundreds at once keep nobody else waiting.
            async with self._turn:
                await asyncio.sleep(0)
            await self._app(scope, receive, send)
        finally:
            self._active -= 1

    def _check_size(self, scope: Scope) -> None:
        # The parser only bounds what is incomplete: headers that arrive in one piece are of any size.
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._limits.header_bytes:
            raise HeadersTooLarge(
                f"address and headers have {size} bytes; this server takes {self._limits.told('header_bytes')}"
            )
        if len(scope["headers"]) > self._limits.headers:
            raise HeadersTooLarge(
                f"the request has {len(scope['headers'])} headers; this server takes {self._limits.told('headers')}"
            )

    def _check_host(self, headers: Headers) -> None:
        if self._digest is not None:
            return
        host = headers.get("host", "")
        name = host_name(host)
        if not (is_this_machine(name) or name in self._hosts):
            raise Forbidden(
                f"the request is for the host {host[:100]!r}; without a key this server only answers to names of this "
                "machine. Use http://127.0.0.1, or start it with --allowed-host NAME or with --api-key."
            )

    def _check_origin(self, headers: Headers) -> None:
        """Refuse other web pages: a browser sends some of their requests even where it hides the answers from them."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise Forbidden(
                f"the request comes from a web page of {origin[:100]!r}, which may not use this server; "
                "start it with --cors-origin ORIGIN to let it"
            )

    def _check_key(self, headers: Headers) -> None:
        if self._digest is None:
            return
        given = given_key(headers.get("authorization", ""))
        # Digests have one length, so that the time says nothing about the key's either.
        if not hmac.compare_digest(digest(given or ""), self._digest):
            raise WrongKey(
                "this server wants a key: send the header Authorization: Bearer KEY (OpenAI's SDK: api_key)"
                if given is None
                else "the key is not this server's; it was printed at its start or given with --api-key, "
                "--api-key-file or QUIPU_API_KEY"
            )

    def _check_room(self) -> None:
        if self._active >= self._limits.requests:
            raise too_many_requests(self._active, self._limits)


def too_many_requests(active: int, limits: Limits) -> ServerBusy:
    """What a request is told that would be one too many."""
    return ServerBusy(
        f"{active} requests are in progress; this server takes {limits.told('requests')}. Try again shortly.",
        retry_after=1,
    )


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def _preflight(headers: Headers) -> Response:
    """A browser asks, without the key, whether a page may send a request. Its origin was checked before."""
    asked = headers.get("access-control-request-headers", "")
    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
        "access-control-max-age": "600",
    }
    if _HEADER_NAMES.fullmatch(asked):
        allowed["access-control-allow-headers"] = asked
    return Response(status_code=204, headers=allowed)


def _refusal(error: QuipuError) -> Response:
    response = quipu_error_response(error)
    if isinstance(error, WrongKey):
        # Of the two, browsers know Basic. They ask for the key before they show a page, send it along with what its
        # scripts fetch, and ask again when the server has another one.
        for scheme in ("Bearer", "Basic"):
            response.headers.append("www-authenticate", f'{scheme} realm="quipu"')
    return response


def _protected(send: Send, origin: str | None) -> Send:
    """``send`` that adds the security headers, and lets a page of ``origin`` read the answer."""
    added: Iterable[tuple[str, str]] = SECURITY_HEADERS.items()
    if origin is not None:
        added = [
            *added,
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", "retry-after, x-request-id"),
        ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added:
                headers[name] = value
            headers.add_vary_header("Origin")
        await send(message)

    return sending
