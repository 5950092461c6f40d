"""What ``quipu inspect`` says of running a model: the memory it takes, and how fast it can be here at most."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quipu.model.checkpoint import Checkpoint

USUAL_CONTEXT = 8192
"""Planned for when --context is not given, if the model has as much."""


def memory_plan(checkpoint: Checkpoint, arguments: argparse.Namespace) -> dict[str, Any]:
    """What quipu.load would take, computed without kernels or torch, and the speed to expect. Raises InvalidRequest."""
    from quipu.engine.kv_cache import blocks_for, chunk_blocks_for
    from quipu.engine.memory import available_memory
    from quipu.engine.runner import BLOCK_SIZE
    from quipu.engine.scheduler import PROMPT_TOKENS
    from quipu.errors import InvalidRequest

    own = checkpoint.config.context_length
    context = arguments.context or min(own, USUAL_CONTEXT)
    if context > own:
        raise InvalidRequest(f"context {context} is more than the {own} tokens of this model", param="context")
    plan = _torch_plan(checkpoint, arguments) if arguments.runner == "torch" else _native_plan(checkpoint, arguments)
    chunk = checkpoint.config.chunk
    chunk_blocks = 0 if chunk is None else chunk_blocks_for(context, chunk, PROMPT_TOKENS)
    blocks_bytes = plan["kv_bytes_per_token"] * blocks_for(context) + plan["chunk_bytes_per_token"] * chunk_blocks
    kv_bytes = blocks_bytes * BLOCK_SIZE * arguments.concurrency
    total, free = plan["weights_bytes"] + kv_bytes, available_memory()
    sizes = plan.pop("sizes")
    for_text = max(free - plan["vision_bytes"], 0)
    return {
        "runner": arguments.runner,
        "context": context,
        "concurrency": arguments.concurrency,
        **plan,
        "kv_bytes": kv_bytes,
        "total_bytes": total,
        "free_bytes": free,
        "fits": total <= free,
        "speed": None if sizes is None else _speed(checkpoint, sizes, kv_bytes / arguments.concurrency, for_text),
    }


def _speed(checkpoint: Checkpoint, sizes: Mapping[str, int], kv_bytes: float, free: int) -> dict[str, Any]:
    from quipu.bench.speed import expected_speed

    threads = len(os.sched_getaffinity(0))
    speed = expected_speed(checkpoint.config, sizes, kv_bytes, free, checkpoint.files, threads=threads)
    return {**asdict(speed), "tokens_per_second": speed.tokens_per_second}


def _native_plan(checkpoint: Checkpoint, arguments: argparse.Namespace) -> dict[str, Any]:
    """``conversions``: which stored type runs as which other, and the relative error to expect, None if it is small."""
    from quipu.engine.footprint import Footprint
    from quipu.engine.packing import STATED_LOSS, packed_sizes

    chosen = {"dtype": arguments.dtype, "kv_dtype": arguments.kv_dtype, "quantize": arguments.quantize}
    footprint = Footprint.of(checkpoint.config, checkpoint.tensors, checkpoint.vision, **chosen)
    changes = {(checkpoint.tensors[name].kind, kind) for name, kind in footprint.kinds.items()}
    return {
        "dtype": footprint.dtype,
        "kv_dtype": footprint.kv_dtype,
        "conversions": [
            {"stored": stored, "packed": packed, "expected_loss": STATED_LOSS.get((stored, packed))}
            for stored, packed in sorted(changes)
            if stored != packed
        ],
        "weights_bytes": footprint.weights_bytes,
        "vision_bytes": footprint.vision_bytes,
        "kv_bytes_per_token": footprint.kv_bytes_per_token,
        "chunk_bytes_per_token": footprint.chunk_bytes_per_token,
        "sizes": packed_sizes(checkpoint.tensors, footprint.kinds),
    }


def _torch_plan(checkpoint: Checkpoint, arguments: argparse.Namespace) -> dict[str, Any]:
    from quipu.engine.runner import BLOCK_SIZE
    from quipu.errors import InvalidRequest
    from quipu.model.checkpoint import memory_plan

    if arguments.kv_dtype != "auto" or arguments.quantize is not None:
        raise InvalidRequest("--kv-dtype and --quantize are for the native runner; leave them out, or --runner torch")
    dtype = checkpoint.run_dtype(arguments.dtype)
    plan = memory_plan(checkpoint.config, dtype, 1, 1, block_size=BLOCK_SIZE)
    return {
        "dtype": dtype,
        "kv_dtype": dtype,
        "conversions": [],
        "weights_bytes": plan.weights_bytes,
        "vision_bytes": plan.vision_bytes,
        "kv_bytes_per_token": plan.kv_bytes_per_token,
        "chunk_bytes_per_token": plan.chunk_bytes_per_token,
        "sizes": None,  # it may be for a GPU, whose memory is not measured here
    }
