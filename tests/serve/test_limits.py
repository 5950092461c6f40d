"""Every limit: at it a request passes, beyond it the answer names the limit and the flag."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import fields
from itertools import pairwise
from typing import Any

import httpx
import pytest
from attacks import exchange
from hypothesis import given
from hypothesis import strategies as st
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.errors import InvalidRequest, RequestTooLarge
from quipu.serve.body_limit import JsonShape
from quipu.serve.limits import Limits, flag

pytestmark = pytest.mark.alone

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def hi(count: int = 1) -> list[dict[str, str]]:
    return [{"role": "user", "content": "hi"}] * count


def said(response: httpx.Response) -> str:
    return str(response.json()["error"]["message"])


@pytest.mark.parametrize(
    ("limits", "path", "at", "beyond", "param"),
    [
        ({"messages": 3}, CHAT, {"messages": hi(3)}, {"messages": hi(4)}, "messages"),
        ({"answers": 2}, CHAT, {"messages": hi(), "n": 2}, {"messages": hi(), "n": 3}, "n"),
        ({"logprobs": 2}, TEXT, {"prompt": "a", "logprobs": 2}, {"prompt": "a", "logprobs": 3}, "logprobs"),
        (
            {"logprobs": 2},
            CHAT,
            {"messages": hi(), "logprobs": True, "top_logprobs": 2},
            {"messages": hi(), "logprobs": True, "top_logprobs": 3},
            "logprobs",
        ),
        ({"stops": 1}, TEXT, {"prompt": "a", "stop": "x"}, {"prompt": "a", "stop": ["x", "y"]}, "stop"),
        ({"stop_length": 2}, TEXT, {"prompt": "a", "stop": "xy"}, {"prompt": "a", "stop": ["x", "xyz"]}, "stop"),
    ],
)
def test_fields(limits: dict[str, int], path: str, at: dict[str, Any], beyond: dict[str, Any], param: str) -> None:
    [(name, value)] = limits.items()
    with serving(limits=Limits(**limits)) as server:
        assert server.post(path, max_tokens=1, **at).status_code == 200
        response = server.post(path, max_tokens=1, **beyond)
        assert response.status_code == 400
        assert f"at most {value} ({flag(name)} sets it)" in said(response)
        assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, "limit_exceeded")


def test_embeddings() -> None:
    limits = Limits(inputs=3, input_tokens=10, request_seconds=1)
    with serving({"fake": fake_model(seconds=0.001, context_length=64)}, limits=limits) as server:
        assert server.post("/v1/embeddings", input=["abc", "abc", "abcd"]).status_code == 200
        for inputs, name in ((["a"] * 4, "inputs"), (["abc", "abcd", "abcd"], "input_tokens")):
            response = server.post("/v1/embeddings", input=inputs)
            assert (response.status_code, response.json()["error"]["param"]) == (400, "input")
            assert f"at most {limits.told(name)[8:]}" in said(response)


def test_time_for_embeddings() -> None:
    slow = fake_model(seconds=0.0005, context_length=4096)
    with serving({"fake": slow}, limits=Limits(request_seconds=0.5)) as server:
        response = server.post("/v1/embeddings", input=["x" * 4000] * 8)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "time_limit")
        assert "--request-timeout" in said(response)
        until(lambda: server.stats().blocks_used == 0)


def test_headers() -> None:
    with serving(limits=Limits(headers=20, header_bytes=2000)) as server:
        fitting = {f"x-{i}": "1" for i in range(5)}
        assert server.http.get("/health", headers=fitting | {"y": "z" * 1000}).status_code == 200
        for headers, name in (({f"x-{i}": "1" for i in range(20)}, "headers"), ({"x": "y" * 2000}, "header_bytes")):
            response = server.http.get("/health", headers=headers)
            assert response.status_code == 431
            assert flag(name) in said(response)
        assert server.http.get("/health?" + "x" * 2000).status_code == 431


def test_requests_at_once() -> None:
    model = fake_model(seconds=0.01, context_length=4096)
    with serving({"fake": model}, limits=Limits(requests=2)) as server:
        streams = [server.ask("x", stream=True, ignore_eos=True) for _ in range(2)]
        response = server.http.get("/v1/models")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "server_busy")
        assert response.headers["retry-after"] == "1"
        assert "--max-requests" in said(response)
        assert server.http.get("/health").status_code == 200
        for stream in streams:
            stream.close()
        until(lambda: server.http.get("/v1/models").status_code == 200)


def test_while_there_are_too_many_a_request_is_refused_unread() -> None:
    """Its headers are not parsed, not even wrong ones, since a flood costs that. /health is, whatever its form."""
    model = fake_model(seconds=0.01, context_length=4096)
    with serving({"fake": model}, limits=Limits(requests=1)) as server:
        stream = server.ask("x", stream=True, ignore_eos=True)
        for head, status in (("NONSENSE", 503), ("GET /v1/models HTTP/1.1", 503), ("GET /healthy HTTP/1.1", 503)):
            assert exchange(server.port, f"{head}\r\nhost: localhost\r\n\r\n".encode())[0] == status
        for head, status in (("GET /health", 200), ("GET /health?x", 200), ("HEAD /health", 405)):
            ended = f"{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            assert exchange(server.port, ended.encode())[0] == status
        stream.close()
        until(lambda: server.http.get("/v1/models").status_code == 200)
        [refused] = re.findall(r'_total{.*"refused",status="503"} (.+)', server.http.get("/metrics").text)
        assert float(refused) >= 3  # and those that waited for the stream to end


def test_time_for_an_answer() -> None:
    model = fake_model(seconds=0.005, context_length=4096)
    with serving({"fake": model}, limits=Limits(request_seconds=1)) as server:
        body = {"messages": hi(), "ignore_eos": True}
        whole = server.post(CHAT, **body)
        assert (whole.status_code, whole.json()["error"]["code"]) == (503, "time_limit")
        assert "--request-timeout" in said(whole)
        streamed = server.post(CHAT, stream=True, **body)
        assert streamed.status_code == 200
        last = json.loads(streamed.text.strip().rpartition("data: ")[2])
        assert last["error"]["code"] == "time_limit"
        until(lambda: server.stats().blocks_used == 0)
        assert server.ask("x", max_tokens=1).choices


def test_a_text_that_cannot_fit_is_not_tokenized(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("it was tokenized")

    long = "x" * 100_000
    monkeypatch.setattr(server.model, "prompt_ids", broken)
    for path, body, param in (
        (TEXT, {"prompt": long}, "prompt"),
        (CHAT, {"messages": [*hi(), {"role": "user", "content": long}]}, "messages"),
    ):
        response = server.post(path, **body)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
        assert "at least" in error["message"]
        assert "--context" in error["message"]


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_values_that_are_no_limit(field: Any) -> None:
    for value in (0, -1, True, "5", None, float("inf"), float("nan")):
        with pytest.raises(InvalidRequest, match=f"{field.metadata['flag']} must be a"):
            Limits(**{field.name: value})
    if field.metadata["most"]:
        with pytest.raises(InvalidRequest, match=f"{field.metadata['flag']} can be at most {field.metadata['most']}"):
            Limits(**{field.name: field.metadata["most"] + 1})


def test_there_is_always_a_connection_without_a_request() -> None:
    with pytest.raises(InvalidRequest, match="--max-requests 5 must be less than --max-connections 5"):
        Limits(requests=5, connections=5)


# ---- the shape of JSON


def values_and_depth(value: Any) -> tuple[int, int]:
    """Counted from what json.loads made of it. A list of k has k - 1 commas, so each container adds one."""
    inside = value if isinstance(value, list) else value.values() if isinstance(value, dict) else None
    if inside is None:
        return 0, 0
    below = [values_and_depth(each) for each in inside]
    return sum(count for count, _ in below) + max(len(below), 1), 1 + max((depth for _, depth in below), default=0)


TEXTS = st.text(st.sampled_from('ab"\\[]{},:é\n'), max_size=12)
JSON = st.recursive(
    st.none() | st.integers() | TEXTS, lambda deeper: st.lists(deeper) | st.dictionaries(TEXTS, deeper), max_leaves=30
)


@given(JSON, st.booleans(), st.lists(st.integers(0, 200)))
def test_the_shape_is_counted_right_however_it_is_cut(value: Any, ascii_only: bool, cuts: list[int]) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    places = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    count, depth = values_and_depth(value)

    def add(limits: Limits) -> None:
        shape = JsonShape(limits)
        for start, end in pairwise(places):
            shape.add(body[start:end])

    add(Limits(json_depth=max(depth, 1), json_values=max(count, 1)))
    if depth > 1:
        with pytest.raises(InvalidRequest, match="--max-json-depth"):
            add(Limits(json_depth=depth - 1))
    if count > 1:
        with pytest.raises(RequestTooLarge, match="--max-json-values"):
            add(Limits(json_values=count - 1))


@pytest.mark.parametrize(
    "piece", [b'"' + b"\\" * 65535, b'\\"' * 32768, b'""' * 32768, b"[]" * 32768, b'"\\u0041' * 9000]
)
def test_counting_takes_time_in_proportion(piece: bytes) -> None:
    shape = JsonShape(Limits(json_values=10**9, json_nodes=10**9))
    start = time.perf_counter()
    for _ in range(16):
        shape.add(piece)
    assert time.perf_counter() - start < 3  # a megabyte; quadratic would be minutes


def test_values_and_depth_over_http() -> None:
    with serving(limits=Limits(json_depth=5, json_values=50)) as server:
        deep = {"metadata": {"a": [[[[1]]]]}}
        assert server.post(TEXT, prompt="a", max_tokens=1, metadata={"a": [[1]]}).status_code == 200
        response = server.post(TEXT, prompt="a", **deep)
        assert (response.status_code, "--max-json-depth" in said(response)) == (400, True)
        response = server.post(TEXT, prompt=[1] * 60)
        assert (response.status_code, "--max-json-values" in said(response)) == (413, True)


# ---- 0, null, "" and nothing are four things


@pytest.mark.parametrize(
    ("field", "zero", "empty"),
    [
        ("max_tokens", 200, 400), ("temperature", 200, 400), ("top_p", 400, 400), ("top_k", 200, 400),
        ("seed", 200, 400), ("n", 400, 400), ("stop", 400, 400), ("min_tokens", 200, 400), ("logprobs", 200, 400),
        ("presence_penalty", 200, 400), ("stream", 400, 400), ("logit_bias", 400, 400), ("user", 400, 200),
        ("model", 400, 404), ("prompt", 400, 400),
    ],
)  # fmt: skip
def test_zero_null_empty_and_missing(server: Running, field: str, zero: int, empty: int) -> None:
    sound = {"prompt": "ab", "max_tokens": 3, "temperature": 0}
    required = field in ("model", "prompt")
    assert server.post(TEXT, **sound | {field: 0}).status_code == zero
    assert server.post(TEXT, **sound | {field: ""}).status_code == empty
    assert server.post(TEXT, **sound | {field: None}).status_code == (400 if required else 200)
    body = {"model": "fake", **sound}
    body.pop(field, None)
    assert server.http.post(TEXT, json=body).status_code == (400 if required else 200)


def test_zero_is_not_the_default(server: Running) -> None:
    def tokens(**given: Any) -> int:
        body = {"model": "fake", "prompt": "ab", "ignore_eos": True, "temperature": 0, **given}
        return int(server.http.post(TEXT, json=body).json()["usage"]["completion_tokens"])

    assert (tokens(max_tokens=0), tokens(max_tokens=None), tokens()) == (0, 16, 16)


def test_large_bodies_together() -> None:
    limits = Limits(body_bytes=200_000, bodies_bytes=200_000)
    head = f"POST {TEXT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()
    whole = head + b"connection: close\r\ncontent-length: 150000\r\n\r\n" + b" " * 150_000
    with serving(limits=limits) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(whole[:-1])
            until(lambda: exchange(server.port, whole)[0] == 503)
            response = server.http.post(TEXT, content=b" " * 150_000, headers={"content-type": "application/json"})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "server_busy")
            assert limits.told("bodies_bytes") in said(response)
            assert "--max-bodies" in said(response)
            assert int(response.headers["retry-after"]) >= 1
        until(lambda: exchange(server.port, whole)[0] == 400)


def test_nodes_and_prompts() -> None:
    with serving(limits=Limits(json_nodes=10, prompts=3)) as server:
        response = server.post(TEXT, prompt="a", metadata={str(place): 1 for place in range(12)})
        assert (response.status_code, "--max-json-nodes" in said(response)) == (413, True)
        response = server.post(TEXT, prompt=["a"] * 4)
        assert (response.status_code, "--max-prompts" in said(response)) == (400, True)


def test_all_large_bodies_are_at_least_one() -> None:
    with pytest.raises(InvalidRequest, match="--max-bodies 1 must be at least --max-body"):
        Limits(bodies_bytes=1)
