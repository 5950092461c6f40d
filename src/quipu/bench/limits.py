"""What this machine can do at most: how fast memory is read, and how fast float32 is multiplied."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from quipu.engine.memory import available_memory

LARGEST = 1 << 30
"""Bytes to read: many times what the caches of a server hold."""
SIDE = 1024
INT8 = 4
"""Where the processor multiplies bytes (VNNI), an instruction takes four for each float that another takes."""


class Limits:
    """Both limits, with ``threads`` threads; asked again in each round, since a machine has busy minutes."""

    def __init__(self, threads: int, *, size: int = LARGEST) -> None:
        """``size``: bytes to read, of a quarter of the free memory at most."""
        self._pool = ThreadPoolExecutor(threads)
        size = min(size, available_memory() // 4) // threads
        # Touched by the thread that will read it. Not zeros: pages of zeros can be one and the same page.
        self._parts = list(self._pool.map(_filled, [size] * threads))
        values = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
        self._squares = [values + place for place in range(threads)]

    def read(self) -> float:
        """GB/s: the greatest of all bytes, which leaves the processor nothing to do but wait for memory."""
        seconds = min(self._seconds(np.max, self._parts) for _ in range(3))
        return sum(part.nbytes for part in self._parts) / seconds / 1e9

    def multiply(self) -> float:
        """Billions of float32 additions and multiplications a second: squares of matrices, one for each thread."""
        seconds = min(self._seconds(lambda each: each @ each, self._squares) for _ in range(3))
        return 2 * SIDE**3 * len(self._squares) / seconds / 1e9

    def _seconds(self, work: object, parts: list[NDArray[np.uint8]] | list[NDArray[np.float32]]) -> float:
        start = time.perf_counter()
        list(self._pool.map(work, parts))  # type: ignore[arg-type]
        return time.perf_counter() - start


def _filled(size: int) -> NDArray[np.uint8]:
    return np.resize(np.arange(251, dtype=np.uint8), size)
