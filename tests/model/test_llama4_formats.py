"""A Llama 4 in all its forms is the same weights: those that transformers saved."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tiny_llama4 import (
    FORMS,
    GOLDEN,
    STEPS,
    meta_shards,
    split_experts,
    stored,
    text_config,
    text_weights,
    write,
    write_gguf,
    write_projector,
)

from quipu.errors import CheckpointError, DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.checkpoint import Checkpoint, open_checkpoint
from quipu.model.config import ModelConfig
from quipu.model.llama import reference_logits


def weights(step: str) -> dict[str, NDArray[np.float32]]:
    """What every reader must give."""
    return split_experts(text_weights(stored(step)))


@pytest.fixture(scope="module", params=[(form, step) for step in STEPS for form in ("golden", *FORMS)], ids="-".join)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Checkpoint]:
    form, step = request.param
    path = GOLDEN / step if form == "golden" else write(form, step, tmp_path_factory.mktemp("llama4"))
    return form, step, open_checkpoint(path)


def test_weights_are_those_of_transformers(opened: tuple[str, str, Checkpoint]) -> None:
    _, step, checkpoint = opened
    expected = weights(step)
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in checkpoint.tensors.items():
        assert tensor.shape == expected[name].shape, name
        assert tensor.nbytes == expected[name].nbytes
        np.testing.assert_array_equal(tensor.float32(), expected[name], name)


def test_rows_are_those_of_the_whole(opened: tuple[str, str, Checkpoint]) -> None:
    _, step, checkpoint = opened
    expected = weights(step)
    for name, tensor in checkpoint.tensors.items():
        if len(tensor.shape) == 2:
            last = tensor.shape[0]
            for first, end in ((0, 1), (1, last - 1), (last // 2 - 1, last // 2 + 1), (last - 1, last)):
                rows = tensor.rows(first, end)
                assert rows.shape == (end - first, tensor.shape[1])
                np.testing.assert_array_equal(rows.float32(), expected[name][first:end], name)


def test_configurations_agree(opened: tuple[str, str, Checkpoint]) -> None:
    form, step, checkpoint = opened

    def apart_from_rope(config: ModelConfig) -> str:
        return repr(replace(config, vision=None)).replace(repr(config.rope), "")

    golden = open_checkpoint(GOLDEN / step).config
    assert apart_from_rope(checkpoint.config) == apart_from_rope(golden)
    ours, theirs = (each.rope.inverse_frequencies() for each in (checkpoint.config, golden))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6 if form == "gguf" else 0)


@pytest.mark.parametrize(("form", "step"), [("sharded", STEPS[0]), ("pth-2", STEPS[1]), ("gguf", STEPS[0])])
def test_logits_are_golden(form: str, step: str, tmp_path: Path) -> None:
    """Of one token more than a chunk; the weights being the same, longer texts are for tests of the network."""
    checkpoint = open_checkpoint(write(form, step, tmp_path))
    vectors = np.load(GOLDEN / step / "vectors.npz")
    found = reference_logits(checkpoint.config, checkpoint.tensors, vectors["ids_17"].tolist())
    assert np.abs(found.numpy() - vectors["logits_17"]).max() <= 1e-4


def test_the_image_encoder_comes_with_it(opened: tuple[str, str, Checkpoint]) -> None:
    form, step, checkpoint = opened
    expected = {name: each for name, each in stored(step).items() if not name.startswith("language_model.")}
    if form in ("text", "split", "gguf"):
        assert not checkpoint.vision
        assert checkpoint.config.vision is None
        return
    golden = open_checkpoint(GOLDEN / step).config.vision
    patch = checkpoint.config.vision.patch_token if form.startswith("pth") else golden.patch_token
    assert checkpoint.config.vision == replace(golden, patch_token=patch)
    assert checkpoint.vision.keys() == expected.keys()
    for name, tensor in checkpoint.vision.items():
        np.testing.assert_array_equal(tensor.float32(), expected[name], name)


def test_a_gguf_sees_with_the_projector_beside_it(tmp_path: Path) -> None:
    text = write_gguf(tmp_path / "text.gguf", STEPS[0])
    write_projector(tmp_path / "mmproj-text.gguf", STEPS[0])
    for given in (text, tmp_path):
        checkpoint = open_checkpoint(given)
        golden = open_checkpoint(GOLDEN / STEPS[0])
        assert checkpoint.config.vision == replace(golden.config.vision, patch_token=200092)
        assert {file.name for file in checkpoint.files} == {"text.gguf", "mmproj-text.gguf"}
        for name, tensor in golden.vision.items():
            np.testing.assert_array_equal(checkpoint.vision[name].float32(), tensor.float32(), name)


def test_projectors_that_cannot_be_meant(tmp_path: Path) -> None:
    text = write_gguf(tmp_path / "text.gguf", STEPS[0])
    other = gguf.GGUFWriter(tmp_path / "mmproj-a.gguf", "clip")
    other.add_string("clip.projector_type", "ldp")
    other.add_tensor("v.class_embd", np.zeros(4, np.float32))
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.write_tensors_to_file()
    other.close()
    with pytest.raises(UnsupportedCheckpoint, match="projector of type 'ldp', not of a Llama 4; remove it"):
        open_checkpoint(text)
    write_projector(tmp_path / "mmproj-b.gguf", STEPS[0])
    with pytest.raises(CheckpointError, match=r"several projectors \(mmproj-a.gguf, mmproj-b.gguf\)"):
        open_checkpoint(text)


def test_an_encoder_that_is_not_whole_is_named(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / STEPS[0], tmp_path / "model")
    weights = stored(STEPS[0])
    del weights["vision_model.layernorm_pre.bias"]
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(DamagedCheckpoint, match=r"a vision encoder \(1 missing: vision_model.layernorm_pre.bias\)"):
        open_checkpoint(tmp_path / "model")


def test_the_writer_of_shards_is_what_metas_load_hooks_take() -> None:
    """The released names, through the hooks of Meta's own modules, are the matrices of its network."""
    from types import SimpleNamespace

    hooks = pytest.importorskip("llama_models.llama4.moe"), pytest.importorskip("llama_models.llama4.model")
    step = STEPS[1]
    text, expected = text_config(step), weights(step)
    state = {name: torch.from_numpy(each) for name, each in meta_shards(step, 1)[0].items()}
    rest = ({}, True, [], [], [])
    module = SimpleNamespace(
        n_heads=text["num_attention_heads"], n_kv_heads=text["num_key_value_heads"],
        num_local_experts=text["num_local_experts"], dim=text["hidden_size"],
    )  # fmt: skip
    for i in range(text["num_hidden_layers"]):
        hooks[1].Attention.load_hook(module, state, f"layers.{i}.attention.", *rest)
        hooks[1].TransformerBlock.load_hook(module, state, f"layers.{i}.", *rest)
        hooks[0].MoE.load_hook(module, state, f"layers.{i}.feed_forward.", *rest)
        hooks[0].Experts.load_hook(module, state, f"layers.{i}.feed_forward.experts.", *rest)
        hooks[0].FeedForward.load_hook(module, state, f"layers.{i}.feed_forward.", *rest)
        for part in "qkv":
            theirs = state[f"layers.{i}.attention.w{part}.weight"].numpy()
            np.testing.assert_array_equal(theirs, expected[f"model.layers.{i}.self_attn.{part}_proj.weight"])
        routed = f"layers.{i}.feed_forward.experts.w1" in state
        for theirs, ours in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
            start = f"model.layers.{i}.feed_forward."
            if routed:
                found = state[f"layers.{i}.feed_forward.experts.{theirs}"][1].numpy().T
                np.testing.assert_array_equal(found, expected[f"{start}experts.1.{ours}.weight"])
                found = state[f"layers.{i}.feed_forward.shared_expert.{theirs}.weight"].numpy()
                np.testing.assert_array_equal(found, expected[f"{start}shared_expert.{ours}.weight"])
            else:
                found = state[f"layers.{i}.feed_forward.{theirs}.weight"].numpy()
                np.testing.assert_array_equal(found, expected[f"{start}{ours}.weight"])
        assert f"layers.{i}.attention_norm.weight" in state
        assert f"layers.{i}.ffn_norm.weight" in state


# ---- files that lie


def changed(folder: Path, step: str = STEPS[0], **tensors: NDArray[np.float32] | None) -> Path:
    """The golden checkpoint with other tensors in layer 1's feed-forward; None takes one away."""
    whole = stored(step)
    for name, value in tensors.items():
        key = f"language_model.model.layers.1.feed_forward.{name.replace('__', '.')}"
        whole = {each: kept for each, kept in whole.items() if each != key}
        if value is not None:
            whole[key] = value
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((GOLDEN / step / "config.json").read_text())
    save_file(whole, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("experts__gate_up_proj", (3, 64, 64), r"gate_up_proj is \[3, 64, 64\], expected \[4, 64, 64\]"),
        ("experts__gate_up_proj", (4, 64, 63), r"gate_up_proj is \[4, 64, 63\], expected \[4, 64, 64\]"),
        ("experts__gate_up_proj", (256, 64), r"gate_up_proj is \[256, 64\], expected \[4, 64, 64\]"),
        ("experts__down_proj", (4, 64, 32), r"down_proj is \[4, 64, 32\], expected \[4, 32, 64\]"),
        ("router__weight", (64, 4), r"router\.weight is \[64, 4\], expected \[4, 64\]"),
        ("experts__1__gate_proj__weight", (32, 64), r"two tensors stand for .*experts\.1\.gate_proj"),
        ("experts__9__gate_proj__weight", (32, 64), r"1 left over: model\.layers\.1\.feed_forward\.experts\.9"),
        ("gate_proj__weight", (64, 64), r"1 left over: model\.layers\.1\.feed_forward\.gate_proj"),
    ],
)
def test_wrong_shapes_and_names_are_named(name: str, shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=words):
        open_checkpoint(changed(tmp_path, **{name: np.zeros(shape, np.float32)}))


def test_missing_experts_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"4 missing: model\.layers\.1\.feed_forward\.experts\.0\.down_proj"):
        open_checkpoint(changed(tmp_path, experts__down_proj=None))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write("sharded", STEPS[0], tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"model-00002-of-00003\.safetensors is missing"):
        open_checkpoint(folder)


def rewritten(folder: Path, count: int, shard: int, name: str, value: NDArray[np.float32]) -> Path:
    """Meta's files with another tensor in one shard."""
    write(f"pth-{count}", STEPS[1], folder)
    path = folder / f"consolidated.{shard:02}.pth"
    content = torch.load(path, weights_only=True)
    assert name in content
    torch.save({**content, name: torch.from_numpy(value)}, path)
    return folder


ROUTED = "layers.1.feed_forward."


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (
            f"{ROUTED}experts.moe_w_in_eD_F",
            (255, 16),
            r"moe_w_in_eD_F is \[255, 16\], which are not the rows of \d",
        ),
        (f"{ROUTED}experts.moe_w_in_eD_F", (64,), r"moe_w_in_eD_F is \[64\], which are not the rows"),
        (f"{ROUTED}experts.moe_w_out_eF_D", (64, 60), r"shards of .*0\.down_proj\.weight do not fit together"),
        ("layers.0.feed_forward.mlp.fc1_weight", (63, 64), r"fc1_weight is \[63, 64\] in one of 2 shards; together"),
        (
            "layers.0.attention.wqkv.weight",
            (65, 64),
            r"wqkv\.weight is \[65, 64\] in one of 2 .*64 \+ 32 \+ 32",
        ),
        ("layers.0.attention.wo.weight", (60, 32), r"shards of model\.layers\.0\.self_attn\.o_proj\.weight do not fit"),
        ("norm.weight", (63,), r"shards of model\.norm\.weight do not fit together"),
    ],
)
def test_meta_shards_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=words):
        open_checkpoint(rewritten(tmp_path, 2, 1, name, np.zeros(shape, np.float32)))


def test_a_router_that_is_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match=r"router_DE is \[256\], not a matrix"):
        open_checkpoint(rewritten(tmp_path, 1, 0, f"{ROUTED}router_DE", np.zeros(256, np.float32)))


def test_a_checkpoint_cut_short_while_it_is_used(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(changed(tmp_path))
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(DamagedCheckpoint, match="was cut short while the model was in use"):
        checkpoint.tensors["model.layers.1.feed_forward.experts.3.up_proj.weight"].float32()


def test_fused_experts_of_another_number_in_a_gguf(tmp_path: Path) -> None:
    path = write("gguf", STEPS[0], tmp_path)
    reader = gguf.GGUFReader(path, "r+")
    [count] = reader.fields["llama4.expert_count"].parts[-1]
    reader.fields["llama4.expert_count"].parts[-1][0] = count + 1
    del reader
    with pytest.raises(DamagedCheckpoint, match=r"ffn_down_exps\.weight is \[4, 64, 32\], expected \[5, 64, 32\]"):
        open_checkpoint(path)
