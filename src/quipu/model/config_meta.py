"""Meta's ``params.json`` of a Llama 3.x or a Llama 4 as ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quipu.model.config import (
    LLAMA4_PATCH,
    MOST_CONTEXT,
    MOST_EXPERTS,
    MOST_HEADS,
    MOST_LAYERS,
    MOST_VISION_LAYERS,
    MOST_VOCABULARY,
    MOST_WIDTH,
    UNQUANTISED,
    USE_LLAMA,
    Experts,
    ModelConfig,
    Temperature,
    VisionConfig,
    consistent,
    consistent_vision,
    every,
    head_size,
    shuffle_of,
)
from quipu.model.fields import Fields
from quipu.model.frequencies import Rope, RopeScaling

_LLAMA_4_FIELDS = ("moe_args", "vision_args", "nope_layer_interval", "attention_chunk_size", "ffn_exp", "use_qk_norm")


def from_meta(
    params: Mapping[str, Any], *, vocabulary: int | None = None, tied: bool = False, source: str = "params.json"
) -> ModelConfig:
    """Read Meta's ``params.json``; of a model that sees, the text model.

    ``vocabulary`` (the rows of ``tok_embeddings``) stands in where the file says -1, and ``tied`` is whether the
    weights lack an output matrix of their own: the file says neither. Raises as from_huggingface does.
    """
    fields = Fields(params, source)
    fields = fields.nested("model") or fields  # some files of Llama 4 have everything one level down
    if fields.get("vocab_size") == -1 and vocabulary is not None:
        fields = Fields({**fields.values, "vocab_size": vocabulary}, fields.source)
    _refuse_foreign(fields)
    is_llama4 = any(fields.get(name) is not None for name in _LLAMA_4_FIELDS)
    dim = fields.integer("dim", most=MOST_WIDTH)
    heads = fields.integer("n_heads", most=MOST_HEADS)
    layers = fields.integer("n_layers", most=MOST_LAYERS)
    size = head_size(fields, "head_dim", dim, heads)
    scaling = _scaling(fields, dim, layers, is_llama4=is_llama4)
    # params.json names no context. 8,192 is Llama 3's, 131,072 that of those with scaled rope; of Llama 4, 1,048,576
    # is Maverick's, 10,485,760 Scout's, which alone has scaled rope.
    contexts = (1048576, 10485760) if is_llama4 else (8192, 131072)
    dense = ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY),
        hidden_size=dim,
        intermediate_size=_width(fields, 4 * dim),
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("n_kv_heads", most=MOST_HEADS, default=heads),
        head_size=size,
        context_length=fields.integer("max_seq_len", most=MOST_CONTEXT, default=contexts[scaling is not None]),
        norm_epsilon=fields.number("norm_eps"),
        rope=Rope(fields.number("rope_theta", default=500000.0 if is_llama4 else None), size, scaling),
        tied_embeddings=tied,
    )
    return consistent(_llama4(fields, dense) if is_llama4 else dense, source)


def _refuse_foreign(fields: Fields) -> None:
    if not fields.is_plain("vision_chunk_size", -1, 0):
        fields.unsupported("vision_chunk_size", f"this is a Llama 3.2 vision model: {USE_LLAMA}")
    if fields.get("quantization_args") is not None:
        fields.unsupported("quantization_args", UNQUANTISED)
    if fields.get("lora_args") is not None:
        fields.unsupported("lora_args", "use the checkpoint without adapters")


def _width(fields: Fields, inner: float, share: float = 1.0) -> int:
    """llama_models' FeedForward: two thirds of ``inner``, times a multiplier, ``share`` of it, rounded up."""
    width = int(2 * inner / 3)
    if fields.get("ffn_dim_multiplier") is not None:
        width = int(fields.number("ffn_dim_multiplier") * width)
    width = int(width * share) if share != 1 else width
    multiple = fields.integer("multiple_of", most=MOST_WIDTH)
    width = multiple * -(-width // multiple)
    if not 0 < width <= MOST_WIDTH:
        fields.damaged("ffn_dim_multiplier", f"makes the feed-forward width {width:.4g}, which is not plausible")
    return width


_LLAMA_3_2_TEXT = {(2048, 16), (3072, 28)}
"""Width and layers of Llama 3.2 1B and 3B."""


def _scaling(fields: Fields, dim: int, layers: int, *, is_llama4: bool) -> RopeScaling | None:
    if not fields.flag("use_scaled_rope"):
        return None
    # The file says only that there is scaling. Meta's code has 8 for all of Llama 3, yet 1B and 3B of Llama 3.2 were
    # published with 32 (their Hugging Face configs); at 32K tokens the difference is that between sense and noise.
    factor, high = (16.0, 1.0) if is_llama4 else (32.0 if (dim, layers) in _LLAMA_3_2_TEXT else 8.0, 4.0)
    factor = fields.number("rope_scaling_factor", default=factor)
    return RopeScaling("llama3", factor, 1.0, fields.number("rope_high_freq_factor", default=high), 8192)


# ---- Llama 4


def _llama4(fields: Fields, dense: ModelConfig) -> ModelConfig:
    chunk = interval = None
    if fields.get("attention_chunk_size") is not None:
        chunk = fields.integer("attention_chunk_size", most=MOST_CONTEXT)
    if fields.get("nope_layer_interval") is not None:
        interval = fields.integer("nope_layer_interval", most=MOST_LAYERS)
    # Meta's code leaves the temperature out unless the file asks for it, transformers the other way round; they differ
    # from position 8,191 on. What was published is transformers'.
    temperature = None
    if fields.flag("attn_temperature_tuning", default=True):
        floor, scale = fields.number("floor_scale", default=8192), fields.number("attn_scale", default=0.1)
        temperature = Temperature(floor, scale)
    return replace(
        dense,
        architecture="llama4",
        experts=_experts(fields, dense),
        nope_layers=every(interval, dense.layers),
        chunk=chunk,
        pair_rotation=True,
        query_key_norm=fields.flag("use_qk_norm"),
        temperature=temperature,
        vision=_vision(fields),
    )


def _experts(fields: Fields, dense: ModelConfig) -> Experts | None:
    given = fields.nested("moe_args")
    if given is None:
        return None
    active = given.integer("top_k", most=MOST_EXPERTS, default=1)
    if active != 1:
        given.unsupported("top_k", "Llama 4 sends a token to one expert")
    share = 1.0
    if given.flag("auto_scale_F", default=True):
        share = 1 / (given.number("capacity_factor", default=1.0) + 1)
    step = given.integer("interleave_moe_layer_step", most=MOST_LAYERS, default=1)
    return Experts(
        count=given.integer("num_experts", most=MOST_EXPERTS, default=8),
        active=active,
        intermediate_size=_width(fields, int(fields.number("ffn_exp", default=4.0) * dense.hidden_size), share),
        layers=every(step, dense.layers),
    )


def _vision(fields: Fields) -> VisionConfig | None:
    given = fields.nested("vision_args")
    if given is None:
        return None
    hidden = given.integer("dim", most=MOST_WIDTH)
    config = VisionConfig(
        hidden_size=hidden,
        intermediate_size=round(given.number("mlp_ratio") * hidden),
        layers=given.integer("n_layers", most=MOST_VISION_LAYERS),
        heads=given.integer("n_heads", most=MOST_HEADS),
        tile_size=_side(given, "image_size"),
        patch_size=_side(given, "patch_size"),
        adapter_size=given.integer("output_dim", most=MOST_WIDTH),
        shuffle=shuffle_of(given.number("pixel_shuffle_ratio")),
        rope_theta=10000.0,
        patch_token=LLAMA4_PATCH,
    )
    return consistent_vision(config, given.source)


def _side(fields: Fields, name: str) -> int:
    size = fields.nested(name)
    if size is None:
        fields.damaged(name, "is missing")
    side = size.integer("height", most=MOST_WIDTH)
    if size.integer("width", most=MOST_WIDTH) != side:
        fields.unsupported(name, "tiles and patches are squares")
    return side
