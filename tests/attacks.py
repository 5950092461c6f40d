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


def bodies(port: int, model: str, path: str, names: list[str], at_once: int = 1, size: int = 10**7) -> dict[str, Any]:
    """Post each of BODIES, in ``at_once`` connections together; the statuses and the longest answer, by name."""
    results = {}
    for name in names:
        data = request(path, BODIES[name](model, size))
        with ThreadPoolExecutor(at_once) as threads:
            answers = list(threads.map(lambda _, data=data: exchange(port, data), range(at_once)))
        results[name] = (sorted({status for status, _ in answers}), max(len(body) for _, body in answers))
    return results


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

VALUES: dict[str, Callable[[str, int], bytes]] = {
    "token ids": lambda model, count: _filled(
        b'{"model":"%s","prompt":[' % model.encode(), lambda _: b"1", count, b"]}"
    ),
    "prompts": lambda model, count: _filled(
        b'{"model":"%s","prompt":[' % model.encode(), lambda _: b'"a"', count, b"]}"
    ),
    "lists of ids": lambda model, count: _filled(
        b'{"model":"%s","prompt":[' % model.encode(), lambda _: b"[1]", count // 2, b"]}"
    ),
    "inputs": lambda model, count: _filled(
        b'{"model":"%s","input":[' % model.encode(), lambda _: b"[1]", count // 2, b"]}"
    ),
    "items": lambda model, count: _filled(
        b'{"model":"%s","input":[' % model.encode(), lambda _: b'{"role":"user","content":"a"}', count // 3, b"]}"
    ),
    "stops": lambda model, count: _filled(
        b'{"model":"%s","prompt":"a","stop":[' % model.encode(), lambda _: b'"a"', count, b"]}"
    ),
    "biases": lambda model, count: _filled(
        b'{"model":"%s","prompt":"a","logit_bias":{' % model.encode(), lambda place: b'"%d":1' % place, count, b"}}"
    ),
    "wrong biases": lambda model, count: _filled(
        b'{"model":"%s","prompt":"a","logit_bias":{' % model.encode(), lambda place: b'"%d":"1"' % place, count, b"}}"
    ),
    "metadata": lambda model, count: _filled(
        b'{"model":"%s","prompt":"a","metadata":{' % model.encode(), lambda place: b'"%d":{}' % place, count // 2, b"}}"
    ),
    "deep metadata": lambda model, count: _filled(
        b'{"model":"%s","prompt":"a","metadata":{"a":[' % model.encode(),
        lambda _: b"[" * 58 + b"]" * 58,
        count // 60,
        b"]}}",
    ),
    "short messages": lambda model, count: _filled(
        b'{"model":"%s","messages":[' % model.encode(), lambda _: b'{"role":"user","content":"a"}', count // 3, b"]}"
    ),
    "empty messages": lambda model, count: _filled(
        b'{"model":"%s","messages":[' % model.encode(), lambda _: b"{}", count // 2, b"]}"
    ),
    "wide message": lambda model, count: _filled(
        b'{"model":"%s","messages":[{' % model.encode(), lambda place: b'"%d":1' % place, count, b"}]}"
    ),
    "parts": lambda model, count: _filled(
        b'{"model":"%s","messages":[{"role":"user","content":[' % model.encode(),
        lambda _: b'{"type":"text","text":"a"}',
        count // 3,
        b"]}]}",
    ),
    "unknown fields": lambda model, count: _filled(b"{", lambda place: b'"%d":1' % place, count, b"}"),
    "one field again": lambda model, count: _filled(
        b'{"model":"%s",' % model.encode(), lambda _: b'"prompt":"a"', count, b"}"
    ),
    "tokens": lambda model, count: _filled(b'{"model":"%s","tokens":[' % model.encode(), lambda _: b"1", count, b"]}"),
}
"""Bodies of about ``count`` values."""
