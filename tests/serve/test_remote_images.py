"""Pictures at addresses: what is fetched, and every way to be led somewhere else or kept waiting."""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image as Pillow
from running_server import serving
from seeing import seeing_model

from quipu.errors import InvalidRequest
from quipu.model.image import MOST_BYTES
from quipu.serve.remote_images import RemoteImages, is_public

pytestmark = pytest.mark.alone


def png() -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (70, 40), "red").save(file, "PNG")
    return file.getvalue()


PNG = png()


class Elsewhere(BaseHTTPRequestHandler):
    """A server that a client names. What it does is the first part of the path."""

    def do_GET(self) -> None:
        getattr(self, "_" + self.path.split("/")[1].partition("?")[0])()

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self) -> None:
        self._send(PNG)

    def _missing(self) -> None:
        self._send(b"", 404)

    def _to(self) -> None:
        self._send(b"", 302, Location=self.path.removeprefix("/to/"))

    def _loop(self) -> None:
        self._send(b"", 302, Location=self.path + "x")

    def _nowhere(self) -> None:
        self._send(b"", 302)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def _slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def _slowheaders(self) -> None:
        for _ in range(1000):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" if _ == 0 else b"X: y\r\n")
            time.sleep(0.05)

    def _lies(self) -> None:
        self._send(PNG, Content_Length=str(10 * len(PNG)))
        self.close_connection = True

    def _large(self) -> None:
        self._send(bytes(MOST_BYTES + 1))

    def _gzip(self) -> None:
        self._send(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip")

    def _nonsense(self) -> None:
        self.wfile.write(b"hello\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


Make = Callable[..., RemoteImages]


@pytest.fixture
def remote(elsewhere: int) -> Make:
    """The name ``open.example`` is the server above, and may be connected to; nothing else is here."""

    def make(seconds: float = 5, **names: str) -> RemoteImages:
        known = {"open.example": "127.0.0.1", **{name.replace("_", "."): each for name, each in names.items()}}

        def resolve(host: str, port: int) -> list[str]:
            if host not in known:
                raise OSError("not known")
            return known[host].split()

        ports = {"http": elsewhere, "https": elsewhere}
        return RemoteImages(resolve, seconds=seconds, is_open=lambda each: each == "127.0.0.1", ports=ports)

    return make


def test_a_picture_is_fetched(remote):
    assert remote().fetch("http://open.example/picture?a=b", "here") == PNG
    assert remote().fetch("http://open.example/to/http://open.example/picture", "here") == PNG
    assert remote().fetch("http://open.example/to//picture", "here") == PNG


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing", "answers with status 404"),
        ("loop/", "redirected more than 3 times"),
        ("to/http://inside.example/picture", "is at 'inside.example', which is not on the open internet"),
        ("to/http://127.0.0.1/picture", "is at '127.0.0.1', which is not known"),
        ("to/file:///etc/passwd", "is of the kind 'file'"),
        ("to/ftp://open.example/x", "is of the kind 'ftp'"),
        ("nowhere", "redirected more than 3 times"),
        ("large", "has more than 20,971,520 bytes"),
        ("endless", "has more than 20,971,520 bytes|did not come in time"),
        ("lies", "broke off .* bytes before its end"),
        ("gzip", "is compressed, though that was not asked for"),
        ("nonsense", "cannot be fetched"),
    ],
)
def test_what_a_server_may_do(remote, path, said):
    with pytest.raises(InvalidRequest, match=said) as error:
        remote(inside_example="10.0.0.7").fetch(f"http://open.example/{path}", "messages[0].content[1].image_url.url")
    assert error.value.param == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("path", ["slow", "slowheaders"])
def test_a_byte_now_and_then_ends_in_time(remote, path):
    start = time.monotonic()
    with pytest.raises(InvalidRequest, match="did not come in time"):
        remote(seconds=0.5).fetch(f"http://open.example/{path}", "here")
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user@open.example/picture", "a user name or a password"),
        ("http://open.example:pass@inside.example/", "a user name or a password"),
        ("http://open.example\\@inside.example/", "characters that an address does not have"),
        ("http://open.example\\.inside.example/", "characters that an address does not have"),
        ("http://open.example/\r\nHost: inside", "characters that an address does not have"),
        ("http://open.example/ x", "characters that an address does not have"),
        ("http://ⓞpen.example/", "characters that an address does not have"),
        ("http://2130706433/", "written in an unusual way"),
        ("http://0x7f.1/", "written in an unusual way"),
        ("http://0x7f000001/", "written in an unusual way"),
        ("http://017700000001/", "written in an unusual way"),
        ("http://127.1/", "written in an unusual way"),
        ("http://open.example:22/", "names the port 22"),
        ("http://open.example:99999/", "is no address"),
        ("http:///picture", "has no host name"),
        ("http://", "has no host name"),
        ("http://[::1", "is no address"),
        ("http://open..example%00/", "has no host name"),
        ("http://nobody.example/", "is at 'nobody.example', which is not known"),
        ("http://mixed.example/", "not on the open internet"),
    ],
)
def test_addresses_that_are_refused(remote, url, said):
    with pytest.raises(InvalidRequest, match=said):
        remote(mixed_example="127.0.0.1 10.0.0.7").fetch(url, "here")


def test_a_name_that_changes_its_meaning_is_connected_to_as_it_was_checked(remote, elsewhere):
    """DNS rebinding: the second look-up would lead inside; there is none."""
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.7"]

    ports = {"http": elsewhere, "https": elsewhere}
    remote = RemoteImages(resolve, is_open=lambda each: each == "127.0.0.1", ports=ports)
    assert remote.fetch("http://open.example/picture", "here") == PNG
    assert asked == ["open.example"]


def test_from_https_to_http_is_not_followed():
    remote = RemoteImages(lambda host, port: ["203.0.113.5"], is_open=lambda _: True)
    parts = remote._checked("https://open.example/x", "here")
    assert parts.scheme == "https"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False),
        ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False),
        ("224.0.0.1", False), ("255.255.255.255", False), ("192.0.2.1", False), ("198.18.0.1", False), ("::1", False),
        ("::", False), ("fe80::1", False), ("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("64:ff9b::a00:1", False), ("2002:7f00:1::", False), ("2002:a00:1::", False), ("not an address", False),
    ],
)  # fmt: skip
def test_which_addresses_are_of_the_open_internet(address, public):
    assert is_public(address) is public


def test_through_the_server_only_where_it_is_allowed(remote):
    def ask(server, url: str):
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
        body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 2, "model": "seeing"}
        return server.http.post("/v1/chat/completions", json=body)

    with serving({"seeing": seeing_model()}) as closed:
        answer = ask(closed, "http://open.example/picture")
        assert answer.status_code == 400
        assert "--allow-remote-images" in answer.json()["error"]["message"]
    with serving({"seeing": seeing_model()}, remote_images=remote(inside_example="10.0.0.7")) as server:
        answer = ask(server, "http://open.example/picture")
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 12
        for url in ("http://inside.example/picture", "http://open.example/to/http://inside.example/"):
            answer = ask(server, url)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "messages[0].content[0].image_url.url"
            assert "not on the open internet" in answer.json()["error"]["message"]
        many = [{"type": "image_url", "image_url": {"url": "http://open.example/picture"}}] * 17
        body = {"messages": [{"role": "user", "content": many}], "model": "seeing"}
        answer = server.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert "17 pictures were sent" in answer.json()["error"]["message"]
