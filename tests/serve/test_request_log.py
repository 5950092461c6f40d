"""One line a request, with numbers and without what was asked."""

import json

import pytest
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.serve.limits import Limits
from quipu.serve.request_log import request_id, write_json, write_text

SECRET = "my secret"
KEY = "a-key-for-the-tests"
PAGE = "https://chat.example.org"


@pytest.fixture(params=[False, True])
def logged(request):
    lines: list[dict] = []
    with serving(log=lines.append, log_prompts=request.param) as server:
        yield server, lines, request.param


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer(logged, stream: bool) -> None:
    server, lines, prompts = logged
    answer = server.ask(SECRET, stream=stream, extra_headers={"X-Request-Id": "mine-1"})
    if stream:
        list(answer)
    until(lambda: len(lines) == 1)
    [line] = lines
    assert (line["id"], line["method"], line["route"], line["status"], line["model"]) == (
        "mine-1", "POST", "/v1/chat/completions", 200, "fake",
    )  # fmt: skip
    asked = [{"role": "user", "content": SECRET}]
    assert line["prompt_tokens"] == server.model.count(asked)
    assert line["completion_tokens"] == len(f"You said: {SECRET}") + 1
    assert line["cached_tokens"] == 0
    assert 0 < line["first_token_seconds"] < line["seconds"] < 5
    assert line["time"].endswith("Z")
    assert line.get("prompts") == ([asked] if prompts else None)
    assert (SECRET in json.dumps(line)) is prompts


def test_what_is_refused_or_unknown() -> None:
    lines: list[dict] = []
    with serving(log=lines.append) as server:
        ids = [
            server.post("/v1/chat/completions", messages=[], temperature=SECRET).headers["x-request-id"],
            server.http.get(f"/{SECRET}").headers["x-request-id"],
            server.http.get("/health", headers={"X-Request-Id": "not\tsafe"}).headers["x-request-id"],
        ]
    assert [(line["route"], line["status"], line["model"]) for line in lines] == [
        ("/v1/chat/completions", 400, None), ("unknown", 404, None), ("/health", 200, None),
    ]  # fmt: skip
    assert [line["id"] for line in lines] == ids
    assert len(set(ids)) == 3
    assert SECRET not in json.dumps(lines)


def test_what_the_guard_refuses_has_a_line_and_an_id() -> None:
    lines: list[dict] = []
    limits = Limits(header_bytes=600)
    with serving(log=lines.append, log_prompts=True, key=KEY, limits=limits, cors_origins=[PAGE]) as server:
        asked = {"model": "fake", "messages": [{"role": "user", "content": SECRET}]}
        refused = [
            server.http.post("/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}{SECRET}"}),
            server.http.post("/api/chat", json=asked, headers={"origin": "http://evil.example"}),
            server.http.get(f"/v1/models?key={KEY}", headers={"origin": PAGE}),
            server.http.get("/v1/models", headers={"x": SECRET * 100}),
        ]
    assert [answer.status_code for answer in refused] == [401, 403, 401, 431]
    assert [(line["route"], line["status"]) for line in lines] == [("refused", each.status_code) for each in refused]
    assert [line["id"] for line in lines] == [each.headers["x-request-id"] for each in refused]
    assert "x-request-id" in refused[2].headers["access-control-expose-headers"]
    assert SECRET not in json.dumps(lines)
    assert KEY not in json.dumps(lines)


def test_a_bug_has_a_line_and_an_id(monkeypatch, caplog) -> None:
    lines: list[dict] = []
    with serving(log=lines.append) as server:
        monkeypatch.setattr(server.model, "prompt_ids", lambda *_: 1 / 0)
        answer = server.post("/tokenize", prompt="hi")
    assert answer.status_code == 500
    assert [(line["route"], line["status"], line["id"]) for line in lines] == [
        ("/tokenize", 500, answer.headers["x-request-id"])
    ]


def test_several_prompts_and_a_client_that_leaves() -> None:
    lines: list[dict] = []
    with serving({"fake": fake_model(seconds=0.002)}, log=lines.append) as server:
        server.post("/v1/completions", prompt=["abc", "de"], max_tokens=2)
        stream = server.ask("hello", stream=True, ignore_eos=True)
        next(stream)
        stream.close()
        until(lambda: len(lines) == 2)
    assert (lines[0]["prompt_tokens"], lines[0]["completion_tokens"]) == (5, 4)
    assert lines[1]["status"] == 499


def test_the_id_is_there_without_a_log(server: Running) -> None:
    assert len(server.http.get("/health").headers["x-request-id"]) == 32


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "é", "a\nb"])
def test_ids_that_are_not_repeated(given: str | None) -> None:
    assert request_id(given) != given


def test_the_two_formats(capsys) -> None:
    line = {
        "time": "T", "id": "i", "method": "GET", "route": "/r", "status": 200, "model": None, "seconds": 0.5,
        "prompts": ["a\nb"],
    }  # fmt: skip
    write_text(line)
    write_json(line)
    text, object_ = capsys.readouterr().err.splitlines()
    assert text == 'T GET /r 200 id=i seconds=0.5 prompts=["a\\nb"]'
    assert json.loads(object_) == line
