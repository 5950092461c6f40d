"""What a checkpoint's own files say, under the names of facts, so that claims can be held against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quipu.errors import InvalidRequest
from quipu.evidence.cards import Card
from quipu.evidence.judging import SHAPE, Header
from quipu.model.checkpoint import Checkpoint


def header_of(checkpoint: Checkpoint, cards: Mapping[str, Card], subject: str | None = None) -> Header:
    """The header, taken for the model of the card ``subject``; None finds the card whose published shape it has.

    Raises InvalidRequest where no card has that shape.
    """
    facts = header_facts(checkpoint)
    found = subject or next((each.name for each in cards.values() if _fits(each, facts)), None)
    if found is None:
        shape = ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in SHAPE)
        raise InvalidRequest(
            f"{checkpoint.path} has the shape of no model card ({shape}); say which it is with --card NAME",
            param="card",
        )
    return Header(str(checkpoint.path), found, facts)


def header_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the header says, by the names of facts.FACTS; what it leaves open is not there."""
    config, scaling = checkpoint.config, checkpoint.config.rope.scaling
    attention = ("multi-head", "grouped-query") if config.kv_heads < config.heads else ("multi-head",)
    facts: dict[str, Any] = {
        "parameters": checkpoint.parameters,
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_size": config.head_size,
        "intermediate_size": config.intermediate_size,
        "vocabulary": config.vocabulary,
        "tied_embeddings": config.tied_embeddings,
        "context_length": config.context_length,
        "attention": attention,
    }
    if scaling is not None and scaling.kind == "llama3":
        facts["rope_original_context"] = scaling.original_context_length
    return facts


def _fits(card: Card, facts: Mapping[str, Any]) -> bool:
    return all(card.value(name) == facts[name] for name in SHAPE)
