"""What a token costs: bytes that must be read for it, and operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from quipu.bench.measures import BEFORE, PROMPT, STEPS, STEPS_TOGETHER, TOGETHER
from quipu.engine.footprint import kv_bytes_per_token
from quipu.engine.packing import packed_kinds, packed_sizes
from quipu.model.config import ModelConfig
from quipu.model.weights import EMBEDDING, KINDS, OUTPUT, Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Work:
    """Of one token of a measure; what several share is divided among them."""

    bytes: float
    operations: float


def packed_read(tensors: Tensors, dtype: str, quantize: str | None) -> int:
    """Bytes of packed weights that a step reads: all but the embedding, unless that is the output layer, too."""
    return sum(packed_sizes(_read(tensors), packed_kinds(tensors, dtype, quantize)).values())


def stored_read(tensors: Tensors) -> int:
    """The same of weights as their file stores them."""
    total = 0
    for tensor in _read(tensors).values():
        block, size = KINDS[tensor.kind]
        total += math.prod(tensor.shape) // block * size
    return total


def work(config: ModelConfig, tensors: Tensors, weights: int, kv_dtype: str, depth: int) -> dict[str, Work]:
    """By measure, for an engine that reads ``weights`` bytes a step and keeps keys and values as ``kv_dtype``."""
    kv = kv_bytes_per_token(config, kv_dtype)
    matrices = {name: math.prod(each.shape) for name, each in _read(tensors).items() if len(each.shape) == 2}
    head = matrices[OUTPUT if OUTPUT in matrices else EMBEDDING]
    products = 2 * sum(matrices.values())
    # For each token that is looked back at.
    attended = 4 * config.layers * config.heads * config.head_size

    def decoding(context: float, sequences: int = 1) -> Work:
        return Work(weights / sequences + kv * context, products + attended * context)

    return {
        "pp512": Work(weights / PROMPT + kv, products - 2 * head * (1 - 1 / PROMPT) + attended * PROMPT / 2),
        "tg128": decoding(BEFORE + STEPS / 2),
        "deep": decoding(depth + STEPS / 2),
        "x16": decoding(BEFORE + STEPS_TOGETHER / 2, TOGETHER),
    }


def _read(tensors: Tensors) -> dict[str, Tensor]:
    return {name: each for name, each in tensors.items() if name != EMBEDDING or OUTPUT not in tensors}
