"""Pictures at addresses that clients name, fetched for them: only from the open internet, and never for long.

What a client names may lead into the network that the server stands in (server-side request forgery). So an address is
resolved here, every answer of the resolver has to be a public one, and the connection goes to one of those, whatever
the name means a moment later. The same holds for each place that is redirected to.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from quipu.errors import InvalidRequest
from quipu.model.image import MOST_BYTES
from quipu.picture import Image
from quipu.types import Message, Prompt, is_conversation

REDIRECTS = 3
SECONDS = 10.0
_PIECE = 1 << 16
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]
"""Host name and port -> its addresses as text. Raises OSError."""


def resolved(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class RemoteImages:
    """Fetches pictures. ``seconds`` is the time for one, from the first look-up to its last byte.

    ``is_open`` says which addresses may be connected to; tests, whose servers are on this machine, say otherwise.
    """

    def __init__(
        self,
        resolve: Resolve = resolved,
        *,
        seconds: float = SECONDS,
        is_open: Callable[[str], bool] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self._resolve, self._seconds = resolve, seconds
        self._is_open = is_open or is_public
        self._ports = _PORTS if ports is None else ports
        self._tls = ssl.create_default_context()
        self._until = threading.local()

    def fetched(self, prompt: Prompt) -> Prompt:
        """``prompt`` with pictures in place of their addresses. Raises InvalidRequest, naming the part at fault.

        All of a request together may take three times as long as one.
        """
        if not is_conversation(prompt):
            return prompt
        self._until.moment = time.monotonic() + 3 * self._seconds
        return [self._message(message, f"messages[{place}]") for place, message in enumerate(prompt)]

    def _message(self, message: Any, where: str) -> Message | Mapping[str, Any]:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list):
            return message  # type: ignore[no-any-return]
        parts = [self._part(part, f"{where}.content[{place}]") for place, part in enumerate(content)]
        return {**message, "content": parts}

    def _part(self, part: Any, where: str) -> Any:
        given = part.get("image_url") if isinstance(part, Mapping) else None
        url = given.get("url") if isinstance(given, Mapping) else given
        if not isinstance(url, str) or not url.lower().startswith(("http:", "https:")):
            return part
        data = self.fetch(url, f"{where}.image_url.url")
        detail = given.get("detail") if isinstance(given, Mapping) else None
        whole = Image(data).as_part()["image_url"]["url"]
        return {**part, "image_url": {"url": whole} | ({} if detail is None else {"detail": detail})}

    def fetch(self, url: str, where: str) -> bytes:
        """The bytes at ``url``. Raises InvalidRequest about ``where``: for an address that is not open, too many
        redirects, too many bytes, or too much time."""
        deadline = min(time.monotonic() + self._seconds, getattr(self._until, "moment", float("inf")))
        for _ in range(REDIRECTS + 1):
            parts = self._checked(url, where)
            address = self._address(parts, where)
            answer = _Answer(self._connect(parts, address), parts, deadline, where)
            with answer:
                if answer.moved_to is None:
                    return answer.body()
                target = urljoin(url, answer.moved_to)
            if urlsplit(target).scheme == "http" and parts.scheme == "https":
                raise _refused(where, "is redirected from https to http, which is not followed")
            url = target
        raise _refused(where, f"is redirected more than {REDIRECTS} times")

    def _checked(self, url: str, where: str) -> SplitResult:
        if re.search(r"[\x00-\x20\x7f\\]", url) or not url.isascii():
            raise _refused(where, "has characters that an address does not have; encode them")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _refused(where, "is no address") from None
        if parts.scheme not in self._ports:
            raise _refused(where, f"is of the kind {parts.scheme[:20]!r}; http and https are fetched")
        if "@" in parts.netloc:
            raise _refused(where, "has a user name or a password in it")
        if not host or not (_HOST.fullmatch(host) or ":" in host):
            raise _refused(where, "has no host name")
        # 0x7f.1, 017700000001 and 2130706433 are 127.0.0.1 to some resolvers, and names to nobody.
        last = host.rstrip(".").rpartition(".")[2]
        if ":" not in host and re.fullmatch(r"\d+|0x[0-9a-f]*", last, re.IGNORECASE) and not _is_address(host):
            raise _refused(where, "has an address that is written in an unusual way")
        if port not in (None, self._ports[parts.scheme]):
            raise _refused(where, f"names the port {port}; only the usual ones are fetched from")
        return parts

    def _address(self, parts: SplitResult, where: str) -> str:
        host = str(parts.hostname)
        try:
            found = self._resolve(host, self._ports[parts.scheme])
        except (OSError, UnicodeError):
            raise _refused(where, f"is at {host[:100]!r}, which is not known") from None
        if not found or not all(self._is_open(each) for each in found):
            raise _refused(where, f"is at {host[:100]!r}, which is not on the open internet")
        return found[0]

    def _connect(self, parts: SplitResult, address: str) -> _Connection:
        tls = self._tls if parts.scheme == "https" else None
        return _Connection(str(parts.hostname), address, self._ports[parts.scheme], tls)


def is_public(address: str) -> bool:
    """Whether ``address`` is one of the open internet, also where it wraps another one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return found.is_global and not found.is_multicast


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(where: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{where} {problem}", param=where)


class _Connection(HTTPConnection):
    """To an address that was looked up and checked, under the name that was asked for."""

    def __init__(self, host: str, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._address, self._tls = address, tls
        self.opened: socket.socket | None = None
        """The connection itself, which an answer that ends it takes away from ``sock``."""

    def connect(self) -> None:
        """Called when the request is sent."""
        self.sock = self.opened = socket.create_connection((self._address, self.port), timeout=self.timeout)
        if self._tls is not None:
            self.sock = self.opened = self._tls.wrap_socket(self.sock, server_hostname=self.host)

    def close(self) -> None:
        """Also of what an answer still holds."""
        super().close()
        if self.opened is not None:
            self.opened.close()


class _Answer:
    """What comes from one place; all of it before ``deadline``, or the connection is cut."""

    def __init__(self, connection: _Connection, parts: SplitResult, deadline: float, where: str) -> None:
        self._connection, self._where, self._deadline = connection, where, deadline
        self._response: HTTPResponse | None = None
        self._parts = parts
        # A server that sends a byte now and then never times out by itself.
        self._watch = threading.Timer(max(0.01, deadline - time.monotonic()), self._cut)
        self._watch.daemon = True

    def __enter__(self) -> _Answer:
        self._watch.start()
        connection = self._connection
        connection.timeout = max(0.01, self._deadline - time.monotonic())
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            connection.request("GET", path, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
            self._response = connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            self.__exit__()
            raise self._failed(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()
        if self._response is not None:
            self._response.close()
        self._connection.close()

    @property
    def moved_to(self) -> str | None:
        """Where it redirects to, if it does."""
        assert self._response is not None
        if self._response.status not in (301, 302, 303, 307, 308):
            return None
        return self._response.headers.get("Location") or ""

    def body(self) -> bytes:
        """All of it. Raises InvalidRequest where that is more than a picture has, or no answer with one."""
        response = self._response
        assert response is not None
        if response.status != 200:
            raise _refused(self._where, f"answers with status {response.status}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _refused(self._where, "is compressed, though that was not asked for")
        found = bytearray()
        try:
            while piece := response.read(_PIECE):
                found += piece
                if len(found) > MOST_BYTES:
                    raise _refused(self._where, f"has more than {MOST_BYTES:,} bytes")
        except (OSError, HTTPException, ValueError) as error:
            raise self._failed(error) from None
        if time.monotonic() > self._deadline:
            raise self._failed(TimeoutError())
        if response.length:
            raise _refused(self._where, f"broke off {response.length:,} bytes before its end")
        return bytes(found)

    def _cut(self) -> None:
        if self._connection.opened is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._connection.opened.shutdown(socket.SHUT_RDWR)

    def _failed(self, error: Exception) -> InvalidRequest:
        if time.monotonic() >= self._deadline or isinstance(error, TimeoutError):
            return _refused(self._where, "did not come in time")
        return _refused(self._where, f"cannot be fetched ({type(error).__name__})")
