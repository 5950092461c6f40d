import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.engine.remote import RemoteModel
from quipu.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    Offline,
    Overloaded,
    RemoteFailed,
    WrongKey,
)
from quipu.types import Completion, Message, Sampling

HELLO = [Message("user", "hello")]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def remote(server: Running) -> Iterator[RemoteModel]:
    with RemoteModel(f"{server.url}/v1") as model:
        yield model


def test_it_is_the_model_that_is_served(remote: RemoteModel, server: Running) -> None:
    assert remote.facts.as_dict() == {"name": "fake", "base_url": f"{server.url}/v1"}
    assert remote.context_length == server.model.context_length
    assert remote.count(HELLO) == server.model.count(HELLO)
    assert remote.count("hello there") == server.model.count("hello there")


def test_it_answers_as_the_local_model(remote: RemoteModel, server: Running) -> None:
    for options in ({}, {"n": 2}, {"stop": ("h",)}, {"max_tokens": 3}, {"top_k": 1, "min_tokens": 2}):
        expected = server.model.chat(HELLO, temperature=0, **options)
        found = Completion.of(iter(remote.stream(HELLO, temperature=0, **options)))
        assert [choice.text for choice in found.choices] == [choice.text for choice in expected.choices]
        assert [choice.finish_reason for choice in found.choices] == [
            choice.finish_reason for choice in expected.choices
        ]
        assert found.usage.completion_tokens == expected.usage.completion_tokens


def test_it_continues_text_and_tokens(remote: RemoteModel, server: Running) -> None:
    for prompt in ("some text", [104, 105]):
        expected = server.model.generate(prompt, temperature=0, max_tokens=5)
        assert Completion.of(iter(remote.stream(prompt, temperature=0, max_tokens=5))) == expected


def test_sampling_objects_send_what_differs_from_the_default(remote: RemoteModel) -> None:
    assert Completion.of(iter(remote.stream(HELLO, Sampling(temperature=0, max_tokens=3)))) == "You"


def test_hanging_up_ends_the_work() -> None:
    with serving({"fake": fake_model(seconds=0.01)}) as server, RemoteModel(f"{server.url}/v1") as remote:
        stream = remote.stream([Message("user", "hello " * 50)], temperature=0)
        next(stream)
        assert remote.running() == 1
        stream.close()
        stream.close()
        until(lambda: remote.running() == 0)
        assert list(stream) == []


def test_refusals_keep_their_kind(remote: RemoteModel, server: Running) -> None:
    with pytest.raises(ContextLengthExceeded, match="the context of this model, as loaded, is 1024 tokens"):
        remote.stream([Message("user", "hello " * 1000)])
    with pytest.raises(InvalidRequest, match="unknown sampling option 'temprature'; did you mean temperature"):
        remote.stream(HELLO, temprature=1)
    with pytest.raises(InvalidRequest, match="logprobs cannot be asked of a remote model"):
        remote.stream(HELLO, logprobs=1)
    with pytest.raises(ModelNotFound, match=r"there is no model 'other' at .*; it serves fake"):
        RemoteModel(f"{server.url}/v1", "other")


def test_addresses_that_are_none() -> None:
    for address in ("localhost:8000", "file:///etc/passwd", "http://"):
        with pytest.raises(InvalidRequest, match="is not an address; it looks like http"):
            RemoteModel(address)
    with pytest.raises(Offline, match=r"cannot be reached .*; is a server running there\?"):
        RemoteModel("http://127.0.0.1:9/v1")


def test_the_key_is_sent_and_asked_for() -> None:
    with serving(key="0123456789abcdef0123456789abcdef") as server:
        with pytest.raises(WrongKey, match="give its key with --key-variable NAME"):
            RemoteModel(f"{server.url}/v1", key="wrong-but-long-enough-to-be-a-key")
        with RemoteModel(f"{server.url}/v1", key="0123456789abcdef0123456789abcdef") as remote:
            assert Completion.of(iter(remote.stream(HELLO, temperature=0))) == "You said: hello"
            assert remote.running() == 0


class Foreign:
    """An endpoint that knows little: no /tokenize, no /metrics, and whatever ``entry`` and ``answer`` say.

    A stream announces a byte more than it has, so it always breaks off.
    """

    def __init__(self, entry: dict, status: int = 200, answer: bytes = b"") -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/v1/models"
                self._send(200 if found else 404, json.dumps({"object": "list", "data": [entry]}).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/tokenize":
                    self._send(404, b"{}")
                else:
                    self._send(status, answer, "text/event-stream" if status == 200 else "application/json")

            def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body) + (kind == "text/event-stream")))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> "Foreign":
        threading.Thread(target=self.server.serve_forever, args=[0.01]).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"context_length": 8192}, 8192),
        ({"context_window": 131072}, 131072),
        ({"meta": {"n_ctx_train": 2048}}, 2048),
    ],
)
def test_how_others_tell_their_context(entry: dict, expected: int) -> None:
    with Foreign({"id": "a", "object": "model", **entry}) as there, RemoteModel(there.url) as remote:
        assert remote.context_length == expected


def test_who_does_not_tell_is_told_or_estimated() -> None:
    with Foreign({"id": "a", "object": "model"}) as there:
        with RemoteModel(there.url) as remote:
            with pytest.raises(InvalidRequest, match="does not tell the context length of a; give it with --context"):
                _ = remote.context_length
            assert remote.count([Message("user", "ä" * 30)]) == 20
            assert remote.running() is None
        with RemoteModel(there.url, context_length=77) as remote:
            assert remote.context_length == 77


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (429, b'{"error": {"message": "slow down"}}', Overloaded, "slow down"),
        (500, b"oh", RemoteFailed, "refused"),
        (400, b'{"error": {"message": "this model\'s maximum context length is 5"}}', ContextLengthExceeded, "is 5"),
        (200, b'data: {"error": {"message": "broke"}}\n\n', RemoteFailed, "broke off"),
        (200, b"data: {nonsense\n\n", RemoteFailed, "broke off"),
        (200, b": nothing", RemoteFailed, "broke off"),
    ],
)
def test_failures_elsewhere_are_sentences(status: int, answer: bytes, kind: type[Exception], words: str) -> None:
    with Foreign({"id": "a", "object": "model"}, status, answer) as there, RemoteModel(there.url) as remote:
        remote._client.max_retries = 0
        with pytest.raises(kind, match=words):
            list(remote.stream(HELLO, max_tokens=5))
