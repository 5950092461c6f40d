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
        self.model = load(path, context=room, concurrency=1, device="cpu", runner="native", speculate="off", **options)
        self.depth = depth
        self.runner = self.model.engine.runner
        self.vocabulary = self.runner.vocabulary
        self._each = self.runner.blocks

    def use(self, variant: str) -> None:
        """There is one way only."""

    def reset(self, sequences: int) -> None:
        """Positions come with every step: what is in the cache is written over."""
        self._each = self.runner.blocks // sequences

    def step(self, parts: Sequence[Part], *, every: bool = False) -> list[NDArray[np.float32]]:
        """One native call."""
        want = "all" if every else "last"
        return self.runner.step(
            [Span(tokens, start, self._blocks(number, start + len(tokens)), want) for number, tokens, start in parts]
        )

    def _blocks(self, number: int, tokens: int) -> range:
        first = number * self._each
        return range(first, first + blocks_for(tokens))
