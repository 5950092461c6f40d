"""What a token costs: bytes that must be read for it, and operations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from quipu.bench.measures import BEFORE, PROMPT, STEPS, STEPS_TOGETHER, TOGETHER
from quipu.engine.footprint import KV_BYTES
from quipu.engine.packing import packed_kinds, packed_sizes
from quipu.model.config import ModelConfig
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, active_share, byte_count

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Work:
    """Of one token of a measure; what several share is divided among them."""

    bytes: float
    operations: float


def packed_sizes_of(tensors: Tensors, dtype: str, quantize: str | None) -> dict[str, int]:
    """Bytes of each weight as it is packed."""
    return packed_sizes(tensors, packed_kinds(tensors, dtype, quantize))


def stored_sizes(tensors: Tensors) -> dict[str, int]:
    """Bytes of each weight as its file stores it."""
    return {name: byte_count(tensor.shape, tensor.kind) for name, tensor in tensors.items()}


def read_bytes(config: ModelConfig, sizes: Mapping[str, int], tokens: int = 1) -> float:
    """What a step of so many tokens reads of weights of ``sizes`` bytes, if a router treats its experts alike."""
    return sum(size * (1 - (1 - active_share(config, name)) ** tokens) for name, size in sizes.items())


def work(config: ModelConfig, tensors: Tensors, sizes: Mapping[str, int], kv_dtype: str, depth: int) -> dict[str, Work]:
    """By measure, for an engine with weights of ``sizes`` bytes that keeps keys and values as ``kv_dtype``."""
    matrices = {name: math.prod(each.shape) for name, each in tensors.items() if len(each.shape) == 2}
    head = matrices[OUTPUT if OUTPUT in matrices else EMBEDDING]
    products = 2 * sum(size * active_share(config, name) for name, size in matrices.items())
    kept = 2 * config.kv_heads * config.head_size * KV_BYTES[kv_dtype]
    attended = 4 * config.heads * config.head_size

    def step(tokens: int, context: float, *, sequences: int = 1) -> Work:
        """Of a step of ``sequences``, a token of each, or of ``tokens`` of one; ``context`` is looked back at."""
        seen = config.kept_positions(round(context))
        looked = products - 2 * head * (1 - sequences / tokens) + attended * seen
        return Work(read_bytes(config, sizes, tokens) / tokens + kept * seen * sequences / tokens, looked)

    return {
        "pp512": step(PROMPT, PROMPT / 2),
        "tg128": step(1, BEFORE + STEPS / 2),
        "deep": step(1, depth + STEPS / 2),
        "x16": step(TOGETHER, BEFORE + STEPS_TOGETHER / 2, sequences=TOGETHER),
    }
