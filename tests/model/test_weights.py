"""Stored weights: decoding, order of rows, names and shapes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import paired, tiny_config, tiny_tensors

from quipu.errors import DamagedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.weights import (
    KINDS,
    Tensor,
    byte_count,
    check_names,
    half_rotation_order,
    is_harmless,
    parameter_count,
    tensor_shapes,
)


def blocks(kind: str, rows: int, columns: int) -> NDArray[np.uint8]:
    """Random bytes: every pattern of a quantised block has a meaning."""
    random = np.random.default_rng(sum(kind.encode()))
    return random.integers(0, 256, (rows, byte_count((columns,), kind)), dtype=np.uint8)


@pytest.mark.parametrize("kind", [kind for kind, (block, _) in KINDS.items() if block > 1])
def test_blocks_decode_as_in_gguf_and_rows_move_whole(kind: str) -> None:
    stored = blocks(kind, 32, 512)
    order = half_rotation_order(2, 16)
    tensor = Tensor("q", (32, 512), kind, stored.reshape(-1), order)
    with np.errstate(all="ignore"):
        oracle = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(tensor.float32(), oracle[order])
    np.testing.assert_array_equal(tensor.packed(), stored[order])
    assert tensor.float32().dtype == np.float32
    assert tensor.nbytes == stored.nbytes


def test_every_block_size_is_the_one_of_gguf() -> None:
    for kind, sizes in KINDS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] == sizes


@pytest.mark.parametrize(("kind", "dtype"), [("F32", np.float32), ("F16", np.float16)])
def test_plain_floats(kind: str, dtype: type) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(dtype)
    data = values.view(np.uint8).reshape(-1)
    data.flags.writeable = False
    result = Tensor("x", (4, 6), kind, data).float32()
    np.testing.assert_array_equal(result, values.astype(np.float32))
    assert result.flags.writeable
    assert not np.shares_memory(result, data)


def test_bfloat16_decodes_as_in_torch() -> None:
    import torch

    values = torch.randn(4, 6).to(torch.bfloat16)
    data = values.view(torch.uint8).reshape(-1).numpy()
    np.testing.assert_array_equal(Tensor("x", (4, 6), "BF16", data).float32(), values.float().numpy())


def test_floats_at_an_odd_address() -> None:
    data = np.zeros(4 * 6 + 1, dtype=np.uint8)
    data[1:] = np.arange(6, dtype=np.float32).view(np.uint8)
    np.testing.assert_array_equal(Tensor("x", (6,), "F32", data[1:]).float32(), np.arange(6))


def test_a_vector_is_one_packed_row_and_a_matrix_memory_of_its_own() -> None:
    data = np.arange(24, dtype=np.uint8)
    assert Tensor("x", (6,), "F32", data).packed().shape == (1, 24)
    packed = Tensor("x", (2, 3), "F32", data).packed()
    np.testing.assert_array_equal(packed, data.reshape(2, 12))
    assert not np.shares_memory(packed, data)


def test_half_rotation_order_undoes_the_converters_permutation() -> None:
    weight = np.random.default_rng(0).normal(size=(4 * 16, 8)).astype(np.float32)
    np.testing.assert_array_equal(paired(weight, 4)[half_rotation_order(4, 16)], weight)
    assert half_rotation_order(1, 8).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_a_tensor_prints_without_its_bytes() -> None:
    assert len(repr(Tensor("x", (6,), "F32", np.zeros(24, np.uint8)))) < 100


# ---- names


def stored(config: ModelConfig) -> dict[str, Tensor]:
    return {
        name: Tensor(name, value.shape, "F32", value.view(np.uint8).reshape(-1))
        for name, value in tiny_tensors(config).items()
    }


@pytest.mark.parametrize("tied", [True, False])
def test_names_and_shapes_equal_transformers(tied: bool) -> None:
    from tiny import huggingface_config
    from transformers import LlamaConfig, LlamaForCausalLM

    config = tiny_config(tied_embeddings=tied, head_size=32)
    model = LlamaForCausalLM(LlamaConfig(**huggingface_config(config)))
    oracle = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert tensor_shapes(config) == oracle
    assert parameter_count(config) == sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_exact_names_pass(tied: bool) -> None:
    config = tiny_config(tied_embeddings=tied)
    check_names(config, stored(config))


def test_missing_and_left_over_names_are_one_error() -> None:
    config = tiny_config()
    tensors = stored(config)
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["model.norm.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = tensors["model.layers.0.input_layernorm.weight"]
    with pytest.raises(DamagedCheckpoint) as error:
        check_names(config, tensors, source="folder")
    for word in (
        "folder",
        "2 missing: model.layers.1.mlp.up_proj.weight, model.norm.weight",
        "1 left over",
        "q_proj.b",
    ):
        assert word in str(error.value)


def test_many_names_are_counted_not_listed() -> None:
    with pytest.raises(DamagedCheckpoint) as error:
        check_names(tiny_config(), {})
    assert "20 missing" in str(error.value)
    assert "and 10 more" in str(error.value)
    assert str(error.value).count("model.") == 10


def test_a_wrong_shape_names_tensor_expected_and_found() -> None:
    config = tiny_config()
    with pytest.raises(DamagedCheckpoint) as error:
        check_names(config, stored(tiny_config(intermediate_size=192)))
    for word in ("model.layers.0.mlp.down_proj.weight", "[64, 192]", "expected [64, 176]", "6 tensors"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("model.layers.11.self_attn.rotary_emb.inv_freq", True),
        ("model.rotary_emb.inv_freq", True),
        ("rope.freqs", True),
        ("layers.0.attention.wo._extra_state", True),
        ("rope.freqs.weight", False),
        ("model.layers.0.self_attn.q_proj.bias", False),
        ("inv_freq", False),
    ],
)
def test_harmless_extras_go_by_exact_pattern(name: str, harmless: bool) -> None:
    assert is_harmless(name) is harmless
