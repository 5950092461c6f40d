"""Which facts of a text another text keeps, and which it makes up: numbers and names, in English."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL = {word: value for value, word in enumerate(UNITS.split())}
SMALL |= {word: 10 * value for value, word in enumerate(TENS.split(), 2)}
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
COUNTED = 12
"""Numbers in words up to it count what is said ("three people") and are not taken for facts that are made up."""
TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+")
SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")
NAME = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
NO_NAMES = {"i", "i'm", "i've", "tl", "dr"}


def numbers(text: str) -> list[tuple[float, bool]]:
    """Every number of ``text``, and whether it stands there in words: "two hundred and six", "4,250", "1.5 million"."""
    found: list[tuple[float, bool]] = []
    total, part, spelled = 0.0, None, False
    tokens = [*TOKEN.findall(text.casefold()), ""]
    for token, following in pairwise([*tokens, ""]):
        small, scale = SMALL.get(token), SCALES.get(token)
        if part is not None and scale is not None:
            if scale == 100:
                part *= 100
            else:
                total, part = total + part * scale, 0.0
        elif part is not None and small is not None and spelled and _continues(part, small):
            part += small
        elif part is not None and token == "and" and spelled and part % 100 == 0 and following in SMALL:
            continue
        else:
            if part is not None:
                found.append((total + part, spelled))
            total, part, spelled = 0.0, None, small is not None
            if small is not None:
                part = float(small)
            elif token[:1].isdecimal():
                part = float(token.replace(",", ""))
    return found


def _continues(part: float, small: int) -> bool:
    """Whether "five" goes on after "twenty", or "twenty" after "three hundred", as one number."""
    return part % 100 == 0 or (part % 100 >= 20 and part % 10 == 0 and 0 < small < 10)


def kept(text: str, facts: Sequence[Sequence[str | int]]) -> list[bool]:
    """For each fact whether ``text`` has all of it: its numbers, in digits or words, and its names in any case."""
    values = {value for value, _ in numbers(text)}
    words = f" {' '.join(_words(text))} "
    return [
        all(f" {' '.join(_words(part))} " in words if isinstance(part, str) else float(part) in values for part in fact)
        for fact in facts
    ]


def invented(text: str, source: str) -> list[str]:
    """Numbers and names of ``text`` that are not in ``source``. The first word of a sentence is taken for no name."""
    known = {value for value, _ in numbers(source)}
    made = [
        f"{value:.15g}" for value, spelled in numbers(text) if value not in known and not (spelled and value <= COUNTED)
    ]
    words = set(_words(source))
    return made + [name for name in _names(text) if name.casefold() not in NO_NAMES and not _known(name, words)]


def _known(name: str, words: set[str]) -> bool:
    return all(part in words for part in _words(name))


def _names(text: str) -> Iterator[str]:
    for sentence in SENTENCE.split(text):
        yield from (word for word in NAME.findall(sentence)[1:] if word[0].isupper())


def _words(text: str) -> list[str]:
    """Lower-cased, without the s of the genitive."""
    return re.findall(r"[^\W_]+", re.sub(r"['’]s\b", "", text.casefold()))
