"""The metadata of a GGUF file of architecture ``llama`` or ``llama4`` as ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from quipu.errors import DamagedCheckpoint, InvalidRequest
from quipu.model.config import (
    MOST_CONTEXT,
    MOST_EXPERTS,
    MOST_HEADS,
    MOST_LAYERS,
    MOST_VOCABULARY,
    MOST_WIDTH,
    USE_LLAMA,
    Experts,
    ModelConfig,
    Temperature,
    consistent,
    every,
    head_size,
)
from quipu.model.fields import Fields
from quipu.model.frequencies import Rope, RopeScaling
from quipu.types import Sampling

SAMPLING = {"temperature": "temp", "top_p": "top_p", "top_k": "top_k"}
"""Fields of ``types.Sampling`` by what GGUF calls them, after ``general.sampling.``."""


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
    if architecture not in ("llama", "llama4"):
        Fields(metadata, source).unsupported("general.architecture", f"supported are 'llama' and 'llama4': {USE_LLAMA}")
    fields = Fields(metadata, source, f"{architecture}.")
    heads = fields.integer("attention.head_count", most=MOST_HEADS)
    hidden = fields.integer("embedding_length", most=MOST_WIDTH)
    size = head_size(fields, "attention.key_length", hidden, heads)
    _refuse_foreign(fields, size)
    dense = ModelConfig(
        architecture="llama",
        vocabulary=fields.integer("vocab_size", most=MOST_VOCABULARY, default=vocabulary),
        hidden_size=hidden,
        intermediate_size=fields.integer("feed_forward_length", most=MOST_WIDTH),
        layers=fields.integer("block_count", most=MOST_LAYERS),
        heads=heads,
        kv_heads=fields.integer("attention.head_count_kv", most=MOST_HEADS, default=heads),
        head_size=size,
        context_length=fields.integer("context_length", most=MOST_CONTEXT),
        norm_epsilon=_shortest(fields.number("attention.layer_norm_rms_epsilon")),
        rope=Rope(fields.number("rope.freq_base", default=10000.0), size, _scaling(fields), divisors),
        tied_embeddings=tied,
    )
    if architecture == "llama4":
        return consistent(_llama4(fields, dense), source)
    if not fields.is_plain("expert_count", 0):
        fields.unsupported("expert_count", f"of mixtures of experts only Llama 4 is: {USE_LLAMA}")
    if not fields.is_plain("attention.sliding_window", 0):
        fields.unsupported("attention.sliding_window", f"Llama attends to everything before it: {USE_LLAMA}")
    return consistent(dense, source)


def _refuse_foreign(fields: Fields, size: int) -> None:
    if not fields.is_plain("attention.value_length", size):
        fields.unsupported("attention.value_length", f"it must equal the key length {size}: {USE_LLAMA}")
    if not fields.is_plain("rope.dimension_count", size):
        fields.unsupported("rope.dimension_count", f"Llama rotates whole heads ({size}): {USE_LLAMA}")


def _scaling(fields: Fields) -> RopeScaling | None:
    kind = fields.text("rope.scaling.type", default="none")
    if kind == "none":
        return None
    if kind != "linear":
        fields.unsupported("rope.scaling.type", "supported are 'none' and 'linear' (Llama 3's is in rope_freqs.weight)")
    return RopeScaling("linear", fields.number("rope.scaling.factor"))


def _shortest(value: float) -> float:
    """GGUF keeps float32: 1e-5 comes back as 9.99999974e-06. This is the number that was meant."""
    return float(str(np.float32(value)))


def sampling_defaults(metadata: Mapping[str, Any], source: str = "GGUF metadata") -> dict[str, float | int]:
    """What a file says of sampling, as ``types.Sampling`` calls it. Raises DamagedCheckpoint for what that refuses."""
    given = {name: metadata.get(f"general.sampling.{key}") for name, key in SAMPLING.items()}
    values = {
        name: _shortest(value) if isinstance(value, float) else value
        for name, value in given.items()
        if value is not None
    }
    try:
        Sampling.of(values)
    except InvalidRequest as error:
        raise DamagedCheckpoint(f"{source}: general.sampling: {error}; correct it or convert the model again") from None
    return values


# ---- Llama 4

MAVERICK_EXPERTS = 128
"""llama.cpp, whose format this is, knows from their number whether queries and keys are normed: not in Maverick."""


def _llama4(fields: Fields, dense: ModelConfig) -> ModelConfig:
    """llama.cpp's files say of Llama 4 only what differs between those published; the rest is constants of its code.

    Files of models that are made otherwise say it in fields that only quipu writes and reads: what follows
    ``attention.sliding_window`` here. A sliding window of 0 means neither chunks nor layers without rotation.
    """
    plain = fields.is_plain("attention.sliding_window", 0) and fields.get("attention.sliding_window") is not None
    chunk = None if plain else fields.integer("attention.chunk_size", most=MOST_CONTEXT, default=8192)
    nope = every(None if plain else 4, dense.layers)
    if fields.get("attention.nope_layers") is not None:
        nope = _layers(fields, "attention.nope_layers", dense.layers)
    experts = _experts(fields, dense.layers)
    normed = experts is None or experts.count != MAVERICK_EXPERTS
    temperature = None
    if fields.flag("attention.temperature", default=True):
        floor = fields.number("attention.temperature_floor", default=8192)
        temperature = Temperature(floor, _shortest(fields.number("attention.temperature_scale", default=0.1)))
    return replace(
        dense,
        architecture="llama4",
        experts=experts,
        nope_layers=nope,
        chunk=chunk,
        pair_rotation=True,
        query_key_norm=fields.flag("attention.query_key_norm", default=normed),
        temperature=temperature,
    )


def _experts(fields: Fields, layers: int) -> Experts | None:
    if fields.is_plain("expert_count", 0):
        return None
    active = fields.integer("expert_used_count", most=MOST_EXPERTS, default=1)
    if active != 1:
        fields.unsupported("expert_used_count", "Llama 4 sends a token to one expert")
    routed = every(fields.integer("interleave_moe_layer_step", most=MOST_LAYERS, default=1), layers)
    if fields.get("expert_layers") is not None:
        routed = _layers(fields, "expert_layers", layers)
    return Experts(
        count=fields.integer("expert_count", most=MOST_EXPERTS),
        active=active,
        intermediate_size=fields.integer("expert_feed_forward_length", most=MOST_WIDTH),
        layers=routed,
    )


def _layers(fields: Fields, name: str, layers: int) -> frozenset[int]:
    given = fields.get(name)
    numbers = [int(each) for each in given] if isinstance(given, np.ndarray) and given.dtype.kind in "iu" else None
    if numbers is None or any(not 0 <= each < layers for each in numbers):
        fields.damaged(name, f"is {given!r:.60}, not a list of layers below {layers}")
    return frozenset(numbers)
