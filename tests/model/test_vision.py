"""The vision encoder against golden intermediates of transformers, step by step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config_huggingface import from_huggingface
from quipu.model.decoder import Loader
from quipu.model.safetensors import read_safetensors
from quipu.model.vision import VisionEncoder

GOLDEN = Path(__file__).parents[1] / "golden"
LIMIT = 1e-5


@pytest.fixture(params=["llama4-tiny-step1", "llama4-tiny-step2"], scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / str(request.param)


@pytest.fixture(scope="module")
def vectors(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "vectors.npz"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> VisionEncoder:
    config = from_huggingface(json.loads((folder / "config.json").read_text()))
    tensors = read_safetensors(folder / "model.safetensors")
    assert config.vision is not None
    return VisionEncoder(config.vision, Loader(tensors, torch.float32, torch.device("cpu")))


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.detach().numpy().reshape(theirs.shape) - theirs).max())


@torch.inference_mode()
def test_every_step_equals_the_oracle(encoder, vectors):
    tiles = torch.from_numpy(vectors["pixels_image1"])
    assert np.abs(encoder.cosines.numpy() - vectors["vision_rope_cos"]).max() == 0
    assert np.abs(encoder.sines.numpy() - vectors["vision_rope_sin"]).max() == 0
    x = encoder.embed(tiles)
    assert difference(x[0], vectors["vision_after_ln_pre"]) <= LIMIT
    for layer, expected in zip(encoder.layers, vectors["vision_layer_outputs_tile0"], strict=True):
        x = layer(x, encoder.cosines, encoder.sines)
        assert difference(x[0], expected) <= LIMIT
    normed = encoder.norm_after(x)
    assert difference(normed[0], vectors["vision_after_ln_post"]) <= LIMIT
    assert difference(encoder.adapt(normed), vectors["vision_adapter_out_image1"]) <= LIMIT
    assert difference(encoder(tiles), vectors["vision_projected_image1"]) <= LIMIT


@torch.inference_mode()
def test_a_tile_does_not_see_others(encoder, vectors):
    tiles = torch.from_numpy(np.concatenate([vectors["pixels_image1"], vectors["pixels_image2"]]))
    together = encoder(tiles)
    for place, tile in enumerate(tiles):
        assert difference(encoder(tile[None]), together[place : place + 1].numpy()) <= LIMIT


@torch.inference_mode()
def test_patches_are_small_squares(encoder):
    """Not one patch for a whole picture: a pixel reaches exactly one patch before attention."""
    side, size = encoder.config.tile_size, encoder.config.patch_size
    tile = torch.zeros(1, 3, side, side)
    plain = encoder.embed(tile)
    tile[0, 1, size + 3, 2 * size + 5] = 1
    changed = (encoder.embed(tile) != plain).any(-1)[0].nonzero()[:, 0].tolist()
    assert plain.shape[1] == (side // size) ** 2 + 1
    assert changed == [side // size + 2]


def test_token_counts_of_the_published_size(folder):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= {"image_size": 336, "patch_size": 14}
    vision = from_huggingface(config).vision
    assert vision is not None
    assert (vision.patches_a_side, vision.tile_tokens) == (24, 144)


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"image_size": 100}, DamagedCheckpoint, "tiles of 100 are not whole blocks of 2 patches of 14"),
    ({"num_attention_heads": 3}, DamagedCheckpoint, "3 heads of 32 columns do not have whole pairs"),
    ({"hidden_act": "gelu_new"}, UnsupportedCheckpoint, "hidden_act is 'gelu_new'"),
    ({"patch_size": 0}, DamagedCheckpoint, "patch_size is 0"),
    ({"pixel_shuffle_ratio": 4.0}, DamagedCheckpoint, "the ratio of pixel shuffle is not from 1 / "),
    ({"pixel_shuffle_ratio": 1e-9}, DamagedCheckpoint, "the ratio of pixel shuffle is not from 1 / "),
    ({"pixel_shuffle_ratio": 5e-324}, DamagedCheckpoint, "must be a number between 1e-12"),
    ({"num_hidden_layers": 4096}, DamagedCheckpoint, "num_hidden_layers is 4096"),
])  # fmt: skip
def test_refused_configurations(folder, changes, error, words):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= changes
    with pytest.raises(error, match=words):
        from_huggingface(config)
