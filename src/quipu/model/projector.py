"""What a GGUF sees with: llama.cpp keeps encoder, adapter and projector in a file beside the text model's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quipu.errors import CheckpointError, DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.config import (
    LLAMA4_PATCH,
    MOST_HEADS,
    MOST_VISION_LAYERS,
    MOST_WIDTH,
    ModelConfig,
    VisionConfig,
    consistent_vision,
)
from quipu.model.fields import Fields
from quipu.model.gguf import read_gguf
from quipu.model.weights import Tensor

PATTERN = "mmproj*.gguf"
POSITIONS = "v.position_embd.weight"
_LAYER = re.compile(r"v\.blk\.(\d+)\.(\w+)\.(weight|bias)")
_LAYER_NAMES = {
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "attn_post_norm": "post_attention_layernorm",  # as some versions of the converter call it
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_NAMES = {
    "v.patch_embd.weight": "vision_model.patch_embedding.linear.weight",
    "v.class_embd": "vision_model.class_embedding",
    POSITIONS: "vision_model.positional_embedding_vlm",
    "v.pre_ln.weight": "vision_model.layernorm_pre.weight",
    "v.pre_ln.bias": "vision_model.layernorm_pre.bias",
    "v.post_ln.weight": "vision_model.layernorm_post.weight",
    "v.post_ln.bias": "vision_model.layernorm_post.bias",
    "mm.model.mlp.1.weight": "vision_model.vision_adapter.mlp.fc1.weight",
    "mm.model.mlp.2.weight": "vision_model.vision_adapter.mlp.fc2.weight",
    "mm.model.fc.weight": "multi_modal_projector.linear_1.weight",
}


_STORED = {name: stored for stored, name in _NAMES.items()}
_STORED_PARTS = {name: stored for stored, name in _LAYER_NAMES.items() if stored != "attn_post_norm"}
_STORED_LAYER = re.compile(r"vision_model\.model\.layers\.(\d+)\.(.+)\.(weight|bias)")


def projector_beside(path: Path) -> Path:
    """The projector's file that belongs to the text model at ``path`` by its name."""
    return path.with_name("mmproj-" + re.sub(r"-\d{5}-of-\d{5}(?=\.gguf$)", "", path.name))


def find_projector(path: Path) -> Path | None:
    """The projector's file beside the text model at ``path``: by its name, else the only one there is.

    Raises CheckpointError where there are several and none has its name.
    """
    if projector_beside(path).is_file():
        return projector_beside(path)
    found = sorted(path.parent.glob(PATTERN))
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise CheckpointError(f"{path.parent} holds several projectors ({names}); leave the one that is to be used")
    return found[0] if found else None


def read_projector(path: Path, metadata: Mapping[str, Any], text: ModelConfig) -> tuple[ModelConfig, dict[str, Tensor]]:
    """``text`` with what it sees with, and the tensors of the file at ``path`` under Hugging Face's names.

    ``metadata`` is the text model's, whose vocabulary knows the token of a patch. Raises DamagedCheckpoint, or
    UnsupportedCheckpoint where it is of another model.
    """
    file = read_gguf(path)
    fields = Fields(file.metadata, str(path), "clip.vision.")
    kind = file.metadata.get("clip.vision.projector_type", file.metadata.get("clip.projector_type"))
    if kind != "llama4":
        raise UnsupportedCheckpoint(f"{path} is a projector of type {kind!r:.40}, not of a Llama 4; remove it")
    config = VisionConfig(
        hidden_size=fields.integer("embedding_length", most=MOST_WIDTH),
        intermediate_size=fields.integer("feed_forward_length", most=MOST_WIDTH),
        layers=fields.integer("block_count", most=MOST_VISION_LAYERS),
        heads=fields.integer("attention.head_count", most=MOST_HEADS),
        tile_size=fields.integer("image_size", most=MOST_WIDTH),
        patch_size=fields.integer("patch_size", most=MOST_WIDTH),
        adapter_size=0,
        shuffle=fields.integer("projector.scale_factor", most=16, default=2),
        rope_theta=10000.0,
        patch_token=_patch_token(metadata),
    )
    tensors: dict[str, Tensor] = {}
    for stored, tensor in file.tensors.items():
        name = _name(stored)
        if name in tensors:
            raise DamagedCheckpoint(f"{path}: two tensors stand for {name}, one of them {stored}")
        tensors[name] = replace(tensor, name=name, shape=_shape(name, tensor.shape))
    adapter = tensors.get("vision_model.vision_adapter.mlp.fc2.weight")
    config = replace(config, adapter_size=adapter.shape[0] if adapter else 1)
    return replace(text, vision=consistent_vision(config, str(path))), tensors


def metadata(text: ModelConfig, name: str) -> dict[str, Any]:
    """What the file says beside its weights, mostly in float16, as llama.cpp expects it; see ``gguf_layout``.

    ``text`` is a model that sees, called ``name``.
    """
    vision = text.vision
    assert vision is not None
    half = np.full(3, 0.5, np.float32)
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": name,
        "general.file_type": 1,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "llama4",
        "clip.use_gelu": True,
        "clip.vision.embedding_length": vision.hidden_size,
        "clip.vision.feed_forward_length": vision.intermediate_size,
        "clip.vision.block_count": vision.layers,
        "clip.vision.attention.head_count": vision.heads,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_size": vision.tile_size,
        "clip.vision.patch_size": vision.patch_size,
        "clip.vision.image_mean": half,
        "clip.vision.image_std": half,
        "clip.vision.projection_dim": text.hidden_size,
        "clip.vision.projector.scale_factor": vision.shuffle,
    }


def stored_name(name: str) -> str:
    """What the file calls the tensor that is ``name`` here."""
    match = _STORED_LAYER.fullmatch(name)
    return f"v.blk.{match[1]}.{_STORED_PARTS[match[2]]}.{match[3]}" if match else _STORED[name]


def _patch_token(metadata: Mapping[str, Any]) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens") or []
    return tokens.index("<|patch|>") if "<|patch|>" in tokens else LLAMA4_PATCH


def _name(stored: str) -> str:
    match = _LAYER.fullmatch(stored)
    if match and match[2] in _LAYER_NAMES:
        return f"vision_model.model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return _NAMES.get(stored, stored)


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Patches may be stored as a convolution, [out, channels, rows, columns]: the same numbers in the same order."""
    return (shape[0], math.prod(shape[1:])) if name.endswith("patch_embedding.linear.weight") else shape
