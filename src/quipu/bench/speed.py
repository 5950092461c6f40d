"""How fast a model can answer on this machine at most, before it is loaded: bytes for a token over bytes a second."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quipu.bench.limits import Limits
from quipu.model.config import ModelConfig
from quipu.model.weights import active_share

ENOUGH = 1 << 28
"""Bytes to read for a good idea of the memory's speed: a tenth of a second."""
PIECE, PIECES = 8 << 20, 8
"""Bytes of one read from the disk, and how many there are."""


@dataclass(frozen=True, slots=True)
class Speed:
    """``token_bytes``: weights, keys and values that a token reads; of those, ``disk_bytes`` come from the disk.

    ``memory_rate`` and ``disk_rate`` in bytes a second, as measured; the latter is None where nothing was read.
    """

    token_bytes: float
    disk_bytes: float
    memory_rate: float
    disk_rate: float | None

    @property
    def tokens_per_second(self) -> float | None:
        """Of one answer, at most; None where it depends on a disk that was not measured."""
        if self.disk_bytes and self.disk_rate is None:
            return None
        disk = self.disk_bytes / self.disk_rate if self.disk_rate else 0.0
        return 1 / (self.token_bytes / self.memory_rate + disk)


def expected_speed(
    config: ModelConfig, sizes: Mapping[str, int], kv_bytes: float, free: int, files: Iterable[Path], *, threads: int
) -> Speed:
    """Of one conversation whose keys and values take ``kv_bytes``, with weights of ``sizes`` bytes in memory.

    Weights that memory cannot hold are mapped and read from the disk. What every token reads stays in memory; of the
    experts, those that fit beside it. A dense model is read from front to back, so that what is needed next is always
    what was dropped: one that does not fit is read anew for every token.
    """
    shares = {name: active_share(config, name) for name in sizes}
    always = sum(size for name, size in sizes.items() if shares[name] == 1)
    sometimes = {name: size for name, size in sizes.items() if 0 < shares[name] < 1}
    active = sum(size * shares[name] for name, size in sometimes.items())
    left = free - kv_bytes - always
    if left < 0:
        missing: float = always + active
    else:
        missing = active * max(0.0, 1 - left / sum(sometimes.values())) if sometimes else 0.0
    rate = Limits(threads, size=ENOUGH).read() * 1e9
    return Speed(always + active + kv_bytes, missing, rate, _disk_rate(files) if missing else None)


def _disk_rate(files: Iterable[Path]) -> float | None:
    """Bytes a second of reads past the system's cache, spread over the largest of ``files``; None where none works."""
    try:
        path = max(files, key=lambda each: each.stat().st_size)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except (OSError, ValueError):
        return None
    try:
        room = mmap.mmap(-1, PIECE)  # begins at a page, as direct reads want
        step = path.stat().st_size // PIECES // PIECE * PIECE
        start = time.perf_counter()
        done = sum(os.preadv(descriptor, [room], place * step) for place in range(PIECES if step else 1))
        return done / (time.perf_counter() - start)
    except OSError:
        return None
    finally:
        os.close(descriptor)
