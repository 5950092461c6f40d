"""A process with nothing else to do than to ask a server for /health, again and again, and to note how long it took.

On a shared machine, processes wait for processors. So the same process also exchanges bytes with another that does
nothing but send them back: while that is late, too, the machine is, and not the server.
"""

from __future__ import annotations

import multiprocessing
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

HEALTH_SECONDS = 0.1
"""Within these it must be answered."""
CONTROL_SECONDS = 0.05
"""Who waits longer than this for an echo is on a machine that is too busy to tell how fast anything else is."""
PAUSE_SECONDS = 0.005
REQUEST = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@dataclass
class Health:
    """What the prober saw. Each probe is (seconds until the whole answer, seconds of the slowest echo meanwhile)."""

    probes: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def counted(self) -> list[float]:
        """Seconds of the probes that say something of the server, from the quickest to the slowest."""
        return sorted(seconds for seconds, echo in self.probes if seconds <= HEALTH_SECONDS or echo < CONTROL_SECONDS)

    @property
    def worst(self) -> float:
        """Seconds of the slowest answer that counts."""
        return self.counted[-1]

    def check(self) -> None:
        """Every probe was answered in time, and almost all of them could be judged."""
        assert not self.failures, self.failures[:3]
        assert len(self.counted) >= 10, "too few probes say anything"
        assert len(self.counted) >= 0.98 * len(self.probes), f"the machine is too busy to measure on: {self}"
        assert self.worst < HEALTH_SECONDS, str(self)

    def __str__(self) -> str:
        counted = self.counted
        middle, high = (counted[int(len(counted) * part)] * 1000 for part in (0.5, 0.99))
        excused = len(self.probes) - len(counted)
        raw = max(seconds for seconds, _ in self.probes) * 1000
        return (
            f"{len(counted)} probes: median {middle:.1f} ms, 99 % {high:.1f} ms, worst {self.worst * 1000:.1f} ms; "
            f"{excused} not counted (worst of all {raw:.1f} ms)"
        )


@contextmanager
def probing(port: int) -> Iterator[Health]:
    """Probe the server on ``port`` while the block runs; what was seen is complete afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    prober = context.Process(target=probe, args=(port, theirs))
    prober.start()
    health = Health()
    try:
        assert ours.recv() == "ready"
        yield health
        time.sleep(0.2)  # what was begun last may still do its harm
        ours.send("stop")
        health.probes, health.failures = ours.recv()
        prober.join(10)
    finally:
        prober.kill()


def probe(port: int, orders: Connection) -> None:
    """The prober's process."""
    context = multiprocessing.get_context("spawn")
    control, far = socket.socketpair()
    echoing = context.Process(target=echo, args=(far,), daemon=True)
    echoing.start()
    far.close()
    control.send(b"x")
    control.recv(1)  # it runs
    orders.send("ready")
    health = Health()
    while not orders.poll(PAUSE_SECONDS):
        try:
            health.probes.append(_probe(port, control))
        except (OSError, ValueError) as error:
            health.failures.append(f"{type(error).__name__}: {error}")
    orders.send((health.probes, health.failures))
    control.close()
    echoing.join(10)


def echo(connection: socket.socket) -> None:
    """The control's process."""
    while piece := connection.recv(1):
        connection.send(piece)


def _probe(port: int, control: socket.socket) -> tuple[float, float]:
    """One /health on a connection of its own, and an echo every few milliseconds until it is answered."""
    answer, slowest, seconds = b"", 0.0, None
    start = time.perf_counter()
    asked: float | None = None
    with socket.create_connection(("127.0.0.1", port), timeout=10) as server:
        server.sendall(REQUEST)
        while seconds is None or asked is not None:
            if asked is None:
                control.send(b"x")
                asked = time.perf_counter()
            ready, _, _ = select.select([control, *([server] if seconds is None else [])], [], [], 10)
            now = time.perf_counter()
            if not ready:
                raise ValueError("no answer for 10 seconds")
            if server in ready:
                piece = server.recv(65536)
                answer += piece
                if not piece:
                    seconds = now - start
            if control in ready:
                control.recv(1)
                slowest, asked = max(slowest, now - asked), None
                if seconds is None and not select.select([server], [], [], PAUSE_SECONDS)[0]:
                    continue
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answered {answer[:60]!r}")
    return seconds, slowest
