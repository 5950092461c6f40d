"""``quipu serve`` as a process of its own over a model without arithmetic, and what is seen of it from outside."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from health_prober import HEALTH_SECONDS, Health, probing

import quipu


class Attacked:
    """A server that runs, and another process from which it is attacked."""

    def __init__(self, process: subprocess.Popen[str], url: str, model: str, attackers: ProcessPoolExecutor) -> None:
        self.url, self.model = url, model
        self.most_seconds = HEALTH_SECONDS
        self._process = psutil.Process(process.pid)
        self._attackers = attackers

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def memory(self) -> int:
        """Bytes that the server's process holds."""
        return int(self._process.memory_info().rss)

    @property
    def connections(self) -> int:
        return sum(each.status == psutil.CONN_ESTABLISHED for each in self._process.net_connections("tcp"))

    def attack(self, attack: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Begin ``attack(port, model, ...)`` in the other process."""
        return self._attackers.submit(attack, self.port, self.model, *arguments, **options)

    def gauge(self, name: str) -> float:
        """A number of /metrics, over all labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    @property
    def idle(self) -> bool:
        """No answer runs or waits, and every block of the cache is free."""
        names = ("quipu_running_requests", "quipu_waiting_requests", "quipu_kv_cache_usage_ratio")
        return all(self.gauge(name) == 0 for name in names)

    def ask(self, text: str, **options: Any) -> str:
        """The answer to a question."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "temperature": 0, **options}
        response = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)
        return str(response.raise_for_status().json()["choices"][0]["message"]["content"])

    @contextmanager
    def probed(self) -> Iterator[Health]:
        """Ask for /health all the time that the block runs; the result is complete after it."""
        with probing(self.port, self._process.pid) as health:
            yield health


@contextmanager
def attacked(*flags: str, **fake: Any) -> Iterator[Attacked]:
    """Run ``quipu serve`` with ``flags`` over ``fake_model(**fake)`` until the block ends."""
    command = [sys.executable, __file__, json.dumps(fake), "--port", "0", "--log-format", "none", *flags]
    with serving_process(command, "fake") as server:
        yield server


@contextmanager
def serving_process(command: list[str], model: str) -> Iterator[Attacked]:
    """Run ``command``, which must be a server that says where it is; in the end it must stop when it is told to."""
    environment = os.environ | {"PYTHONPATH": str(Path(quipu.__file__).parents[1])}
    context = multiprocessing.get_context("spawn")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "quipu serves" in line)
            [url] = re.findall(r"(http://\S+) \(", line)
            # In life, attackers are elsewhere and other programs are few: they take no processors from the server.
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, process.pid, -15)
                for thread in psutil.Process(process.pid).threads():
                    os.setpriority(os.PRIO_PROCESS, thread.id, -15)
            with ProcessPoolExecutor(1, mp_context=context, initializer=partial(os.nice, 10)) as attackers:
                yield Attacked(process, url, model, attackers)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for ``condition``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def main() -> None:
    """Run as a program: the command line itself, whose model is a fake."""
    from quipu.cli import main as command_line
    from quipu.engine.fake import fake_model

    options = json.loads(sys.argv[1])

    def answer(asked: str) -> str:
        if asked == "stall":
            sum(range(5 * 10**7))  # in one piece of C, which lets no other thread go on
        return f"You said: {asked}"

    quipu.load = lambda *_, **__: fake_model(answer, **options)
    sys.exit(command_line(["serve", *sys.argv[2:]]))


if __name__ == "__main__":
    main()
