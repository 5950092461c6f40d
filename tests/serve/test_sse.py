"""What is on the wire: the bytes of a stream, silence, and clients that leave."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.serve.openai.sse import EventStream
from quipu.types import Chunk

pytestmark = pytest.mark.alone

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def normal(raw: bytes) -> list[str]:
    """The lines of a stream, without what differs from one to the next."""
    text = re.sub(r'"id":"(chatcmpl|cmpl)-[0-9a-f]{32}","object"', r'"id":"\1-X","object"', raw.decode())
    text = re.sub(r'"created":\d{10}', '"created":0', text)
    text = re.sub(r'"system_fingerprint":"fp_[0-9a-f]{10}"', '"system_fingerprint":"F"', text)
    return text.split("\n\n")


def test_a_large_event_is_written_as_its_stream_writes_events() -> None:
    """The first event of an echoed prompt, which may be megabytes, is encoded in a thread."""

    class Lines(EventStream):
        def frame(self, event: Mapping[str, Any], data: bytes) -> bytes:
            return b"<" + data + b">" + str(event["text"]).encode()

    class Texts:
        def events(self, prompt: int, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
            yield {"text": chunk.text}

        def last_events(self) -> Iterator[Mapping[str, Any]]:
            return iter(())

    async def frames() -> list[list[bytes]]:
        stream = Lines(None, Texts(), 1)  # type: ignore[arg-type]  # no generation: the chunks are given here
        chunks = (Chunk("a"), Chunk(prompt_logprobs=()), Chunk("b"), Chunk("c"))
        return [await stream.frames((0, chunk)) for chunk in chunks]

    assert asyncio.run(frames()) == [[b'<{"text":"%s"}>%s' % (each, each)] for each in (b"a", b"", b"b", b"c")]


def test_a_chat_stream_byte_for_byte() -> None:
    with serving({"fake": fake_model(lambda asked: "né")}) as server:
        response = server.post(CHAT, messages=HI, temperature=0, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers

    def event(choices: str, usage: str = "null") -> str:
        head = '"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"fake","system_fingerprint":"F"'
        return f'data: {{{head},"choices":[{choices}],"usage":{usage}}}'

    def choice(delta: str, reason: str = "null") -> str:
        return f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'

    assert normal(response.content) == [
        event(choice('{"role":"assistant","content":""}')),
        event(choice('{"content":"n"}')),
        event(choice('{"content":"é"}')),
        event(choice("{}", '"stop"')),
        event(
            "",
            '{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24,"prompt_tokens_details":{"cached_tokens":0},'
            '"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,'
            '"rejected_prediction_tokens":0}}',
        ),
        "data: [DONE]",
        "",
    ]


def test_a_completion_stream_byte_for_byte(server: Running) -> None:
    response = server.post("/v1/completions", prompt="ab", temperature=0, stream=True, max_tokens=1, echo=True)

    def event(choice: str) -> str:
        head = '"id":"cmpl-X","object":"text_completion","created":0,"model":"fake","system_fingerprint":"F"'
        return f'data: {{{head},"choices":[{{{choice}}}]}}'

    assert normal(response.content) == [
        event('"text":"abY","index":0,"logprobs":null,"finish_reason":null'),
        event('"text":"","index":0,"logprobs":null,"finish_reason":"length"'),
        "data: [DONE]",
        "",
    ]


def test_half_a_character_is_never_sent(server: Running) -> None:
    response = server.post(CHAT, messages=[{"role": "user", "content": "🦙é"}], temperature=0, stream=True)
    deltas = [
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
        for line in response.text.split("\n\n")
        if line.startswith("data: {")
    ]
    assert "".join(deltas) == "You said: 🦙é"
    assert deltas[-3:] == ["🦙", "é", ""]


def test_comments_while_a_long_prompt_is_processed() -> None:
    with serving({"fake": fake_model(seconds=0.001)}, keep_alive_seconds=0.05) as server:
        messages = [{"role": "user", "content": "x" * 400}]
        response = server.post(CHAT, messages=messages, temperature=0, stream=True, max_tokens=3)
        comments, separator, rest = response.text.partition("data: ")
        assert separator
        assert comments.count(": keep-alive\n\n") >= 4
        assert comments.replace(": keep-alive\n\n", "") == ""
        assert rest.endswith("data: [DONE]\n\n")
        # The SDK ignores comments.
        chunks = server.ask("y" * 400, max_tokens=3, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You"


@contextmanager
def raw_request(server: Running, **body: Any) -> Iterator[socket.socket]:
    """A request whose answer is not read; leaving the block hangs up."""
    payload = json.dumps({"model": "fake", "messages": HI, "ignore_eos": True} | body).encode()
    fields = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n"
    head = f"POST {CHAT} HTTP/1.1\r\n{fields}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode() + payload)
        yield connection


def idle(server: Running) -> bool:
    stats = server.stats()
    return stats.running == stats.waiting == stats.blocks_used == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_frees_its_blocks_within_a_step(stream: bool, n: int) -> None:
    seconds = 0.02  # a token; a step that decodes n answers takes n times that
    with serving({"fake": fake_model(seconds=seconds)}) as server:
        with raw_request(server, stream=stream, n=n):
            until(lambda: server.stats().running == n and server.stats().generated_tokens > n)
            steps = server.stats().steps
        until(lambda: idle(server))
        # The step in which the client left, and one that may have begun before its leaving was noticed.
        assert server.stats().steps - steps <= 2
        assert server.stats().aborted == n
        until(lambda: 'route="/v1/chat/completions",status="499"} 1.0' in server.http.get("/metrics").text)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_prompt_is_read_or_waits(stream: bool) -> None:
    with serving({"fake": fake_model(context_length=5000, seconds=0.0005, concurrency=1)}) as server:
        with raw_request(server, stream=stream, messages=[{"role": "user", "content": "x" * 4000}]):
            until(lambda: server.stats().running == 1)
            with raw_request(server, stream=stream):
                until(lambda: server.stats().waiting == 1)
            until(lambda: server.stats().waiting == 0)
        until(lambda: idle(server))
        assert server.stats().generated_tokens == 0


def test_leaving_a_loop_over_the_sdk_aborts() -> None:
    with serving({"fake": fake_model(seconds=0.005)}) as server:
        with server.ask("hi", stream=True, ignore_eos=True) as stream:
            for _, _chunk in zip(range(3), stream, strict=False):
                pass
        until(lambda: idle(server))
        assert server.stats().aborted == 1


def test_health_answers_at_once_while_a_long_prompt_is_processed() -> None:
    model = fake_model(context_length=5000, seconds=0.0005)
    with serving({"fake": model}) as server:
        server.http.get("/health")
        asking = threading.Thread(target=lambda: server.ask("x" * 4000, max_tokens=1))
        asking.start()
        until(lambda: server.stats().running == 1)
        times = []
        while server.stats().running:
            start = time.perf_counter()
            assert server.http.get("/health").json() == {"status": "ok", "models": ["fake"]}
            times.append(time.perf_counter() - start)
        asking.join()
        assert len(times) > 10
        assert sorted(times)[len(times) * 9 // 10] < 0.05


def test_a_slow_reader_holds_up_nobody(server: Running) -> None:
    with raw_request(server, stream=True, n=8):
        assert server.ask("hi").choices[0].message.content == "You said: hi"
    until(lambda: idle(server))


def test_two_requests_on_one_connection(server: Running) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(2):
            body = {"model": "fake", "messages": HI, "stream": True, "temperature": 0}
            assert client.post(CHAT, json=body).text.endswith("data: [DONE]\n\n")
