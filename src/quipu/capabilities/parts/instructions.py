"""Instructions put together from checks (parts/verifiable.py), each with an answer that follows all of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quipu.capabilities.parts.language import NAMES
from quipu.capabilities.parts.verifiable import words_of

WORDING: Mapping[str, str] = {
    "words_at_most": "Use at most {number} words.",
    "words_at_least": "Use at least {number} words.",
    "sentences": "Write exactly {number} sentences.",
    "paragraphs": "Write exactly {number} paragraphs with a blank line between them.",
    "bullets": "Write exactly {number} sentences, each on a line of its own that begins with a hyphen.",
    "numbered": "Write exactly {number} sentences as a numbered list: 1. 2. and so on.",
    "lines_start": 'Begin every line with "{prefix}".',
    "json_keys": "Answer with a JSON object that has the keys {keys}, each with a text, and with nothing else.",
    "title": "Put a title in square brackets, like [title], on a line of its own before the text.",
    "quoted": "Put the whole answer in double quotation marks.",
    "include": "Use the words {words}.",
    "exclude": "Do not use the words {words}.",
    "no_commas": "Do not use any commas.",
    "upper": "Write in capital letters only.",
    "lower": "Write in small letters only, without any capital letter.",
    "title_case": "Begin Every Word With A Capital Letter.",
    "language": "Answer in {language}.",
    "starts": 'Begin the answer with "{phrase}".',
    "ends": 'End the answer with "{phrase}"',
}
FAMILIES: Mapping[str, Sequence[str]] = {
    "length": ("words_at_most", "words_at_least", "sentences", "paragraphs"),
    "format": ("bullets", "numbered", "lines_start", "json_keys", "title", "quoted"),
    "words": ("include", "exclude", "no_commas"),
    "case": ("upper", "lower", "title_case"),
    "language": ("language",),
    "edges": ("starts", "ends"),
}
LISTS = {"bullets", "numbered", "lines_start"}
APART: Sequence[tuple[set[str], set[str]]] = (
    (LISTS | {"json_keys", "title", "quoted"}, {"starts", "ends", "paragraphs"}),
    ({"bullets", "numbered"}, {"words_at_most", "words_at_least"}),
    (LISTS | {"title"}, {"sentences"}),
    ({"json_keys"}, {"upper", "lower", "title_case", "sentences", "no_commas"}),
    ({"language"}, {"include", "exclude", "starts", "ends", "json_keys", "words_at_least", "paragraphs", "title"}),
    ({"language"}, {"bullets", "numbered", "sentences", "upper", "title_case", "lower"}),
    ({"ends"}, {"sentences", "paragraphs"}),
)
"""Checks that contradict each other, or of which one makes the other unclear."""

NUMBERS = {
    "words_at_most": (20, 35),
    "words_at_least": (25, 30),
    "sentences": (2, 4),
    "paragraphs": (2, 3),
    "bullets": (2, 4),
    "numbered": (2, 4),
}
"""Fewest and most that are asked for."""
COUNTED = {"sentences", "paragraphs", "bullets", "numbered"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is asked, about what, how it is checked, and an answer that follows it."""

    text: str
    material: str | None
    subject: str
    about: Sequence[str]
    checks: Sequence[Mapping[str, Any]]
    answer: str
    family: str


def family_of(kind: str) -> str:
    """The family that a check belongs to."""
    return next(family for family, kinds in FAMILIES.items() if kind in kinds)


def instructions(material: Mapping[str, Any], of_each: int) -> Iterator[Instruction]:
    """``of_each`` for every kind of check, in turn with none, one and two further checks beside it."""
    dice = random.Random(4)
    for kind in WORDING:
        subjects = [each for each in material["subjects"] if kind != "language" or "foreign" in each]
        dice.shuffle(subjects)
        for place in range(of_each * (2 if kind == "language" else 1)):  # there are six languages
            kinds = [kind]
            while len(kinds) < 1 + place % 3:
                kinds.append(dice.choice([each for each in WORDING if _agrees(each, kinds)]))
            yield _instruction(dice, material, subjects[place % len(subjects)], kinds, place)


def _agrees(kind: str, kinds: Sequence[str]) -> bool:
    """Whether ``kind`` can be asked for beside ``kinds``: one of a family, and nothing that it contradicts."""
    if kind == "language" or family_of(kind) in map(family_of, kinds):
        return False
    return not any(
        (kind in left and other in right) or (kind in right and other in left)
        for other in kinds
        for left, right in APART
    )


def _instruction(
    dice: random.Random, material: Mapping[str, Any], subject: Mapping[str, Any], kinds: Sequence[str], place: int
) -> Instruction:
    checks = [_check(dice, material, subject, kind, place) for kind in kinds]
    retold = place % 4 == 3
    frame = dice.choice(material["retellings"] if retold else material["frames"]).format(subject["name"])
    return Instruction(
        text=" ".join([frame, *map(_worded, checks)]),
        material=" ".join(subject["sentences"][:3]) if retold else None,
        subject=subject["name"],
        about=subject["about"],
        checks=checks,
        answer=_answer(subject, {check["kind"]: check for check in checks}),
        family=family_of(kinds[0]),
    )


def _check(
    dice: random.Random, material: Mapping[str, Any], subject: Mapping[str, Any], kind: str, place: int
) -> dict[str, Any]:
    """A check of ``kind`` with its options drawn."""
    if kind in NUMBERS:
        return {"kind": kind, "number": dice.randint(*NUMBERS[kind])}
    if kind in ("include", "exclude"):
        used = words_of(" ".join(subject["sentences"]))
        return {"kind": kind, "words": dice.sample([each for each in material[f"{kind}d"] if each not in used], 2)}
    if kind in ("starts", "ends"):
        return {"kind": kind, "phrase": dice.choice(material[kind])}
    if kind == "lines_start":
        return {"kind": kind, "prefix": dice.choice(material["prefixes"]).strip()}
    if kind == "json_keys":
        return {"kind": kind, "keys": dice.choice(material["keys"])}
    if kind == "language":
        return {"kind": kind, "language": [code for code in NAMES if code not in ("en", "th")][place % 6]}
    return {"kind": kind}


def _worded(check: Mapping[str, Any]) -> str:
    """The sentence that asks for ``check``."""
    options = {name: value for name, value in check.items() if name != "kind"}
    for name in ("words", "keys"):
        if name in options:
            options[name] = " and ".join(f'"{each}"' for each in options[name])
    if check["kind"] == "language":
        options["language"] = NAMES[check["language"]]
    return WORDING[check["kind"]].format(**options)


def _answer(subject: Mapping[str, Any], checks: Mapping[str, Mapping[str, Any]]) -> str:
    """Sentences about ``subject``, arranged so that every check is followed."""
    sentences = list(subject["sentences"])
    if "language" in checks:
        sentences = list(subject["foreign"][checks["language"]["language"]])
    count = next((check["number"] for check in checks.values() if check["kind"] in COUNTED), 2)
    if "words_at_least" in checks:
        count = max(count, 5)
    sentences = sentences[:count]
    if "include" in checks:
        first, second = checks["include"]["words"]
        sentences[-1] = f"Think of {subject['name']} and of the {first} and the {second}."
    if "starts" in checks:
        sentences[0] = f"{checks['starts']['phrase']}: {sentences[0]}"
    if "ends" in checks:
        sentences.append(checks["ends"]["phrase"])
    text = _arranged(subject["name"], sentences, checks)
    for kind, change in {"upper": str.upper, "lower": str.lower, "title_case": str.title}.items():
        text = change(text) if kind in checks else text
    return text


def _arranged(name: str, sentences: Sequence[str], checks: Mapping[str, Mapping[str, Any]]) -> str:
    """``sentences`` in the form that is asked for; checks of form exclude each other."""
    text = " ".join(sentences)
    if "bullets" in checks:
        return "\n".join(f"- {sentence}" for sentence in sentences)
    if "numbered" in checks:
        return "\n".join(f"{place}. {sentence}" for place, sentence in enumerate(sentences, 1))
    if "lines_start" in checks:
        return "\n".join(f"{checks['lines_start']['prefix']} {sentence}" for sentence in sentences)
    if "paragraphs" in checks:
        return "\n\n".join(sentences)
    if "json_keys" in checks:
        return json.dumps(dict(zip(checks["json_keys"]["keys"], (name, text), strict=True)))
    if "title" in checks:
        return f"[{name}]\n{text}"
    return f'"{text}"' if "quoted" in checks else text
