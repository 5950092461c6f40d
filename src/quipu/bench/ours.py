"""quipu as what is measured: the native runner of a loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.bench.measures import Part
from quipu.engine.kv_cache import blocks_for
from quipu.engine.load import load
from quipu.engine.runner import Span


class Ours:
    """See ``measures.Timed``. ``options`` are of quipu.load."""

    variants: Sequence[str] = ("",)

    def __init__(self, path: str, depth: int, room: int, options: Mapping[str, Any]) -> None:
        self.model = load(path, context=room, concurrency=2, device="cpu", runner="native", speculate="off", **options)
        self.depth = depth
        self.runner = self.model.engine.runner
        self.vocabulary = self.runner.vocabulary
        # One half of the cache for what comes and goes, the other for the sequence that is kept.
        self._half = self.runner.pool.blocks // 2
        self._first, self._each, self._kept = 0, self._half, False

    def use(self, variant: str) -> None:
        """There is one way only."""

    def reset(self, sequences: int) -> None:
        """Positions come with every step: what is in the cache is written over."""
        self._first, self._each = 0, self._half // sequences

    def recall(self) -> bool:
        """The same: only what is read of the cache counts."""
        self._first, self._each = self._half, self._half
        kept, self._kept = self._kept, True
        return kept

    def step(self, parts: Sequence[Part], *, every: bool = False) -> list[NDArray[np.float32]]:
        """One native call."""
        want = "all" if every else "last"
        return self.runner.step(
            [
                self._span(tokens, start, self._blocks(number, start + len(tokens)), want)
                for number, tokens, start in parts
            ]
        )

    def _span(self, tokens: Sequence[int], start: int, blocks: range, want: str) -> Span:
        # Whatever chunk a token is in, its layer reads as many blocks, be they those of another chunk.
        chunked = self.runner.pool.chunk_blocks
        return Span(tokens, start, blocks, want, [block % chunked for block in blocks] if chunked else ())

    def _blocks(self, number: int, tokens: int) -> range:
        first = self._first + number * self._each
        return range(first, first + blocks_for(tokens))
