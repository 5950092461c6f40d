"""Which kind of the kernels a matrix becomes, how many bytes, and what is lost: against the kernels and plain numpy."""

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import GOLDEN, tiny_config, tiny_tensors, write_gguf

import quipu
from quipu import native
from quipu.cli.serve import loaded_line
from quipu.engine.footprint import Footprint
from quipu.engine.packed import packed_weights
from quipu.engine.packing import STATED_LOSS, Loss, pack_all, packed_bytes, packed_kinds
from quipu.errors import InvalidRequest
from quipu.model.checkpoint import open_checkpoint
from quipu.model.lora import merged
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, as_floats, byte_count

KINDS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
FLOATS = ("F32", "F16", "BF16")
CONFIG = tiny_config(intermediate_size=192)
MATRIX = "model.layers.0.mlp.up_proj.weight"


@given(kind=st.sampled_from(KINDS), rows=st.integers(1, 5000), cols=st.integers(1, 20000))
def test_bytes_are_those_of_the_kernels(kind, rows, cols):
    """The plan of memory counts them without the kernels."""
    assert packed_bytes(kind, rows, cols) == native.packed_bytes(kind, rows, cols)


def stored(kind, values):
    """A tensor of a file; the gguf package quantises to all kinds but the K-quants."""
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    return Tensor(MATRIX, values.shape, kind, np.ascontiguousarray(data).view(np.uint8).reshape(-1))


def k_blocks(kind, random, rows=64, cols=2048):
    """Weights of a K-quant: any quanta, scales of the size of a model's."""
    blocks = random.integers(0, 256, (rows * cols // 256, byte_count([256], kind)), dtype=np.uint8)
    places = (208,) if kind == "Q6_K" else (0, 2)
    for place in places:
        halves = np.abs(random.normal(0, 0.001, len(blocks))).astype(np.float16)
        blocks[:, place : place + 2] = halves[:, None].view(np.uint8)
    return Tensor(MATRIX, (rows, cols), kind, blocks.reshape(-1))


def packed(tensor, kind):
    """The loss that packing says, and the bytes."""
    [(name, memory, loss)] = pack_all({MATRIX: tensor}, {MATRIX: kind}, threads=2)
    assert name == MATRIX
    assert memory.ctypes.data % 64 == 0
    return loss, memory


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "BF16"])
def test_what_kernels_read_as_it_is_loses_nothing(kind):
    values = np.random.default_rng(0).normal(0, 0.02, (40, 96)).astype(np.float32)
    tensor = stored(kind, values)
    assert packed_kinds({MATRIX: tensor}, "auto", None) == {MATRIX: kind}
    assert packed(tensor, kind)[0] == Loss()


@pytest.mark.parametrize(("kind", "becomes"), [("Q4_K", "Q4_1"), ("Q5_K", "Q5_1"), ("Q6_K", "Q8_0")])
def test_k_quants_are_re_encoded_and_lose_what_is_stated(kind, becomes):
    tensor = k_blocks(kind, np.random.default_rng(1))
    assert packed_kinds({MATRIX: tensor}, "auto", None) == {MATRIX: becomes}
    lost = packed(tensor, becomes)[0].relative
    assert 0 < lost < 2 * STATED_LOSS[kind, becomes]


@pytest.mark.parametrize("becomes", ["Q8_0", "Q4_1"])
@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_floats_that_are_quantised_lose_what_is_stated(kind, becomes):
    tensor = stored(kind, np.random.default_rng(2).normal(0, 0.02, (64, 2048)).astype(np.float32))
    assert packed(tensor, becomes)[0].relative == pytest.approx(STATED_LOSS[kind, becomes], rel=0.1)


@pytest.mark.parametrize("kind", FLOATS)
def test_a_conversion_of_floats_says_what_it_lost(kind):
    values = np.random.default_rng(3).normal(0, 0.02, (33, 50)).astype(np.float32)
    lost = packed(Tensor(MATRIX, values.shape, "F32", values.view(np.uint8).reshape(-1)), kind)[0].relative
    bytes_ = as_floats(values, kind)
    if kind == "BF16":
        kept = (bytes_.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        kept = bytes_.view({"F16": np.float16, "F32": np.float32}[kind]).astype(np.float32)
    error = kept.reshape(values.shape).astype(float) - values
    assert lost == pytest.approx(np.sqrt((error**2).sum() / (values.astype(float) ** 2).sum()), rel=1e-6)
    assert (lost == 0) == (kind == "F32")


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_floats_are_rounded_as_torch_rounds(values):
    import torch

    given_values = np.array(values, np.float32)
    theirs = torch.from_numpy(given_values.copy())
    for kind, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        bits = as_floats(given_values, kind).view(np.uint16)
        expected = theirs.to(dtype).view(torch.int16).numpy().view(np.uint16)
        number = ~np.isnan(given_values)
        np.testing.assert_array_equal(bits[number], expected[number])
        kept = torch.from_numpy(bits.view(np.int16).copy()).view(dtype).float().numpy()
        assert np.isnan(kept[~number]).all()


def test_quantising_keeps_embedding_and_output_at_eight_bits():
    tensors = {name: Tensor(name, (32, 32), "BF16", np.zeros(2048, np.uint8)) for name in (EMBEDDING, OUTPUT, MATRIX)}
    assert packed_kinds(tensors, "auto", "q8") == dict.fromkeys(tensors, "Q8_0")
    assert packed_kinds(tensors, "auto", "q4") == {EMBEDDING: "Q8_0", OUTPUT: "Q8_0", MATRIX: "Q4_1"}


@pytest.mark.parametrize("quantize", ["q8", "q4"])
def test_what_is_quantised_already_is_not_quantised_again(quantize, tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", CONFIG, tiny_tensors(CONFIG), "Q4_0")
    with pytest.raises(InvalidRequest, match=rf"quantize {quantize} is for .* quantised already \(Q4_0\): load it wi"):
        quipu.load(path, quantize=quantize)


def adapter_of(config, folder):
    """A LoRA adapter of one matrix for models of the tiny config."""
    import json

    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    prefix = "base_model.model.model.layers.0.mlp.up_proj"
    matrices = {"A": np.full((2, config.hidden_size), 1e-3), "B": np.full((config.intermediate_size, 2), 1e-3)}
    save_file(
        {f"{prefix}.lora_{side}.weight": each.astype(np.float32) for side, each in matrices.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def test_an_adapter_is_not_rounded_away_on_a_quantised_matrix(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", CONFIG, tiny_tensors(CONFIG), "Q4_0")
    tensors = merged(open_checkpoint(path).tensors, adapter_of(CONFIG, tmp_path / "adapter"))
    kinds = packed_kinds(tensors, "auto", None)
    assert kinds[MATRIX] == "BF16"
    assert kinds[EMBEDDING] == "Q4_0"
    with pytest.raises(InvalidRequest, match="quantised already"):
        packed_kinds(tensors, "auto", "q4")


def test_a_quantised_model_says_what_it_lost(caplog):
    """In the line of `quipu serve`, in the log, and on the model."""
    caplog.set_level("INFO", logger="quipu")
    for quantize, expected in (("q8", 5.3e-3), ("q4", 4.8e-2)):  # a fifth of this tiny model is its embedding
        with quipu.load(GOLDEN / "llama3-tiny", quantize=quantize, context=64, concurrency=1) as model:
            assert model.facts.dtype == "int8"
            assert model.runner.endswith(f", quantised to {quantize}")  # it is another model in the log of evidence
            assert model.packing_loss == pytest.approx(expected, rel=0.1)
            assert f"int8, packing loss {model.packing_loss:.1e})" in loaded_line(model)
            assert f"packing the weights lost {model.packing_loss:.1e} of them" in caplog.text
    with quipu.load(GOLDEN / "llama3-tiny", context=64, concurrency=1) as model:
        assert model.packing_loss == 0
        assert "loss" not in loaded_line(model)
    with quipu.load(GOLDEN / "llama3-tiny", runner="torch", context=64, concurrency=1) as model:
        assert model.packing_loss is None


@pytest.mark.parametrize(("kv_dtype", "bits"), [("f32", 32), ("f16", 16), ("int8", 9), ("auto", 32)])
def test_keys_and_values_are_kept_as_is_asked(kv_dtype, bits):
    """A float32 checkpoint keeps them in float32 by itself; int8 has a scale of 32 bits for each 32."""
    checkpoint = open_checkpoint(GOLDEN / "llama3-tiny")
    footprint = Footprint.of(checkpoint.config, checkpoint.tensors, kv_dtype=kv_dtype)
    elements = 4 * 2 * 2 * 16  # layers, keys and values, KV heads, head size
    assert footprint.kv_bytes_per_token == elements * bits // 8
    vectors = np.load(GOLDEN / "llama3-tiny" / "vectors.npz")
    with quipu.load(GOLDEN / "llama3-tiny", kv_dtype=kv_dtype, context=256, concurrency=1) as model:
        name = "f32" if kv_dtype == "auto" else kv_dtype
        assert model.runner.endswith(f"KV {name}")
        answer = model.generate(vectors["ids_17"].tolist(), max_tokens=1, temperature=0, ignore_eos=True)
        assert answer.choices[0].token_ids[0] == vectors["greedy_17"][0]


def test_weights_take_what_the_footprint_says():
    checkpoint = open_checkpoint("smollm2-135m-instruct")
    footprint = Footprint.of(checkpoint.config, checkpoint.tensors)
    weights = packed_weights(checkpoint.tensors, footprint.kinds, None, threads=2)
    assert weights.nbytes == footprint.weights_bytes
    assert weights.loss == 0


LLAMA4 = GOLDEN / "llama4-tiny-step2"
ROUTER = "model.layers.1.feed_forward.router.weight"


@pytest.mark.parametrize(("quantize", "kind"), [("q8", "Q8_0"), ("q4", "Q4_1")])
def test_routers_are_not_quantised_with_the_rest(quantize, kind):
    """Where two experts are nearly alike, a rounded router sends a token to the other one."""
    checkpoint = open_checkpoint(LLAMA4)
    kinds = packed_kinds(checkpoint.tensors, "auto", quantize)
    routers = {name for name in kinds if name.endswith(".router.weight")}
    assert {kinds.pop(name) for name in routers} == {"F32"}
    assert ROUTER in routers
    assert {kinds.pop(name) for name in (EMBEDDING, OUTPUT)} == {"Q8_0"}
    assert set(kinds.values()) == {kind}
    assert Footprint.of(checkpoint.config, checkpoint.tensors, quantize=quantize).dtype == "int8"


def test_a_router_in_floats_does_not_make_a_quantised_model_one_to_quantise():
    """GGUF files keep routers in float32 beside matrices of four bits."""
    values = np.random.default_rng(0).normal(0, 1, (4, 64)).astype(np.float32)
    tensors = {MATRIX: stored("Q4_0", values), ROUTER: stored("F32", values)}
    with pytest.raises(InvalidRequest, match=r"quantised already \(Q4_0\)"):
        packed_kinds(tensors, "auto", "q4")
    assert packed_kinds(tensors, "auto", None) == {MATRIX: "Q4_0", ROUTER: "F32"}
    assert packed_kinds(tensors, "bfloat16", None)[ROUTER] == "BF16"


@pytest.mark.parametrize(("kv_dtype", "element"), [("f32", 4), ("f16", 2)])
def test_layers_that_keep_a_chunk_are_counted_apart(kv_dtype, element):
    checkpoint = open_checkpoint(LLAMA4)
    footprint = Footprint.of(checkpoint.config, checkpoint.tensors, kv_dtype=kv_dtype)
    one = 2 * 2 * 16 * element  # keys and values, KV heads, head size
    assert (footprint.kv_bytes_per_token, footprint.chunk_bytes_per_token) == (2 * one, 6 * one)
    dense = open_checkpoint(GOLDEN / "llama3-tiny")
    assert Footprint.of(dense.config, dense.tensors).chunk_bytes_per_token == 0
