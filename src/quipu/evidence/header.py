"""What a model's own files say, under the names of facts, so that claims can be held against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quipu.errors import InvalidRequest, UnsupportedCheckpoint
from quipu.evidence.cards import Card
from quipu.evidence.judging import SHAPE, Header
from quipu.model.checkpoint import open_checkpoint
from quipu.model.config import ModelConfig
from quipu.model.config_huggingface import from_huggingface
from quipu.model.fields import Fields
from quipu.model.files import read_json
from quipu.model.weights import parameter_count

MOST = 1 << 40
"""No number in a configuration is larger."""


def read_header(model: str, cards: Mapping[str, Card], subject: str | None = None) -> Header:
    """The header of ``model``, a checkpoint or a config.json without its weights, which may be of Llama 4.

    It is taken for the model of the card ``subject``; None finds the card whose published shape it has. Raises
    InvalidRequest where no card has that shape, ModelNotFound, and CheckpointError and its kinds.
    """
    path, facts = _facts(model)
    found = subject or next((each.name for each in cards.values() if _fits(each, facts)), None)
    if found is None:
        shape = ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in SHAPE)
        raise InvalidRequest(
            f"{path} has the shape of no model card ({shape}); say which it is with --card NAME",
            param="card",
        )
    return Header(path, found, facts)


def _facts(model: str) -> tuple[str, dict[str, Any]]:
    try:
        checkpoint = open_checkpoint(model)
    except UnsupportedCheckpoint:
        path = Path(model).expanduser()
        path = path / "config.json" if path.is_dir() else path
        if path.suffix != ".json" or not path.is_file():
            raise
        return str(path), config_facts(read_json(path), str(path))
    return str(checkpoint.path), dense_facts(checkpoint.config)


def config_facts(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What a Hugging Face config.json says; ``source`` names it in errors. Raises CheckpointError's kinds."""
    kind = values.get("model_type")
    if kind in ("llama4", "llama4_text"):
        return _llama_4_facts(Fields(values, source))
    return dense_facts(from_huggingface(values, source=source))


def dense_facts(config: ModelConfig) -> dict[str, Any]:
    """What a configuration of the dense Llama architecture says, by the names of facts.FACTS."""
    scaling = config.rope.scaling
    facts: dict[str, Any] = {
        "parameters": parameter_count(config),
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_size": config.head_size,
        "intermediate_size": config.intermediate_size,
        "vocabulary": config.vocabulary,
        "tied_embeddings": config.tied_embeddings,
        "context_length": config.context_length,
        "attention": _attention(config.heads, config.kv_heads),
    }
    if scaling is not None and scaling.kind == "llama3":
        facts["rope_original_context"] = scaling.original_context_length
    return facts


def _llama_4_facts(whole: Fields) -> dict[str, Any]:
    """Of Llama 4: the fields of the text model, which stand at the top where there is no vision tower."""
    fields = whole.nested("text_config") or whole
    layers = fields.integer("num_hidden_layers", most=10_000)
    heads = fields.integer("num_attention_heads", most=MOST)
    kv_heads = fields.integer("num_key_value_heads", most=MOST, default=heads)
    facts: dict[str, Any] = {
        "layers": layers,
        "hidden_size": fields.integer("hidden_size", most=MOST),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": fields.integer("head_dim", most=MOST, default=128),
        "intermediate_size": fields.integer("intermediate_size", most=MOST),
        "vocabulary": fields.integer("vocab_size", most=MOST),
        "tied_embeddings": fields.flag("tie_word_embeddings"),
        "context_length": fields.integer("max_position_embeddings", most=MOST),
        "experts": fields.integer("num_local_experts", most=MOST, default=16),
        "experts_per_token": fields.integer("num_experts_per_tok", most=MOST, default=1),
        "moe_layers": _moe_layers(fields, layers),
        "separate_vision_encoder": whole.nested("vision_config") is not None,
    }
    attention = _attention(heads, kv_heads)
    # Null is "no chunking"; what is not there at all is 8192.
    chunk = fields.integer("attention_chunk_size", most=MOST, default=8192)
    if "attention_chunk_size" not in fields.values or fields.get("attention_chunk_size") is not None:
        facts["attention_chunk"] = chunk
        facts["full_attention_layers"] = _full_layers(fields, layers)
        attention = (*attention, "chunked")
    return {**facts, "attention": attention}


def _moe_layers(fields: Fields, layers: int) -> int:
    named = fields.get("moe_layers")
    if isinstance(named, list) and named:
        return len(named)
    return layers // fields.integer("interleave_moe_layer_step", most=MOST, default=1)


def _full_layers(fields: Fields, layers: int) -> int:
    """Layers without rotation look at everything: 0 in ``no_rope_layers``; an empty list means every fourth."""
    named = fields.get("no_rope_layers")
    if isinstance(named, list) and named:
        return named.count(0)
    return layers // fields.integer("no_rope_layer_interval", most=MOST, default=4)


def _attention(heads: int, kv_heads: int) -> tuple[str, ...]:
    return ("multi-head", "grouped-query") if kv_heads < heads else ("multi-head",)


def _fits(card: Card, facts: Mapping[str, Any]) -> bool:
    """Whether its shape is the card's; Scout and Maverick differ in their experts only."""
    return all(card.value(name) == facts[name] for name in SHAPE) and card.value("experts") == facts.get("experts")
