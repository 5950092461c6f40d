"""One of the two that are compared: a card, a measured config, or both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quipu.errors import InvalidRequest, ModelNotFound, did_you_mean
from quipu.evidence.cards import Card, card
from quipu.evidence.config import Config
from quipu.evidence.judging import Header, configs_of
from quipu.evidence.snapshot import Snapshot

PREFIX = 6
"""Fewest characters of a config's id that name it; fewer would be words."""
SHORT = 12
"""Characters of an id that are shown."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is known under a name. ``card`` has nothing in it but the name where none is of this model."""

    name: str
    """As it was asked for; the two of a comparison are told apart by it."""
    card: Card
    config: Config | None = None
    """None: never measured here."""
    header: Header | None = None
    """What the model's own file says, where one is at hand."""

    @property
    def title(self) -> str:
        """The card's, or what it was measured as."""
        return self.card.title

    @property
    def quantization(self) -> str:
        """How its weights were stored when it was measured, most of them first; empty if it was not."""
        return self.config.quantization if self.config else ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without what the card says at length."""
        return {
            "name": self.name,
            "title": self.title,
            "card": self.card.name if self.card.maker or self.card.facts else None,
            "license": self.card.license,
            "context_length": self.card.context_length,
            "config": described(self.config) if self.config else None,
        }


def names(a: Side, b: Side) -> tuple[str, str]:
    """What to call the two in a sentence, on one line: their titles, or what tells them apart."""
    titles, given = ((a.title, b.title), (a.name, b.name))
    one, other = (" ".join(each.split()) for each in (titles if titles[0] != titles[1] else given))
    if one != other:
        return one, other
    if a.config is not None and b.config is not None and a.config.id != b.config.id:
        return f"{one} ({a.config.id[:SHORT]})", f"{other} ({b.config.id[:SHORT]})"
    return f"{one} (A)", f"{other} (B)"


def described(config: Config) -> dict[str, Any]:
    """A config for JSON, with its id."""
    return {"id": config.id, "label": config.label, **config.identity}


def side(name: str, cards: Mapping[str, Card], snapshot: Snapshot) -> Side:
    """What ``name`` means: a card's name or alias, what something was measured as, or the start of a config's id.

    Raises InvalidRequest where that is several configs or cards, ModelNotFound with the nearest name.
    """
    found = _of_id(name, snapshot)
    if found:
        return _only(name, found, cards, snapshot)
    try:
        its = card(name, cards)
    except ModelNotFound:
        labelled = _labelled(name, snapshot)
        if not labelled:
            raise _unknown(name, cards, snapshot) from None
        return _only(name, labelled, cards, snapshot)
    configs = configs_of(its, snapshot)
    if len(configs) > 1:
        exactly = [each for each in configs if name in labels(each, snapshot)]
        configs = tuple(exactly) if len(exactly) == 1 else configs
    _refuse_several(name, configs)
    return Side(name, its, configs[0] if configs else None)


def of_config(config: Config, cards: Mapping[str, Card], snapshot: Snapshot, name: str = "") -> Side:
    """The side that is ``config``, under its own label unless ``name`` says otherwise."""
    of = [each for each in cards.values() if config in configs_of(each, snapshot)]
    # A card of the endpoint itself has its price; the model's own card, which may be beside it, has not.
    its = next((each for each in of if each.endpoint is not None), of[0] if of else None)
    return Side(name or config.label, its or Card(name=config.label, title=config.label), config)


def of_file(
    name: str, model_hash: str, cards: Mapping[str, Card], snapshot: Snapshot, header: Header | None = None
) -> Side:
    """The side that is a file of weights: what was measured of it, if anything. Raises InvalidRequest for several.

    ``header``: what it says, of the model of which card.
    """
    configs = [each for each in snapshot.configs.values() if each.model_hash == model_hash]
    _refuse_several(name, configs)
    its = cards[header.subject] if header else Card(name=name, title=name)
    return Side(name, its, configs[0] if configs else None, header)


def labels(config: Config, snapshot: Snapshot) -> tuple[str, ...]:
    """Every name that a config was measured under."""
    return snapshot.labels.get(config.id, (config.label,))


def _of_id(name: str, snapshot: Snapshot) -> list[Config]:
    if not re.fullmatch(rf"[0-9a-f]{{{PREFIX},64}}", name):
        return []
    return [config for identifier, config in snapshot.configs.items() if identifier.startswith(name)]


def _labelled(name: str, snapshot: Snapshot) -> list[Config]:
    return [config for config in snapshot.configs.values() if name in labels(config, snapshot)]


def _only(name: str, configs: Iterable[Config], cards: Mapping[str, Card], snapshot: Snapshot) -> Side:
    every = list(configs)
    _refuse_several(name, every)
    return of_config(every[0], cards, snapshot, name)


def _refuse_several(name: str, configs: Iterable[Config]) -> None:
    every = list(configs)
    if len(every) < 2:
        return
    listed = "; ".join(
        f"{config.id[:SHORT]} ({config.quantization[:40]}, {config.engine[:60]}, {config.hardware[:60]})"
        for config in every[:8]
    )
    raise InvalidRequest(
        f"{name[:100]!r} was measured as {len(every)} configs, which is not the same thing each time; name one by its "
        f"id: {listed}",
        param="model",
    )


def _unknown(name: str, cards: Mapping[str, Card], snapshot: Snapshot) -> ModelNotFound:
    measured = [_shown(label) for config in snapshot.configs.values() for label in labels(config, snapshot)]
    known = list(dict.fromkeys([*cards, *measured]))
    hint = did_you_mean(name[:100], known, f"there are {', '.join(known)[:400]}")
    return ModelNotFound(
        f"there is no card, measured config or file {name[:100]!r}; {hint}; measure it with quipu measure, or add it "
        "with quipu models add",
        param="model",
    )


def _shown(label: str) -> str:
    """A label in an error: short, and with nothing in it that steers a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", label[:80])
