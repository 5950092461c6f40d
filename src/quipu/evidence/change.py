"""How a verdict would become another, and the command that buys the evidence."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from quipu.evidence.compare import Judgement
from quipu.evidence.figure import listed, plural
from quipu.evidence.flip import Flip
from quipu.evidence.side import Side, names
from quipu.model.known import known_models

URL = "URL"
"""What stands for the address of an endpoint that nobody has told yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """In sentences, and as shell commands, the one to begin with first."""

    told: tuple[str, ...]
    commands: tuple[str, ...]


def change(a: Side, b: Side, judgement: Judgement, turned: Flip | None) -> Change:
    """What to do: measure who was not, else what ``turned`` found, else ask more probes."""
    missing = [(name, side) for name, side in zip(names(a, b), (a, b), strict=True) if side.config is None]
    if missing:
        return _measure([name for name, _ in missing], [side for _, side in missing])
    if turned is not None:
        return _turned(turned)
    if judgement.overall.needed is None:
        return Change((), ())
    return Change((f"About {plural(judgement.overall.needed, 'more shared probe')} would tell.",), measuring([a, b]))


def _turned(turned: Flip) -> Change:
    """The smallest change of each kind: quipu flip tells all of them."""
    smallest = (turned.shift, *turned.reversals[:1], *turned.purchases[:1])
    told = tuple(f"{each.told}." for each in smallest if each is not None)
    bought = turned.purchases[0].commands if turned.purchases else ()
    return Change(told or turned.told, bought)


def _measure(called: list[str], sides: list[Side]) -> Change:
    commands = measuring(sides)
    told = [f"Measure {listed(called)}: the same probes of both decide it."]
    if any(command.endswith(f"--base-url {URL}") for command in commands):
        told.append(f"{URL} is any OpenAI-compatible API that serves the model.")
    return Change(tuple(told), (" && ".join(commands),))


def measuring(sides: list[Side]) -> tuple[str, ...]:
    """The commands that measure ``sides``."""
    return tuple(dict.fromkeys(f"quipu measure {_reached(side)}" for side in sides))


def _reached(side: Side) -> str:
    """How ``quipu measure`` reaches the model: by its name where it knows that, else at an address."""
    name = side.config.label if side.config else side.card.name
    quoted = shlex.quote(name)
    here = side.card.endpoint is not None or side.header is not None or side.config is not None
    return quoted if here or name in {each.name for each in known_models()} else f"{quoted} --base-url {URL}"
