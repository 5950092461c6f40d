"""A tiny Llama 3.2-shaped model, written in every format that quipu reads. Used by tests of several rooms.

The writers are the oracle of the readers: they follow the formats' own documents (the inverse permutation of q and k
is the one of llama.cpp's and Hugging Face's converters) and share no code with src/quipu beyond its types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from quipu.model.config import ModelConfig
from quipu.model.frequencies import Rope, RopeScaling

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("safetensors", "sharded", "gguf", "pth", "pth-sharded")

Weights = Mapping[str, NDArray[np.float32]]


def tiny_config(**changes: Any) -> ModelConfig:
    """Llama 3.2's traits, small: grouped queries, rope scaling 32, tied embeddings, Meta's feed-forward width."""
    config = ModelConfig(
        architecture="llama",
        vocabulary=96,
        hidden_size=64,
        intermediate_size=176,
        layers=2,
        heads=4,
        kv_heads=2,
        head_size=16,
        context_length=131072,
        norm_epsilon=1e-5,
        rope=Rope(500000.0, 16, RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)),
        tied_embeddings=True,
    )
    return replace(config, **changes)


def tiny_tensors(config: ModelConfig, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random float32 weights under Hugging Face's names, of a scale that gives logits of about 1."""
    random = np.random.default_rng(seed)
    width, ffn = config.hidden_size, config.intermediate_size
    q, kv = config.heads * config.head_size, config.kv_heads * config.head_size

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return random.normal(1, 0.1, width).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(config.vocabulary, width), "model.norm.weight": norm()}
    for i in range(config.layers):
        layer = {
            "input_layernorm": norm(),
            "self_attn.q_proj": matrix(q, width),
            "self_attn.k_proj": matrix(kv, width),
            "self_attn.v_proj": matrix(kv, width),
            "self_attn.o_proj": matrix(width, q),
            "post_attention_layernorm": norm(),
            "mlp.gate_proj": matrix(ffn, width),
            "mlp.up_proj": matrix(ffn, width),
            "mlp.down_proj": matrix(width, ffn),
        }
        tensors |= {f"model.layers.{i}.{name}.weight": value for name, value in layer.items()}
    if not config.tied_embeddings:
        tensors["lm_head.weight"] = matrix(config.vocabulary, width)
    return tensors


def write_tiny(file_format: str, folder: Path, config: ModelConfig, tensors: Weights) -> Path:
    """Write ``tensors`` (Hugging Face names) in one of FORMATS to ``folder``; returns what open_checkpoint takes."""
    folder.mkdir(parents=True, exist_ok=True)
    if file_format == "gguf":
        return write_gguf(folder / "tiny.gguf", config, tensors)
    if file_format in ("safetensors", "sharded"):
        return write_huggingface(folder, config, tensors, shards=1 if file_format == "safetensors" else 3)
    return write_meta(folder, config, tensors, shards=1 if file_format == "pth" else 2)


# ---- Hugging Face


def huggingface_config(config: ModelConfig) -> dict[str, Any]:
    """config.json in the spelling of published files (transformers 4)."""
    scaling = config.rope.scaling
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope.theta,
        "rope_scaling": None if scaling is None else _huggingface_scaling(scaling),
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def _huggingface_scaling(scaling: RopeScaling) -> dict[str, Any]:
    if scaling.kind == "linear":
        return {"type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_context_length,
    }


def write_huggingface(folder: Path, config: ModelConfig, tensors: Weights, shards: int = 1) -> Path:
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps(huggingface_config(config)))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
        return folder
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# ---- Meta and GGUF keep the rows of q and k in adjacent pairs


def paired(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows from Hugging Face's halves to Meta's pairs, as in llama.cpp's convert_hf_to_gguf.py ``permute``."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _stored(name: str, weight: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    if name.endswith("q_proj.weight"):
        return paired(weight, config.heads)
    if name.endswith("k_proj.weight"):
        return paired(weight, config.kv_heads)
    return weight


META_NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def meta_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in META_NAMES:
        return f"{META_NAMES[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"layers.{layer}.{META_NAMES[part]}.weight"


def meta_params(config: ModelConfig) -> dict[str, Any]:
    params: dict[str, Any] = {
        "dim": config.hidden_size,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "vocab_size": -1,
        "multiple_of": 16,  # two thirds of 4 * 64 is 170, rounded up: 176
        "ffn_dim_multiplier": None,
        "norm_eps": config.norm_epsilon,
        "rope_theta": config.rope.theta,
        "use_scaled_rope": config.rope.scaling is not None,
    }
    if config.rope.scaling is not None:
        params["rope_scaling_factor"] = config.rope.scaling.factor
    return params


def write_meta(folder: Path, config: ModelConfig, tensors: Weights, shards: int = 1) -> Path:
    import torch

    (folder / "params.json").write_text(json.dumps(meta_params(config)))
    stored = {meta_name(n): torch.from_numpy(np.array(_stored(n, w, config))) for n, w in tensors.items()}
    if config.tied_embeddings and shards == 1:
        stored["output.weight"] = stored["tok_embeddings.weight"]  # Meta's file has both, on one storage
    for i in range(shards):
        part = {name: _slice(name, weight, i, shards) for name, weight in stored.items()}
        part["rope.freqs"] = torch.zeros(8)
        torch.save(part, folder / f"consolidated.{i:02}.pth")
    return folder


def _slice(name: str, weight: Any, i: int, shards: int) -> Any:
    """Shard ``i`` as fairscale's parallel layers cut it: wo and w2 by columns, norms not at all, the rest by rows."""
    if shards == 1 or "norm" in name:
        return weight
    return weight.chunk(shards, dim=1 if name.endswith(("wo.weight", "w2.weight")) else 0)[i].clone()


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight"


def gguf_header(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_vocab_size(config.vocabulary)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_rope_dimension_count(config.head_size)


def write_gguf(path: Path, config: ModelConfig, tensors: Weights, kind: str = "F32", **writing: Any) -> Path:
    """``kind`` is how matrices are stored; vectors stay F32. ``writing`` goes to gguf.GGUFWriter."""
    writer = gguf.GGUFWriter(path, "llama", **writing)
    gguf_header(writer, config)
    quantisation = gguf.GGMLQuantizationType[kind]
    if config.rope.scaling is not None:
        plain, scaled = replace(config.rope, scaling=None), config.rope
        writer.add_tensor("rope_freqs.weight", plain.inverse_frequencies() / scaled.inverse_frequencies())
    for name, weight in tensors.items():
        stored = np.ascontiguousarray(_stored(name, weight, config))
        if stored.ndim == 1 or kind == "F32":
            writer.add_tensor(gguf_name(name), stored)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(stored, quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
