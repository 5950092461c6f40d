"""The memory that a model takes on the native runner. Needs neither the kernels nor the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quipu.engine.native_vision import vision_bytes
from quipu.engine.packing import packed_kinds, packed_sizes
from quipu.model.config import ModelConfig
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor

KV_BYTES = {"f16": 2.0, "int8": 1.125, "f32": 4.0}
"""Of one element; int8 has a scale of four bytes for each 32."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model's weights become when they are packed, and the bytes of those and of keys and values.

    ``weights_bytes`` has what a model sees with, too, ``vision_bytes`` of it. ``dtype`` is what most products are
    computed in, ``kv_dtype`` how keys and values are kept; ``kinds`` what each matrix is packed as.
    ``kv_bytes_per_token`` are of the layers that see everything, ``chunk_bytes_per_token`` of those whose attention is
    chunked: these need no more than a chunk of a text.
    """

    dtype: str
    kv_dtype: str
    weights_bytes: int
    vision_bytes: int
    kv_bytes_per_token: int
    chunk_bytes_per_token: int
    kinds: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        vision: Mapping[str, Tensor] | None = None,
        *,
        dtype: str = "auto",
        quantize: str | None = None,
        kv_dtype: str = "auto",
    ) -> Footprint:
        """The options are those of quipu.load. Raises InvalidRequest where they cannot be met; see packed_kinds."""
        kinds = packed_kinds(tensors, dtype, quantize)
        arithmetic = _arithmetic(kinds)
        if kv_dtype == "auto":
            kv_dtype = "f32" if arithmetic == "float32" else "f16"
        seeing = 0 if config.vision is None else vision_bytes(config.vision, vision or {}, vision_kind(quantize))
        weights = sum(packed_sizes(tensors, kinds).values()) + seeing
        chunked = sum(config.layer_chunk(layer) is not None for layer in range(config.layers))
        full, chunk = (_kv_bytes(config, kv_dtype, layers) for layers in (config.layers - chunked, chunked))
        return cls(arithmetic, kv_dtype, weights, seeing, full, chunk, kinds)


def vision_kind(quantize: str | None) -> str:
    """What NativeEncoder packs its matrices as. Four bits would be seen in every picture."""
    return "auto" if quantize is None else "Q8_0"


def _kv_bytes(config: ModelConfig, kv_dtype: str, layers: int) -> int:
    """Keys and values of one token in so many layers; ``kv_dtype`` is one of KV_BYTES."""
    return round(layers * 2 * config.kv_heads * config.head_size * KV_BYTES[kv_dtype])


def _arithmetic(kinds: Mapping[str, str]) -> str:
    found = {kind for name, kind in kinds.items() if name not in (EMBEDDING, OUTPUT)} or set(kinds.values())
    for kind, name in (("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")):
        if found == {kind}:
            return name
    return "int8"
