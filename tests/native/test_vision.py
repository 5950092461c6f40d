"""The native encoder of pictures against golden vectors and torch, on every set of instructions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from quipu import native
from quipu.engine import native_vision as room
from quipu.engine.native_vision import NativeEncoder, vision_bytes
from quipu.engine.packed import packed_weights as pack
from quipu.model.checkpoint import Checkpoint, open_checkpoint
from quipu.model.config import VisionConfig
from quipu.model.decoder import Loader
from quipu.model.vision import VisionEncoder
from quipu.model.weights import Tensor, float_tensor, vision_shapes

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = ("llama4-tiny-step1", "llama4-tiny-step2")


@pytest.fixture(params=STEPS, scope="module")
def tiny(request: pytest.FixtureRequest) -> Checkpoint:
    return open_checkpoint(GOLDEN / str(request.param))


def vectors_of(encoder: NativeEncoder, pixels: np.ndarray) -> np.ndarray:
    *pauses, found = encoder.encode(pixels)
    assert all(each is None for each in pauses)
    assert found is not None
    return found


@pytest.mark.parametrize("instructions", native.instruction_sets())
def test_golden(tiny, instructions):
    golden = np.load(tiny.path / "vectors.npz")
    encoder = NativeEncoder(tiny.config.vision, tiny.vision, "auto", threads=2, instructions=instructions)
    found = vectors_of(encoder, golden["pixels_image1"])
    assert np.abs(found - golden["vision_projected_image1"]).max() <= 2e-5
    again = vectors_of(encoder, golden["pixels_image1"][:1])
    assert (again == found[: len(again)]).all(), "a tile does not see others, nor what was there before"


@pytest.fixture(scope="module")
def odd() -> tuple[VisionConfig, dict[str, Tensor]]:
    """Heads of 24: neither whole vectors nor a power of two, as the real model's 88."""
    config = VisionConfig(96, 200, 3, 4, 84, 14, 40, 2, 10000.0, 7)
    random = np.random.default_rng(1)
    tensors = {
        name: float_tensor(name, random.normal(0, 0.15, shape).astype(np.float32), "F32")
        for name, shape in vision_shapes(config, 64).items()
    }
    return config, tensors


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_heads_that_are_no_whole_vectors(odd, threads):
    config, tensors = odd
    pixels = np.random.default_rng(2).normal(0, 0.5, (2, 3, 84, 84)).astype(np.float32)
    native_encoder = NativeEncoder(config, tensors, "auto", threads=threads, instructions=native.instruction_sets()[0])
    theirs = VisionEncoder(config, Loader(tensors, torch.float32, torch.device("cpu")))(torch.from_numpy(pixels))
    found = vectors_of(native_encoder, pixels)
    expected = theirs.reshape(found.shape).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_eight_bits_stay_near(odd):
    config, tensors = odd
    pixels = np.random.default_rng(2).normal(0, 0.5, (1, 3, 84, 84)).astype(np.float32)
    exact, rounded = (
        vectors_of(NativeEncoder(config, tensors, kind, threads=2, instructions=native.instruction_sets()[0]), pixels)
        for kind in ("F32", "Q8_0")
    )
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.03


@pytest.mark.parametrize("kind", ["auto", "F32", "Q8_0"])
def test_its_memory_is_known_before(odd, kind, monkeypatch):
    config, tensors = odd
    packed = []
    monkeypatch.setattr(room, "packed_weights", lambda *given, **more: packed.append(pack(*given, **more)) or packed[0])
    encoder = NativeEncoder(config, tensors, kind, threads=1, instructions=native.instruction_sets()[0])
    kept = [each.data.nbytes for each in packed[0].matrices.values()]
    kept += [each.nbytes for each in encoder._vectors.values()]
    assert vision_bytes(config, tensors, kind) == sum(kept)


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 0.02), ("Q4_K", 0.02)])
def test_a_quantised_projector_file(kind, most):
    """Of kinds that have kernels of their own and of such that have not, as a text model's."""
    config = VisionConfig(256, 512, 2, 4, 28, 14, 256, 2, 10000.0, 7)
    random = np.random.default_rng(1)
    quantised, decoded = {}, {}
    for name, shape in vision_shapes(config, 64).items():
        values = random.normal(0, 0.06, shape).astype(np.float32)
        quantised[name] = decoded[name] = float_tensor(name, values, "F32")
        if len(shape) == 2 and name.endswith(".weight") and shape[1] % 256 == 0:
            blocks = quantize(values, GGMLQuantizationType[kind]) if kind == "Q8_0" else random_k_blocks(random, shape)
            quantised[name] = Tensor(name, shape, kind, np.ascontiguousarray(blocks).reshape(-1).view(np.uint8))
            decoded[name] = float_tensor(name, quantised[name].float32(), "F32")
    pixels = np.random.default_rng(2).normal(0, 0.5, (1, 3, 28, 28)).astype(np.float32)
    found, exact = (
        vectors_of(NativeEncoder(config, each, "auto", threads=1, instructions=native.instruction_sets()[0]), pixels)
        for each in (quantised, decoded)
    )
    assert np.linalg.norm(found - exact) <= most * np.linalg.norm(exact)


def random_k_blocks(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Q4_K, of which gguf decodes and does not make: scales of a halfword, the rest random."""
    blocks = random.integers(0, 256, (shape[0], shape[1] // 256, 144), np.uint8)
    blocks[..., :4] = np.array([2e-4, 1.4e-3], np.float16).view(np.uint8)
    return blocks


def test_it_pauses_after_every_layer(odd):
    config, tensors = odd
    encoder = NativeEncoder(config, tensors, "auto", threads=1, instructions=native.instruction_sets()[0])
    parts = list(encoder.encode(np.zeros((2, 3, 84, 84), np.float32)))
    assert len(parts) >= 2 * config.layers + 1
    assert parts[-1].shape == (2 * config.tile_tokens, 64)


def test_gelu_is_the_exact_form():
    plan = native.Plan(1, native.instruction_sets()[0])
    values = np.linspace(-6, 6, 4096, dtype=np.float32)[None]
    source, made = plan.buffer(4096), plan.buffer(4096)
    plan.given(source)
    plan.gelu(source, made)
    numbers = [np.array([each], np.int32) for each in (0, 1, 0, 0)]
    plan.run(numbers[0], numbers[1], numbers[2], np.empty(0, np.int32), numbers[3], np.empty(0, np.int32), 0,
             given_rows=np.zeros(1, np.int32), given=values)  # fmt: skip
    exact = torch.nn.functional.gelu(torch.from_numpy(values.astype(np.float64))).numpy()
    assert np.abs(plan.read(made, 1) - exact).max() < 1e-6


def test_what_does_not_fit_is_refused():
    plan = native.Plan(1, native.instruction_sets()[0])
    source = plan.buffer(32)
    plan.given(source)
    one = np.zeros(1, np.int32)
    counts = (one, np.array([1], np.int32), one, np.empty(0, np.int32), one, np.empty(0, np.int32), 0)
    with pytest.raises(ValueError, match="every token of this plan is given"):
        plan.run(*counts)
    with pytest.raises(ValueError, match="as wide as embeddings"):
        plan.run(*counts, given_rows=one, given=np.zeros((1, 31), np.float32))
    with pytest.raises(ValueError, match="a given row has a place in the step"):
        plan.run(*counts, given_rows=one + 1, given=np.zeros((1, 32), np.float32))
    with pytest.raises(ValueError, match="a part is of the steps there are"):
        plan.run(*counts, given_rows=one, given=np.zeros((1, 32), np.float32), part=(0, 2))
    with pytest.raises(ValueError, match="a table is as wide"):
        plan.table(np.zeros((1, 31), np.float32), source)
    with pytest.raises(ValueError, match="one beginning"):
        plan.given(source)
    cache, mixed, out = plan.cache("f32", 1, 16, 1), plan.buffer(48), plan.buffer(16)
    with pytest.raises(ValueError, match="does not see a chunk"):
        plan.attention(mixed, cache, 1, out, chunk=4, whole=True)


def test_a_picture_changes_only_what_it_should(tiny):
    golden = np.load(tiny.path / "vectors.npz")
    encoder = NativeEncoder(
        replace(tiny.config.vision), tiny.vision, "auto", threads=1, instructions=native.instruction_sets()[0]
    )
    one, other = (vectors_of(encoder, golden[f"pixels_image{number}"]) for number in (1, 2))
    assert np.abs(one[: len(other)] - other[: len(one)]).max() > 0.1
