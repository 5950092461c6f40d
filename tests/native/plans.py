"""Plans of one step, fed with any vectors: the embedding's rows are the inputs, so token t brings row t.

What is here packs and lays out; oracles stand in the tests themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import gguf
import numpy as np
from numpy.typing import NDArray

from quipu import native

BEST = native.instruction_sets()[0]
SETS = native.instruction_sets()
FLOATS = ("F32", "F16", "BF16")
BLOCKED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
KINDS = FLOATS + BLOCKED
K_KINDS = {"Q4_K": "Q4_1", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What each is packed as."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def aligned(size: int) -> Bytes:
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size]


def stored_rows(kind: str, values: Floats) -> Bytes:
    """``values`` as a file stores them, uint8 [rows, bytes of a row]; K kinds cannot be written by the gguf package."""
    if kind == "F32":
        return np.ascontiguousarray(values, np.float32).view(np.uint8)
    if kind == "F16":
        return values.astype(np.float16).view(np.uint8)
    return gguf.quants.quantize(np.ascontiguousarray(values), gguf.GGMLQuantizationType[kind])


def decoded(kind: str, stored: Bytes) -> Floats:
    """The gguf package's word on what ``stored`` means."""
    if kind == "F32":
        return stored.view(np.float32)
    if kind == "F16":
        return stored.view(np.float16).astype(np.float32)
    return gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind])


def packed(stored_kind: str, stored: Bytes, cols: int, kind: str | None = None) -> tuple[Bytes, tuple[float, float]]:
    """The packed matrix and what packing says it lost."""
    kind = kind or K_KINDS.get(stored_kind, stored_kind)
    data = aligned(native.packed_bytes(kind, len(stored), cols))
    error = native.pack(stored_kind, stored.reshape(-1), len(stored), cols, kind, data)
    return data, error


def integers(values: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


class Fed:
    """A plan whose first buffer, ``inputs``, holds the rows of ``table`` (float32 [tokens, cols]) in a step."""

    def __init__(self, table: Floats, isa: str = BEST, threads: int = 1, blocks: int = 64) -> None:
        table = np.ascontiguousarray(table, np.float32)
        self.rows, cols = table.shape
        self.plan = native.Plan(threads, isa)
        self.plan.cache("f32", 1, 2, blocks)  # every step names blocks, though none is read here
        self.inputs = self.plan.buffer(cols)
        self.plan.embed(self.weight("F32", table.view(np.uint8), cols), self.inputs)

    def weight(self, stored_kind: str, stored: Bytes, cols: int) -> native.Weight:
        data, _ = packed(stored_kind, stored, cols)
        return self.plan.weight(K_KINDS.get(stored_kind, stored_kind), len(stored), cols, data)

    def run(self, tokens: Sequence[int] | None = None, rows: Sequence[int] = (), scored: int = 0) -> None:
        """One step of one span from position 0 over ``tokens`` (default: all)."""
        tokens = range(self.rows) if tokens is None else tokens
        blocks = -(-len(tokens) // native.BLOCK_SIZE)
        self.plan.run(
            integers(tokens),
            integers([len(tokens)]),
            integers([0]),
            integers(range(blocks)),
            integers([blocks]),
            integers(rows),
            scored,
        )


def quantised(x: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Activations as products of quantised weights read them: int32 [tokens, groups, 16] and a scale for each group.

    Groups of 16, filled up with zeros to a multiple of 32; the scale is the largest magnitude / 127, quanta are rounded
    half to even. Float32 throughout, for a quotient taken otherwise falls on the other side of some halves.
    """
    groups = -(-x.shape[1] // 32) * 2
    filled = np.zeros((len(x), groups * 16), np.float32)
    filled[:, : x.shape[1]] = x
    filled = filled.reshape(len(x), groups, 16)
    most = np.abs(filled).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 1e-30)
    return np.rint(filled * inverse).astype(np.int32), (most / np.float32(127))[..., 0]
