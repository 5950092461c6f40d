"""The command that measures a model: with weights that quipu runs, or at an endpoint that serves it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from quipu.evidence.config import Config
from quipu.evidence.workload import identifier


def measuring(name: str, capability: str | None = None) -> str:
    """The command, for the card ``name``, and for one capability if given."""
    only = f" --capability {capability}" if capability else ""
    if name in _large():
        return f"quipu models add HERE --of {name} --base-url URL --model THERE, then quipu measure HERE{only}"
    return f"quipu measure {name}{only}"


def measuring_more(config: Config, *capabilities: str) -> str:
    """The command that asks more probes of ``capabilities`` (uris) of what was measured: all of them unless given.

    It has the options that ``config`` was measured with, without which it would measure another config. Of a file only
    the name is told, as everywhere: commands are shown to others, whom the folders here do not concern.
    """
    words = ["quipu", "measure", *_named(config), *_options(config)]
    for each in capabilities:
        words += ["--capability", identifier(each)]
    return shlex.join(words)


def _named(config: Config) -> list[str]:
    """What it was measured as: a name, a file, a card of the user's, or a name at an address."""
    if config.engine.startswith("remote "):
        at = config.engine.removeprefix("remote ")
        return [config.label] if _has_card(config.label, at) else [_name_there(config), "--base-url", at]
    file = Path(str(config.facts.get("file", ""))).name
    return [f"./{file}"] if file and config.label == file.removesuffix(".gguf") else [config.label]


def _has_card(label: str, base_url: str) -> bool:
    """Whether a card of the user's has that name and address; it knows the key, too."""
    from quipu.evidence.card_file import NAME
    from quipu.evidence.cards import endpoint

    at = endpoint(label) if NAME.fullmatch(label) else None
    return at is not None and at.base_url == base_url


def _name_there(config: Config) -> str:
    return str(config.facts.get("name", config.label))


def _options(config: Config) -> Iterator[str]:
    own = config.facts.get("context_length")
    given = {"context_length": None, **config.decoding, "defaults": None}
    if given["context_length"] == own:
        given["context_length"] = None
    for name, value in given.items():
        option = "--context" if name == "context_length" else f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            yield from _option(option, each)


def _option(option: str, value: Any) -> Iterator[str]:
    if value is None or value is False:
        return
    text = value if isinstance(value, str) else json.dumps(value)
    if value is True:
        yield option
    elif text.startswith("-"):  # which would be an option of its own
        yield f"{option}={text}"
    else:
        yield from (option, text)


@cache
def _large() -> frozenset[str]:
    """Models that most people reach at an endpoint: those one plans for before downloading them."""
    from quipu.model.known import known_models

    return frozenset(each.name for each in known_models() if each.config is not None)
