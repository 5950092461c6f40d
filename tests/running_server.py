"""A real server on a free port of this machine, in a thread, over models without arithmetic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai

from quipu.engine.engine import EngineStats
from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel
from quipu.serve.app import create_app
from quipu.serve.server import Server, address, bind


class Running:
    """A server that runs, its first model, and clients for it."""

    def __init__(self, models: dict[str, LocalModel], server: Server, url: str) -> None:
        self.models, self.server, self.url = models, server, url
        self.model = next(iter(models.values()))  # where models are loaded on demand, what loads the first
        self.http = httpx.Client(base_url=url, timeout=10)
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=10)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stats(self) -> EngineStats:
        return self.model.engine.stats()

    def ask(self, text: str, **options: Any) -> Any:
        """A chat request with one question, through the OpenAI SDK; fields it does not know go in as they are.

        Greedy unless told otherwise: sampled, even a fake strays from its answer now and then.
        """
        known = {"top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos"}
        extra = {name: options.pop(name) for name in known & options.keys()}
        return self.openai.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": text}],
            extra_body=extra,
            **{"temperature": 0, **options},
        )

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={"model": "fake", **body})


@contextmanager
def serving(
    models: dict[str, LocalModel] | None = None, *, grace_seconds: float = 0.2, **options: Any
) -> Iterator[Running]:
    """Run a server until the block ends; then it must have stopped and closed its models."""
    models = models or {"fake": fake_model()}
    app = create_app(models, **options)
    ready = threading.Event()
    with bind("127.0.0.1", 0) as listener:
        server = Server(app, app.state.service, lambda _: ready.set(), grace_seconds)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        assert ready.wait(10)
        running = Running(models, server, address(listener))
        try:
            yield running
        finally:
            running.http.close()
            running.openai.close()
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """Wait for ``condition``; returns how long that took."""
    start = time.perf_counter()
    while not condition():
        assert time.perf_counter() - start < seconds, "it did not happen"
        time.sleep(0.005)
    return time.perf_counter() - start
