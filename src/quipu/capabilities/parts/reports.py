"""Reports, news, letters and minutes with known key facts among asides, to be summarized."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

EACH = 14
"""Reports of one kind."""
FEWEST, MOST = 120, 600
"""Words of a report."""
SENTENCES_PER_PARAGRAPH = 4


@dataclass(frozen=True, slots=True)
class Report:
    """A text; the facts that matter in it, each a list of names and numbers; and a perfect summary, by sentence."""

    kind: str
    number: int
    text: str
    facts: Sequence[Sequence[str | int]]
    summary: Sequence[str]

    @property
    def words(self) -> int:
        """Of the text."""
        return len(self.text.split())


def reports() -> Iterator[Report]:
    """All of them, the same each time; half are shorter than 200 words."""
    source = resources.files("quipu.capabilities") / "probes" / "summarize.toml"
    material = tomllib.loads(source.read_text("utf-8"))
    for place, template in enumerate(material["templates"]):
        for number in range(EACH):
            chance = random.Random(1000 * place + number)
            length = int(FEWEST + (MOST - FEWEST) * chance.random() ** 2.5)
            yield _report(material, template, number, length, chance)


def _report(
    material: Mapping[str, Any], template: Mapping[str, Any], number: int, length: int, chance: random.Random
) -> Report:
    slots = _slots(material["slots"], chance)
    keys = [sentence.format(**slots) for sentence in template["keys"]]
    asides = chance.sample(template["asides"], len(template["asides"]))
    asides += chance.sample(material["asides"], len(material["asides"]))
    left = length - sum(len(sentence.split()) for sentence in [template["opening"], *keys])
    chosen: list[str] = []
    while left > 0 and asides:
        # Names and numbers of asides differ from one to the next.
        chosen.append(asides.pop(0).format(**{**_slots(material["slots"], chance), "place": slots["place"]}))
        left -= len(chosen[-1].split())
    places = sorted(chance.sample(range(len(chosen) + len(keys)), len(keys)))
    for place, sentence in zip(places, keys, strict=True):
        chosen.insert(place, sentence)
    paragraphs = [
        " ".join(chosen[start : start + SENTENCES_PER_PARAGRAPH])
        for start in range(0, len(chosen), SENTENCES_PER_PARAGRAPH)
    ]
    return Report(
        kind=template["name"],
        number=number,
        text="\n\n".join([template["opening"], *paragraphs]),
        facts=[[slots[name] for name in fact] for fact in template["facts"]],
        summary=[sentence.format(**slots) for sentence in template["short"]],
    )


def _slots(lists: Mapping[str, Sequence[str]], chance: random.Random) -> dict[str, Any]:
    firsts, lasts = chance.sample(lists["first"], 3), chance.sample(lists["last"], 3)
    companies = chance.sample(lists["company"], 2)
    asides = dict(zip(("n1", "n2", "n3", "n4"), chance.sample(range(13, 100), 4), strict=True))
    return {
        "person": f"{firsts[0]} {lasts[0]}",
        "surname": lasts[0],
        "other": f"{firsts[1]} {lasts[1]}",
        "other2": f"{firsts[2]} {lasts[2]}",
        "place": chance.choice(lists["place"]),
        "company": companies[0],
        "company2": companies[1],
        "month": chance.choice(lists["month"]),
        "day": chance.randrange(1, 29),
        "count": chance.randrange(101, 1000),
        "percent": chance.randrange(13, 90),
        "amount": chance.randrange(21, 990) * 100 + chance.choice((0, 50)),
        **asides,
    }
