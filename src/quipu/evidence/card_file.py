"""Reading a model card from TOML: every key is known or refused by name, every value is of its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quipu.errors import InvalidConfiguration
from quipu.evidence.cards import PARTS, Card, Declared, Endpoint, Fact, Price, Source
from quipu.evidence.facts import FACTS
from quipu.evidence.statement import statement
from quipu.evidence.toml_table import check_keys, listed, parsed, table, text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
MOST_BYTES = 1 << 20
DOLLARS = "US dollars per million tokens"

KEYS = ("title", "of", "maker", "license", "aliases", "sources", "facts", "price", "endpoint", "capabilities")


def read(path: Path) -> Card:
    """The card in a file; its stem is the name. Raises InvalidConfiguration that names file and key."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InvalidConfiguration(f"{path} has more than {MOST_BYTES} bytes; this is no model card")
        content = data.decode()
    except OSError as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"{path} is not UTF-8 text: {error}") from None
    return parse(content, path.stem, str(path), own=False)


def parse(content: str, name: str, where: str, *, own: bool = True) -> Card:
    """The card ``name`` that ``content`` describes; ``where`` is said in errors. ``own``: it comes with quipu."""
    if not NAME.fullmatch(name):
        raise InvalidConfiguration(f"{where}: a card's name is letters, digits, dots, dashes and underscores")
    values = parsed(content, where)
    check_keys(values, KEYS, where)
    sources = {
        key: _source(table(value, f"{where}: [sources.{key}]"), f"{where}: [sources.{key}]")
        for key, value in table(values.get("sources", {}), f"{where}: [sources]").items()
    }
    return Card(
        name=name,
        title=text(values, "title", where, needed=True),
        maker=text(values, "maker", where),
        license=text(values, "license", where),
        of=text(values, "of", where),
        aliases=listed(values, "aliases", where),
        facts=dict(_facts(table(values.get("facts", {}), f"{where}: [facts]"), sources, where)),
        price=_price(values.get("price"), where),
        endpoint=_endpoint(values.get("endpoint"), where),
        capabilities={
            key: _declared(value, f"{where}: [capabilities.{key}]")
            for key, value in table(values.get("capabilities", {}), f"{where}: [capabilities]").items()
        },
        file="" if own else where,
    )


def _source(value: Mapping[str, Any], where: str) -> Source:
    check_keys(value, ("title", "url", "read"), where)
    return Source(*(text(value, name, where, needed=name == "title") for name in ("title", "url", "read")))


def _facts(groups: Mapping[str, Any], sources: Mapping[str, Source], where: str) -> list[tuple[str, Fact]]:
    """Facts are grouped by their source: ``[facts.config]`` has those that ``[sources.config]`` says."""
    check_keys(groups, sources, f"{where}: [facts]: no source of that name")
    found: dict[str, Fact] = {}
    for key, group in groups.items():
        place = f"{where}: [facts.{key}]"
        check_keys(table(group, place), FACTS, place)
        for fact, value in group.items():
            if fact in found:
                raise InvalidConfiguration(f"{place}: {fact} is said twice; keep the better source")
            if not isinstance(value, str | int | float | bool | list) or value == "":
                raise InvalidConfiguration(f"{place}: {fact} must be text, a number or a list, got {value!r:.80}")
            found[fact] = Fact(tuple(value) if isinstance(value, list) else value, sources[key])
    return list(found.items())


def _price(value: Any, where: str) -> Price | None:
    if value is None:
        return None
    place = f"{where}: [price]"
    check_keys(table(value, place), ("input", "output", "source", "url", "as_of"), place)
    for name in ("input", "output"):
        given = value.get(name)
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e6
        ):
            raise InvalidConfiguration(f"{place}: {name} must be {DOLLARS}, got {given!r:.80}")
    said = {name: text(value, name, place) for name in ("source", "url", "as_of")}
    return Price(value.get("input"), value.get("output"), **said)


def _endpoint(value: Any, where: str) -> Endpoint | None:
    if value is None:
        return None
    place = f"{where}: [endpoint]"
    check_keys(table(value, place), ("base_url", "model", "key_variable", "context_length"), place)
    context = value.get("context_length")
    if context is not None and (isinstance(context, bool) or not isinstance(context, int) or context < 1):
        raise InvalidConfiguration(f"{place}: context_length must be a number of tokens, got {context!r:.80}")
    return Endpoint(
        text(value, "base_url", place, needed=True),
        text(value, "model", place, needed=True),
        text(value, "key_variable", place) or None,
        context,
    )


def _declared(value: Any, where: str) -> Declared:
    check_keys(table(value, where), (*PARTS, "claims"), where)
    prose = {name: text(value, name, where, needed=name == "description") for name in PARTS}
    given = value.get("claims", [])
    if not isinstance(given, list):
        raise InvalidConfiguration(f"{where}: claims must be a list of tables")
    claims = tuple(statement(each, f"{where}, claim {place}") for place, each in enumerate(given, 1))
    for each in claims:
        if not any(each.said_in(words) for words in prose.values()):
            raise InvalidConfiguration(f"{where}: the words {each.quote[:80]!r} of a claim do not stand there")
    return Declared(**prose, claims=claims)
