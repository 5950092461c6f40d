"""The memory that a model takes on the native runner. Needs neither the kernels nor the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quipu.engine.packing import packed_kinds, packed_sizes
from quipu.model.config import ModelConfig
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor

KV_BYTES = {"f16": 2.0, "int8": 1.125, "f32": 4.0}
"""Of one element; int8 has a scale of four bytes for each 32."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model's weights become when they are packed, and the bytes of those and of keys and values.

    ``dtype`` is what most products are computed in, ``kv_dtype`` how keys and values are kept; ``kinds`` what each
    matrix is packed as.
    """

    dtype: str
    kv_dtype: str
    weights_bytes: int
    kv_bytes_per_token: int
    kinds: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
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
        weights = sum(packed_sizes(tensors, kinds).values())
        return cls(arithmetic, kv_dtype, weights, kv_bytes_per_token(config, kv_dtype), kinds)


def kv_bytes_per_token(config: ModelConfig, kv_dtype: str) -> int:
    """Keys and values of one token in all layers; ``kv_dtype`` is one of KV_BYTES."""
    return round(config.layers * 2 * config.kv_heads * config.head_size * KV_BYTES[kv_dtype])


def _arithmetic(kinds: Mapping[str, str]) -> str:
    found = {kind for name, kind in kinds.items() if name not in (EMBEDDING, OUTPUT)} or set(kinds.values())
    for kind, name in (("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")):
        if found == {kind}:
            return name
    return "int8"
