"""What is said of models, sentence by sentence, as typed claims: subject, predicate, value, and the words that say so.

Two sources: the cards, and the page that this product answers, whose sentences are the first docket.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args

from quipu.capabilities.base import digest
from quipu.evidence.cards import PARTS, Card, Fact, Source, catalog_file
from quipu.evidence.facts import FACTS
from quipu.evidence.statement import MEASURED, PAGE_FACTS, PAGE_ROWS, RELATIONS, UNDECIDED, Statement, statement
from quipu.evidence.toml_table import check_keys, listed, parsed, table, text

Status = Literal["verified", "contradicted", "unmeasured"]

PAGE = "page"
"""The subject of what the seed page says of itself."""
SEED = "seed"
"""The source of the seed page's claims."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said. The same words about two models are two claims."""

    subject: str
    """The name of a card, or PAGE."""
    predicate: str
    """One of statement.predicates(), or a fact that the seed page shows of itself."""
    relation: str
    """How ``value`` is meant: one of statement.RELATIONS."""
    value: Any
    quote: str
    """The words that say it, literally; ``…`` between pieces where something in between is left out."""
    source: str
    """``seed`` or ``card NAME``."""
    place: str
    """Where in the source: ``table, Pricing``, ``summarize, unique``."""
    capability: str | None
    """The identifier of the capability it is said of, if it is."""
    needs: str
    """What would decide it where nothing here does; empty where the predicate says that."""
    note: str
    """What to know about it whatever its status."""

    @property
    def id(self) -> str:
        """Twelve hex digits that stay the same while subject, predicate, relation, value and words do."""
        parts = [self.subject, self.predicate, self.relation, self.value, self.quote, self.source, self.place]
        return digest(parts)[:12]

    @property
    def words(self) -> str:
        """The predicate and the value in words: ``layers: 26``."""
        if self.predicate in UNDECIDED:
            return f"{UNDECIDED[self.predicate][0]} {self.value}"
        if self.predicate in MEASURED:
            return (
                f"{self.value}: {MEASURED[self.predicate]}"
                if self.predicate == "can"
                else (f"{MEASURED[self.predicate]} ({shown(self.value)})")
            )
        name = FACTS.get(self.predicate) or PAGE_ROWS.get(self.predicate) or PAGE_FACTS[self.predicate]
        return f"{name}: {meant(self.relation, self.value)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"id": self.id, **{each.name: getattr(self, each.name) for each in fields(self)}, "words": self.words}


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
    """What the status rests on; empty where nothing is known."""
    needs: str
    """What would decide it; empty unless unmeasured."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "claim": self.claim.as_dict(),
            "status": self.status,
            "truth": self.truth,
            "why": self.why,
            "evidence": [asdict(each) for each in self.evidence],
            "needs": self.needs,
        }


def seed_claims(subject: str | None = None) -> tuple[Claim, ...]:
    """Every claim of the seed page in its order; only those about ``subject`` if given."""
    return tuple(each for each in _docket()[0] if subject in (None, each.subject))


def page_facts() -> Mapping[str, Fact]:
    """What the seed page shows of itself, counted on it."""
    return _docket()[1]


def card_claims(card: Card) -> tuple[Claim, ...]:
    """Every claim of a card: its facts, its price, and each sentence of its prose.

    A sentence of a description that no typed claim quotes says that the model can do it; any other one is a claim that
    nothing here can check.
    """
    source = f"card {card.name}"
    claims = [_fact_claim(card, name, fact.value, source) for name, fact in card.facts.items()]
    if card.price is not None and card.price.input is not None:
        claims.append(_fact_claim(card, "price_input", card.price.input, source))
    for capability, declared in card.capabilities.items():
        for part in PARTS:
            prose = getattr(declared, part)
            place = capability if part == "description" else f"{capability}, {part}"
            typed = [each for each in declared.claims if each.said_in(prose)]
            for sentence in sentences(prose):
                if part == "description":
                    made = [Statement(sentence, "can", capability)]
                else:
                    made = (
                        [] if any(each.said_in(sentence) for each in typed) else [Statement(sentence, "says", sentence)]
                    )
                claims += [_claim(each, card.name, source, place, capability) for each in made]
            claims += [_claim(each, card.name, source, place, capability) for each in typed]
    return tuple(dict.fromkeys(claims))


def claims_about(card: Card) -> tuple[Claim, ...]:
    """What the card itself says of its model, then what the seed page says of it."""
    return (*card_claims(card), *seed_claims(card.name))


def counts(judgements: Iterable[Judgement]) -> dict[Status, int]:
    """How many of each status, all three always there."""
    found = Counter(each.status for each in judgements)
    return {status: found[status] for status in get_args(Status)}


def sentences(prose: str) -> list[str]:
    """The sentences of a text, each with its full stop."""
    return [each for each in re.split(r"(?<=[.!?])\s+", prose.strip()) if each]


def meant(relation: str, value: Any) -> str:
    """A claimed value with how it is meant: ``up to 8,192``, ``unknown``."""
    return "unknown" if relation == "unknown" else f"{RELATIONS[relation]}{shown(value)}"


def shown(value: Any) -> str:
    """A value as people read it: 131,072; yes; a, b and c."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        *some, last = map(shown, value)
        return f"{', '.join(some)} and {last}" if some else last
    return str(value)


@cache
def _docket() -> tuple[tuple[Claim, ...], Mapping[str, Fact]]:
    where = "catalog/seed/docket.toml"
    values = parsed(catalog_file("seed", "docket.toml"), where)
    check_keys(values, ("page", "section"), where)
    page = table(values["page"], where)
    shows = Source("the page itself", "", "counted on a copy of its text")
    facts = {name: Fact(value, shows) for name, value in page.items()}
    return tuple(_sections(values["section"], where, tuple(facts))), facts


def _sections(sections: Iterable[Any], where: str, page: tuple[str, ...]) -> Iterator[Claim]:
    for section in sections:
        place = text(section, "place", where, needed=True)
        check_keys(section, ("place", "about", "capability", "claim"), f"{where}: {place}")
        for values in section["claim"]:
            said = statement(values, f"{where}: {place}", page)
            for subject in (said.of,) if said.of else listed(section, "about", where):
                # What the page shows of itself is said of the page, wherever it stands.
                of = PAGE if said.predicate in page else subject
                yield _claim(said, of, SEED, place, section.get("capability"))


def _claim(said: Statement, subject: str, source: str, place: str, capability: str | None) -> Claim:
    return Claim(
        subject=said.of if said.of and said.of != PAGE else subject,
        predicate=said.predicate,
        relation=said.relation,
        value=said.value,
        quote=said.quote,
        source=source,
        place=place,
        capability=capability,
        needs=said.needs,
        note=said.note,
    )


def _fact_claim(card: Card, name: str, value: Any, source: str) -> Claim:
    words = FACTS.get(name) or PAGE_ROWS[name]
    return _claim(Statement(f"{words}: {shown(value)}", name, value), card.name, source, "facts", None)
