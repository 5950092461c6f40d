"""What is said of models, sentence by sentence, as typed claims: subject, predicate, value, and the words that say so.

Two sources: the cards, and the page that this product answers, whose sentences are the first docket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.cards import Card

Status = Literal["verified", "contradicted", "unmeasured"]

PAGE = "page"
"""The subject of what the seed page says of itself."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said. The same words about two models are two claims."""

    subject: str
    """The name of a card, or PAGE."""
    predicate: str
    """One of PREDICATES."""
    relation: str
    """How ``value`` is meant: is, at least, at most, about, includes ..."""
    value: Any
    quote: str
    """The words that say it, literally."""
    source: str
    """``seed`` or ``card NAME``."""
    place: str
    """Where in the source: ``table, Pricing``, ``summarize, unique``."""
    capability: str | None
    """The identifier of the capability it is said of, if it is."""
    needs: str
    """What would decide it where nothing here does."""
    note: str
    """What to know about it whatever its status."""

    @property
    def id(self) -> str:
        """Twelve hex digits that stay the same while subject, predicate, relation, value and words do."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"id": self.id, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What decided a claim: a published page (``url``), a file, or entries of the log (``observations``)."""

    title: str
    url: str = ""
    observations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A claim with its status. ``truth`` is the true value where it is known, whatever the status."""

    claim: Claim
    status: Status
    truth: Any
    why: str
    """One sentence, made from values."""
    evidence: tuple[Evidence, ...]
    """Empty if and only if unmeasured and nothing was found."""
    needs: str
    """What would decide it; empty unless unmeasured."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "claim": self.claim.as_dict()}


def seed_claims(subject: str | None = None) -> tuple[Claim, ...]:
    """Every claim of the seed page in its order; only those about ``subject`` if given."""
    raise NotImplementedError


def card_claims(card: Card) -> tuple[Claim, ...]:
    """Every claim of a card's prose, and of its facts and price."""
    raise NotImplementedError


def claims_about(card: Card) -> tuple[Claim, ...]:
    """What the card itself says of its model, then what the seed page says of it."""
    return (*card_claims(card), *seed_claims(card.name))


def counts(judgements: Mapping[str, Judgement] | tuple[Judgement, ...]) -> dict[Status, int]:
    """How many of each status, all three always there."""
    raise NotImplementedError
