"""What a GGUF file says of a model beside its weights: the reverse of ``config_gguf``, as llama.cpp expects it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.model.checkpoint import Checkpoint
from quipu.model.config import Experts, ModelConfig, Temperature, every
from quipu.model.config_gguf import MAVERICK_EXPERTS, SAMPLING
from quipu.model.gguf_tokenizer import tokenizer_metadata

_QUANTIZATION_VERSION = 2
"""Of ggml's block formats."""


def metadata(checkpoint: Checkpoint, file_type: int) -> dict[str, Any]:
    """All of it, values as ``gguf_layout`` takes them. ``file_type``: ggml's number for the kind of most weights.

    Raises UnsupportedCheckpoint for a tokenizer that GGUF has no form for, or quipu does not know it.
    """
    config = checkpoint.config
    general = {
        "general.architecture": config.architecture,
        "general.name": checkpoint.name,
        "general.file_type": file_type,
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    if checkpoint.license is not None:
        general["general.license"] = checkpoint.license
    sampling = {
        f"general.sampling.{SAMPLING[name]}": value
        for name, value in checkpoint.sampling_defaults.items()
        if name in SAMPLING
    }
    architecture = {f"{config.architecture}.{key}": value for key, value in _architecture(config).items()}
    tokenizer = tokenizer_metadata(checkpoint.tokenizer_source, config, checkpoint.eos_ids)
    if checkpoint.chat_template is not None:
        tokenizer["tokenizer.chat_template"] = checkpoint.chat_template
    return general | sampling | architecture | tokenizer


def rope_divisors(config: ModelConfig) -> NDArray[np.float32] | None:
    """What ``rope_freqs.weight`` holds, [head_size / 2]: Llama 3's scaling, which has no field; None without."""
    rope = config.rope
    if rope.scaling is not None and rope.scaling.kind == "linear":
        rope = replace(rope, scaling=None)
    if rope.scaling is None and rope.divisors is None:
        return None
    plain = replace(rope, scaling=None, divisors=None).inverse_frequencies()
    return plain / rope.inverse_frequencies()


def _architecture(config: ModelConfig) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "block_count": config.layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        "attention.layer_norm_rms_epsilon": config.norm_epsilon,
        "rope.dimension_count": config.head_size,
        "rope.freq_base": float(config.rope.theta),
    }
    scaling = config.rope.scaling
    if scaling is not None and scaling.kind == "linear":
        fields |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    return fields | (_llama4(config) if config.architecture == "llama4" else {})


def _llama4(config: ModelConfig) -> dict[str, Any]:
    """Fields that llama.cpp knows, and quipu's own where a model is not what llama.cpp has as constants."""
    fields: dict[str, Any] = {} if config.experts is None else _experts(config.experts, config.layers)
    plain = config.chunk is None and not config.nope_layers
    if plain:
        fields["attention.sliding_window"] = 0
    elif config.nope_layers != every(4, config.layers):
        fields["attention.nope_layers"] = _numbers(config.nope_layers)
    # No chunks beside layers without rotation have no field: one chunk as long as the context is the same.
    chunk = config.context_length if config.chunk is None else config.chunk
    if not plain and chunk != 8192:
        fields["attention.chunk_size"] = chunk
    if config.query_key_norm != (config.experts is None or config.experts.count != MAVERICK_EXPERTS):
        fields["attention.query_key_norm"] = config.query_key_norm
    if config.temperature is None:
        fields["attention.temperature"] = False
    elif config.temperature != Temperature(8192, 0.1):
        fields["attention.temperature_floor"] = float(config.temperature.floor)
        fields["attention.temperature_scale"] = float(config.temperature.scale)
    return fields


def _experts(experts: Experts, layers: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "expert_count": experts.count,
        "expert_used_count": experts.active,
        "expert_feed_forward_length": experts.intermediate_size,
    }
    step = next((step for step in range(1, layers + 1) if experts.layers == every(step, layers)), None)
    if step is None:
        fields["expert_layers"] = _numbers(experts.layers)
    return fields | {"interleave_moe_layer_step": step or 1}


def _numbers(layers: frozenset[int]) -> NDArray[np.int32]:
    return np.array(sorted(layers), np.int32)
