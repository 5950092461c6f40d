"""Small models in the form that NativeRunner takes, and spans of their sequences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from native.plans import BLOCKED, packed, stored_rows
from numpy.typing import NDArray
from tiny import tiny_config, tiny_tensors

from quipu.engine.packed import PackedMatrix, PackedWeights
from quipu.model.config import Experts, ModelConfig, Temperature
from quipu.model.weights import Tensor, tensor_shapes

Floats = NDArray[np.float32]

CONFIG = tiny_config(intermediate_size=192)  # whole groups of 32, for kinds that are stored so


CONFIG4 = tiny_config(
    architecture="llama4",
    intermediate_size=192,
    layers=4,
    tied_embeddings=False,
    experts=Experts(4, 1, 32, frozenset({0, 1, 3})),
    nope_layers=frozenset({2, 3}),
    chunk=16,
    pair_rotation=True,
    query_key_norm=True,
    temperature=Temperature(8, 0.25),
)


def llama4_tensors(config: ModelConfig, seed: int = 0) -> dict[str, Floats]:
    """Random, of a scale that gives logits of about 1."""
    random = np.random.default_rng(seed)

    def weight(shape: tuple[int, ...]) -> Floats:
        middle, spread = (1, 0.1) if len(shape) == 1 else (0, shape[1] ** -0.5)
        return random.normal(middle, spread, shape).astype(np.float32)

    return {name: weight(shape) for name, shape in tensor_shapes(config).items()}


def pack_values(tensors: Mapping[str, Floats], kind: str) -> PackedWeights:
    """Float32 weights as a file of ``kind`` would hold them."""
    matrices, vectors = {}, {}
    for name, value in tensors.items():
        if value.ndim == 1:
            vectors[name] = value
        else:
            own = "F32" if name.endswith(".router.weight") else kind
            stored = own if own in (*BLOCKED, "BF16", "F16") else "F32"
            data, _ = packed(stored, stored_rows(stored, value), value.shape[1], own)
            matrices[name] = PackedMatrix(own, *value.shape, data)
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
