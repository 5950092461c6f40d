"""The ten rows of the seed page's table, same names and order, with the value that evidence supports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.cards import Card, Price
from quipu.evidence.claims import shown
from quipu.evidence.judging import configs_of
from quipu.evidence.measuring import measuring
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import THIN
from quipu.evidence.tried import above_trivial

NAMES = (
    "Type", "UnfragileRank", "Adoption", "Quality", "Ecosystem",
    "Match Graph", "Pricing", "Starting Price", "Capabilities", "Times Matched",
)  # fmt: skip
UNKNOWN = "—"

State = Literal["published", "measured", "unrated", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of the table. ``value`` is text to show, "—" where unknown; ``why``: where it is from, or why not."""

    name: str
    value: str
    state: State
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def seed_rows(card: Card, snapshot: Snapshot, score: str | None = None, config: str | None = None) -> tuple[Row, ...]:
    """The ten rows for one model.

    ``score``: the rank as text ("61.0 (55.0 to 67.0)"), None if unrated. ``config``: the id of the one config that the
    rows are about; None is every config of the card's model.
    """
    configs = [config] if config else [each.id for each in configs_of(card, snapshot)]
    made: Sequence[Callable[[], tuple[str, State, str]]] = (
        lambda: _type(card),
        lambda: _score(score, card, configs),
        lambda: _unknown("requests are not logged with the model that answered them yet"),
        lambda: _quality(card, snapshot, configs),
        lambda: _ecosystem(card),
        lambda: _unknown("no request with a known outcome is logged yet; probes are not field evidence"),
        lambda: _pricing(card),
        lambda: _price(card),
        lambda: _capabilities(card, snapshot, configs),
        lambda: _unknown("searches are not logged and matched yet"),
    )
    return tuple(Row(name, *make()) for name, make in zip(NAMES, made, strict=True))


def price_text(price: Price | None) -> str:
    """``$0.08 in, $0.30 out``, per million tokens; "—" where unknown."""
    if price is None:
        return UNKNOWN
    both = [f"{dollars(each)} {way}" for each, way in ((price.input, "in"), (price.output, "out")) if each is not None]
    return ", ".join(both) or UNKNOWN


def dollars(amount: float) -> str:
    """An amount for people: at least two decimals, and three digits that count; never an exponent."""
    places = 2
    while places < 12 and 0 < amount < 10 ** (2 - places):
        places += 1
    text = f"{amount:.{places}f}"
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _unknown(why: str) -> tuple[str, State, str]:
    return UNKNOWN, "unknown", why


def _type(card: Card) -> tuple[str, State, str]:
    fact = card.facts.get("type")
    return (str(fact.value), "published", fact.source.title) if fact else _unknown("its card does not say")


def _score(score: str | None, card: Card, configs: Sequence[str]) -> tuple[str, State, str]:
    if score is not None:
        return score, "measured", "100 x weight x posterior of success, over the workload"
    why = "too little of the workload is measured" if configs else f"no probe was asked of it: {measuring(card.name)}"
    return UNKNOWN, "unrated", why


def _quality(card: Card, snapshot: Snapshot, configs: Sequence[str]) -> tuple[str, State, str]:
    told = _told(snapshot, configs)
    if not told:
        return _unknown(f"fewer than {THIN} probes of every capability were asked: {measuring(card.name)}")
    better = sum(told.values())
    return (
        f"better than trivial in {better} of {len(told)}",
        "measured",
        f"capabilities with at least {THIN} probes whose 95 % interval lies above the trivial answer's score",
    )


def _ecosystem(card: Card) -> tuple[str, State, str]:
    counted = [
        (name, card.facts[name]) for name in ("formats", "endpoints") if name in card.facts and card.facts[name].value
    ]
    if not counted:
        return _unknown("its card names no format")
    value = ", ".join(f"{len(fact.value)} {name if len(fact.value) > 1 else name[:-1]}" for name, fact in counted)
    return value, "published", "; ".join(f"{shown(fact.value)}: {fact.source.title}" for _, fact in counted)


def _pricing(card: Card) -> tuple[str, State, str]:
    licence = card.facts.get("license_allows")
    free = licence is not None and "use free of royalties" in licence.value
    offers = ["weights free"] if free else []
    sources = [licence.source.title] if free and licence else []
    if card.price is not None:
        offers.append("endpoints paid" if card.price.input or card.price.output else "endpoint free")
        sources.append(card.price.source or "its card")
    if not offers:
        return _unknown("neither licence nor price is known")
    return ", ".join(offers), "published", "; ".join(sources)


def _price(card: Card) -> tuple[str, State, str]:
    price = card.price
    if price is None or price_text(price) == UNKNOWN:
        return _unknown("no price of an endpoint is in its card")
    asked = ", ".join(filter(None, (price.source or "its card", price.as_of)))
    return f"{price_text(price)} per million tokens", "published", asked


def _capabilities(card: Card, snapshot: Snapshot, configs: Sequence[str]) -> tuple[str, State, str]:
    told = _told(snapshot, configs)
    declared = len(card.capabilities)
    if not declared and not told:
        return _unknown("its card declares none, and none was measured")
    state: State = "measured" if told else "published"
    return f"{declared} declared, {len(told)} measured", state, f"measured: with at least {THIN} probes"


def _told(snapshot: Snapshot, configs: Sequence[str]) -> dict[str, bool]:
    """Capabilities with enough probes, by uri: whether a config is better at it than the trivial answer."""
    found: dict[str, bool] = {}
    for config in configs:
        for cell in snapshot.of(config):
            if len(cell.outcomes) >= THIN:
                found[cell.capability] = found.get(cell.capability, False) or above_trivial(cell)
    return found
