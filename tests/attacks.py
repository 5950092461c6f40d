"""What hostile clients do, each a function for another process: port and model of the server come first."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
RESET = b"\x01\0\0\0\0\0\0\0"


def request(path: str, body: bytes | dict[str, Any], *fields: str) -> bytes:
    """A request in HTTP's own words, on a connection for it alone."""
    payload = json.dumps(body).encode() if isinstance(body, dict) else body
    head = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", "connection: close", *fields]
    return "\r\n".join([*head, f"content-length: {len(payload)}", "", ""]).encode() + payload


def chat(model: str, text: str, **options: Any) -> bytes:
    """A request for a chat."""
    return request(CHAT, {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, **options})


def connect(port: int, seconds: float = 60.0) -> socket.socket:
    """A connection on which reading waits so long."""
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def whole_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body; 0 if the server hung up without a word."""
    answer = b""
    with suppress(ConnectionError):
        while piece := connection.recv(2**18):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(maxsplit=2)[1]) if head else 0, body


def exchange(port: int, data: bytes) -> tuple[int, bytes]:
    """Send a request, whether or not all of it is wanted, and read the answer."""
    with connect(port) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        return whole_answer(connection)


def disconnects(port: int, model: str, count: int, seed: int) -> None:
    """Hang up at a random moment of sending or reading, with or without a reset."""
    dice = random.Random(seed)
    for turn in range(count):
        text = f"question {turn} " * dice.randint(1, 20)
        data = chat(model, text, stream=dice.random() < 0.7, n=dice.choice([1, 1, 2]))
        cut = dice.choice([len(data), len(data), dice.randrange(len(data))])
        with connect(port, dice.choice([0.0005, 0.005, 0.02])) as connection:
            if dice.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.sendall(data[:cut])
            with suppress(TimeoutError):
                for _ in range(dice.randrange(4)):
                    connection.recv(dice.choice([1, 100, 10000]))


def slow_readers(port: int, model: str, count: int, body: dict[str, Any], seconds: float) -> int:
    """Ask for long answers, read none of them; how many connections the server closed within ``seconds``."""
    with ExitStack() as opened:
        connections = []
        for turn in range(count):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", port))
            connection.sendall(request(TEXT, {"model": model, "stream": turn % 2 == 0, **body}))
            connections.append(connection)
        time.sleep(seconds)
        return sum(_was_closed(connection) for connection in connections)


def half_requests(port: int, model: str, count: int, seconds: float) -> int:
    """Send a part of a request, then a byte now and then; how many connections the server closed."""
    whole = chat(model, "x" * 100)
    dice = random.Random(count)
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(port, 1)) for _ in range(count)]
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(whole[: dice.randrange(len(whole) - 9)])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for connection in dice.sample(connections, count // 4):
                with suppress(OSError):
                    connection.send(b"x" if dice.random() < 0.5 else b"")
            time.sleep(0.02)
        return sum(_was_closed(connection) for connection in connections)


def _was_closed(connection: socket.socket) -> bool:
    """Read what there is, at most until the end."""
    connection.settimeout(1)
    try:
        while connection.recv(2**18):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def flood_of_connections(port: int, model: str, count: int, rounds: int) -> None:
    """Open as many at once as can be, and leave them open for a moment."""
    for _ in range(rounds):
        with ExitStack() as opened:
            for _ in range(count):
                connection = opened.enter_context(socket.socket())
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    connection.connect(("127.0.0.1", port))
            time.sleep(0.3)


def flood_of_requests(port: int, model: str, count: int, at_once: int) -> dict[str, Any]:
    """Ask ``count`` questions, ``at_once`` at a time; counts of statuses, and answers that were to another question."""
    wrong: list[str] = []

    async def ask(turn: int, turnstile: asyncio.Semaphore) -> int:
        async with turnstile:
            text = f"number {turn}"
            status, body = await _exchange(port, chat(model, text, max_tokens=40))
            if status == 200:
                said = json.loads(body)["choices"][0]["message"]["content"]
                wrong.extend([] if said == f"You said: {text}" else [f"{text}: {said}"])
            return status

    async def all_of_them() -> list[int]:
        turnstile = asyncio.Semaphore(at_once)
        return await asyncio.gather(*(ask(turn, turnstile) for turn in range(count)))

    return {"statuses": dict(Counter(asyncio.run(all_of_them()))), "wrong": wrong}


async def _exchange(port: int, data: bytes) -> tuple[int, bytes]:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return 0, b""
    try:
        with suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        answer = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(120):
                answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(maxsplit=2)[1]) if head else 0, body


def body(port: int, model: str, name: str, size: int) -> tuple[int, int]:
    """Post one of BODIES; the status, and how long the answer is."""
    status, answer = exchange(port, request(CHAT, BODIES[name](model, size)))
    return status, len(answer)


def _message(model: str, text: str) -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (model.encode(), text.encode())


def _filled(head: bytes, piece: Callable[[int], bytes], count: int, tail: bytes) -> bytes:
    return head + b",".join(map(piece, range(count))) + tail


BODIES: dict[str, Callable[[str, int], bytes]] = {
    "a long message": lambda model, size: _message(model, "x" * size),
    "many words": lambda model, size: _message(model, "né " * (size // 4)),
    "emoji": lambda model, size: _message(model, "\U0001f600" * (size // 4)),
    "escapes": lambda model, size: _message(model, "\\n" * (size // 2)),
    "escaped pairs": lambda model, size: _message(model, "\\ud83d\\ude00" * (size // 12)),
    "quotes": lambda model, size: _message(model, '\\"' * (size // 2)),
    "spaces": lambda model, size: b" " * size + _message(model, ""),
    "many messages": lambda model, size: _filled(
        b'{"model":"%s","messages":[' % model.encode(), lambda _: b'{"role":"user","content":""}', size // 29, b"]}"
    ),
    "a long name": lambda model, size: b'{"' + b"x" * size + b'": 1}',
    "a long model": lambda model, size: b'{"model":"' + b"x" * size + b'","messages":[{"role":"user","content":""}]}',
    "many fields": lambda model, size: _filled(b"{", lambda place: b'"%d":1' % place, size // 10, b"}"),
    "deep": lambda model, size: b'{"messages":' + b"[" * size,
    "not UTF-8": lambda model, size: b'{"model":"' + b"\xff" * size + b'"}',
    "not UTF-8 at the end": lambda model, size: b'{"model":"' + b"x" * size + b'\xff"}',
    "zeros": lambda model, size: bytes(size),
    "a number": lambda model, size: b'{"n":' + b"9" * size + b"}",
    "long token ids": lambda model, size: _filled(
        b'{"model":"%s","prompt":[' % model.encode(), lambda _: b"1" * (size // 249_000), 248_000, b"]}"
    ),
    "long fractions": lambda model, size: _filled(
        b'{"model":"%s","prompt":[' % model.encode(), lambda _: b"1." + b"2" * (size // 249_000), 248_000, b"]}"
    ),
}
"""Bodies of about ``size`` bytes, by what is unusual with them."""


def _values(model: str, field: str, piece: Callable[[int], bytes], count: int, ends: str = "[]") -> bytes:
    head = f'{{"model":"{model}","{field}":{ends[0]}'.encode()
    return _filled(head, piece, count, ends[1].encode() + b"}")


VALUES: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "token ids": (TEXT, lambda model: _values(model, "prompt", lambda _: b"1", 249_000)),
    "prompts": (TEXT, lambda model: _values(model, "prompt", lambda _: b'"a"', 249_000)),
    "lists of ids": (TEXT, lambda model: _values(model, "prompt", lambda _: b"[1]", 32_000)),
    "inputs": ("/v1/embeddings", lambda model: _values(model, "input", lambda _: b"[1]", 32_000)),
    "items": ("/v1/responses", lambda model: _values(model, "input", lambda _: b'{"role":"user"}', 16_000)),
    "stops": (TEXT, lambda model: _values(model, "stop", lambda _: b'"a"', 249_000)),
    "biases": (TEXT, lambda model: _values(model, "logit_bias", lambda place: b'"%d":1' % place, 32_000, "{}")),
    "metadata": (TEXT, lambda model: _values(model, "metadata", lambda place: b'"%d":{}' % place, 16_000, "{}")),
    "nested": (TEXT, lambda model: _values(model, "stop", lambda _: b"[" * 60 + b"]" * 60, 500)),
    "messages": (CHAT, lambda model: _values(model, "messages", lambda _: b'{"role":"user","content":""}', 10_000)),
    "messages to count": ("/tokenize", lambda model: _values(model, "messages", lambda _: b'{"role":"user"}', 16_000)),
    "messages for Ollama": (
        "/api/chat",
        lambda model: _values(model, "messages", lambda _: b'{"role":"user"}', 16_000),
    ),
    "fields": ("/api/generate", lambda model: _filled(b"{", lambda place: b'"%d":1' % place, 32_000, b"}")),
    "tokens": ("/detokenize", lambda model: _values(model, "tokens", lambda _: b"1", 249_000)),
}
"""The route, and nearly as many values of a kind as are read by default, by what there are many of."""


def many_values(port: int, model: str, name: str, at_once: int) -> set[int]:
    """Post one of VALUES on so many connections; the statuses."""
    path, body = VALUES[name]
    return repeatedly(port, model, path, body(model), at_once)


def repeatedly(port: int, model: str, path: str, body: bytes | dict[str, Any], at_once: int) -> set[int]:
    """Post the same body on so many connections at once; the statuses."""
    data = request(path, body)
    with ThreadPoolExecutor(at_once) as threads:
        return {status for status, _ in threads.map(lambda _: exchange(port, data), range(at_once))}


def longest_prompts(port: int, model: str, prompts: int, tokens: int, at_once: int) -> dict[int, list[Any]]:
    """Requests of ``prompts`` prompts of so many tokens, ``at_once`` of them; each status with its token counts."""
    results: dict[int, list[Any]] = {}

    def one(place: int) -> None:
        body = {"model": model, "prompt": [[place] * tokens] * prompts, "max_tokens": 2, "ignore_eos": True}
        status, answer = exchange(port, request(TEXT, body))
        results.setdefault(status, []).append(json.loads(answer)["usage"]["prompt_tokens"] if status == 200 else None)

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(one, range(at_once)))
    return results
