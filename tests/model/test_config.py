"""Configurations of three dialects, and every reason to refuse one."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import GOLDEN, huggingface_config, meta_params, tiny_config

from quipu.errors import CheckpointError, DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.config_gguf import from_gguf
from quipu.model.config_huggingface import from_huggingface
from quipu.model.config_meta import from_meta
from quipu.model.frequencies import Rope, RopeScaling
from quipu.model.weights import parameter_count

LLAMA_3 = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def llama_3_2(width: int, layers: int, heads: int, head_size: int) -> dict[str, Any]:
    config = tiny_config(
        vocabulary=128256, hidden_size=width, intermediate_size=8192, layers=layers, heads=heads, kv_heads=8,
        head_size=head_size, rope=Rope(500000.0, head_size, LLAMA_3),
    )  # fmt: skip
    return huggingface_config(config)


# ---- rotary frequencies


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("Llama-3.2-1B", Rope(500000.0, 64, LLAMA_3)),
        ("Llama-3.2-3B", Rope(500000.0, 128, LLAMA_3)),
        # high equal to low: the band between is empty, and must not divide zero by zero
        ("Llama-4-Scout (factor 16, low 1, high 1, 8192)", Rope(500000.0, 128, RopeScaling("llama3", 16, 1, 1, 8192))),
        ("Llama-4-Maverick (no scaling)", Rope(500000.0, 128)),
    ],
)
def test_frequencies_equal_transformers_bit_for_bit(name: str, rope: Rope) -> None:
    expected = np.array(golden("rope_tables_real_configs.json")["inv_freq"][name], dtype=np.float32)
    assert rope.inverse_frequencies().dtype == np.float32
    np.testing.assert_array_equal(rope.inverse_frequencies(), expected)


def test_frequencies_of_the_tiny_model() -> None:
    expected = np.array(golden("llama3-tiny/rope_inv_freq.json")["inv_freq"], dtype=np.float32)
    rope = from_huggingface(golden("llama3-tiny/config.json")).rope
    np.testing.assert_array_equal(rope.inverse_frequencies(), expected)


@pytest.mark.parametrize(
    "parameters",
    [
        golden("llama3-tiny/meta.json")["rope_default_config"],
        golden("llama3-tiny/meta.json")["rope_llama31_f8_8192_config"],
        golden("llama3-tiny/meta.json")["rope_llama32_f32_8192_config"],
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    ],
)
def test_frequencies_under_other_settings_equal_transformers(parameters: dict[str, Any]) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = {**golden("llama3-tiny/config.transformers5.json"), "rope_parameters": parameters}
    oracle = LlamaRotaryEmbedding(LlamaConfig(**config)).inv_freq.numpy()
    np.testing.assert_array_equal(from_huggingface(config).rope.inverse_frequencies(), oracle)


def test_divisors_stand_for_llama_3_scaling() -> None:
    scaled, plain = Rope(500000.0, 64, LLAMA_3), Rope(500000.0, 64)
    divisors = tuple(float(x) for x in plain.inverse_frequencies() / scaled.inverse_frequencies())
    result = replace(plain, divisors=divisors).inverse_frequencies()
    np.testing.assert_allclose(result, scaled.inverse_frequencies(), rtol=2e-7)
    assert not np.allclose(result, plain.inverse_frequencies(), rtol=1e-2)


# ---- Hugging Face


def test_old_and_new_spelling_give_equal_configs() -> None:
    old, new = golden("llama3-tiny/config.json"), golden("llama3-tiny/config.transformers5.json")
    assert from_huggingface(old) == from_huggingface(new)
    older = {**old, "rope_scaling": {("type" if k == "rope_type" else k): v for k, v in old["rope_scaling"].items()}}
    assert from_huggingface(older) == from_huggingface(old)
    both = {**old, **new}
    assert from_huggingface(both) == from_huggingface(old)


def test_it_reads_what_was_written() -> None:
    for config in (tiny_config(), tiny_config(tied_embeddings=False, rope=Rope(1e4, 16, RopeScaling("linear", 2.0)))):
        assert from_huggingface(huggingface_config(config)) == config


def test_absent_fields_take_the_defaults_of_the_format() -> None:
    config = huggingface_config(tiny_config())
    for name in ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "hidden_act", "tie_word_embeddings"):
        del config[name]
    result = from_huggingface(config)
    assert (result.kv_heads, result.head_size, result.tied_embeddings) == (4, 16, False)
    assert result.rope == Rope(10000.0, 16)
    assert from_huggingface({**config, "head_dim": None, "num_key_value_heads": None}) == result


def test_an_explicit_head_size_is_never_derived() -> None:
    assert from_huggingface({**huggingface_config(tiny_config()), "head_dim": 32}).head_size == 32


@pytest.mark.parametrize(
    ("shape", "count"), [((2048, 16, 32, 64), 1_235_814_400), ((3072, 28, 24, 128), 3_212_749_824)]
)
def test_parameters_of_the_published_models(shape: tuple[int, int, int, int], count: int) -> None:
    assert parameter_count(from_huggingface(llama_3_2(*shape))) == count


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_bias": True}, ("attention_bias", "True")),
        ({"mlp_bias": True}, ("mlp_bias",)),
        ({"hidden_act": "gelu"}, ("hidden_act", "gelu", "silu")),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ("rope_type", "yarn", "llama3")),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, ("type", "dynamic")),
        ({"model_type": "mistral"}, ("model_type", "mistral", "llama")),
        ({"model_type": 7}, ("model_type", "7")),
        ({"architectures": ["LlamaForSequenceClassification"]}, ("architectures", "LlamaForSequenceClassification")),
        ({"partial_rotary_factor": 0.5}, ("partial_rotary_factor", "0.5")),
        ({"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, ("partial_rotary_factor",)),
        ({"sliding_window": 4096}, ("sliding_window", "4096")),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ("layer_types", "sliding_attention")),
        ({"quantization_config": {"quant_method": "gptq"}}, ("quantization_config", "gptq", "GGUF")),
    ],
)
def test_foreign_huggingface_configs_stop_here(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedCheckpoint) as error:
        from_huggingface({**huggingface_config(tiny_config()), **changes}, source="here/config.json")
    for word in ("here/config.json", *words):
        assert word in str(error.value)


def test_a_sliding_window_that_is_switched_off_is_no_reason() -> None:
    config = {**huggingface_config(tiny_config()), "sliding_window": 4096, "use_sliding_window": False}
    assert from_huggingface({**config, "layer_types": ["full_attention"] * 2}) == tiny_config()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": None}, ("vocab_size", "missing")),
        ({"vocab_size": -5}, ("vocab_size", "-5")),
        ({"hidden_size": 64.5}, ("hidden_size", "64.5")),
        ({"hidden_size": "64"}, ("hidden_size", "'64'")),
        ({"num_hidden_layers": 0}, ("num_hidden_layers", "at least 1")),
        ({"num_hidden_layers": True}, ("num_hidden_layers", "True")),
        ({"num_hidden_layers": 10**12}, ("num_hidden_layers", "plausible")),
        ({"num_hidden_layers": 10**400}, ("num_hidden_layers", "plausible")),
        ({"rms_norm_eps": None}, ("rms_norm_eps", "missing")),
        ({"rms_norm_eps": "tiny"}, ("rms_norm_eps", "'tiny'")),
        ({"rms_norm_eps": 0}, ("rms_norm_eps", "between")),
        ({"rope_theta": float("inf")}, ("rope_theta", "inf")),
        ({"rope_theta": float("nan")}, ("rope_theta", "nan")),
        ({"tie_word_embeddings": "yes"}, ("tie_word_embeddings", "'yes'")),
        ({"hidden_act": 3}, ("hidden_act", "3")),
        ({"num_key_value_heads": 3}, ("4 attention heads", "3 key-value")),
        ({"head_dim": 15}, ("head size 15",)),
        ({"head_dim": None, "num_attention_heads": 6}, ("head_dim", "64", "6 heads")),
        ({"rope_scaling": 8}, ("rope_scaling", "not an object")),
        ({"rope_scaling": {"rope_type": 8}}, ("rope_type", "not a string")),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ("low_freq_factor", "missing")),
        ({"rope_scaling": {"rope_type": "linear"}}, ("factor", "missing")),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 1.0,
                    "original_max_position_embeddings": 8192,
                }
            },
            ("low_freq_factor", "high_freq_factor"),
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "rope_scaling": None}, ("rope_theta",)),
        ({"rope_parameters": {"rope_type": "default"}}, ("rope_scaling", "contradicts")),
        ({"model_type": None, "architectures": None}, ("model_type", "missing")),
    ],
)
def test_damaged_huggingface_configs_name_the_field(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(DamagedCheckpoint) as error:
        from_huggingface({**huggingface_config(tiny_config()), **changes}, source="here/config.json")
    for word in ("here/config.json", *words):
        assert word in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted({*huggingface_config(tiny_config()), "rope_parameters", "layer_types"})), value=JSON)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: Any) -> None:
    with suppress(CheckpointError):
        config = from_huggingface({**huggingface_config(tiny_config()), name: value})
        assert np.isfinite(config.rope.inverse_frequencies()).all()


# ---- Meta


def test_meta_params_of_llama_3_2_1b_equal_its_huggingface_config() -> None:
    params = {
        "dim": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 256,
        "ffn_dim_multiplier": 1.5, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": True,
    }  # fmt: skip
    assert from_meta(params, tied=True) == from_huggingface(llama_3_2(2048, 16, 32, 64))
    three = {**params, "dim": 3072, "n_layers": 28, "n_heads": 24, "ffn_dim_multiplier": 1.0}
    assert from_meta(three, tied=True) == from_huggingface(llama_3_2(3072, 28, 24, 128))


def test_other_scaled_meta_models_have_factor_8() -> None:
    params = {**meta_params(tiny_config())}
    del params["rope_scaling_factor"]
    assert from_meta(params, vocabulary=96).rope.scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    plain = from_meta({**params, "use_scaled_rope": False}, vocabulary=96)
    assert plain.rope.scaling is None
    assert plain.context_length == 8192


def test_meta_vocabulary_minus_one_means_the_rows_of_the_embedding() -> None:
    assert from_meta(meta_params(tiny_config()), vocabulary=96, tied=True) == tiny_config()
    with pytest.raises(DamagedCheckpoint, match="vocab_size is -1"):
        from_meta(meta_params(tiny_config()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_chunk_size": 448}, ("vision_chunk_size", "448", "vision")),
        ({"quantization_args": {"scheme": "int4_weight_int8_dynamic_activation"}}, ("quantization_args", "GGUF")),
        ({"lora_args": {"rank": 16}}, ("lora_args", "rank")),
    ],
)
def test_foreign_meta_params_stop_here(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedCheckpoint) as error:
        from_meta({**meta_params(tiny_config()), **changes}, vocabulary=96)
    for word in ("params.json", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": None}, ("dim", "missing")),
        ({"rope_theta": None}, ("rope_theta", "missing")),
        ({"multiple_of": 0}, ("multiple_of",)),
        ({"ffn_dim_multiplier": 1e11}, ("ffn_dim_multiplier", "plausible")),
        ({"ffn_dim_multiplier": 1e-11}, ("ffn_dim_multiplier", "plausible")),
        ({"n_heads": 6}, ("head_dim", "6 heads")),
    ],
)
def test_damaged_meta_params_name_the_field(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(DamagedCheckpoint) as error:
        from_meta({**meta_params(tiny_config()), **changes}, vocabulary=96)
    for word in ("params.json", *words):
        assert word in str(error.value)


# ---- GGUF


def gguf_metadata(**changes: Any) -> dict[str, Any]:
    metadata = {
        "general.architecture": "llama",
        "llama.context_length": 131072,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 176,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "llama.rope.freq_base": 500000.0,
        "llama.rope.dimension_count": 16,
    }
    return {**metadata, **{name.replace("__", "."): value for name, value in changes.items()}}


def test_gguf_metadata() -> None:
    expected: ModelConfig = tiny_config(rope=Rope(500000.0, 16))
    assert from_gguf(gguf_metadata(), vocabulary=96, tied=True) == expected
    linear = gguf_metadata(llama__rope__scaling__type="linear", llama__rope__scaling__factor=4.0)
    assert from_gguf(linear, vocabulary=96).rope.scaling == RopeScaling("linear", 4.0)
    assert from_gguf(gguf_metadata(llama__vocab_size=80), vocabulary=96).vocabulary == 80
    assert from_gguf(gguf_metadata(), vocabulary=96, divisors=(2.0,) * 8).rope.divisors == (2.0,) * 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general__architecture": "qwen2"}, ("general.architecture", "qwen2", "llama")),
        ({"llama__expert_count": 8}, ("llama.expert_count", "8")),
        ({"llama__expert_count": np.array([8, 8])}, ("llama.expert_count", "[8, 8]")),
        ({"llama__attention__sliding_window": 4096}, ("llama.attention.sliding_window", "4096")),
        ({"llama__attention__value_length": 8}, ("llama.attention.value_length", "16")),
        ({"llama__rope__dimension_count": 8}, ("llama.rope.dimension_count", "16")),
        ({"llama__rope__scaling__type": "yarn"}, ("llama.rope.scaling.type", "yarn")),
    ],
)
def test_foreign_gguf_metadata_stops_here(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedCheckpoint) as error:
        from_gguf(gguf_metadata(**changes), vocabulary=96, source="x.gguf")
    for word in ("x.gguf", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("changes", "divisors", "words"),
    [
        ({"general__architecture": None}, None, ("general.architecture", "missing")),
        ({"llama__block_count": None}, None, ("llama.block_count", "missing")),
        ({"llama__attention__head_count": np.array([4, 4])}, None, ("llama.attention.head_count", "whole number")),
        ({}, (2.0,) * 7, ("rope_freqs.weight", "7", "8")),
        ({}, (0.0,) * 8, ("rope_freqs.weight", "between")),
        ({}, (float("nan"),) * 8, ("rope_freqs.weight", "between")),
    ],
)
def test_damaged_gguf_metadata_names_the_key(
    changes: dict[str, Any], divisors: tuple[float, ...] | None, words: tuple[str, ...]
) -> None:
    with pytest.raises(DamagedCheckpoint) as error:
        from_gguf(gguf_metadata(**changes), vocabulary=96, divisors=divisors, source="x.gguf")
    for word in ("x.gguf", *words):
        assert word in str(error.value)
