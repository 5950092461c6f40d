"""What a Llama is, in numbers: one frozen ModelConfig, whichever file it was read from. Foreign ones stop here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.fields import Fields
from quipu.model.frequencies import Rope, RopeScaling

# Bounds far above every published Llama. They keep a nonsense file from making a loop or an allocation endless.
MOST_VOCABULARY = 1 << 24
MOST_WIDTH = 1 << 20
MOST_LAYERS = 1 << 12
MOST_HEADS = 1 << 12
MOST_HEAD_SIZE = 1 << 12
MOST_CONTEXT = 1 << 31

LLAMA_4 = "Llama 4 is not supported yet"
USE_LLAMA = "use a dense Llama-architecture checkpoint (Llama 3.x, SmolLM2 and the like)"
UNQUANTISED = "use the unquantised checkpoint, or a GGUF file (Q4_0 to Q8_0, Q4_K to Q6_K)"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of one dense decoder. ``head_size`` need not be ``hidden_size / heads``."""

    architecture: str
    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context_length: int
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool


def _consistent(config: ModelConfig, source: str) -> ModelConfig:
    """``config``, if its numbers fit together."""
    if config.heads % config.kv_heads:
        raise DamagedCheckpoint(
            f"{source}: {config.heads} attention heads cannot share {config.kv_heads} key-value heads evenly; "
            "correct the head counts"
        )
    if config.head_size % 2:
        raise DamagedCheckpoint(f"{source}: head size {config.head_size} is odd, rotary embedding needs pairs")
    divisors = config.rope.divisors
    if divisors is not None:
        if len(divisors) != config.head_size // 2:
            raise DamagedCheckpoint(
                f"{source}: rope_freqs.weight has {len(divisors)} values, expected {config.head_size // 2}"
            )
        if not all(1e-6 < divisor < 1e6 for divisor in divisors):
            raise DamagedCheckpoint(f"{source}: rope_freqs.weight must hold numbers between 1e-6 and 1e6")
    return config


def _head_size(fields: Fields, given: str, hidden: int, heads: int) -> int:
    if fields.get(given) is not None:
        return fields.integer(given, most=MOST_HEAD_SIZE)
    if hidden % heads:
        fields.damaged(given, f"is missing and width {hidden} is not a multiple of {heads} heads")
    return hidden // heads


# ---- Hugging Face config.json


def from_huggingface(config: Mapping[str, Any], *, source: str = "config.json") -> ModelConfig:
    """Read a Hugging Face ``config.json``, in the spelling of transformers 4 or 5.

    Raises DamagedCheckpoint (a field is missing or wrong) or UnsupportedCheckpoint (it is not a dense Llama).
    """
    fields = Fields(config, source)
    _refuse_foreign_huggingface(fields)
    heads = fields.integer("num_attention_heads", most=MOST_HEADS)
    hidden = fields.integer("hidden_size", most=MOST_WIDTH)
    head_size = _head_size(fields, "head_dim", hidden, heads)
    result = ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size", most=MOST_WIDTH),
        layers=fields.integer("num_hidden_layers", most=MOST_LAYERS),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", most=MOST_HEADS, default=heads),
        head_size=head_size,
        context_length=fields.integer("max_position_embeddings", most=MOST_CONTEXT),
        norm_epsilon=fields.number("rms_norm_eps"),
        rope=_huggingface_rope(fields, head_size),
        tied_embeddings=fields.flag("tie_word_embeddings"),
    )
    return _consistent(result, source)


def _refuse_foreign_huggingface(fields: Fields) -> None:
    kind = fields.get("model_type")
    if isinstance(kind, str) and kind.startswith("llama4"):
        raise UnsupportedCheckpoint(f"{fields.source}: model_type is {kind!r}. {LLAMA_4}; {USE_LLAMA}")
    architectures = fields.get("architectures")
    if kind is None and architectures is None:
        fields.damaged("model_type", "is missing")
    if kind not in ("llama", None):
        fields.unsupported("model_type", f"supported is 'llama': {USE_LLAMA}")
    if architectures is not None and architectures != ["LlamaForCausalLM"]:
        fields.unsupported("architectures", f"supported is ['LlamaForCausalLM']: {USE_LLAMA}")
    if fields.get("quantization_config") is not None:
        fields.unsupported("quantization_config", UNQUANTISED)
    for name in ("attention_bias", "mlp_bias"):
        if fields.flag(name):
            fields.unsupported(name, USE_LLAMA)
    if fields.text("hidden_act", default="silu") not in ("silu", "swish"):
        fields.unsupported("hidden_act", f"Llama's is 'silu': {USE_LLAMA}")
    if not fields.is_plain("partial_rotary_factor", 1):
        fields.unsupported("partial_rotary_factor", f"Llama rotates whole heads: {USE_LLAMA}")
    if fields.get("sliding_window") is not None and fields.flag("use_sliding_window", default=True):
        fields.unsupported("sliding_window", f"Llama attends to everything before it: {USE_LLAMA}")
    kinds = fields.get("layer_types")
    if isinstance(kinds, list) and any(each != "full_attention" for each in kinds):
        fields.unsupported("layer_types", f"Llama attends to everything before it: {USE_LLAMA}")


def _huggingface_rope(fields: Fields, head_size: int) -> Rope:
    # transformers 4 writes rope_theta and rope_scaling {type | rope_type}; transformers 5 rope_parameters for both.
    new, old = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    if new is not None and old is not None and _huggingface_scaling(new) != _huggingface_scaling(old):
        fields.damaged("rope_scaling", "contradicts rope_parameters")
    scaling = new or old
    # Files of Llama 1 and 2 name no theta: 10000 was the constant of their code.
    theta = fields.number("rope_theta", default=10000.0)
    if new is not None:
        theta = new.number("rope_theta", default=theta)
        if fields.get("rope_theta") is not None and fields.get("rope_theta") != theta:
            fields.damaged("rope_theta", f"is {fields.get('rope_theta')!r:.60}, but rope_parameters says {theta}")
    return Rope(theta, head_size, None if scaling is None else _huggingface_scaling(scaling))


def _huggingface_scaling(fields: Fields) -> RopeScaling | None:
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


# ---- Meta params.json


def from_meta(
    params: Mapping[str, Any], *, vocabulary: int | None = None, tied: bool = False, source: str = "params.json"
) -> ModelConfig:
    """Read Meta's ``params.json`` of a Llama 3.x.

    ``vocabulary`` (the rows of ``tok_embeddings``) stands in where the file says -1, and ``tied`` is whether the
    weights have an output matrix of their own: the file says neither. Raises as from_huggingface does.
    """
    fields = Fields(params, source)
    _refuse_foreign_meta(fields)
    dim = fields.integer("dim", most=MOST_WIDTH)
    heads = fields.integer("n_heads", most=MOST_HEADS)
    layers = fields.integer("n_layers", most=MOST_LAYERS)
    head_size = _head_size(fields, "head_dim", dim, heads)
    if fields.get("vocab_size") == -1 and vocabulary is not None:
        fields = Fields({**params, "vocab_size": vocabulary}, source)
    scaling = _meta_scaling(fields, dim, layers)
    result = ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY),
        hidden_size=dim,
        intermediate_size=_meta_intermediate_size(fields, dim),
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("n_kv_heads", most=MOST_HEADS, default=heads),
        head_size=head_size,
        # params.json names no context: 8,192 for Llama 3, 131,072 for those published with scaled rope.
        context_length=fields.integer("max_seq_len", most=MOST_CONTEXT, default=131072 if scaling else 8192),
        norm_epsilon=fields.number("norm_eps"),
        rope=Rope(fields.number("rope_theta"), head_size, scaling),
        tied_embeddings=tied,
    )
    return _consistent(result, source)


def _refuse_foreign_meta(fields: Fields) -> None:
    for name in ("moe_args", "vision_args", "nope_layer_interval", "attention_chunk_size"):
        if fields.get(name) is not None:
            raise UnsupportedCheckpoint(f"{fields.source} has {name}, a field of Llama 4. {LLAMA_4}; {USE_LLAMA}")
    if isinstance(fields.get("model"), Mapping):
        raise UnsupportedCheckpoint(f"{fields.source} nests its fields under 'model'. {LLAMA_4}; {USE_LLAMA}")
    if not fields.is_plain("vision_chunk_size", -1, 0):
        fields.unsupported("vision_chunk_size", f"this is a Llama 3.2 vision model: {USE_LLAMA}")
    if fields.get("quantization_args") is not None:
        fields.unsupported("quantization_args", UNQUANTISED)
    if fields.get("lora_args") is not None:
        fields.unsupported("lora_args", "use the checkpoint without adapters")


def _meta_intermediate_size(fields: Fields, dim: int) -> int:
    """llama_models' FeedForward: two thirds of 4 dim, times a multiplier, rounded up to a multiple."""
    width = int(2 * (4 * dim) / 3)
    if fields.get("ffn_dim_multiplier") is not None:
        width = int(fields.number("ffn_dim_multiplier") * width)
    multiple = fields.integer("multiple_of", most=MOST_WIDTH)
    width = multiple * -(-width // multiple)
    if not 0 < width <= MOST_WIDTH:
        fields.damaged("ffn_dim_multiplier", f"makes the feed-forward width {width:.4g}, which is not plausible")
    return width


_LLAMA_3_2_TEXT = {(2048, 16), (3072, 28)}
"""Width and layers of Llama 3.2 1B and 3B."""


def _meta_scaling(fields: Fields, dim: int, layers: int) -> RopeScaling | None:
    if not fields.flag("use_scaled_rope"):
        return None
    # The file says only that there is scaling. Meta's code has 8 for all, yet 1B and 3B of Llama 3.2 were published
    # with 32 (their Hugging Face configs); at 32K tokens the difference is that between sense and noise.
    factor = fields.number("rope_scaling_factor", default=32.0 if (dim, layers) in _LLAMA_3_2_TEXT else 8.0)
    return RopeScaling("llama3", factor, 1.0, fields.number("rope_high_freq_factor", default=4.0), 8192)


# ---- GGUF metadata


def from_gguf(
    metadata: Mapping[str, Any],
    *,
    vocabulary: int | None = None,
    tied: bool = False,
    divisors: tuple[float, ...] | None = None,
    source: str = "GGUF metadata",
) -> ModelConfig:
    """Read the metadata of a GGUF file.

    ``vocabulary`` (the rows of ``token_embd.weight``) stands in where the metadata is silent, ``tied`` is whether
    ``output.weight`` is absent, ``divisors`` are the values of ``rope_freqs.weight``. Raises as from_huggingface does.
    """
    architecture = Fields(metadata, source).text("general.architecture")
    if architecture == "llama4":
        raise UnsupportedCheckpoint(f"{source}: general.architecture is 'llama4'. {LLAMA_4}; {USE_LLAMA}")
    if architecture != "llama":
        Fields(metadata, source).unsupported("general.architecture", f"supported is 'llama': {USE_LLAMA}")
    fields = Fields(metadata, source, "llama.")
    heads = fields.integer("attention.head_count", most=MOST_HEADS)
    hidden = fields.integer("embedding_length", most=MOST_WIDTH)
    head_size = _head_size(fields, "attention.key_length", hidden, heads)
    _refuse_foreign_gguf(fields, head_size)
    result = ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY, default=vocabulary),
        hidden_size=hidden,
        intermediate_size=fields.integer("feed_forward_length", most=MOST_WIDTH),
        layers=fields.integer("block_count", most=MOST_LAYERS),
        heads=heads,
        kv_heads=fields.integer("attention.head_count_kv", most=MOST_HEADS, default=heads),
        head_size=head_size,
        context_length=fields.integer("context_length", most=MOST_CONTEXT),
        norm_epsilon=_shortest(fields.number("attention.layer_norm_rms_epsilon")),
        rope=Rope(fields.number("rope.freq_base", default=10000.0), head_size, _gguf_scaling(fields), divisors),
        tied_embeddings=tied,
    )
    return _consistent(result, source)


def _refuse_foreign_gguf(fields: Fields, head_size: int) -> None:
    if not fields.is_plain("expert_count", 0):
        fields.unsupported("expert_count", f"mixtures of experts are not: {USE_LLAMA}")
    if not fields.is_plain("attention.sliding_window", 0):
        fields.unsupported("attention.sliding_window", f"Llama attends to everything before it: {USE_LLAMA}")
    if not fields.is_plain("attention.value_length", head_size):
        fields.unsupported("attention.value_length", f"it must equal the key length {head_size}: {USE_LLAMA}")
    if not fields.is_plain("rope.dimension_count", head_size):
        fields.unsupported("rope.dimension_count", f"Llama rotates whole heads ({head_size}): {USE_LLAMA}")


def _gguf_scaling(fields: Fields) -> RopeScaling | None:
    kind = fields.text("rope.scaling.type", default="none")
    if kind == "none":
        return None
    if kind != "linear":
        fields.unsupported("rope.scaling.type", "supported are 'none' and 'linear' (Llama 3's is in rope_freqs.weight)")
    return RopeScaling("linear", fields.number("rope.scaling.factor"))


def _shortest(value: float) -> float:
    """GGUF keeps float32: 1e-5 comes back as 9.99999974e-06. This is the number that was meant."""
    return float(str(np.float32(value)))
