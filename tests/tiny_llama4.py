"""The golden tiny Llama 4 in every form in which its weights are published.

The writers are the oracle of the readers and share no code with src/quipu: Meta's names and how its shards are cut are
those of llama_models' load hooks and of fairscale's layers, GGUF is written by gguf.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"
STEPS = ("llama4-tiny-step1", "llama4-tiny-step2")
FORMS = ("text", "split", "sharded", "pth-1", "pth-2", "pth-4", "gguf")
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")

Weights = Mapping[str, NDArray[np.float32]]


def stored(step: str) -> dict[str, NDArray[np.float32]]:
    """As transformers saved them."""
    return load_file(GOLDEN / step / "model.safetensors")


def text_config(step: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((GOLDEN / step / "config.json").read_text())["text_config"]
    return config


def write(form: str, step: str, folder: Path) -> Path:
    """The checkpoint in one of FORMS, in a new ``folder``; returns what open_checkpoint takes."""
    folder.mkdir(parents=True, exist_ok=True)
    if form.startswith("pth-"):
        return write_meta(folder, step, int(form.removeprefix("pth-")))
    if form == "gguf":
        return write_gguf(folder / "tiny.gguf", step)
    config = {**text_config(step), "model_type": "llama4_text", "architectures": ["Llama4ForCausalLM"]}
    weights = text_weights(stored(step))
    if form == "sharded":
        return write_sharded(folder, step)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(split_experts(weights) if form == "split" else weights, folder / "model.safetensors")
    return folder


def text_weights(tensors: Weights) -> dict[str, NDArray[np.float32]]:
    """Those of the text model, as a text-only checkpoint names them."""
    start = "language_model."
    return {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}


def split_experts(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Each expert's matrices by themselves, [out, in], as third parties publish them."""
    split = {}
    for name, each in weights.items():
        prefix, _, part = name.rpartition(".")
        if part not in ("gate_up_proj", "down_proj"):
            split[name] = each
            continue
        for expert, fused in enumerate(each):
            named = {part: fused.T}
            if part == "gate_up_proj":
                named = dict(zip(("gate_proj", "up_proj"), np.split(fused.T, 2), strict=True))
            split |= {f"{prefix}.{expert}.{which}.weight": np.ascontiguousarray(own) for which, own in named.items()}
    return split


def write_sharded(folder: Path, step: str) -> Path:
    """The whole multimodal checkpoint in three files and an index."""
    shutil.copy(GOLDEN / step / "config.json", folder)
    tensors = stored(step)
    names, weight_map = sorted(tensors), {}
    for i in range(3):
        file = f"model-{i + 1:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[i::3]}, folder / file)
        weight_map |= dict.fromkeys(names[i::3], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


# ---- Meta


def meta_params(step: str) -> dict[str, Any]:
    """params.json whose formulas give the widths of the golden configuration."""
    text = text_config(step)
    return {
        "dim": text["hidden_size"], "n_layers": text["num_hidden_layers"], "n_heads": text["num_attention_heads"],
        "n_kv_heads": text["num_key_value_heads"], "head_dim": text["head_dim"], "vocab_size": -1,
        "multiple_of": 32, "ffn_dim_multiplier": 64 / 170, "ffn_exp": 4.0, "norm_eps": text["rms_norm_eps"],
        "rope_theta": text["rope_theta"], "use_scaled_rope": text["rope_scaling"] is not None,
        "attention_chunk_size": text["attention_chunk_size"], "nope_layer_interval": text["no_rope_layer_interval"],
        "use_qk_norm": text["use_qk_norm"], "attn_temperature_tuning": text["attn_temperature_tuning"],
        "floor_scale": text["floor_scale"], "attn_scale": text["attn_scale"], "max_seq_len": 4096,
        "vision_args": {
            "image_size": {"height": 56, "width": 56}, "patch_size": {"height": 14, "width": 14}, "dim": 32,
            "n_layers": 2, "n_heads": 2, "mlp_ratio": 4.0, "output_dim": 48, "pixel_shuffle_ratio": 0.5,
        },
        "moe_args": {"num_experts": text["num_local_experts"], "capacity_factor": 1.0, "auto_scale_F": True, "top_k": 1,
                     "interleave_moe_layer_step": text["interleave_moe_layer_step"]},
    }  # fmt: skip


def meta_shards(step: str, count: int) -> list[dict[str, NDArray[np.float32]]]:
    """Every shard's tensors as Meta released them."""
    tensors = stored(step)
    weights = text_weights(tensors)
    shards: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(count)]

    def put(name: str, whole: NDArray[np.float32], axis: int | None) -> None:
        for shard, part in zip(shards, [whole] * count if axis is None else np.split(whole, count, axis), strict=True):
            shard[name] = np.ascontiguousarray(part)

    def stack(name: str, *wholes: NDArray[np.float32]) -> None:
        for i, shard in enumerate(shards):
            shard[name] = np.concatenate([np.split(whole, count)[i] for whole in wholes])

    put("tok_embeddings.weight", weights["model.embed_tokens.weight"], 0)
    put("norm.weight", weights["model.norm.weight"], None)
    put("output.weight", weights["lm_head.weight"], 0)
    for i in range(text_config(step)["num_hidden_layers"]):
        start, ours = f"layers.{i}.", f"model.layers.{i}."
        layer = {name.removeprefix(ours): each for name, each in weights.items() if name.startswith(ours)}
        stack(f"{start}attention.wqkv.weight", *(layer[f"self_attn.{part}_proj.weight"] for part in "qkv"))
        put(f"{start}attention.wqkv.layer_norm_weight", layer["input_layernorm.weight"], None)
        put(f"{start}attention.wo.weight", layer["self_attn.o_proj.weight"], 1)
        if "feed_forward.gate_proj.weight" in layer:
            put(f"{start}feed_forward.mlp.layer_norm_weight", layer["post_attention_layernorm.weight"], None)
            gate, up = (layer[f"feed_forward.{part}_proj.weight"] for part in ("gate", "up"))
            stack(f"{start}feed_forward.mlp.fc1_weight", gate, up)
            put(f"{start}feed_forward.mlp.fc2_weight", layer["feed_forward.down_proj.weight"], 1)
            continue
        start += "feed_forward."
        put(f"{start}norm.weight", layer["post_attention_layernorm.weight"], None)
        put(f"{start}router_DE", layer["feed_forward.router.weight"].T, None)
        for name, part in (("w_in_shared_FD", "gate"), ("w_swiglu_FD", "up"), ("w_out_shared_DF", "down")):
            put(f"{start}{name}.weight", layer[f"feed_forward.shared_expert.{part}_proj.weight"], int(part == "down"))
        gate, up = np.split(layer["feed_forward.experts.gate_up_proj"], 2, axis=2)
        for name, whole, axis in (
            ("in_eD_F", gate, 2), ("swiglu_eD_F", up, 2), ("out_eF_D", layer["feed_forward.experts.down_proj"], 1),
        ):  # fmt: skip
            for shard, part in zip(shards, np.split(whole, count, axis), strict=True):
                shard[f"{start}experts.moe_w_{name}"] = part.reshape(-1, part.shape[-1]).copy()
        put(f"{start}running_gate_stats_3E", np.zeros((3, 4), np.float32), None)
    for name, whole in tensors.items():
        if not name.startswith("language_model."):
            theirs, axis = meta_vision(name)
            put(theirs, whole, axis)
    return shards


VISION = {
    "multi_modal_projector.linear_1.weight": ("vision_projection.weight", 0),
    "vision_model.vision_adapter.mlp.fc1.weight": ("vision_embeddings.vision_adapter.mlp.c_fc.weight", 0),
    "vision_model.vision_adapter.mlp.fc2.weight": ("vision_embeddings.vision_adapter.mlp.c_proj.weight", 1),
    "vision_model.patch_embedding.linear.weight": ("vision_embeddings.vision_encoder.conv1._linear.weight", 0),
}
BLOCK = {
    "self_attn.q_proj": ("attn.wq", 0), "self_attn.k_proj": ("attn.wk", 0), "self_attn.v_proj": ("attn.wv", 0),
    "self_attn.o_proj": ("attn.wo", 1), "mlp.fc1": ("mlp.c_fc", 0), "mlp.fc2": ("mlp.c_proj", 1),
    "input_layernorm": ("ln_1", None), "post_attention_layernorm": ("ln_2", None),
}  # fmt: skip


def meta_vision(name: str) -> tuple[str, int | None]:
    """Meta's name of a vision tensor, and the axis along which it is cut."""
    if name in VISION:
        return VISION[name]
    encoder, rest = "vision_embeddings.vision_encoder.", name.removeprefix("vision_model.")
    block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", rest)
    if block is None:
        return encoder + rest.replace("layernorm_", "ln_"), None
    theirs, axis = BLOCK[block[2]]
    return f"{encoder}transformer.resblocks.{block[1]}.{theirs}.{block[3]}", None if block[
        3
    ] == "bias" and axis else axis


def write_meta(folder: Path, step: str, count: int) -> Path:
    import torch

    (folder / "params.json").write_text(json.dumps(meta_params(step)))
    for i, shard in enumerate(meta_shards(step, count)):
        torch.save({name: torch.from_numpy(each) for name, each in shard.items()}, folder / f"consolidated.{i:02}.pth")
    return folder


# ---- GGUF


def write_gguf(path: Path, step: str) -> Path:
    """As llama.cpp's converter writes it, and with the fields of quipu for what its code has as constants."""
    text, weights = text_config(step), text_weights(stored(step))
    writer = gguf.GGUFWriter(path, "llama4")
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_feed_forward_length(text["intermediate_size_mlp"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_key_length(text["head_dim"])
    writer.add_value_length(text["head_dim"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_rope_freq_base(text["rope_theta"])
    writer.add_rope_dimension_count(text["head_dim"])
    writer.add_expert_count(text["num_local_experts"])
    writer.add_expert_used_count(1)
    writer.add_expert_feed_forward_length(text["intermediate_size"])
    writer.add_interleave_moe_layer_step(text["interleave_moe_layer_step"])
    writer.add_uint32("llama4.attention.chunk_size", text["attention_chunk_size"])
    writer.add_float32("llama4.attention.temperature_floor", text["floor_scale"])
    writer.add_float32("llama4.attention.temperature_scale", text["attn_scale"])
    writer.add_bool("llama4.attention.query_key_norm", text["use_qk_norm"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA4, text["num_hidden_layers"])
    if text["rope_scaling"] is not None:
        tables = json.loads((GOLDEN / step / "rope_inv_freq.json").read_text())
        plain = 1 / text["rope_theta"] ** (np.arange(0, text["head_dim"], 2) / text["head_dim"])
        writer.add_tensor("rope_freqs.weight", (plain / np.array(tables["inv_freq"])).astype(np.float32))
    for name, weight in weights.items():
        if name.endswith("gate_up_proj"):
            for part, half in zip(("gate_proj", "up_proj"), np.split(weight, 2, axis=2), strict=True):
                theirs = names.get_name(name.replace("gate_up_proj", part))
                writer.add_tensor(f"{theirs}.weight", np.ascontiguousarray(half.swapaxes(1, 2)))
        elif name.endswith("experts.down_proj"):
            writer.add_tensor(f"{names.get_name(name)}.weight", np.ascontiguousarray(weight.swapaxes(1, 2)))
        else:
            writer.add_tensor(f"{names.get_name(name.removesuffix('.weight'))}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_projector(path: Path, step: str) -> Path:
    """As llama.cpp's converter writes it; the names are those of its library, but for three that it gives otherwise."""
    weights = {name: each for name, each in stored(step).items() if not name.startswith("language_model.")}
    vision = json.loads((GOLDEN / step / "config.json").read_text())["vision_config"]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("clip.vision.projector_type", "llama4")
    writer.add_uint32("clip.vision.image_size", vision["image_size"])
    writer.add_uint32("clip.vision.patch_size", vision["patch_size"])
    writer.add_uint32("clip.vision.embedding_length", vision["hidden_size"])
    writer.add_uint32("clip.vision.feed_forward_length", vision["intermediate_size"])
    writer.add_uint32("clip.vision.block_count", vision["num_hidden_layers"])
    writer.add_uint32("clip.vision.attention.head_count", vision["num_attention_heads"])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])
    own = {
        "vision_model.class_embedding": "v.class_embd",
        "vision_model.positional_embedding_vlm": "v.position_embd.weight",
        "vision_model.vision_adapter.mlp.fc1.weight": "mm.model.mlp.1.weight",
        "vision_model.vision_adapter.mlp.fc2.weight": "mm.model.mlp.2.weight",
        "multi_modal_projector.linear_1.weight": "mm.model.fc.weight",
    }
    for name, weight in weights.items():
        stem, _, part = name.rpartition(".")
        writer.add_tensor(own.get(name) or f"{names.get_name(stem)}.{part}", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---- larger than memory


def write_large(folder: Path, *, hidden: int, inner: int, experts: int, layers: int, holes: bool = False) -> Path:
    """A Llama 4 of bfloat16 weights that repeat, a shard for every two layers. ``holes``: zeros, no disk."""
    folder.mkdir(parents=True, exist_ok=True)
    config = text_config(STEPS[0]) | {
        "model_type": "llama4_text", "hidden_size": hidden, "intermediate_size": inner, "intermediate_size_mlp": inner,
        "num_hidden_layers": layers, "num_local_experts": experts, "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64, "head_dim": 64, "vocab_size": 512,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(np.float32)
    tile = (noise.view(np.uint32) >> 16).astype("<u2").tobytes()
    weight_map: dict[str, str] = {}
    outer = {"model.embed_tokens": (512, hidden), "lm_head": (512, hidden), "model.norm": (hidden,)}
    for shard in range(-(-layers // 2) + 1):
        shapes = {f"{name}.weight": shape for name, shape in outer.items()} if shard == 0 else {}
        for layer in range(2 * shard - 2, min(2 * shard, layers)) if shard else ():
            shapes |= _large_layer(f"model.layers.{layer}.", hidden, inner, experts)
        name = f"model-{shard + 1:05}.safetensors"
        _write_shard(folder / name, shapes, None if holes else tile)
        weight_map |= dict.fromkeys(shapes, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def _large_layer(start: str, hidden: int, inner: int, experts: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"}
    shapes |= {f"{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
    shapes |= {f"feed_forward.shared_expert.{part}_proj.weight": (inner, hidden) for part in ("gate", "up")}
    shapes |= {
        "feed_forward.shared_expert.down_proj.weight": (hidden, inner),
        "feed_forward.router.weight": (experts, hidden),
        "feed_forward.experts.gate_up_proj": (experts, hidden, 2 * inner),
        "feed_forward.experts.down_proj": (experts, inner, hidden),
    }
    return {start + name: shape for name, shape in shapes.items()}


def _write_shard(path: Path, shapes: Mapping[str, tuple[int, ...]], tile: bytes | None) -> None:
    """By hand, a tile after another: no tensor need be in memory."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if tile is None:
            file.truncate(8 + len(text) + end)
            return
        for start in range(0, end, len(tile)):
            file.write(tile[: min(len(tile), end - start)])
