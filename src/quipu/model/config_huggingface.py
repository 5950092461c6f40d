"""Hugging Face's ``config.json`` of a Llama as ModelConfig, in the spelling of transformers 4 or 5."""

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


def from_huggingface(config: Mapping[str, Any], *, source: str = "config.json") -> ModelConfig:
    """Read a Hugging Face ``config.json`` of a Llama or a Llama 4, of the latter the text model.

    Raises DamagedCheckpoint (a field is missing or wrong) or UnsupportedCheckpoint (it is not a Llama).
    """
    fields = Fields(config, source)
    kind = fields.get("model_type")
    if isinstance(kind, str) and kind.startswith("llama4"):
        return _llama4(fields)
    _refuse_other_families(fields)
    return consistent(_decoder(fields, intermediate_size="intermediate_size", theta=10000.0), source)


def _decoder(fields: Fields, *, intermediate_size: str, theta: float, width: int | None = None) -> ModelConfig:
    """What both families say alike. ``theta`` and ``width``: of files that name none, as those of Llama 1 and 2."""
    _refuse_what_no_llama_has(fields)
    heads = fields.integer("num_attention_heads", most=MOST_HEADS)
    hidden = fields.integer("hidden_size", most=MOST_WIDTH)
    size = head_size(fields, "head_dim", hidden, heads)
    return ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY),
        hidden_size=hidden,
        intermediate_size=fields.integer(intermediate_size, most=MOST_WIDTH, default=width),
        layers=fields.integer("num_hidden_layers", most=MOST_LAYERS),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", most=MOST_HEADS, default=heads),
        head_size=size,
        context_length=fields.integer("max_position_embeddings", most=MOST_CONTEXT),
        norm_epsilon=fields.number("rms_norm_eps"),
        rope=_rope(fields, size, theta),
        tied_embeddings=fields.flag("tie_word_embeddings"),
    )


# ---- Llama 4


def _llama4(outer: Fields) -> ModelConfig:
    """Of a model that sees, the text model's fields are nested; transformers' defaults stand in for absent ones."""
    fields = outer.nested("text_config") or outer
    _refuse_quantised(outer)
    kind = fields.get("model_type")
    if kind not in ("llama4_text", None) and fields is not outer:
        fields.unsupported("model_type", "supported is 'llama4_text'")
    dense = _decoder(fields, intermediate_size="intermediate_size_mlp", theta=500000.0, width=16384)
    tied = outer.flag("tie_word_embeddings", default=dense.tied_embeddings)
    nope = _nope_layers(fields, dense.layers)
    chunk = None
    if "attention_chunk_size" not in fields.values or fields.get("attention_chunk_size") is not None:
        chunk = fields.integer("attention_chunk_size", most=MOST_CONTEXT, default=8192)
    config = replace(
        dense,
        architecture="llama4",
        tied_embeddings=tied,
        experts=_experts(fields, dense.layers),
        nope_layers=nope,
        chunk=chunk,
        pair_rotation=True,
        query_key_norm=fields.flag("use_qk_norm", default=True),
        temperature=_temperature(fields),
        vision=_vision(outer),
    )
    return consistent(config, outer.source)


def _nope_layers(fields: Fields, layers: int) -> frozenset[int]:
    """Layers without rotation. ``no_rope_layers`` is 1 where there *is* rotation; empty, it follows the interval."""
    given = fields.get("no_rope_layers") or None
    if given is None:
        nope = every(fields.integer("no_rope_layer_interval", most=MOST_LAYERS, default=4), layers)
    elif not isinstance(given, list) or len(given) != layers or any(each not in (0, 1) for each in given):
        fields.damaged("no_rope_layers", f"is {given!r:.60}, not a 0 or 1 for each of {layers} layers")
    else:
        nope = frozenset(index for index, rotated in enumerate(given) if not rotated)
    kinds = fields.get("layer_types")
    expected = ["full_attention" if index in nope else "chunked_attention" for index in range(layers)]
    if kinds is not None and kinds != expected:
        fields.unsupported("layer_types", "layers without rotation have full attention, all others chunked")
    return nope


def _experts(fields: Fields, layers: int) -> Experts | None:
    given = fields.get("moe_layers")
    if given is None:
        routed = every(fields.integer("interleave_moe_layer_step", most=MOST_LAYERS, default=1), layers)
    elif isinstance(given, list) and all(type(each) is int and 0 <= each < layers for each in given):
        routed = frozenset(given)
    else:
        fields.damaged("moe_layers", f"is {given!r:.60}, not a list of layers below {layers}")
    if not routed:
        return None
    active = fields.integer("num_experts_per_tok", most=MOST_EXPERTS, default=1)
    if active != 1:
        fields.unsupported("num_experts_per_tok", "Llama 4 sends a token to one expert")
    return Experts(
        count=fields.integer("num_local_experts", most=MOST_EXPERTS, default=16),
        active=active,
        intermediate_size=fields.integer("intermediate_size", most=MOST_WIDTH),
        layers=routed,
    )


def _temperature(fields: Fields) -> Temperature | None:
    tuned = fields.get("attn_temperature_tuning")
    if not isinstance(tuned, bool | int | float | None):
        fields.damaged("attn_temperature_tuning", f"is {tuned!r:.60}, neither true nor false")
    if tuned is not None and not tuned:  # the first published files say 4 for yes
        return None
    return Temperature(fields.number("floor_scale", default=8192), fields.number("attn_scale", default=0.1))


def _vision(outer: Fields) -> VisionConfig | None:
    fields = outer.nested("vision_config")
    if fields is None:
        return None
    if fields.text("hidden_act", default="gelu") != "gelu":
        fields.unsupported("hidden_act", "the vision encoder's is 'gelu'")
    ratio = fields.number("pixel_shuffle_ratio", default=0.5)
    hidden = fields.integer("hidden_size", most=MOST_WIDTH)
    config = VisionConfig(
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size", most=MOST_WIDTH, default=4 * hidden),
        layers=fields.integer("num_hidden_layers", most=MOST_VISION_LAYERS),
        heads=fields.integer("num_attention_heads", most=MOST_HEADS),
        tile_size=fields.integer("image_size", most=MOST_WIDTH),
        patch_size=fields.integer("patch_size", most=MOST_WIDTH),
        adapter_size=fields.integer("vision_output_dim", most=MOST_WIDTH),
        shuffle=shuffle_of(ratio),
        rope_theta=_rope_theta(fields, 10000.0),
        patch_token=outer.integer("image_token_index", most=MOST_VOCABULARY, default=LLAMA4_PATCH),
    )
    return consistent_vision(config, fields.source)


# ---- what is refused


def _refuse_other_families(fields: Fields) -> None:
    kind = fields.get("model_type")
    architectures = fields.get("architectures")
    if kind is None and architectures is None:
        fields.damaged("model_type", "is missing")
    if kind not in ("llama", None):
        fields.unsupported("model_type", f"supported are 'llama' and 'llama4': {USE_LLAMA}")
    if architectures is not None and architectures != ["LlamaForCausalLM"]:
        fields.unsupported("architectures", f"supported is ['LlamaForCausalLM']: {USE_LLAMA}")
    kinds = fields.get("layer_types")
    if isinstance(kinds, list) and any(each != "full_attention" for each in kinds):
        fields.unsupported("layer_types", f"Llama attends to everything before it: {USE_LLAMA}")


def _refuse_quantised(fields: Fields) -> None:
    if fields.get("quantization_config") is not None:
        fields.unsupported("quantization_config", UNQUANTISED)


def _refuse_what_no_llama_has(fields: Fields) -> None:
    _refuse_quantised(fields)
    for name in ("attention_bias", "mlp_bias"):
        if fields.flag(name):
            fields.unsupported(name, USE_LLAMA)
    if fields.text("hidden_act", default="silu") not in ("silu", "swish"):
        fields.unsupported("hidden_act", f"Llama's is 'silu': {USE_LLAMA}")
    if not fields.is_plain("partial_rotary_factor", 1):
        fields.unsupported("partial_rotary_factor", f"Llama rotates whole heads: {USE_LLAMA}")
    if fields.get("sliding_window") is not None and fields.flag("use_sliding_window", default=True):
        fields.unsupported("sliding_window", f"Llama attends to everything before it: {USE_LLAMA}")


# ---- rotary embedding


def _rope(fields: Fields, head_size: int, default_theta: float) -> Rope:
    # transformers 4 writes rope_theta and rope_scaling {type | rope_type}; transformers 5 rope_parameters for both.
    new, old = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    if new is not None and old is not None and _scaling(new) != _scaling(old):
        fields.damaged("rope_scaling", "contradicts rope_parameters")
    scaling = new or old
    return Rope(_rope_theta(fields, default_theta), head_size, None if scaling is None else _scaling(scaling))


def _rope_theta(fields: Fields, default: float) -> float:
    new = fields.nested("rope_parameters")
    theta = fields.number("rope_theta", default=default)
    if new is not None:
        theta = new.number("rope_theta", default=theta)
        if fields.get("rope_theta") is not None and fields.get("rope_theta") != theta:
            fields.damaged("rope_theta", f"is {fields.get('rope_theta')!r:.60}, but rope_parameters says {theta}")
    return theta


def _scaling(fields: Fields) -> RopeScaling | None:
    name = "rope_type" if fields.get("rope_type") is not None else "type"
    kind = fields.text(name, default="default")
    if not fields.is_plain("partial_rotary_factor", 1):
        fields.unsupported("partial_rotary_factor", f"Llama rotates whole heads: {USE_LLAMA}")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", fields.number("factor"))
    if kind != "llama3":
        fields.unsupported(name, "supported are 'default', 'linear' and 'llama3'")
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if low > high:
        fields.damaged("low_freq_factor", f"is {low}, above high_freq_factor {high}")
    original = fields.integer("original_max_position_embeddings", most=MOST_CONTEXT)
    return RopeScaling("llama3", fields.number("factor"), low, high, original)
