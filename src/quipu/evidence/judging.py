"""Whether a claim is true: by the header of a file at hand, else by published facts, else by measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quipu.evidence.cards import Card
from quipu.evidence.claims import Claim, Judgement
from quipu.evidence.config import Config
from quipu.evidence.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint's own files say of it, by the names of a card's facts."""

    path: str
    subject: str
    """The name of the card that it is the model of."""
    facts: Mapping[str, Any]


def judge(
    claims: Iterable[Claim], cards: Mapping[str, Card], snapshot: Snapshot, header: Header | None = None
) -> tuple[Judgement, ...]:
    """Each claim with its status, in order. Pure: the same arguments give the same answer."""
    raise NotImplementedError


def configs_of(card: Card, snapshot: Snapshot) -> tuple[Config, ...]:
    """The measured configs that are of the card's model.

    Its name or endpoint proposes one; a config whose own header contradicts the card's published facts is none.
    """
    raise NotImplementedError
