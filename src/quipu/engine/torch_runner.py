"""The Runner that computes with torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quipu.engine.runner import BLOCK_SIZE, Span
from quipu.model.attention import Extent, PagedCache
from quipu.model.llama import Llama


class TorchRunner:
    """Holds the network and its KV cache of ``blocks`` blocks; see ``runner.Runner``."""

    def __init__(self, network: Llama, blocks: int) -> None:
        self.blocks = blocks
        self.vocabulary = network.config.vocabulary
        self._network: Llama | None = network
        self._device = network.embedding.device
        self._cache: PagedCache | None = PagedCache(network.config, blocks, BLOCK_SIZE, network.dtype, self._device)

    @torch.inference_mode()
    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """One forward over all tokens of ``spans``; the output layer only for the rows that are wanted."""
        if self._network is None or self._cache is None:
            raise RuntimeError("the runner is closed")
        tokens = [token for span in spans for token in span.tokens]
        positions = [span.start + place for span in spans for place in range(len(span.tokens))]
        attend = self._cache.plan([Extent(span.start, len(span.tokens), span.blocks) for span in spans])
        hidden = self._network(self._indices(tokens), self._indices(positions), attend)
        rows, counts = _wanted_rows(spans)
        if not rows:
            return [np.empty((0, self.vocabulary), np.float32) for _ in spans]
        logits = self._network.logits(hidden[self._indices(rows)]).cpu().numpy()
        return np.split(logits, np.cumsum(counts)[:-1])

    def close(self) -> None:
        """Drop the network and the cache."""
        self._network = self._cache = None

    def _indices(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _wanted_rows(spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Rows of the hidden state whose logits are wanted, and how many belong to each span."""
    rows: list[int] = []
    counts = []
    start = 0
    for span in spans:
        end = start + len(span.tokens)
        wanted = {"all": range(start, end), "last": range(end - 1, end), "none": range(0)}[span.want]
        rows.extend(wanted)
        counts.append(len(wanted))
        start = end
    return rows, counts
