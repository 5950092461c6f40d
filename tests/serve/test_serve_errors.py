"""Every way to be refused: status, shape, the field at fault, and the exception that the SDK makes of it."""

import json
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.engine.runner import Span
from quipu.errors import CannotListen, InvalidRequest
from quipu.serve.app import create_app
from quipu.serve.limits import Limits
from quipu.serve.server import bind

ROUTES = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
HI = [{"role": "user", "content": "hi"}]

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
"""A picture of one pixel."""


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message", "param", "type"]
    assert response.headers["content-type"] == "application/json"
    return body["error"]


def refused(response: httpx.Response, param: str | None, *fragments: str, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    for fragment in fragments:
        assert fragment in error["message"], error["message"]
    return error


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (b"{", "not JSON"),
        (b"not json", "not JSON"),
        (b'{"model": "fake",}', "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b'{"model": "\xff"}', "not UTF-8: byte 11 is 0xff"),
        (b"[" * 100_000, "nested more than 64"),
        (b'{"n": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"7", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"", "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_object(server: Running, route: str, body: bytes, fragment: str) -> None:
    response = server.http.post(route, content=body, headers={"content-type": "application/json"})
    refused(response, None, fragment)


def test_a_body_that_is_not_announced_as_json(server: Running) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = server.http.post(ROUTES[0], content=b'{"model": "fake"}', headers=form)
    refused(response, None, "Content-Type: application/json", "x-www-form-urlencoded")
    refused(server.http.post(ROUTES[0], content=b"{}"), None, "Content-Type", "missing")


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"temperature": "0.5"}, "temperature", "valid number, got '0.5'"),
        ({"temperature": True}, "temperature", "valid number"),
        ({"temperature": -0.1}, "temperature", "between 0 and 100"),
        ({"temperature": []}, "temperature", "valid number"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_p": 1.1}, "top_p", "at most 1"),
        ({"top_k": -2}, "top_k", "at least 0"),
        ({"top_k": 1.5}, "top_k", "valid integer"),
        ({"min_p": 2}, "min_p", "between 0 and 1"),
        ({"max_tokens": -1}, "max_tokens", "at least 0"),
        ({"max_tokens": "5"}, "max_tokens", "valid integer, got '5'"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"min_tokens": 9, "max_tokens": 5}, "min_tokens", "more than max_tokens"),
        ({"n": 0}, "n", "between 1 and 128"),
        ({"n": 129}, "n", "between 1 and 128"),
        ({"seed": 2**65}, "seed", "between"),
        ({"seed": "1"}, "seed", "valid integer"),
        ({"presence_penalty": 3}, "presence_penalty", "between -2 and 2"),
        ({"frequency_penalty": -3}, "frequency_penalty", "between -2 and 2"),
        ({"repetition_penalty": 0}, "repetition_penalty", "above 0"),
        ({"stop": ""}, "stop", "non-empty"),
        ({"stop": [1]}, "stop", "a list of strings"),
        ({"stop": ["x"] * 17}, "stop", "--max-stops"),
        ({"stop": "x" * 1025}, "stop", "--max-stop-length"),
        ({"stop": {}}, "stop", "string or a list"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "keys are token ids"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "keys are token ids"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "between -100 and 100"),
        ({"logit_bias": {"1": "2"}}, "logit_bias", "must be a number"),
        ({"logit_bias": {"99999": 1}}, None, "99999 is not in the vocabulary"),
        ({"logit_bias": []}, "logit_bias", "object"),
        ({"ignore_eos": 1}, "ignore_eos", "valid boolean"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed when stream"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "valid boolean"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "unknown field 'continuous_usage_stats'",
        ),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "not supported",
        ),
        ({"user": 5}, "user", "valid string"),
        ({"temprature": 1}, "temprature", "did you mean temperature?"),
        ({"qqqq": 1}, "qqqq", "known: "),
        ({"model": None}, "model", "valid string"),
    ],
)
@pytest.mark.parametrize("route", ROUTES[:2])
def test_a_field_at_fault_is_named(
    server: Running, route: str, fields: dict[str, Any], param: str | None, fragment: str
) -> None:
    subject: dict[str, Any] = {"messages": HI} if "chat" in route else {"prompt": "hi"}
    refused(server.post(route, **(subject | fields)), param, fragment)


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hi"}, "messages", "valid list"),
        ({"messages": ["hi"]}, "messages[0]", "dictionary"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [*HI, {"role": "robot", "content": "x"}]}, "messages[1].role", "robot"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string"),
        ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages[0].name", "string"),
        ({"messages": [{"role": "user", "content": "x", "stop_reason": 5}]}, "messages[0].stop_reason", "end_of"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": 5}]}, "messages[0].tool_calls", "list"),
        ({"messages": [{"role": "user", "content": "x", "colour": "red"}]}, "messages[0].colour", "no field"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 9999}}]}]},
            "messages[0].tool_calls[0]",
            "not JSON",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "f"}}]}]},
            "messages[0].tool_calls[0]",
            "id must be a string",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
            "neither a text nor a picture",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].image_url.url",
            "images at addresses are not fetched here",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]},
            "messages",
            "this model reads text only",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "/etc/passwd"}]}]},
            "messages[0].content[0].image",
            "is text; give a file as",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, None, "surrogate"),
        ({"logprobs": 1}, "logprobs", "valid boolean"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs is true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "between 0 and 20"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "between 0 and 20"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "is 5 and max_completion_tokens is 6"),
        ({"prompt": "x"}, "prompt", "unknown field"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "must be an object with a name"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"functions": [{"name": "f"}]}, "functions", "not supported"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"modalities": ["audio"]}, "modalities", "not supported"),
        ({"audio": {"voice": "x"}}, "audio", "not supported"),
        ({"prediction": {"type": "content"}}, "prediction", "not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "not supported"),
        ({"web_search_options": {}}, "web_search_options", "not supported"),
        ({"verbosity": "low"}, "verbosity", "not supported"),
    ],
)
def test_chat_fields_at_fault(server: Running, fields: dict[str, Any], param: str | None, fragment: str) -> None:
    body = json.dumps({"model": "fake", "messages": HI} | fields)
    response = server.http.post(ROUTES[0], content=body, headers={"content-type": "application/json"})
    refused(response, param, fragment)


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({}, "prompt", "is missing"),
        ({"prompt": []}, "prompt", "must be a string"),
        ({"prompt": [[]]}, "prompt", "none empty"),
        ({"prompt": [1, "a"]}, "prompt", "must be a string"),
        ({"prompt": [True]}, "prompt", "must be a string"),
        ({"prompt": None}, "prompt", "must be a string"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": [-1]}, None, "-1 is not in the vocabulary"),
        ({"prompt": [258]}, None, "258 is not in the vocabulary of 258"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
        ({"prompt": "a", "best_of": 3, "n": 2}, "best_of", "best_of 3 is not supported"),
        ({"prompt": "a", "logprobs": True}, "logprobs", "valid integer"),
        ({"prompt": "a", "logprobs": 101}, "logprobs", "between 0 and 100"),
        ({"prompt": "a", "echo": "yes"}, "echo", "valid boolean"),
        ({"prompt": "a", "messages": []}, "messages", "unknown field"),
    ],
)
def test_completion_fields_at_fault(server: Running, fields: dict[str, Any], param: str | None, fragment: str) -> None:
    refused(server.post("/v1/completions", **fields), param, fragment)


@pytest.mark.parametrize(
    ("route", "fields", "param", "fragment"),
    [
        ("/tokenize", {}, "prompt", "either prompt or messages"),
        ("/tokenize", {"prompt": "a", "messages": HI}, "prompt", "either prompt or messages"),
        ("/tokenize", {"messages": HI, "add_special_tokens": True}, "add_special_tokens", "chat format"),
        ("/tokenize", {"prompt": ["a"]}, "prompt", "valid string"),
        ("/detokenize", {}, "tokens", "is missing"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]", "valid integer"),
        ("/detokenize", {"tokens": [999]}, None, "999 is not in the vocabulary"),
    ],
)
def test_token_fields_at_fault(
    server: Running, route: str, fields: dict[str, Any], param: str | None, fragment: str
) -> None:
    refused(server.post(route, **fields), param, fragment)


@pytest.mark.parametrize("route", ROUTES)
def test_unknown_model(server: Running, route: str) -> None:
    subject = {"tokens": [1]} if route == "/detokenize" else {"messages": HI} if "chat" in route else {"prompt": "x"}
    error = refused(server.post(route, **(subject | {"model": "gpt-5"})), "model", "'gpt-5'", "fake", status=404)
    assert error["code"] == "model_not_found"


def test_a_model_must_be_named_where_there_are_several() -> None:
    with serving({"one": fake_model(), "two": fake_model()}) as server:
        response = server.http.post("/tokenize", json={"prompt": "x"})
        refused(response, "model", "no model was named", "one, two", status=404)
        assert server.http.post("/tokenize", json={"prompt": "x", "model": "two"}).status_code == 200


def test_context_length(server: Running) -> None:
    for stream in (False, True):
        messages = [{"role": "user", "content": "x" * 3000}]
        response = server.post(ROUTES[0], messages=messages, stream=stream)
        count = server.model.count(messages)
        error = refused(response, "messages", str(count), "1024")
        assert error["code"] == "context_length_exceeded"
    error = refused(server.post(ROUTES[1], prompt="x", max_tokens=5000), "max_tokens", "5000", "1024")
    assert error["code"] == "context_length_exceeded"


def test_unknown_url_and_wrong_method(server: Running) -> None:
    error = refused(server.http.get("/v1/nothing"), None, "GET /v1/nothing", status=404)
    assert error["code"] == "unknown_url"
    response = server.http.get(ROUTES[0])
    refused(response, None, "does not take GET", status=405)
    assert response.headers["allow"] == "POST"
    refused(server.http.get("/static/../../app.py"), None, status=404)


def test_a_body_too_large() -> None:
    with serving(limits=Limits(body_bytes=1000)) as server:
        announced = server.post(ROUTES[0], messages=[{"role": "user", "content": "x" * 1000}])
        assert refused(announced, None, "1000 bytes", status=413)["code"] == "request_too_large"
        refused(announced, None, "--max-body", status=413)
        pieces = (b'{"model": "' + b"x" * 400 for _ in range(5))
        headers = {"content-type": "application/json"}
        chunked = server.http.post(ROUTES[0], content=pieces, headers=headers)
        assert refused(chunked, None, "1000 bytes", status=413)["code"] == "request_too_large"
        assert server.ask("x" * 500, max_tokens=1).choices


def test_the_sdk_raises_its_own_exceptions(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature must be between") as bad:
        server.ask("hi", temperature=-1)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as too_long:
        server.ask("x" * 3000)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        server.openai.completions.create(model="nothing", prompt="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        server.openai.models.retrieve("nothing")
    with pytest.raises(openai.BadRequestError, match="did you mean top_p"):
        server.openai.chat.completions.create(model="fake", messages=HI, extra_body={"top_pp": 1})


def test_overload_says_when_to_come_back() -> None:
    with serving({"fake": fake_model(concurrency=1, queue=1, seconds=0.02)}) as server:
        first = server.ask("x", stream=True, ignore_eos=True)
        until(lambda: server.stats().running == 1)
        second = server.ask("x", stream=True)
        until(lambda: server.stats().waiting == 1)
        with pytest.raises(openai.RateLimitError, match=r"the queue holds 1\..*--queue") as full:
            server.ask("x")
        assert full.value.code == "queue_full"
        assert int(full.value.response.headers["retry-after"]) >= 1
        # A list of prompts, of which the first still has a place: nothing of it stays.
        first.close()
        until(lambda: server.stats().waiting == 0)
        assert server.post(ROUTES[1], prompt=["a"] * 2).status_code == 429
        assert server.post(ROUTES[1], prompt=["a"] * 5).status_code == 400  # it could never start
        second.close()
        until(lambda: server.stats().running + server.stats().waiting + server.stats().blocks_used == 0)


class BrokenRunner:
    """Fails in the step that computes the ``fails_at``-th token."""

    def __init__(self, inner: Any, fails_at: int) -> None:
        self.inner, self.left = inner, fails_at
        self.pool, self.vocabulary, self.encoder = inner.pool, inner.vocabulary, None

    def step(self, spans: list[Span]) -> Any:
        self.left -= 1
        if self.left < 0:
            raise FloatingPointError("the arithmetic broke")
        return self.inner.step(spans)

    def close(self) -> None:
        self.inner.close()


def test_a_failing_engine() -> None:
    model = fake_model()
    with serving({"fake": model}) as server:
        model.engine._runner = BrokenRunner(model.engine._runner, 0)  # type: ignore[assignment]
        with pytest.raises(openai.InternalServerError, match="the arithmetic broke") as failed:
            server.ask("hi")
        assert (failed.value.status_code, failed.value.code) == (503, "engine_stopped")

        model.engine._runner = BrokenRunner(model.engine._runner.inner, 5)  # type: ignore[attr-defined,assignment]
        response = server.post(ROUTES[0], messages=HI, stream=True, n=2, temperature=0)
        assert response.status_code == 200
        *_, last = response.text.strip().split("\n\n")
        assert "[DONE]" not in response.text
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_stopped"

        model.engine._runner = BrokenRunner(model.engine._runner.inner, 5)  # type: ignore[attr-defined,assignment]
        with pytest.raises(openai.APIError, match="the arithmetic broke"):
            list(server.ask("hi", stream=True))
        assert server.stats().blocks_used == 0


def test_an_unexpected_error_is_a_500_without_its_details(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret of the code")

    monkeypatch.setattr(server.model, "prompt_ids", broken)
    response = server.post(ROUTES[0], messages=HI)
    assert response.status_code == 500
    assert response.headers["connection"] == "close"
    error = error_of(response)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in error["message"]


def test_no_model_to_serve() -> None:
    with pytest.raises(InvalidRequest, match="no model"):
        create_app({})


def test_an_address_that_cannot_be_had(server: Running) -> None:
    with pytest.raises(CannotListen, match="--port"):
        bind("127.0.0.1", server.port)
    with pytest.raises(CannotListen, match="--port"):
        bind("192.0.2.1", 0)  # reserved for documentation: nobody's
    with pytest.raises(CannotListen, match="cannot listen on no such host"):
        bind("no such host", 8000)
    with pytest.raises(CannotListen, match="between 0 and 65535"):
        bind("127.0.0.1", 99999)


NAMES = """
    model messages prompt max_tokens temperature top_p top_k min_p seed stop n logit_bias logprobs top_logprobs echo
    stream stream_options min_tokens ignore_eos tools response_format tokens role content name tool_calls type text
    function arguments id stop_reason context include_usage 65 presence_penalty metadata best_of
"""
FIELDS = st.sampled_from(NAMES.split())
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 300) | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["fake", "user", "assistant", "text", "tool", "system", "{}", "\ud800"])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=12
)
MESSAGES = st.lists(st.dictionaries(FIELDS, VALUES, max_size=3).map(lambda d: {"role": "user", "content": "x"} | d))
SOUND = st.fixed_dictionaries({"model": st.just("fake"), "max_tokens": st.integers(0, 3)})


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES), base=SOUND, subject=MESSAGES, extra=st.dictionaries(FIELDS, VALUES, max_size=4))
def test_no_json_makes_a_5xx(
    server: Running, route: str, base: dict[str, Any], subject: list[Any], extra: dict[str, Any]
) -> None:
    given_fields = {"/v1/chat/completions": {"messages": subject}, "/v1/completions": {"prompt": "x"}}.get(route, {})
    body = json.dumps(base | given_fields | {"n": 1} | extra).encode()
    response = server.http.post(route, content=body, headers={"content-type": "application/json"})
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error_of(response)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES), body=VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_no_body_makes_a_5xx(server: Running, route: str, body: bytes) -> None:
    response = server.http.post(route, content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500
    error_of(response)
