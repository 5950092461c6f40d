"""What experts cost beside a dense model whose tokens meet as many weights: ``python bench/experts.py [THREADS]``.

A small Llama 4 of random 4-bit weights with 4, 16 and 64 experts. A token reads one of them and the shared one, so none
should be slower than the dense model, whose feed-forward part is as wide as both. Rounds alternate, and the median of
each counts: other work on the machine slows all of them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quipu.bench.limits import Limits
from quipu.bench.shapes import random_blocks
from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_runner import NativeRunner
from quipu.engine.packed import PackedMatrix, PackedWeights
from quipu.engine.packing import pack_all, packed_bytes
from quipu.engine.runner import PoolSize, Span
from quipu.model.config import Experts, ModelConfig, Temperature
from quipu.model.frequencies import Rope
from quipu.model.weights import Tensor, active_share, tensor_shapes

WIDTH, LAYERS, CONTEXT, PROMPT, STEPS, ROUNDS = 2048, 8, 1024, 512, 24, 9
DENSE = ModelConfig(
    "llama4", 32000, 1024, 2 * WIDTH, LAYERS, 8, 2, 128, CONTEXT, 1e-5, Rope(500000.0, 128), tied_embeddings=True,
    nope_layers=frozenset({3, 7}), chunk=8192, pair_rotation=True, query_key_norm=True,
    temperature=Temperature(8192, 0.1),
)  # fmt: skip


def with_experts(count: int) -> ModelConfig:
    """DENSE with a mixture in every layer."""
    return replace(DENSE, experts=Experts(count, 1, WIDTH, frozenset(range(LAYERS))))


class Model:
    """A runner over random weights; what is of one shape is the same, in memory of its own."""

    def __init__(self, config: ModelConfig, threads: int) -> None:
        random = np.random.default_rng(0)
        made: dict[tuple[int, int], NDArray[np.uint8]] = {}
        matrices: dict[str, PackedMatrix] = {}
        vectors: dict[str, NDArray[np.float32]] = {}
        for name, shape in tensor_shapes(config).items():
            if len(shape) == 1:
                vectors[name] = np.ones(shape, np.float32)
                continue
            rows, cols = shape
            if "router" in name:
                matrices[name] = PackedMatrix("F32", rows, cols, packed("F32", random.normal(0, 1, shape)))
                continue
            if (rows, cols) not in made:
                made[rows, cols] = packed("Q4_0", random_blocks(random, rows, cols))
            memory = aligned(made[rows, cols].nbytes)
            memory[:] = made[rows, cols]
            matrices[name] = PackedMatrix("Q4_0", rows, cols, memory)
        self.token_bytes = sum(active_share(config, name) * each.data.nbytes for name, each in matrices.items())
        size = blocks_for(CONTEXT)
        self._runner = NativeRunner(config, PackedWeights(matrices, vectors), PoolSize(size, size), threads=threads)
        self._tokens = random.integers(0, config.vocabulary, CONTEXT).tolist()

    def decode(self) -> float:
        """Seconds of a token."""
        start = time.perf_counter()
        for place in range(PROMPT, PROMPT + STEPS):
            self._run(place, place + 1)
        return (time.perf_counter() - start) / STEPS

    def prompt(self) -> float:
        """Seconds of a token of a prompt, all of it in one step."""
        start = time.perf_counter()
        self._run(0, PROMPT)
        return (time.perf_counter() - start) / PROMPT

    def batch(self) -> float:
        """Seconds of a token where sixteen sequences have one each: chosen experts are read once for all of them."""
        start = time.perf_counter()
        for place in range(STEPS // 4):
            spans = []
            for each in range(16):
                blocks = [4 * each + block for block in range(4)]
                spans.append(Span([self._tokens[16 * place + each]], place, blocks, "last", blocks))
            self._runner.step(spans)
        return (time.perf_counter() - start) / (STEPS // 4 * 16)

    def _run(self, start: int, end: int) -> None:
        blocks = range(blocks_for(end))
        self._runner.step([Span(self._tokens[start:end], start, blocks, "last", blocks)])


def aligned(size: int) -> NDArray[np.uint8]:
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size]


def packed(kind: str, stored: NDArray) -> NDArray[np.uint8]:
    data = np.ascontiguousarray(stored if kind != "F32" else stored.astype(np.float32)).view(np.uint8)
    rows = len(stored)
    cols = data.reshape(-1).nbytes // rows // 4 if kind == "F32" else data.reshape(-1).nbytes // rows // 18 * 32
    tensor = Tensor("one", (rows, cols), kind, data.reshape(-1))
    [(_, memory, _)] = pack_all({"one": tensor}, {"one": kind}, threads=1)
    assert memory.nbytes == packed_bytes(kind, rows, cols)
    return memory


def main(threads: int) -> None:
    models = {"dense": Model(DENSE, threads)} | {f"{n} experts": Model(with_experts(n), threads) for n in (4, 16, 64)}
    limits = Limits(threads)
    reading: list[float] = []
    measures: dict[str, Callable[[Model], float]] = {
        "decoding": Model.decode, "sixteen at once": Model.batch, "prompt of 512": Model.prompt,
    }  # fmt: skip
    seen: dict[tuple[str, str], list[float]] = {(name, each): [] for name in models for each in measures}
    for round_ in range(ROUNDS + 1):
        reading.append(limits.read() * 1e9)
        for each, measure in measures.items():
            for name, model in models.items():
                seconds = measure(model)
                if round_ > 0:  # the first one warms up
                    seen[name, each].append(seconds)
    bandwidth = statistics.median(reading)
    print(f"{threads} threads; memory is read at {bandwidth / 1e9:.1f} GB/s")
    for each in measures:
        dense = statistics.median(seen["dense", each])
        for name, model in models.items():
            median = statistics.median(seen[name, each])
            read = f", {model.token_bytes / median / bandwidth:.0%} of memory bandwidth" if each == "decoding" else ""
            print(f"  {each:16} {name:10} {1 / median:8.1f} tokens/s, x{median / dense:.2f} of dense{read}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else len(os.sched_getaffinity(0)))
