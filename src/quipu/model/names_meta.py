"""Meta's weights under canonical names, of any number of model-parallel shards, joined when they are read.

Rows of a Llama 3's q and k are in the file's order: the caller sets ``row_order``. What lies [in, out] in the file is
turned over, and what lies in one array, such as q, k and v of a Llama 4, is taken apart in every shard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from quipu.errors import DamagedCheckpoint
from quipu.model.config import ModelConfig
from quipu.model.views import joined, transposed
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor

Shards = Sequence[Mapping[str, Tensor]]
"""The tensors of each shard by Meta's names."""

# Each name with the axis along which shards are cut; None: all shards hold the same.
_GLOBAL_NAMES: dict[str, tuple[str, int | None]] = {
    "tok_embeddings.weight": (EMBEDDING, 0),
    "norm.weight": ("model.norm.weight", None),
    "output.weight": (OUTPUT, 0),
}
_LAYER_NAMES: dict[str, tuple[str, int | None]] = {
    "attention_norm.weight": ("input_layernorm", None),
    "attention.wq.weight": ("self_attn.q_proj", 0),
    "attention.wk.weight": ("self_attn.k_proj", 0),
    "attention.wv.weight": ("self_attn.v_proj", 0),
    "attention.wo.weight": ("self_attn.o_proj", 1),
    "ffn_norm.weight": ("post_attention_layernorm", None),
    "feed_forward.w1.weight": ("mlp.gate_proj", 0),
    "feed_forward.w2.weight": ("mlp.down_proj", 1),
    "feed_forward.w3.weight": ("mlp.up_proj", 0),
    # Llama 4
    "attention.wqkv.layer_norm_weight": ("input_layernorm", None),
    "feed_forward.norm.weight": ("post_attention_layernorm", None),
    "feed_forward.mlp.layer_norm_weight": ("post_attention_layernorm", None),
    "feed_forward.mlp.fc2_weight": ("feed_forward.down_proj", 1),
    "feed_forward.w_in_shared_FD.weight": ("feed_forward.shared_expert.gate_proj", 0),
    "feed_forward.w_swiglu_FD.weight": ("feed_forward.shared_expert.up_proj", 0),
    "feed_forward.w_out_shared_DF.weight": ("feed_forward.shared_expert.down_proj", 1),
}
_EXPERTS = {
    "feed_forward.experts.moe_w_in_eD_F": ("gate_proj", 0),
    "feed_forward.experts.moe_w_swiglu_eD_F": ("up_proj", 0),
    "feed_forward.experts.moe_w_out_eF_D": ("down_proj", 1),
}
"""With the axis of an expert's own matrix, [out, in], along which shards are cut."""
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")

_VISION_NAMES: dict[str, tuple[str, int | None]] = {
    "class_embedding": ("class_embedding", None),
    "positional_embedding_vlm": ("positional_embedding_vlm", None),
    "conv1._linear.weight": ("patch_embedding.linear.weight", 0),
    **{f"ln_{end}.{part}": (f"layernorm_{end}.{part}", None) for end in ("pre", "post") for part in ("weight", "bias")},
}
_VISION_BLOCK_NAMES: dict[str, tuple[str, int | None]] = {
    **{f"attn.w{part}": (f"self_attn.{part}_proj", 0) for part in "qkv"},
    "attn.wo": ("self_attn.o_proj", 1),
    "mlp.c_fc": ("mlp.fc1", 0),
    "mlp.c_proj": ("mlp.fc2", 1),
    "ln_1": ("input_layernorm", None),
    "ln_2": ("post_attention_layernorm", None),
}
_ADAPTER_NAMES: dict[str, tuple[str, int | None]] = {
    "vision_embeddings.vision_adapter.mlp.c_fc.weight": ("vision_model.vision_adapter.mlp.fc1.weight", 0),
    "vision_embeddings.vision_adapter.mlp.c_proj.weight": ("vision_model.vision_adapter.mlp.fc2.weight", 1),
    "vision_projection.weight": ("multi_modal_projector.linear_1.weight", 0),
}
_VISION = ("vision_embeddings.", "vision_projection.")
_ENCODER = "vision_embeddings.vision_encoder."
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")


def is_tied(shards: Shards) -> bool:
    """Whether there is no output matrix, or one on the storage of the embedding: then the model is tied."""
    embedding, output = (shards[0].get(name) for name in ("tok_embeddings.weight", "output.weight"))
    if output is None or embedding is None:
        return output is None
    return getattr(embedding.data, "start", None) == getattr(output.data, "start", None)


def vocabulary(shards: Shards) -> int | None:
    """Rows of the embedding in all shards; None where there is no embedding."""
    if "tok_embeddings.weight" not in shards[0]:
        return None
    return sum(shard["tok_embeddings.weight"].shape[0] for shard in shards)


def canonical_tensors(shards: Shards, config: ModelConfig, source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The text model's weights under canonical names, and the vision tower's under Hugging Face's.

    Raises DamagedCheckpoint about ``source`` where shards do not fit together. Names that no Llama has are kept, for
    check_names to report.
    """
    text: dict[str, Tensor] = {}
    vision: dict[str, Tensor] = {}
    for stored in shards[0]:
        if stored == "output.weight" and config.tied_embeddings:
            continue
        for each in _weights(stored, [shard[stored] for shard in shards], config, source):
            found = vision if stored.startswith(_VISION) else text
            if each.name in found:
                raise DamagedCheckpoint(f"{source}: two tensors stand for {each.name}, one of them {stored}")
            found[each.name] = each
    return text, vision


def _weights(stored: str, parts: Sequence[Tensor], config: ModelConfig, source: str) -> Iterator[Tensor]:
    if stored.startswith(_VISION):
        yield _join(*_vision_name(stored), parts, source)
        return
    layer = _LAYER.fullmatch(stored)
    name = layer[2] if layer else stored
    prefix = f"model.layers.{layer[1]}." if layer else ""
    if not layer:
        yield _join(*_GLOBAL_NAMES.get(stored, (stored, 0)), parts, source)
    elif name in _EXPERTS and config.experts is not None:
        yield from _experts(name, f"{prefix}feed_forward.experts.", parts, config, source)
    elif name == "feed_forward.router_DE":
        yield transposed(_plane(parts[0], source), f"{prefix}feed_forward.router.weight")
    elif name == "attention.wqkv.weight":
        sizes = [config.heads * config.head_size, *[config.kv_heads * config.head_size] * 2]
        yield from _pieces(parts, [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"], sizes, source)
    elif name == "feed_forward.mlp.fc1_weight":
        names = [f"{prefix}feed_forward.{part}_proj.weight" for part in ("gate", "up")]
        yield from _pieces(parts, names, [config.intermediate_size] * 2, source)
    elif name in _LAYER_NAMES:
        canonical, axis = _LAYER_NAMES[name]
        if config.architecture == "llama4":
            canonical = canonical.replace("mlp.", "feed_forward.")
        yield _join(f"{prefix}{canonical}.weight", axis, parts, source)
    else:
        yield _join(stored, 0, parts, source)


def _vision_name(stored: str) -> tuple[str, int | None]:
    """Hugging Face's name and the axis of the cut; an unknown one stays as it is."""
    if stored in _ADAPTER_NAMES:
        return _ADAPTER_NAMES[stored]
    name = stored.removeprefix(_ENCODER)
    if name in _VISION_NAMES:
        found, axis = _VISION_NAMES[name]
        return f"vision_model.{found}", axis
    block = _BLOCK.fullmatch(name)
    if block is None or block[2] not in _VISION_BLOCK_NAMES:
        return stored, 0
    found, axis = _VISION_BLOCK_NAMES[block[2]]
    # What is cut along its inputs adds its bias once, so that each shard has all of it.
    return f"vision_model.model.layers.{block[1]}.{found}.{block[3]}", None if axis == 1 and block[
        3
    ] == "bias" else axis


def _join(name: str, axis: int | None, parts: Sequence[Tensor], source: str) -> Tensor:
    """Shards of one weight as one; ``axis`` None: each holds all of it."""
    first = parts[0]

    def rest(part: Tensor) -> tuple[object, ...]:
        return part.kind, tuple(size for index, size in enumerate(part.shape) if index != axis)

    if any(rest(part) != rest(first) for part in parts) or (axis is not None and axis >= len(first.shape)):
        shapes = ", ".join(f"{list(part.shape)} {part.kind}" for part in parts)
        raise DamagedCheckpoint(
            f"{source}: shards of {name:.80} do not fit together ({shapes}); download all of them again"
        )
    return joined(parts[:1] if axis is None else parts, name, axis or 0)


def _pieces(parts: Sequence[Tensor], names: Sequence[str], sizes: Sequence[int], source: str) -> Iterator[Tensor]:
    """Weights that lie below each other in every shard, ``sizes`` rows of each in all shards together."""
    count = len(parts)
    for part in parts:
        if len(part.shape) != 2 or part.shape[0] * count != sum(sizes) or any(size % count for size in sizes):
            raise DamagedCheckpoint(
                f"{source}: {part.name} is {list(part.shape)} in one of {count} shards; together they must have "
                f"{' + '.join(map(str, sizes))} rows. The configuration belongs to other weights"
            )
    start = 0
    for name, size in zip(names, sizes, strict=True):
        rows = size // count
        yield _join(name, 0, [part.rows(start, start + rows) for part in parts], source)
        start += rows


def _experts(name: str, prefix: str, parts: Sequence[Tensor], config: ModelConfig, source: str) -> Iterator[Tensor]:
    """Every expert's matrix of all shards; in each, experts lie below each other, [in, out]."""
    assert config.experts is not None
    part_name, axis = _EXPERTS[name]
    count = config.experts.count
    for part in parts:
        if len(part.shape) != 2 or part.shape[0] % count:
            raise DamagedCheckpoint(
                f"{source}: {part.name} is {list(part.shape)}, which are not the rows of {count} experts; the "
                "configuration belongs to other weights"
            )
    for expert in range(count):
        canonical = f"{prefix}{expert}.{part_name}.weight"

        def own(part: Tensor, expert: int = expert, canonical: str = canonical) -> Tensor:
            rows = part.shape[0] // count
            return transposed(part.rows(expert * rows, (expert + 1) * rows), canonical)

        yield _join(canonical, axis, [own(part) for part in parts], source)


def _plane(tensor: Tensor, source: str) -> Tensor:
    if len(tensor.shape) != 2:
        raise DamagedCheckpoint(f"{source}: {tensor.name} is {list(tensor.shape)}, not a matrix; download it again")
    return tensor
