"""A problem with one exact answer, and what counts as that answer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Kind = Literal["number", "choice", "order", "date", "time"]
"""A number; one of the options; all of the options in an order; a date as 2024-03-15; a time of day as 14:05."""

Level = Literal[0, 1, 2]
"""Easy, medium, hard."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``answer`` is in the form that the text asks for; ``options`` are what a choice is among."""

    text: str
    answer: str
    kind: Kind = "number"
    options: tuple[str, ...] = ()


Maker = Callable[[random.Random, Level], Problem]
"""Makes a problem of one group."""

NUMBER = re.compile(r"(?<![\w.^])-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,40})?(?:\.\d{1,40})?(?<=\d)(?:\s*/\s*\d{1,40})?")
MIXED = re.compile(r"(?<![\w./])(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})(?![\d/])")
DATE = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
TIME = re.compile(r"\b(\d{1,2}):(\d{2})\b\s*([ap])?\.?m?\b", re.IGNORECASE)


def numbers(text: str) -> list[Fraction]:
    """The numbers in ``text``: 1,000 and 1000.0 are one thousand; 3/4 and 1 3/4 are fractions."""
    found = []
    plain = MIXED.sub(lambda match: f"{int(match[1]) * int(match[3]) + int(match[2])}/{match[3]}", text)
    for match in NUMBER.finditer(plain.replace("−", "-")):
        above, _, below = match[0].replace(",", "").partition("/")
        if above.strip() not in ("", "-") and int(below or 1) != 0:
            found.append(Fraction(above.strip()) / int(below or 1))
    return found


def is_right(answer: str, kind: Kind, right: str, options: Sequence[str]) -> bool:
    """Whether ``answer`` says ``right`` and nothing beside it: two numbers, or two of the options, are no answer."""
    if kind == "number":
        said = numbers(answer.rpartition("=")[2])
        return len(set(said)) == 1 and said[0] == numbers(right)[0]
    if kind == "date":
        return {tuple(map(int, found)) for found in DATE.findall(answer)} == {tuple(map(int, right.split("-")))}
    if kind == "time":
        return {_minutes(*found) for found in TIME.findall(answer)} == {_minutes(right[:2], right[3:])}
    named = re.findall(rf"\b(?:{'|'.join(map(re.escape, options))})\b", answer, re.IGNORECASE)
    mentioned = [name.casefold() for name in named]
    if kind == "choice":
        return set(mentioned) == {right.casefold()}
    return mentioned == [name.casefold() for name in right.split(", ")]


def _minutes(hours: str, minutes: str, half: str = "") -> int:
    """Minutes since midnight; ``half`` is a or p where the clock has twelve hours."""
    hour = int(hours)
    if half:
        hour = hour % 12 + (12 if half.casefold() == "p" else 0)
    return hour * 60 + int(minutes)


def guess(text: str, kind: Kind, options: Sequence[str]) -> str:
    """What one can say without understanding: the last number, the first option that is named, all as they come."""
    if kind == "number":
        said = numbers(text)
        return str(said[-1]) if said else "0"
    if kind in ("date", "time"):
        found = (DATE if kind == "date" else TIME).search(text)
        return found[0] if found else "0"
    return (
        next((option for option in options if option in text), options[0]) if kind == "choice" else ", ".join(options)
    )


def made(makers: Mapping[str, Maker], levels: Sequence[Level]) -> list[tuple[str, Level, Problem]]:
    """For each group its problems, one for each of ``levels``; the same each time, no two of one text."""
    problems = []
    for group, maker in makers.items():
        texts: set[str] = set()
        chance = random.Random(group)
        for level in levels:
            problem = maker(chance, level)
            while problem.text in texts:
                problem = maker(chance, level)
            texts.add(problem.text)
            problems.append((group, level, problem))
    return problems
