"""How a verdict would become another, and the command that buys the evidence."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from quipu.evidence.compare import Judgement
from quipu.evidence.figure import listed, plural
from quipu.evidence.flip import Flip
from quipu.evidence.measuring import measuring, measuring_more
from quipu.evidence.side import Side, names


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
    return Change((f"About {plural(judgement.overall.needed, 'more shared probe')} would tell.",), commands_for([a, b]))


def _turned(turned: Flip) -> Change:
    """The smallest change of each kind: quipu flip tells all of them."""
    smallest = (turned.shift, *turned.reversals[:1], *turned.purchases[:1])
    told = tuple(f"{each.told}." for each in smallest if each is not None)
    bought = turned.purchases[0].commands if turned.purchases else ()
    return Change(told or turned.told, bought)


def _measure(called: list[str], sides: list[Side]) -> Change:
    commands = " && ".join(commands_for(sides))
    told = [f"Measure {listed(called)}: the same probes of both decide it."]
    if "--base-url" in commands:
        told.append("URL is an OpenAI-compatible API that serves the model, THERE its name there.")
    return Change(tuple(told), (commands,))


def commands_for(sides: list[Side]) -> tuple[str, ...]:
    """What measures ``sides``, each once."""
    return tuple(dict.fromkeys(_command(side) for side in sides))


def _command(side: Side) -> str:
    """What measures it: what it was measured as, the file, or its card, which may have to be reached elsewhere."""
    if side.config is not None:
        return measuring_more(side.config)
    of_card = side.name.casefold() in {each.casefold() for each in (side.card.name, *side.card.aliases)}
    if side.header is not None and not of_card:
        return f"quipu measure {shlex.quote(side.name)}"
    said = measuring(shlex.quote(side.card.name)).replace(", then ", " && ")
    return re.sub(r"\bHERE\b", f"my-{side.card.name}", said)
