"""Whether a claim is true: by the header of a file at hand, else by published facts, else by measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quipu.evidence.agreement import agrees
from quipu.evidence.cards import Card, Fact
from quipu.evidence.claims import PAGE, Claim, Evidence, Judgement, meant, page_facts, shown
from quipu.evidence.config import Config
from quipu.evidence.facts import FACTS
from quipu.evidence.measuring import measuring
from quipu.evidence.ranked import ranked
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.statement import UNDECIDED
from quipu.evidence.tried import Tried

SHAPE = ("layers", "hidden_size", "heads", "kv_heads", "vocabulary")
"""Facts that a config's header has, too, and in which two models seldom agree."""

NEEDS: Mapping[str, str] = {
    "score": "the formula behind this number, which the page does not give; quipu rank has its own",
    "adoption": "requests that are logged with the model that answered them; this quipu logs none yet",
    "quality": "the probes ({measure}); the page does not say what its 0 and 1 count",
    "match_graph": "requests whose outcome is known; this quipu logs none yet, and the page's own log is not published",
    "times_matched": "searches that are logged and matched; this quipu logs none yet, the page publishes none",
    "price_input": "a price with its day, from whoever serves the model",
}
"""What would decide a row of the seed page's table."""


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
    judging = _Judging(cards, snapshot, header)
    return tuple(judging.judge(claim) for claim in claims)


def configs_of(card: Card, snapshot: Snapshot) -> tuple[Config, ...]:
    """The measured configs that are of the card's model.

    Its name or an endpoint that serves it proposes one; a config whose own header contradicts the published facts is
    none.
    """
    names = {name.casefold() for name in (card.name, *card.aliases)}
    return tuple(
        config
        for config in snapshot.configs.values()
        if (_is_endpoint(card, config) or names & {each.casefold() for each in _labels(config, snapshot)})
        and not _contradicts(config, card)
    )


def _labels(config: Config, snapshot: Snapshot) -> tuple[str, ...]:
    return snapshot.labels.get(config.id, (config.label,))


def _is_endpoint(card: Card, config: Config) -> bool:
    places = (*card.served, card.endpoint) if card.endpoint else card.served
    return any(config.engine == f"remote {at.base_url}" and config.facts.get("name") == at.model for at in places)


def _contradicts(config: Config, card: Card) -> bool:
    known = [name for name in SHAPE if name in config.facts and card.value(name) is not None]
    return any(config.facts[name] != card.value(name) for name in known)


class _Judging:
    """One call of ``judge``: what was looked up for one claim serves the others."""

    def __init__(self, cards: Mapping[str, Card], snapshot: Snapshot, header: Header | None) -> None:
        self._cards = cards
        self._snapshot = snapshot
        self._header = header
        self._tried: dict[str, Tried] = {}
        self._ranks: dict[tuple[str, str], Judgement] = {}

    def judge(self, claim: Claim) -> Judgement:
        if claim.predicate in UNDECIDED:
            return _open(claim, UNDECIDED[claim.predicate][1])
        if claim.predicate in ("can", "learns_from_examples"):
            return self._measured(claim)
        if claim.predicate == "ranks_above":
            return self._ranked(claim)
        if claim.predicate == "ecosystem":
            return self._ecosystem(claim)
        if claim.predicate == "pricing":
            return self._pricing(claim)
        if claim.predicate == "price_input":
            return self._price(claim)
        if claim.predicate in NEEDS:
            return _open(claim, NEEDS[claim.predicate])
        return self._fact(claim)

    def _fact(self, claim: Claim) -> Judgement:
        header = self._header
        if header is not None and header.subject == claim.subject and claim.predicate in header.facts:
            return _compared(claim, header.facts[claim.predicate], "its own header", Evidence("header", header.path))
        fact = self._published(claim)
        if fact is None:
            return _open(claim, f"a published {FACTS.get(claim.predicate, claim.predicate)} of {claim.subject}")
        title = fact.source.title + (f" ({fact.source.read})" if fact.source.read else "")
        return _compared(claim, fact.value, fact.source.title, Evidence(title, fact.source.url))

    def _published(self, claim: Claim) -> Fact | None:
        if claim.subject == PAGE:
            return page_facts().get(claim.predicate)
        card = self._cards.get(claim.subject)
        if card is not None and claim.predicate == "maker" and card.maker:
            of = card.facts.get("released") or next(iter(card.facts.values()), None)
            return Fact(card.maker, of.source) if of else None
        return card.facts.get(claim.predicate) if card else None

    def _measured(self, claim: Claim) -> Judgement:
        if claim.needs:
            return _open(claim, claim.needs)
        card = self._cards.get(claim.subject)
        if card is None:
            return _open(claim, f"a card of {claim.subject}")
        if claim.subject not in self._tried:
            self._tried[claim.subject] = Tried(card.name, configs_of(card, self._snapshot), self._snapshot)
        return self._tried[claim.subject].judge(claim)

    def _ranked(self, claim: Claim) -> Judgement:
        key = claim.subject, str(claim.value)
        if key not in self._ranks:
            ours, theirs = (
                configs_of(self._cards[name], self._snapshot) if name in self._cards else () for name in key
            )
            self._ranks[key] = ranked(claim, ours, theirs, self._snapshot)
        return replace(self._ranks[key], claim=claim)

    def _configs(self, name: str) -> tuple[Config, ...]:
        return configs_of(self._cards[name], self._snapshot) if name in self._cards else ()

    def _ecosystem(self, claim: Claim) -> Judgement:
        card = self._cards.get(claim.subject)
        formats = card.facts.get("formats") if card else None
        if formats is None:
            return _open(claim, "the formats it is published in")
        return _compared(
            claim, len(formats.value), f"{formats.source.title} ({shown(formats.value)})",
            Evidence(formats.source.title, formats.source.url),
        )  # fmt: skip

    def _pricing(self, claim: Claim) -> Judgement:
        """What is asked for the weights, by the licence, and at endpoints, by who publishes a price."""
        card = self._cards.get(claim.subject)
        licence = card.facts.get("license_allows") if card else None
        if card is None or licence is None or card.price is None:
            return _open(claim, "its licence, and a price of an endpoint")
        offers = ["free weights"] if "use free of royalties" in licence.value else []
        offers += ["paid endpoints"] if card.price.input else []
        evidence = [Evidence(licence.source.title, licence.source.url), Evidence(card.price.source, card.price.url)]
        if (free := card.facts.get("free_endpoint")) is not None and free.value:
            offers.append("free endpoints")
            evidence.append(Evidence(free.source.title, free.source.url))
        return _compared(claim, tuple(offers), "licence and price lists together", *evidence)

    def _price(self, claim: Claim) -> Judgement:
        card = self._cards.get(claim.subject)
        price = card.price if card else None
        if price is None or price.input is None:
            return _open(claim, NEEDS["price_input"])
        said = ", ".join(filter(None, (price.source, price.as_of)))
        return _compared(claim, price.input, said, Evidence(said, price.url))


def _compared(claim: Claim, truth: Any, who: str, *evidence: Evidence) -> Judgement:
    found = agrees(claim.predicate, claim.relation, claim.value, truth)
    if found is None:
        missing = shown(tuple(each for each in _tuple(claim.value) if each not in _tuple(truth)))
        return Judgement(
            claim, "unmeasured", truth, f"{who} does not name {missing}", evidence,
            claim.needs or f"a publication that names {missing}",
        )  # fmt: skip
    if found:
        return Judgement(claim, "verified", truth, f"{who}: {shown(truth)}", evidence, "")
    only = "only " if claim.relation == "is" and isinstance(truth, tuple) else ""
    claimed = f"{only}{meant(claim.relation, claim.value)}"
    return Judgement(claim, "contradicted", truth, f"{who}: {shown(truth)}, not {claimed}", evidence, "")


def _open(claim: Claim, needs: str) -> Judgement:
    needs = (claim.needs or needs).replace("{value}", shown(claim.value)).replace("{measure}", measuring(claim.subject))
    return Judgement(claim, "unmeasured", None, "nothing here shows it", (), needs)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
