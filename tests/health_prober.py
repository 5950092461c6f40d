"""A process with nothing else to do than to ask a server for /health, again and again, and to note how long it took.

On a shared machine, processes wait for processors, which says nothing of the server. So the kernel's own account of
that is read before and after each answer: how long the prober, and that thread of the server that waited longest, were
ready to run while something else ran. The longest, and not the sum, so that it excuses too little rather than too much.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

HEALTH_SECONDS = 0.1
"""Within these it must be answered."""
PAUSE_SECONDS = 0.005
REQUEST = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@dataclass
class Health:
    """What the prober saw. Each probe is (seconds until the whole answer, of these waiting for a processor)."""

    probes: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """How long the server itself took, from the quickest to the slowest."""
        return sorted(seconds - min(waited, seconds) for seconds, waited in self.probes)

    def check(self, most: float = HEALTH_SECONDS) -> None:
        """Every probe was answered, the slowest within ``most`` seconds."""
        assert not self.failures, self.failures[:3]
        assert len(self.probes) >= 10, "too few probes to say anything"
        assert self.seconds[-1] < most, str(self)

    def __str__(self) -> str:
        if not self.probes:
            return "no probes"
        seconds = self.seconds
        middle, high, worst = (seconds[int((len(seconds) - 1) * part)] * 1000 for part in (0.5, 0.99, 1))
        slowest, waited = max(self.probes)
        return (
            f"{len(seconds)} probes: median {middle:.1f} ms, 99 % {high:.1f} ms, worst {worst:.1f} ms (the slowest "
            f"with waiting for a processor: {slowest * 1000:.1f} ms, {waited * 1000:.1f} of it waiting)"
        )


@contextmanager
def probing(port: int, server: int) -> Iterator[Health]:
    """Probe the process ``server`` on ``port`` while the block runs; what was seen is complete afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    prober = context.Process(target=probe, args=(port, server, theirs))
    prober.start()
    health = Health()
    try:
        assert ours.recv() == "ready"
        yield health
        time.sleep(0.3)  # what was begun last may still do its harm
        ours.send("stop")
        health.probes, health.failures = ours.recv()
        prober.join(10)
    finally:
        prober.kill()


def probe(port: int, server: int, orders: Connection) -> None:
    """The prober's process."""
    with suppress(PermissionError):
        os.nice(-15)  # as the server
    orders.send("ready")
    health = Health()
    while not orders.poll(PAUSE_SECONDS):
        before = {**waited(server), **waited(os.getpid())}
        try:
            seconds = _probe(port)
        except (OSError, ValueError) as error:
            health.failures.append(f"{type(error).__name__}: {error}")
            continue
        own, others = waited(os.getpid()), waited(server)
        of_server = max((now - before.get(thread, now) for thread, now in others.items()), default=0.0)
        health.probes.append((seconds, of_server + sum(now - before.get(thread, now) for thread, now in own.items())))
    orders.send((health.probes, health.failures))


def waited(process: int) -> dict[str, float]:
    """Seconds that each thread of ``process`` was ready to run and did not; empty where the kernel does not tell."""
    result = {}
    for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that ended meanwhile
            result[file.parent.name] = int(file.read_text().split()[1]) / 1e9
    return result


def _probe(port: int) -> float:
    """Seconds of one /health on a connection of its own."""
    answer = b""
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(REQUEST)
        while piece := connection.recv(65536):
            answer += piece
    seconds = time.perf_counter() - start
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answered {answer[:60]!r}")
    return seconds
