"""Weights as the native kernels read them, made from a checkpoint once and kept in a file that is mapped afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.model.weights import Tensor


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix [rows, cols] as kernels read it: ``kind`` is one of their kinds, ``data`` uint8, aligned to 64 bytes."""

    kind: str
    rows: int
    cols: int
    data: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """All weights of a model, by canonical name. ``vectors`` are float32. ``errors``: what packing lost, by kind."""

    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, NDArray[np.float32]]


def pack_in_memory(tensors: Mapping[str, Tensor], kinds: Mapping[str, str]) -> PackedWeights:
    matrices = {}
    vectors = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) == 1:
            vectors[name] = tensor.float32()
            continue
        rows, cols = tensor.shape
        kind = {"Q4_K": "Q4_1", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}.get(tensor.kind, tensor.kind)
        size = native.packed_bytes(kind, rows, cols)
        raw = np.empty(size + 64, np.uint8)
        offset = -raw.ctypes.data % 64
        data = raw[offset : offset + size]
        native.pack(tensor.kind, np.ascontiguousarray(tensor.packed()).reshape(-1), rows, cols, kind, data)
        matrices[name] = PackedMatrix(kind, rows, cols, data)
    return PackedWeights(matrices, vectors)
