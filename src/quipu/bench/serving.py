"""Sixteen streams at once through the engine, and the same over HTTP: what everything around the engine costs.

engine16  tokens a second of 16 requests together, handed to the engine, which samples greedily
http16    the same of 16 clients that stream from ``quipu serve`` on this machine
Both from the first request to the end of the last answer: prompts of 64 tokens, answers of 128.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Any

import numpy as np

from quipu.bench.child import last_line
from quipu.bench.measures import BEFORE, STEPS, TOGETHER
from quipu.engine.request import Score
from quipu.errors import MeasurementFailed, QuipuError
from quipu.types import FinishReason, Sampling

CONTEXT = 2 * (BEFORE + STEPS)
NAME = "measured"
_PATIENCE = 120.0
"""Seconds for a server to be ready, and for an answer of it to go on."""


def prompts(vocabulary: int) -> list[list[int]]:
    """Random tokens, other ones at each call: what a prefix cache knows costs nothing."""
    found: list[list[int]] = np.random.default_rng().integers(0, vocabulary, (TOGETHER, BEFORE)).tolist()
    return found


def engine_rate(engine: Any, vocabulary: int) -> float:
    """engine16, of an ``engine.Engine``."""
    sampling = Sampling(max_tokens=STEPS, temperature=0, ignore_eos=True)
    given = prompts(vocabulary)
    start = time.perf_counter()
    waiting = []
    for prompt in given:
        listener = _Finished()
        engine.submit(prompt, sampling, listener)
        waiting.append(listener)
    for each in waiting:
        each.wait()
    return TOGETHER * STEPS / (time.perf_counter() - start)


class _Finished:
    """A listener that waits for the end; see ``request.Listener``."""

    def __init__(self) -> None:
        self._ended = Event()
        self._error: QuipuError | None = None

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        """Nobody asked."""

    def token(self, index: int, token: int, score: Score | None) -> bool:
        """It goes on."""
        return False

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        """The end."""
        self._ended.set()

    def failed(self, index: int, error: QuipuError) -> None:
        """The end, too."""
        self._error = error
        self._ended.set()

    def wait(self) -> None:
        """Raises what the request failed with."""
        self._ended.wait()
        if self._error is not None:
            raise self._error


class Served:
    """``quipu serve`` with a model, in a process of its own, until closed. Raises MeasurementFailed."""

    def __init__(self, path: str, vocabulary: int, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._vocabulary = vocabulary
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self._process = subprocess.Popen(
            [sys.executable, "-m", *serving(path, self._port, options)],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=dict(environment),
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def rate(self) -> float:
        """http16."""
        given = prompts(self._vocabulary)
        with ThreadPoolExecutor(TOGETHER) as pool:
            start = time.perf_counter()
            done = sum(pool.map(self._stream, given))
            elapsed = time.perf_counter() - start
        if done != TOGETHER * STEPS:
            raise MeasurementFailed(f"the server answered {done} tokens where {TOGETHER * STEPS} were asked for")
        return done / elapsed

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self) -> None:
        until = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            try:
                self._ask("GET", "/health").read()
                return
            except OSError:
                time.sleep(0.05)
        self._said.seek(0)
        raise MeasurementFailed(f"quipu serve did not start: {last_line(self._said.read()) or 'no message'}")

    def _stream(self, prompt: Sequence[int]) -> int:
        """Tokens of one answer, as its last event counts them."""
        body = {
            "model": NAME,
            "prompt": prompt,
            "max_tokens": STEPS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        answer = self._ask("POST", "/v1/completions", {**body, "stream_options": {"include_usage": True}})
        if answer.status != 200:
            raise MeasurementFailed(f"the server answered {answer.status}: {answer.read(500).decode(errors='replace')}")
        tokens = 0
        for line in answer:
            if line.startswith(b"data: {"):
                tokens = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", tokens)
        return tokens

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()


def serving(path: str, port: int, options: Mapping[str, str]) -> list[str]:
    """The command that serves ``path``, loaded with ``options``."""
    words = ["quipu", "serve", path, "--name", NAME, "--port", str(port), "--log-format", "none"]
    for name, value in {**options, "context": str(CONTEXT), "speculate": "off"}.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words
