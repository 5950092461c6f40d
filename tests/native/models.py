"""Small models in the form that NativeRunner takes, and spans of their sequences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from native.plans import BLOCKED, packed, stored_rows
from numpy.typing import NDArray
from tiny import tiny_config, tiny_tensors

from quipu.engine.packed import PackedMatrix, PackedWeights
from quipu.model.config import ModelConfig
from quipu.model.weights import Tensor

Floats = NDArray[np.float32]

CONFIG = tiny_config(intermediate_size=192)  # whole groups of 32, for kinds that are stored so


def pack_values(tensors: Mapping[str, Floats], kind: str) -> PackedWeights:
    """Float32 weights as a file of ``kind`` would hold them."""
    matrices, vectors = {}, {}
    for name, value in tensors.items():
        if value.ndim == 1:
            vectors[name] = value
        else:
            stored = kind if kind in (*BLOCKED, "BF16", "F16") else "F32"
            data, _ = packed(stored, stored_rows(stored, value), value.shape[1], kind)
            matrices[name] = PackedMatrix(kind, *value.shape, data)
    return PackedWeights(matrices, vectors)


def pack_tensors(tensors: Mapping[str, Tensor], kind: str | None = None) -> PackedWeights:
    """A checkpoint's weights as its file holds them, or all of them as ``kind`` F32."""
    matrices, vectors = {}, {}
    for name, tensor in tensors.items():
        if len(tensor.shape) == 1:
            vectors[name] = tensor.float32()
        elif kind == "F32":
            data, _ = packed("F32", stored_rows("F32", tensor.float32()), tensor.shape[1])
            matrices[name] = PackedMatrix("F32", *tensor.shape, data)
        else:
            data, _ = packed(tensor.kind, np.ascontiguousarray(tensor.packed()), tensor.shape[1])
            matrices[name] = PackedMatrix(tensor.kind, *tensor.shape, data)
    return PackedWeights(matrices, vectors)


def tiny_weights(kind: str, config: ModelConfig = CONFIG) -> PackedWeights:
    return pack_values(tiny_tensors(config), kind)
