"""Model cards: what is published of a model, and what it is said to do. One TOML file is one card.

Those in ``catalog/`` come with quipu; files in the user's folder add more. A card says nothing that was measured.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from quipu.errors import InvalidConfiguration, InvalidRequest, ModelNotFound, did_you_mean
from quipu.evidence.statement import Statement

PARTS = ("description", "unique", "alternatives")
"""What a card says of a capability: what it does, what is unique to it, and what it is compared to."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact was published. ``read``: how it was read, where that was not the page itself."""

    title: str
    url: str
    read: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A published value with its source."""

    value: Any
    source: Source


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of prompt (``input``) and of answer (``output``), at an endpoint, on a day.

    ``source`` says who asks it, at ``url``; ``as_of``: when that was read.
    """

    input: float | None = None
    output: float | None = None
    source: str = ""
    url: str = ""
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible API that serves the model. ``key_variable`` names the variable with its key.

    ``model``: its name there; None for the only one that is served.
    """

    base_url: str
    model: str | None
    key_variable: str | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a card says of one capability, in prose; ``claims`` are its sentences as typed claims."""

    description: str
    unique: str = ""
    alternatives: str = ""
    claims: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """What is published of a model. ``name`` is the stem of its file."""

    name: str
    title: str
    maker: str = ""
    license: str = ""
    aliases: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """By the names of FACTS in card_file.py: layers, heads, context_length, modalities, formats ..."""
    price: Price | None = None
    """None: no price is published, which is not the same as free."""
    endpoint: Endpoint | None = None
    capabilities: Mapping[str, Declared] = field(default_factory=dict)
    """By identifier, those of quipu.capabilities and others that quipu does not measure."""
    of: str = ""
    """The card of the model that the endpoint serves; what that one says and this one does not, it says, too."""
    served: tuple[Endpoint, ...] = ()
    """Where the user's cards of this model say that it is served."""
    file: str = ""
    """The path of a user's file; empty for a card that comes with quipu."""

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together, as published; None if unknown."""
        given = self.endpoint.context_length if self.endpoint else None
        return given or self.value("context_length")

    def value(self, fact: str) -> Any:
        """A fact's value; None if unknown."""
        return self.facts[fact].value if fact in self.facts else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cards() -> dict[str, Card]:
    """All cards by name: those of quipu, then the user's. Raises InvalidConfiguration that names file and key."""
    found = dict(built_in())
    for path in _user_files():
        card = _read(path, path.stat().st_mtime_ns)
        if card.name in found:
            raise InvalidConfiguration(f"{path}: there is a card {card.name} already; give the file another name")
        found[card.name] = card
    for each in [card for card in found.values() if card.of]:
        base = _base(each, found)
        found[each.name] = _over(each, base)
        if each.endpoint is not None:
            found[base.name] = replace(base, served=(*base.served, each.endpoint))
    return found


def card(name: str, among: Mapping[str, Card] | None = None) -> Card:
    """The card that ``name`` means: its name or one of its aliases, in any case.

    Raises InvalidRequest for an alias of several, ModelNotFound with the nearest name.
    """
    every = cards() if among is None else among
    if name in every:
        return every[name]
    matching = [
        each for each in every.values() if name.casefold() in {_.casefold() for _ in (each.name, *each.aliases)}
    ]
    if len(matching) > 1:
        names = ", ".join(each.name for each in matching)
        raise InvalidRequest(f"{name[:100]!r} is several models; name one of {names}", param="model")
    if not matching:
        hint = did_you_mean(name, every, f"there are {', '.join(every)}")
        raise ModelNotFound(f"there is no card of a model {name[:100]!r}; {hint}", param="model")
    return matching[0]


def endpoint(name: str) -> Endpoint | None:
    """Where the user's card ``name`` says that its model is served; None where there is no such card."""
    path = user_folder() / f"{name}.toml"
    if "/" in name or "\0" in name or not path.is_file():
        return None
    return _read(path, path.stat().st_mtime_ns).endpoint


def user_folder() -> Path:
    """Where the user's cards are."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "quipu" / "models"


def catalog_file(*names: str) -> str:
    """The text of a file that comes with quipu, below ``catalog/``."""
    return importlib.resources.files("quipu.evidence").joinpath("catalog", *names).read_text("utf-8")


def _base(card: Card, among: Mapping[str, Card]) -> Card:
    base = among.get(card.of)
    if base is None or base.of:
        known = [each.name for each in among.values() if not each.of]
        hint = did_you_mean(card.of[:80], known, f"there are {', '.join(known)}")
        raise InvalidConfiguration(f"{card.file}: of is {card.of[:80]!r}, which is no card of a model; {hint}")
    return base


def _over(card: Card, base: Card) -> Card:
    """``card`` with what ``base`` says besides: it is the same model, served somewhere."""
    return replace(
        card,
        maker=card.maker or base.maker,
        license=card.license or base.license,
        facts={**base.facts, **card.facts},
        capabilities={**base.capabilities, **card.capabilities},
    )


@cache
def built_in() -> Mapping[str, Card]:
    """The cards that come with quipu, by name."""
    from quipu.evidence.card_file import parse

    folder = importlib.resources.files("quipu.evidence").joinpath("catalog")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".toml"))
    found = [parse(catalog_file(name), name.removesuffix(".toml"), f"catalog/{name}") for name in names]
    return {each.name: each for each in found}


def _user_files() -> Iterator[Path]:
    folder = user_folder()
    return iter(sorted(folder.glob("*.toml")) if folder.is_dir() else ())


@cache
def _read(path: Path, changed: int) -> Card:
    from quipu.evidence.card_file import read

    return read(path)
