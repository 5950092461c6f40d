"""Llama 4 in three dialects: the published models' numbers, the defaults of absent fields, every reason to refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tiny import GOLDEN

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config import Experts, Temperature
from quipu.model.config_gguf import from_gguf
from quipu.model.config_huggingface import from_huggingface
from quipu.model.config_meta import from_meta
from quipu.model.frequencies import Rope, RopeScaling
from quipu.model.weights import parameter_count, tensor_shapes

EVERY_FOURTH = frozenset(range(3, 48, 4))


def published(**text: Any) -> dict[str, Any]:
    """Scout's config.json, without what a text model does not need."""
    scaling = {
        "factor": 16.0, "high_freq_factor": 1.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }  # fmt: skip
    config = {
        "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 202048, "max_position_embeddings": 10485760, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "rope_scaling": scaling, "attn_temperature_tuning": 4, "no_rope_layers": [], "num_local_experts": 16,
        "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "use_qk_norm": True,
    }  # fmt: skip
    return {"model_type": "llama4", "text_config": config | text}


MAVERICK = {
    "num_local_experts": 128, "interleave_moe_layer_step": 2, "use_qk_norm": False, "rope_scaling": None,
    "max_position_embeddings": 1048576,
}  # fmt: skip


def test_scout() -> None:
    scout = from_huggingface(published())
    assert scout.architecture == "llama4"
    assert scout.pair_rotation
    assert scout.query_key_norm
    assert not scout.tied_embeddings
    assert scout.experts == Experts(16, 1, 8192, frozenset(range(48)))
    assert scout.nope_layers == EVERY_FOURTH
    assert scout.chunk == 8192
    assert scout.temperature == Temperature(8192, 0.1)
    assert scout.rope == Rope(500000.0, 128, RopeScaling("llama3", 16.0, 1.0, 1.0, 8192))
    assert [scout.layer_chunk(index) for index in (0, 2, 3, 4, 47)] == [8192, 8192, None, 8192, None]
    # 108,641,793,536 as published, less the vision tower with its adapter and the projector
    assert parameter_count(scout) == 108_641_793_536 - 850_960_896 - 4096 * 5120


def test_maverick() -> None:
    maverick = from_huggingface(published(**MAVERICK))
    assert maverick.experts == Experts(128, 1, 8192, frozenset(range(1, 48, 2)))
    assert [maverick.has_experts(index) for index in range(3)] == [False, True, False]
    assert maverick.intermediate_size == 16384
    assert not maverick.query_key_norm
    assert maverick.rope == Rope(500000.0, 128)
    assert parameter_count(maverick) == 401_583_781_376 - 850_960_896 - 4096 * 5120
    assert "model.layers.1.feed_forward.experts.127.down_proj.weight" in tensor_shapes(maverick)
    assert tensor_shapes(maverick)["model.layers.0.feed_forward.gate_proj.weight"] == (16384, 5120)


@pytest.mark.parametrize("name", ["llama4-tiny-step1", "llama4-tiny-step2"])
def test_both_spellings_of_transformers(name: str) -> None:
    old, new = (
        from_huggingface(json.loads((GOLDEN / name / file).read_text()))
        for file in ("config.json", "config.transformers5.json")
    )
    assert old == new
    meta = json.loads((GOLDEN / name / "meta.json").read_text())
    assert old.nope_layers == {index for index, rotated in enumerate(meta["no_rope_layers"]) if not rotated}
    assert old.experts is not None
    assert old.experts.layers == set(meta["moe_layers"])


def test_text_models_have_the_fields_at_the_top() -> None:
    text = published()["text_config"]
    assert from_huggingface(text) == from_huggingface(published())
    assert from_huggingface({**text, "model_type": "llama4", "architectures": ["Llama4ForCausalLM"]}).layers == 48


def test_absent_fields_are_those_of_transformers() -> None:
    text = published()["text_config"]
    for name in ("attn_temperature_tuning", "no_rope_layers", "num_local_experts", "num_experts_per_tok",
                 "interleave_moe_layer_step", "use_qk_norm", "rope_theta", "intermediate_size_mlp"):  # fmt: skip
        del text[name]
    assert from_huggingface(text) == from_huggingface(published())


def test_null_chunk_means_no_chunks() -> None:
    assert from_huggingface(published(attention_chunk_size=None)).chunk is None


def test_no_temperature() -> None:
    assert from_huggingface(published(attn_temperature_tuning=False)).temperature is None
    assert from_huggingface(published(attn_temperature_tuning=0)).temperature is None


def test_lists_win_over_intervals() -> None:
    rotated = [0, 1] * 24
    config = from_huggingface(published(no_rope_layers=rotated, moe_layers=[5, 7]))
    assert config.nope_layers == frozenset(range(0, 48, 2))
    assert config.experts is not None
    assert config.experts.layers == {5, 7}
    assert from_huggingface(published(moe_layers=[])).experts is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_experts_per_tok": 2}, UnsupportedCheckpoint, "num_experts_per_tok is 2"),
        ({"no_rope_layers": [1, 0]}, DamagedCheckpoint, r"no_rope_layers is \[1, 0\], not a 0 or 1 for each of 48"),
        ({"no_rope_layers": [2] * 48}, DamagedCheckpoint, "no_rope_layers"),
        ({"no_rope_layers": "all"}, DamagedCheckpoint, "no_rope_layers"),
        ({"no_rope_layer_interval": 0}, DamagedCheckpoint, "no_rope_layer_interval is 0"),
        ({"layer_types": ["full_attention"] * 48}, UnsupportedCheckpoint, "layer_types"),
        ({"moe_layers": [48]}, DamagedCheckpoint, r"moe_layers is \[48\], not a list of layers below 48"),
        ({"moe_layers": [True]}, DamagedCheckpoint, "moe_layers"),
        ({"moe_layers": "odd"}, DamagedCheckpoint, "moe_layers"),
        ({"attn_temperature_tuning": "yes"}, DamagedCheckpoint, "attn_temperature_tuning is 'yes'"),
        ({"attention_chunk_size": 0}, DamagedCheckpoint, "attention_chunk_size is 0"),
        ({"floor_scale": 0}, DamagedCheckpoint, "floor_scale is 0"),
        ({"num_local_experts": 1 << 20}, DamagedCheckpoint, "num_local_experts is 1048576; more than"),
        ({"num_local_experts": 4096}, DamagedCheckpoint, "4096 experts in each of 48 layers are more than 65536"),
        ({"model_type": "llama4_vision_model"}, UnsupportedCheckpoint, "model_type is 'llama4_vision_model'"),
        ({"quantization_config": {}}, UnsupportedCheckpoint, "quantization_config"),
        ({"attention_bias": True}, UnsupportedCheckpoint, "attention_bias"),
        ({"intermediate_size_mlp": 0}, DamagedCheckpoint, "intermediate_size_mlp is 0"),
    ],
)
def test_refused_huggingface(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        from_huggingface(published(**changes))


# ---- Meta


def params(**changes: Any) -> dict[str, Any]:
    scout = {
        "dim": 5120, "n_layers": 48, "n_heads": 40, "n_kv_heads": 8, "head_dim": 128, "vocab_size": -1,
        "multiple_of": 2048, "ffn_dim_multiplier": 1.2, "ffn_exp": 4.0, "norm_eps": 1e-5, "rope_theta": 500000.0,
        "use_scaled_rope": True, "attention_chunk_size": 8192, "nope_layer_interval": 4, "use_qk_norm": True,
        "moe_args": {"num_experts": 16, "capacity_factor": 1.0, "auto_scale_F": True, "top_k": 1,
                     "interleave_moe_layer_step": 1},
    }  # fmt: skip
    return scout | changes


def test_meta_params_are_the_published_configurations() -> None:
    scout = from_meta(params(), vocabulary=202048)
    assert scout == from_huggingface(published())
    assert from_meta({"model": params()}, vocabulary=202048) == scout
    experts = params()["moe_args"] | {"num_experts": 128, "interleave_moe_layer_step": 2}
    maverick = from_meta(params(moe_args=experts, use_scaled_rope=False, use_qk_norm=False), vocabulary=202048)
    assert maverick == from_huggingface(published(**MAVERICK))


def test_meta_nulls() -> None:
    plain = from_meta(params(attention_chunk_size=None, nope_layer_interval=None, attn_temperature_tuning=False),
                      vocabulary=202048)  # fmt: skip
    assert (plain.chunk, plain.nope_layers, plain.temperature) == (None, frozenset(), None)


def test_meta_widths_of_other_numbers() -> None:
    config = from_meta(params(dim=96, n_heads=6, n_kv_heads=3, head_dim=16, multiple_of=8, ffn_dim_multiplier=1.3,
                              ffn_exp=3.5, n_layers=4), vocabulary=512)  # fmt: skip
    dense, expert = int(1.3 * int(2 * 4 * 96 / 3)), int(int(1.3 * int(2 * int(3.5 * 96) / 3)) / 2)
    assert config.intermediate_size == -(-dense // 8) * 8
    assert config.experts is not None
    assert config.experts.intermediate_size == -(-expert // 8) * 8


def test_refused_meta() -> None:
    experts = params()["moe_args"]
    with pytest.raises(UnsupportedCheckpoint, match="top_k is 2"):
        from_meta(params(moe_args=experts | {"top_k": 2}), vocabulary=202048)
    with pytest.raises(UnsupportedCheckpoint, match="quantization_args"):
        from_meta(params(quantization_args={"scheme": "fp8"}), vocabulary=202048)
    with pytest.raises(DamagedCheckpoint, match="moe_args is 3, not an object"):
        from_meta(params(moe_args=3), vocabulary=202048)
    with pytest.raises(DamagedCheckpoint, match="nope_layer_interval is 0"):
        from_meta(params(nope_layer_interval=0), vocabulary=202048)


# ---- GGUF


def metadata(**changes: Any) -> dict[str, Any]:
    """As llama.cpp's converter writes them for Scout."""
    scout = {
        "general.architecture": "llama4", "llama4.context_length": 10485760, "llama4.embedding_length": 5120,
        "llama4.block_count": 48, "llama4.feed_forward_length": 16384, "llama4.attention.head_count": 40,
        "llama4.attention.head_count_kv": 8, "llama4.attention.key_length": 128, "llama4.attention.value_length": 128,
        "llama4.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)), "llama4.rope.freq_base": 500000.0,
        "llama4.rope.dimension_count": 128, "llama4.expert_count": 16, "llama4.expert_used_count": 1,
        "llama4.expert_feed_forward_length": 8192, "llama4.interleave_moe_layer_step": 1,
    }  # fmt: skip
    return scout | {f"llama4.{name.replace('__', '.')}": value for name, value in changes.items()}


def test_gguf_metadata_are_the_published_configurations() -> None:
    scaled = published(rope_scaling=None)  # a GGUF has the scaling as a table
    assert from_gguf(metadata(), vocabulary=202048) == from_huggingface(scaled)
    maverick = metadata(expert_count=128, interleave_moe_layer_step=2, context_length=1048576)
    assert from_gguf(maverick, vocabulary=202048) == from_huggingface(published(**MAVERICK))


def test_gguf_of_models_that_nobody_published() -> None:
    own = metadata(attention__chunk_size=16, attention__nope_layers=np.array([0, 2], np.int32),
                   attention__query_key_norm=False, attention__temperature_floor=8.0,
                   attention__temperature_scale=float(np.float32(0.25)),
                   expert_layers=np.array([1], np.int32))  # fmt: skip
    config = from_gguf(own, vocabulary=202048)
    assert (config.chunk, config.nope_layers, config.query_key_norm) == (16, {0, 2}, False)
    assert config.temperature == Temperature(8.0, 0.25)
    assert config.experts == Experts(16, 1, 8192, frozenset({1}))
    plain = from_gguf(metadata(attention__sliding_window=0, attention__temperature=False), vocabulary=202048)
    assert (plain.chunk, plain.nope_layers, plain.temperature) == (None, frozenset(), None)
    assert from_gguf(metadata(expert_count=0), vocabulary=202048).experts is None


def test_refused_gguf() -> None:
    with pytest.raises(UnsupportedCheckpoint, match=r"llama4.expert_used_count is 2"):
        from_gguf(metadata(expert_used_count=2), vocabulary=202048)
    with pytest.raises(DamagedCheckpoint, match=r"llama4.attention.nope_layers .* not a list of layers below 48"):
        from_gguf(metadata(attention__nope_layers=np.array([48], np.int32)), vocabulary=202048)
    with pytest.raises(DamagedCheckpoint, match=r"llama4.expert_layers"):
        from_gguf(metadata(expert_layers=np.array([0.5])), vocabulary=202048)
