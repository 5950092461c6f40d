"""Schema bombs, and those who stream while they are thrown; for other processes, as in ``attacks``."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import attacks

BOMBS: dict[str, dict[str, Any]] = {
    "patterns that all hold": {"allOf": [{"type": "string", "pattern": f"a{{{n}}}.*b"} for n in range(30)]},
    "a pattern of many states": {"type": "string", "pattern": "^(.*a){1,200}(b|c){1,200}$"},
    "many fields": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5_000)}},
    "multiples of a large number": {"type": "integer", "multipleOf": 1_234_577},
    "many patterns": {
        "anyOf": [{"properties": {f"p{n}": {"type": "string", "pattern": f"x{n}.*"}}} for n in range(300)]
    },
}


def throw(port: int, model: str, kinds: list[str], at_once: int, seconds: float) -> Counter[tuple[str, int]]:
    """Ask for answers to bombs of these kinds, no two alike, as fast as they are answered; how each was, by kind."""
    return sum(_in_threads(at_once, partial(_thrower, port, model, kinds, _after(seconds))), Counter())


def gaps(port: int, model: str, streams: int, seconds: float) -> list[float]:
    """Seconds between the pieces of answers, where so many clients stream one after another."""
    return list(chain.from_iterable(_in_threads(streams, partial(_streamer, port, model, _after(seconds)))))


def prefer() -> None:
    """Streaming clients are elsewhere, too, and wait for no processor of the server's machine."""
    with suppress(PermissionError):
        os.nice(-15)


def _after(seconds: float) -> float:
    return time.monotonic() + seconds


def _in_threads(count: int, work: Any) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def _thrower(port: int, model: str, kinds: list[str], until: float, number: int) -> Counter[tuple[str, int]]:
    answers: Counter[tuple[str, int]] = Counter()
    while time.monotonic() < until:
        count = answers.total()
        kind = kinds[(number + count) % len(kinds)]
        schema = {**BOMBS[kind], "title": f"{number} {count}"}
        form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": schema}}
        status, _ = attacks.exchange(port, attacks.chat(model, "Count.", response_format=form, max_tokens=1))
        answers[kind, status] += 1
    return answers


def _streamer(port: int, model: str, until: float, number: int) -> list[float]:
    found: list[float] = []
    options = {"stream": True, "max_tokens": 120, "ignore_eos": True, "temperature": 1, "seed": number}
    while time.monotonic() < until:
        with attacks.connect(port) as connection, connection.makefile("rb") as lines:
            connection.sendall(attacks.chat(model, f"Count from {number}.", **options))
            last = None
            for line in lines:
                if b'"content":' in line:
                    now = time.perf_counter()
                    found += [] if last is None else [now - last]
                    last = now
    return found
