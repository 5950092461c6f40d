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
from quipu.model.files import read_json
from quipu.model.weights import parameter_count


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
    return str(checkpoint.path), model_facts(checkpoint.config, sees=checkpoint.config.vision is not None)


def config_facts(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What a Hugging Face config.json says; ``source`` names it in errors. Raises CheckpointError's kinds."""
    return model_facts(from_huggingface(values, source=source), sees=values.get("vision_config") is not None)


def model_facts(config: ModelConfig, *, sees: bool = False) -> dict[str, Any]:
    """What a configuration says, by the names of facts.FACTS. ``sees``: there is a vision tower beside the text model.

    Its parameters are not those that are published, then: the tower's come on top.
    """
    scaling, experts = config.rope.scaling, config.experts
    facts: dict[str, Any] = {} if sees else {"parameters": parameter_count(config)}
    facts |= {
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_size": config.head_size,
        "intermediate_size": config.intermediate_size if experts is None else experts.intermediate_size,
        "vocabulary": config.vocabulary,
        "tied_embeddings": config.tied_embeddings,
        "context_length": config.context_length,
    }
    attention = ("multi-head", "grouped-query") if config.kv_heads < config.heads else ("multi-head",)
    if scaling is not None and scaling.kind == "llama3":
        facts["rope_original_context"] = scaling.original_context_length
    if config.architecture == "llama4":
        facts["separate_vision_encoder"] = sees
    if experts is not None:
        facts |= {"experts": experts.count, "experts_per_token": experts.active, "moe_layers": len(experts.layers)}
    if config.chunk is not None:
        facts |= {"attention_chunk": config.chunk, "full_attention_layers": len(config.nope_layers)}
        attention = (*attention, "chunked")
    return {**facts, "attention": attention}


def _fits(card: Card, facts: Mapping[str, Any]) -> bool:
    """Whether its shape is the card's; Scout and Maverick differ in their experts only."""
    return all(card.value(name) == facts[name] for name in SHAPE) and card.value("experts") == facts.get("experts")
