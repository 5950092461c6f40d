"""The layer around the application: key, host, origin, headers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_server import Running, serving
from starlette.routing import BaseRoute, Mount

from quipu.engine.fake import fake_model
from quipu.errors import InvalidRequest
from quipu.serve.access import checked_key, checked_origin, given_key, host_name, is_this_machine
from quipu.serve.app import create_app
from quipu.serve.guard import SECURITY_HEADERS

KEY = "a-key-for-the-tests"
BEARER = {"authorization": f"Bearer {KEY}"}
PAGE = "https://chat.example.org"


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with serving(key=KEY, cors_origins=[PAGE]) as running:
        yield running


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def paths(routes: list[BaseRoute]) -> Iterator[str]:
    """Every path that the application knows, and one below each mount; parameters filled in."""
    for route in routes:
        if isinstance(route, Mount):
            yield f"{route.path}/docs.js"
        elif hasattr(route, "path"):
            yield route.path.replace("{name}", "fake").replace("{name:path}", "fake")
        else:  # FastAPI's included routers
            yield from paths(route.original_router.routes)  # type: ignore[attr-defined]


def test_no_route_is_reached_around_the_key(locked: Running) -> None:
    """The class of vLLM's /invocations: a route that the list of protected prefixes forgot."""
    app = locked.server.config.app
    assert not isinstance(app, str)
    known = set(paths(app.routes)) | set(app.openapi()["paths"])
    assert {"/docs", "/openapi.json", "/metrics", "/v1/chat/completions", "/static/docs.js"} <= known
    strange = {
        "/nothing",
        "/",
        "//health",
        "/health/",
        "/HEALTH",
        "/health%00",
        "/v1/%2e%2e/health",
        "/static/%2e%2e/health",
    }
    for path in (known | strange) - {"/health"}:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "X"):
            answer = locked.http.request(method, path)
            assert answer.status_code == 401, (method, path)
    assert locked.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer x", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", KEY, f"Token {KEY}",
        f"Bearer {KEY.upper()}", "Basic", "Basic !!!", "Basic " + base64.b64encode(KEY.encode()).decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(), "Bearer " + "x" * 10_000,
    ],
)  # fmt: skip
def test_wrong_keys(locked: Running, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    response = locked.http.get("/v1/models", headers=headers)
    assert code(response) == (401, "invalid_api_key")
    assert response.headers.get_list("www-authenticate") == ['Bearer realm="quipu"', 'Basic realm="quipu"']
    assert KEY not in response.text


def test_right_keys(locked: Running) -> None:
    basic = base64.b64encode(f"anyone:{KEY}".encode()).decode()
    for value in (f"Bearer {KEY}", f"bearer {KEY}", f"Basic {basic}"):
        assert locked.http.get("/v1/models", headers={"authorization": value}).status_code == 200
    client = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY, max_retries=0)
    assert [model.id for model in client.models.list()] == ["fake"]
    with pytest.raises(openai.AuthenticationError, match="not this server's"):
        locked.openai.models.list()


@pytest.mark.parametrize("given", ["", "x", KEY, KEY + "x", "x" * 5000, "\u00e9"])
def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """CVE-2025-59425: == stops at the first difference. Whatever is sent, digests of one length are compared."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    answers: list[Any] = []

    async def ask() -> None:
        scope = {
            "type": "http", "method": "GET", "path": "/v1/models", "raw_path": b"/v1/models", "query_string": b"",
            "headers": [(b"authorization", f"Bearer {given}".encode("latin-1"))],
        }  # fmt: skip
        model = fake_model()

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            answers.append(message)

        await create_app({"fake": model}, key=KEY)(scope, receive, send)
        model.close()

    asyncio.run(ask())
    assert answers[0]["status"] == 401
    [(one, other)] = compared
    assert (len(one), other) == (32, hashlib.sha256(KEY.encode()).digest())


@given(st.text())
def test_any_authorization_header_is_read(text: str) -> None:
    key = given_key(text)
    assert key is None or isinstance(key, str)


@pytest.mark.parametrize("key", ["", "short", "with a space in it", "schlüssel-12345", "x" * 513, "line\nbreak-in-it"])
def test_keys_that_no_client_could_send(key: str) -> None:
    with pytest.raises(InvalidRequest, match="visible ASCII") as error:
        checked_key(key, "the key")
    assert not key or key not in str(error.value)
    model = fake_model()
    with pytest.raises(InvalidRequest, match="visible ASCII"):
        create_app({"fake": model}, key=key)
    model.close()


# ---- host names


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8000"]
)
def test_names_of_this_machine(server: Running, host: str) -> None:
    assert server.http.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "", "[::2]", "localhost:x",
        "0.0.0.0", "127.1", "2130706433", "a:b:c", "localhost@evil.example", "[localhost]x",
    ],
)  # fmt: skip
def test_a_name_that_was_pointed_here_is_refused(server: Running, host: str) -> None:
    for path in ("/v1/models", "/health", "/docs"):
        response = server.http.get(path, headers={"host": host})
        assert code(response) == (403, "forbidden"), path
    assert "--allowed-host" in response.json()["error"]["message"]


def test_other_names_are_allowed_where_they_are_given_or_a_key_is_wanted(locked: Running) -> None:
    with serving(allowed_hosts=["Llama.lan"]) as server:
        assert server.http.get("/health", headers={"host": "llama.LAN:8000"}).status_code == 200
        assert server.http.get("/health", headers={"host": "lama.lan"}).status_code == 403
    assert locked.http.get("/v1/models", headers=BEARER | {"host": "evil.example"}).status_code == 200


@given(st.text())
def test_any_host_header_is_read(text: str) -> None:
    assert not is_this_machine(host_name(text)) or text.lower().startswith(("localhost", "127.", "[", "::"))


# ---- web pages


def test_web_pages_of_other_origins_are_refused(server: Running) -> None:
    for origin in (PAGE, "null", "http://localhost:1", "", f"{server.url}.evil.example"):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("OPTIONS", "/v1/models")):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            response = server.http.request(method, path, headers=headers)
            assert code(response) == (403, "forbidden")
            assert "access-control-allow-origin" not in response.headers
    assert "--cors-origin" in response.json()["error"]["message"]
    assert server.http.get("/v1/models", headers={"origin": server.url}).status_code == 200


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", None])
def test_a_web_page_cannot_use_ollamas_routes_without_asking_the_browser(
    server: Running, locked: Running, path: str, kind: str | None
) -> None:
    """They want no content type, so a page's POST is a "simple request", which is sent without a preflight."""
    asked = {"/api/chat": {"messages": [{"role": "user", "content": "hi"}]}, "/api/generate": {"prompt": "hi"}}
    body = json.dumps({"model": "fake"} | asked.get(path, {}))
    before = server.stats().steps
    for sent in (
        {"origin": "http://evil.example"},  # a page of another site, or a form that it submits
        {"origin": "null"},  # of a sandboxed frame, or a file
        {"origin": "http://evil.example", "host": "evil.example"},  # whose name was pointed here: the same origin
        {"host": "evil.example"},  # the same, from what sends no Origin
    ):
        headers = sent if kind is None else sent | {"content-type": kind}
        response = server.http.post(path, content=body, headers=headers)
        assert code(response) == (403, "forbidden"), sent
    with_password = locked.http.post(path, content=body, headers=BEARER | {"origin": "http://evil.example"})
    assert code(with_password) == (403, "forbidden")  # a browser sends the key that it knows along
    assert server.stats().steps == before
    assert server.http.post(path, content=body.encode(), headers={"origin": server.url}).status_code == 200


def test_web_pages_that_were_allowed(locked: Running) -> None:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    preflight = locked.http.options("/v1/chat/completions", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    nonsense = locked.http.options("/", headers=asked | {"access-control-request-headers": "a b; c"})
    assert "access-control-allow-headers" not in nonsense.headers
    without_key = locked.http.get("/v1/models", headers={"origin": PAGE})
    with_key = locked.http.get("/v1/models", headers=BEARER | {"origin": PAGE})
    assert (without_key.status_code, with_key.status_code) == (401, 200)
    for response in (preflight, without_key, with_key):
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in response.headers
    other = locked.http.get("/v1/models", headers=BEARER | {"origin": PAGE + ".evil.example"})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origin", ["*", "null", "", "example.org", "https://x/", "https://X.org", "https://a b", "a://"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the origin of a web page"):
        checked_origin(origin)


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000", "http://[::1]:80", "app://obsidian.md"])
def test_what_is_an_origin(origin: str) -> None:
    assert checked_origin(origin) == origin


# ---- what browsers may do


def test_every_answer_has_the_security_headers(server: Running, locked: Running) -> None:
    stream = server.post("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], stream=True)
    answers = [server.http.get(path) for path in ("/docs", "/health", "/nothing", "/static/docs.js", "/metrics")]
    answers += [stream, locked.http.get("/docs"), server.http.get("/", headers={"host": "x"})]
    for answer in answers:
        assert SECURITY_HEADERS.items() <= dict(answer.headers).items()


def test_a_bug_is_answered_with_the_security_headers_too(
    monkeypatch: pytest.MonkeyPatch, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(server.model, "prompt_ids", broken)
    answer = server.post("/tokenize", messages=[{"role": "user", "content": "hi"}])
    assert answer.status_code == 500
    assert SECURITY_HEADERS.items() <= dict(answer.headers).items()


def test_pages_run_no_script_of_their_html(server: Running) -> None:
    policy = server.http.get("/docs").headers["content-security-policy"]
    directives = {name: sources for name, *sources in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == directives["connect-src"] == ["'self'"]
    assert "unsafe" not in policy
    assert "*" not in policy


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def connect() -> None:
        model = fake_model()

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await create_app({"fake": model})({"type": "websocket", "path": "/health", "headers": []}, receive, send)
        model.close()

    asyncio.run(connect())
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_refusals_are_counted(locked: Running) -> None:
    locked.http.get("/v1/models")
    assert 'route="refused",status="401"' in locked.http.get("/metrics", headers=BEARER).text
