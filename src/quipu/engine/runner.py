"""The seam between scheduling and arithmetic: a Runner computes the logits of one step of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE = 16
"""Tokens in one block of the paged KV cache."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one sequence that a step computes.

    ``tokens`` are its next token ids, the first at position ``start``; keys and values of positions before
    ``start`` are in the cache already. Position p lives in block ``blocks[p // BLOCK_SIZE]`` at offset
    ``p % BLOCK_SIZE``; ``blocks`` covers ``start + len(tokens)`` positions. ``chunk_blocks`` are the same for the
    layers whose attention is chunked, in a pool of their own: empty where the model has none, and any number where a
    block lies wholly before the chunk of ``start``, for it is never read. ``want`` says which rows of logits
    come back: the last one, all of them (prompt log-probabilities, guesses to verify), or none (a prompt not finished
    yet); ``hidden`` asks for the final hidden states of all of them instead (embeddings). ``seen``: which of ``tokens``
    are parts of pictures, int64 [n], and the vectors that take the place of their embeddings, float32 [n, hidden size].
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    want: str = "last"  # "last" | "all" | "none" | "hidden"
    chunk_blocks: Sequence[int] = ()
    seen: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Room for keys and values in blocks of BLOCK_SIZE tokens: of the layers that see everything, and of those whose
    attention is chunked (0 where a model has none)."""

    blocks: int
    chunk_blocks: int = 0


class Encoder(Protocol):
    """What makes vectors of pictures."""

    def encode(self, pixels: NDArray[np.float32]) -> Iterator[NDArray[np.float32] | None]:
        """Of tiles, float32 [tiles, 3, side, side]: None after each piece of the work, which is short; at last the
        vectors, float32 [tiles * tokens of one, hidden size]."""
        ...


class Runner(Protocol):
    """Computes one step. Not thread-safe: the engine calls it from one thread.

    ``pool`` is the size of its KV cache; ``vocabulary`` the width of its logits.
    ``exact``: a row's logits are the same bits whatever else is in the step and however the tokens before it were cut.
    """

    pool: PoolSize
    vocabulary: int
    exact: bool
    encoder: Encoder | None
    """None where the model reads text only."""

    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """Run ``spans`` together: write their keys and values to the cache, return for each the logits it wants.

        Each result is float32 [rows, vocabulary], rows being 1, len(tokens) or 0 as ``want`` says; for ``hidden``
        it is float32 [len(tokens), hidden size].
        """
        ...

    def close(self) -> None:
        """Free what the runner holds."""
        ...


class Backend(Protocol):
    """A way to compute one model, before it is loaded: what it would take, then the runner itself."""

    dtype: str
    """What it computes in, as Facts says it."""
    weights_bytes: int
    block_bytes: int
    """Of one block of the KV cache, in all layers that see everything."""
    chunk_block_bytes: int
    """Of one block in all layers whose attention is chunked; 0 where there are none."""
    chunk: int | None
    """Positions of a chunk, None where there are no such layers."""
    reads_from_disk: bool
    """Weights beyond the memory that is free are read from disk when they are needed, slowly, instead of refused."""
    hardware: str
    """What it computes on: the accelerator, or the processor and how many of its cores."""
    version: str
    """Whose arithmetic it is, with its version: other kernels round otherwise, so answers may differ."""
    packing_loss: float | None
    """Relative root mean square error of the weights that were converted to load them; None where nobody measured."""

    def free_memory(self) -> int:
        """Bytes that can be used without swapping."""
        ...

    def used_memory(self) -> int:
        """Most bytes that were in use until now."""
        ...

    def runner(self, pool: PoolSize, progress: Callable[[int, int, str], None] | None = None) -> Runner:
        """Load the weights and make room for ``pool``."""
        ...

    def reference(self, ids: Sequence[int], pixels: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """float32 [tokens, vocabulary] in float32 arithmetic, straight from the checkpoint.

        ``pixels``: tiles of pictures, float32 [tiles, 3, side, side], in the order of the patches among ``ids``.
        """
        ...
