"""Clients that mean harm, or are merely broken: the server keeps answering, and nothing of them stays."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import psutil
import pytest
from running_server import Running, serving, until

from quipu.engine.fake import fake_model
from quipu.serve.limits import Limits

pytestmark = pytest.mark.alone

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HEALTH_SECONDS = 0.1
PATIENCE = 20
"""Times HEALTH_SECONDS that the slowest answer may take here: the client shares processors and interpreter lock."""


def request(path: str, body: bytes | dict[str, Any], *fields: str) -> bytes:
    payload = json.dumps({"model": "fake"} | body).encode() if isinstance(body, dict) else body
    head = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", *fields]
    if not any(field.startswith(("content-length", "transfer-encoding")) for field in fields):
        head.append(f"content-length: {len(payload)}")
    return "\r\n".join([*head, "", ""]).encode() + payload


def ask(text: str, **options: Any) -> bytes:
    return request(CHAT, {"messages": [{"role": "user", "content": text}], "temperature": 0, **options})


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def closed_by_server(connection: socket.socket) -> bool:
    """Read what there is until the end."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def seconds_until_dropped(connection: socket.socket, piece: bytes) -> float:
    """Send ``piece`` again and again until the server no longer takes it."""
    start = time.monotonic()
    try:
        while time.monotonic() - start < 10:
            connection.sendall(piece)
            time.sleep(0.02)
    except OSError:  # reset, or a broken pipe, as the moment has it
        pass
    return time.monotonic() - start


def whole_answer(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


@contextmanager
def healthy(server: Running) -> Iterator[None]:
    """While the block runs, a patient client asks for /health: it must be answered, and at once."""
    stop, seconds, failures = threading.Event(), [0.0], []

    def watch() -> None:
        with httpx.Client(base_url=server.url, timeout=10) as client:
            while not stop.wait(0.01):
                start = time.perf_counter()
                failures.extend([] if client.get("/health").status_code == 200 else ["status"])
                seconds.append(time.perf_counter() - start)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join()
    assert not failures, failures[:3]
    seconds.sort()
    assert seconds[len(seconds) // 2] < HEALTH_SECONDS, seconds[-5:]
    assert seconds[-1] < HEALTH_SECONDS * PATIENCE, seconds[-5:]


def idle(server: Running) -> bool:
    stats = server.stats()
    return stats.running == stats.waiting == stats.blocks_used == 0


def settled(server: Running) -> None:
    """Nothing of any client is left, and the next one is answered rightly."""
    until(lambda: idle(server), 20)
    assert server.ask("still there?").choices[0].message.content == "You said: still there?"
    until(lambda: len(server.server.server_state.connections) <= 3, 10)


def disconnects(server: Running, count: int, seed: int) -> None:
    """Hang up at a random moment of sending or reading, with or without a reset."""
    dice = random.Random(seed)
    for turn in range(count):
        data = ask(f"question {turn} " * dice.randint(1, 20), stream=dice.random() < 0.7, n=dice.choice([1, 1, 2]))
        cut = dice.choice([len(data), len(data), dice.randrange(len(data))])
        with connect(server) as connection:
            if dice.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
            connection.sendall(data[:cut])
            connection.settimeout(dice.choice([0.0005, 0.005, 0.02]))
            try:
                for _ in range(dice.randrange(4)):
                    connection.recv(dice.choice([1, 100, 10000]))
            except TimeoutError:
                pass


def bystander(server: Running, stop: threading.Event, wrong: list[str]) -> Callable[[], None]:
    """Ask question after question beside the others; every answer must be to its own question."""

    def run() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            text = f"bystander {turn}"
            answer = server.ask(text, max_tokens=100).choices[0].message.content
            wrong.extend([] if answer == f"You said: {text}" else [f"{text}: {answer}"])

    return run


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_disconnects_at_random_moments(count: int) -> None:
    with serving({"fake": fake_model(seconds=0.00002, context_length=2048, concurrency=4)}) as server:
        stop, wrong = threading.Event(), []
        beside = threading.Thread(target=bystander(server, stop, wrong))
        disconnects(server, 20, seed=0)
        until(lambda: idle(server), 20)
        gc.collect()
        before = psutil.Process().memory_info().rss
        beside.start()
        try:
            with healthy(server):
                disconnects(server, count, seed=1)
        finally:
            stop.set()
            beside.join()
        assert not wrong
        settled(server)
        gc.collect()
        assert psutil.Process().memory_info().rss - before < 48 * 2**20


def test_half_requests_are_dropped() -> None:
    """Slowloris: bytes come, now and then, and never enough of them."""
    with serving(limits=Limits(receive_seconds=0.5)) as server, ExitStack() as opened, healthy(server):
        whole = ask("x" * 100)
        cuts = {
            "nothing": 0,
            "a word": 3,
            "half a header": 40,
            "no body": whole.index(b"{"),
            "half a body": len(whole) - 9,
        }
        connections = {name: opened.enter_context(connect(server)) for name in cuts}
        for name, connection in connections.items():
            connection.sendall(whole[: cuts[name]])
        drip = opened.enter_context(connect(server))
        assert seconds_until_dropped(drip, b"x") < 5
        for name, connection in connections.items():
            answer = connection.recv(65536) if "body" in name else b""
            assert answer.startswith(b"HTTP/1.1 408 ") == ("body" in name), name
            assert (b"--receive-timeout" in answer) == ("body" in name)
            assert closed_by_server(connection), name
        settled(server)


def test_a_body_after_a_refusal_is_not_read_for_ever() -> None:
    with (
        serving(key="a-key-for-the-tests", limits=Limits(receive_seconds=0.5)) as server,
        connect(server) as connection,
    ):
        connection.sendall(request(TEXT, b"", "transfer-encoding: chunked"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert seconds_until_dropped(connection, b"1\r\nx\r\n") < 5


def test_slow_readers_are_dropped() -> None:
    """Who reads nothing must not keep an answer, its blocks, and its text in memory."""
    model = fake_model(
        lambda asked: "word " * 400 if asked == "hi" else f"You said: {asked}", context_length=4096, concurrency=2
    )
    with (
        serving({"fake": model}, limits=Limits(send_seconds=1, logprobs=100)) as server,
        healthy(server),
        ExitStack() as opened,
    ):
        slow = []
        for stream in (True, False):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", server.port))
            # The log-probabilities of 1,000 tokens are more than the kernel keeps for a connection.
            many = {"prompt": ["x" * 1000], "echo": True, "logprobs": 100, "max_tokens": 0}
            connection.sendall(request(TEXT, {"stream": stream, **many}))
            slow.append(connection)
        until(lambda: server.stats().running > 0)
        until(lambda: idle(server), 60)
        until(lambda: len(server.server.server_state.connections) <= 2, 20)
        settled(server)


def test_a_flood_of_connections_closes_the_idle_ones() -> None:
    limits = Limits(connections=40, requests=20)
    with serving({"fake": fake_model(seconds=0.001, context_length=4096)}, limits=limits) as server:
        answers: list[str] = []
        asked = "z" * 100
        busy = threading.Thread(target=lambda: answers.append(server.ask(asked).choices[0].message.content))
        busy.start()
        until(lambda: server.stats().running == 1)
        with ExitStack() as opened:
            flood = [opened.enter_context(connect(server)) for _ in range(150)]
            until(lambda: len(server.server.server_state.connections) <= 41)
            for _ in range(5):  # each on a connection of its own
                start = time.perf_counter()
                assert httpx.get(f"{server.url}/health").status_code == 200
                assert time.perf_counter() - start < 2
            first = flood[0].recv(65536)
            assert first.startswith(b"HTTP/1.1 503 ")
            assert b"--max-connections" in first
            assert b"retry-after: 1" in first.lower()
        busy.join()
        assert answers == [f"You said: {asked}"]
        settled(server)


def test_a_flood_of_requests_is_answered_with_when_to_come_back() -> None:
    model = fake_model(seconds=0.0005, context_length=4096, concurrency=2, queue=4)
    with serving({"fake": model}, limits=Limits(requests=8)) as server, healthy(server), ExitStack() as opened:
        flood = [opened.enter_context(connect(server)) for _ in range(60)]
        for place, connection in enumerate(flood):
            connection.sendall(ask(f"number {place}", max_tokens=60).replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        statuses = {}
        for place, connection in enumerate(flood):
            answer = whole_answer(connection)
            statuses[place] = int(answer.split()[1])
            if statuses[place] == 200:
                assert f'You said: number {place}"'.encode() in answer
            else:
                assert b"retry-after: " in answer.lower()
        assert set(statuses.values()) <= {200, 429, 503}
        assert 6 <= list(statuses.values()).count(200) < 60
        for connection in flood:
            connection.close()
        settled(server)


HOSTILE_BODIES: dict[str, Callable[[], bytes]] = {
    "a long message": lambda: json.dumps(
        {"model": "fake", "messages": [{"role": "user", "content": "x" * 10**7}]}
    ).encode(),
    "many words": lambda: json.dumps(
        {"model": "fake", "messages": [{"role": "user", "content": "né " * 10**6}]}
    ).encode(),
    "many messages": lambda: json.dumps(
        {"model": "fake", "messages": [{"role": "user", "content": ""}] * 10**5}
    ).encode(),
    "a long name": lambda: b'{"' + b"x" * 10**7 + b'": 1}',
    "a long model": lambda: json.dumps({"model": "x" * 10**7, "messages": [{"role": "user", "content": ""}]}).encode(),
    "many fields": lambda: json.dumps({str(place): 1 for place in range(10**6)}).encode(),
    "deep": lambda: b'{"messages":' + b"[" * 10**7,
    "not UTF-8": lambda: b'{"model": "' + b"\xff" * 10**7 + b'"}',
    "zeros": lambda: bytes(10**7),
    "a number": lambda: b'{"n": ' + b"9" * 10**7 + b"}",
    "more than is read": lambda: b" " * (33 * 2**20),
}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_ten_megabytes_of_nonsense(server: Running, name: str) -> None:
    body = HOSTILE_BODIES[name]()
    with healthy(server):
        response = httpx.post(server.url + CHAT, content=body, headers={"content-type": "application/json"}, timeout=30)
    assert 400 <= response.status_code < 500
    assert len(response.content) < 2000
    assert response.json()["error"]["message"]


def test_a_queue_full_of_the_longest_prompts() -> None:
    model = fake_model(context_length=600, concurrency=2, queue=10)
    with serving({"fake": model}) as server, healthy(server):
        answers: dict[int, str] = {}

        def one(place: int) -> None:
            body = {"model": "fake", "prompt": [place] * 590, "max_tokens": 5, "ignore_eos": True, "temperature": 0}
            answers[place] = httpx.post(server.url + TEXT, json=body, timeout=60).json()["usage"]["prompt_tokens"]

        threads = [threading.Thread(target=one, args=(place,)) for place in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == dict.fromkeys(range(12), 590)
        settled(server)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100, b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000, b"GET \xff HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", b"POST / HTTP/1.1\r\nhost: localhost\r\n"
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http(server: Running, data: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = whole_answer(connection)
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    if answer:
        first, _ = json.JSONDecoder().raw_decode(answer.partition(b"\r\n\r\n")[2].decode())
        assert first["error"]["message"]
    settled(server)
