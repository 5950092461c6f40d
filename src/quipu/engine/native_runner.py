"""The Runner that computes with quipu's own kernels on the CPU, without torch.

A model is a plan (``native_plan``), run by one native call for each step of the engine, the GIL released.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.native_plan import add_model, integers
from quipu.engine.packed import PackedWeights
from quipu.engine.runner import BLOCK_SIZE, Encoder, PoolSize, Span
from quipu.model.config import ModelConfig


class NativeRunner:
    """Holds the plan and its KV cache of the size of ``pool``; see ``runner.Runner``.

    A row's logits are the same bits whatever else is in the step and however its prompt was cut. ``kv_dtype`` is f16,
    int8 or f32; ``instructions`` one of ``native.instruction_sets()`` (default: the best of this processor).
    """

    exact = True

    def __init__(
        self,
        config: ModelConfig,
        weights: PackedWeights,
        pool: PoolSize,
        *,
        kv_dtype: str = "f16",
        threads: int | None = None,
        instructions: str | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if native.BLOCK_SIZE != BLOCK_SIZE:
            raise RuntimeError("the kernels were built for another size of cache blocks; build them again")
        self.pool, self.encoder, self._chunk = pool, encoder, config.chunk
        self.vocabulary = config.vocabulary
        self.instructions = instructions or native.instruction_sets()[0]
        plan = native.Plan(threads or len(os.sched_getaffinity(0)), self.instructions)
        self._hidden, self._logits = add_model(plan, config, weights, pool, kv_dtype)
        self._plan: native.Plan | None = plan

    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """One native call over all tokens of ``spans``; the output layer only for the rows that are wanted."""
        if self._plan is None:
            raise RuntimeError("the runner is closed")
        scored, hidden = _wanted_rows(spans)
        needed = [-(-(span.start + len(span.tokens)) // BLOCK_SIZE) for span in spans]
        self._plan.run(
            integers(token for span in spans for token in span.tokens),
            integers(len(span.tokens) for span in spans),
            integers(span.start for span in spans),
            np.concatenate(
                [np.array(span.blocks[:count], np.int32) for span, count in zip(spans, needed, strict=True)]
            ),
            integers(needed),
            integers([row for rows in (*scored, *hidden) for row in rows]),
            sum(map(len, scored)),
            self._chunk_tables(spans, needed),
            *_given(spans),
        )
        counts = [len(rows) for rows in scored]
        logits = self._plan.read(self._logits, sum(counts))
        states = (
            self._plan.read(self._hidden, sum(counts) + sum(map(len, hidden)))[sum(counts) :] if any(hidden) else None
        )
        results = []
        row = state = 0
        for span, count in zip(spans, counts, strict=True):
            if span.want == "hidden" and states is not None:
                results.append(states[state : state + len(span.tokens)])
                state += len(span.tokens)
            else:
                results.append(logits[row : row + count])
                row += count
        return results

    def _chunk_tables(self, spans: Sequence[Span], needed: Sequence[int]) -> NDArray[np.int32] | None:
        """Of a long text, only the end is read from the list: what lies before its chunk is never looked at."""
        if self._chunk is None or self.pool.chunk_blocks == 0:
            return None
        tables = []
        for span, count in zip(spans, needed, strict=True):
            first = span.start // self._chunk * self._chunk // BLOCK_SIZE
            tables.append(np.zeros(count, np.int32))
            tables[-1][first:] = span.chunk_blocks[first:count]
        return np.concatenate(tables)

    def close(self) -> None:
        """Drop the plan and the cache."""
        self._plan = None


def _given(spans: Sequence[Span]) -> tuple[NDArray[np.int32], NDArray[np.float32]] | tuple[None, None]:
    """Rows of the step whose embeddings are given, and what they are."""
    rows, values = [], []
    start = 0
    for span in spans:
        if span.seen is not None:
            rows.append(span.seen[0] + start)
            values.append(span.seen[1])
        start += len(span.tokens)
    if not rows:
        return None, None
    return np.concatenate(rows).astype(np.int32), np.ascontiguousarray(np.concatenate(values))


def _wanted_rows(spans: Sequence[Span]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """For each span the rows of the step whose logits are wanted, and those whose hidden states are."""
    scored: list[Sequence[int]] = []
    hidden: list[Sequence[int]] = []
    start = 0
    for span in spans:
        end = start + len(span.tokens)
        every = range(start, end)
        scored.append({"all": every, "last": every[-1:], "none": (), "hidden": ()}[span.want])
        hidden.append(every if span.want == "hidden" else ())
        start = end
    return scored, hidden
