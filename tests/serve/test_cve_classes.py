"""What other servers of models were attacked with, tried here. docs/security.md lists each with its CVE.

Those on files (pickle, GGUF sizes, tokenizers, templates) stand with their readers, in tests/model/.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from running_server import Running, serving

from quipu.errors import QuipuError
from quipu.serve.limits import Limits

ROUTES = ("/v1/chat/completions", "/v1/completions", "/tokenize")
SUBJECT: dict[str, Any] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/tokenize": {"prompt": "hi"},
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chat_template", "{{ cycler.__init__.__globals__.os.popen('id').read() }}"),
        ("chat_template", ""),
        ("chat_template_kwargs", {"tokenize": False}),
        ("chat_template_kwargs", {"chat_template": "{% for i in range(10**9) %}{% endfor %}"}),
        ("documents", [{"text": "x"}]),
        ("add_generation_prompt", False),
        ("continue_final_message", True),
    ],
)
def test_template_arguments_in_a_request(server: Running, route: str, field: str, value: Any) -> None:
    """CVE-2025-62426: a request's chat_template_kwargs reached the template and took the server's time."""
    response = server.post(route, **SUBJECT[route], **{field: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% raw %}", "{{ messages.__class__.__mro__ }}", "{# #}"])
def test_template_injection_by_a_message(server: Running, text: str) -> None:
    """CVE-2024-34359, from the other side: what a message says is data to the template, never a part of it."""
    answer = server.ask(text, max_tokens=200)
    assert answer.choices[0].message.content == f"You said: {text}"


NUMBERS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "min_p", "n", "repetition_penalty", "logprobs", "best_of",
    "top_k",
)  # fmt: skip


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", [-(2**63), -(2**31), -2, 2**63, 2**64, 1e308])
def test_numbers_out_of_range(server: Running, field: str, value: float) -> None:
    """CVE-2026-21869: a negative n_discard went into pointer arithmetic."""
    if field == "top_k" and value > 0 and isinstance(value, int):
        return  # more than the vocabulary is all of it
    response = server.post("/v1/completions", prompt="hi", **{field: value})
    assert response.status_code == 400, response.text
    assert field in response.json()["error"]["message"]
    assert server.stats().blocks_used == 0


@pytest.mark.parametrize("token", [-1, -(2**63), 2**31, 2**64, 258])
def test_token_ids_out_of_range(server: Running, token: int) -> None:
    """GHSA-7rxv-5jhh-j6xx and its kin, over HTTP: ids index tables."""
    for path, body in (
        ("/v1/completions", {"prompt": [token]}),
        ("/v1/completions", {"prompt": "a", "logit_bias": {str(token): 1}}),
        ("/detokenize", {"tokens": [token]}),
    ):
        assert server.post(path, **body).status_code == 400, path


def exchange(server: Running, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    ],
    ids=["whole", "unended", "address", "many", "some"],
)
def test_huge_headers(head: bytes) -> None:
    """CVE-2025-48956: a header of any size was read into memory, and more."""
    with serving(limits=Limits(receive_seconds=1)) as server:
        answer = exchange(server, head)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"headers_too_large"' in answer
        assert server.http.get("/health").status_code == 200


TRAVERSALS = (
    "../../../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "fake/../../x", "file:///etc/passwd",
    "fake\x00.gguf", "C:\\Windows\\win.ini", "....//....//etc/passwd", "sha256:../../x", "http://192.0.2.1/x",
)  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_path_traversal_in_a_model_name(server: Running, name: str) -> None:
    """CVE-2024-37032: a name became a path. Over HTTP, a name is only ever looked up among those served."""
    response = server.post("/v1/completions", prompt="hi", model=name)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    if "\x00" not in name:
        answer = server.http.get(f"/v1/models/{name}")
        assert answer.status_code == 404
        assert "root:" not in answer.text


@pytest.mark.parametrize("name", ["..", "../..", "a/../../b", "../../etc"])
def test_path_traversal_in_a_name_to_load(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own names are paths on purpose; what is no checkpoint is refused, and nothing is fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    import quipu

    with pytest.raises(QuipuError):
        quipu.load(name)


@pytest.mark.parametrize(
    "path", ["..%2f..%2fapp.py", "%2e%2e/app.py", "../app.py", "swagger-ui/../../app.py", "//etc/passwd"]
)
def test_path_traversal_in_static_files(server: Running, path: str) -> None:
    head = f"GET /static/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert exchange(server, head.encode()).startswith(b"HTTP/1.1 404 ")


def test_requests_cannot_be_smuggled(server: Running) -> None:
    """Two lengths, or a length and chunks, of which a proxy might believe the other one."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for fields in (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: +5\r\n", b"Content-Length : 5\r\n"):
        assert exchange(server, head + fields + b"\r\nabcdef").startswith(b"HTTP/1.1 400 "), fields
