"""Conversations in which things are told and then asked for: probes of memory over turns."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("one fact", "another's", "several facts", "correction")
"""What is asked: the user's own value; somebody else's; one of several; the newest of two."""
FEWEST_TURNS = 2
MOST_TURNS = 12
"""Turns of the user, with the question."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said, the question, its answer, and all values that could be mistaken for it.

    ``said`` are the values of the kind that is asked for, in the order in which the conversation tells them.
    """

    turns: Sequence[tuple[str, str]]
    question: str
    value: str
    rivals: Sequence[str]
    said: Sequence[str]
    kind: str
    fact: str


def conversations(material: dict[str, Any], of_each: int) -> Iterator[Conversation]:
    """``of_each`` conversations of each kind about each fact of ``material`` (see probes/chat.toml)."""
    dice = random.Random(4)
    place = 0
    for fact in material["facts"]:
        for kind in KINDS:
            for _ in range(of_each):
                lengths = MOST_TURNS - FEWEST_TURNS + 1
                yield _conversation(dice, material, fact, kind, FEWEST_TURNS + place * 5 % lengths)
                place += 1


def _conversation(
    dice: random.Random, material: dict[str, Any], fact: dict[str, Any], kind: str, length: int
) -> Conversation:
    mine, theirs, newer = dice.sample(fact["values"], 3)
    told = [[fact["mine"].format(mine)], [fact["theirs"].format(theirs)]]
    if kind == "correction":
        told[0].append(fact["correction"].format(newer))
    if kind == "several facts":
        others = dice.sample([other for other in material["facts"] if other is not fact], 2)
        told += [[other["mine"].format(dice.choice(other["values"]))] for other in others]
    statements = _merged(dice, told)
    turns = _turns(dice, material, statements, length - 1)
    value = {"correction": newer, "another's": theirs}.get(kind, mine)
    question = fact["ask_theirs"] if kind == "another's" else fact["ask"]
    values = [mine, theirs] + ([newer] if kind == "correction" else [])
    told_in_order = " ".join(statements)
    said = sorted(values, key=lambda each: _where(each, told_in_order))
    rivals = [each for each in fact["values"] if each != value]
    return Conversation(turns, question, value, rivals, said, kind, fact["name"])


def _merged(dice: random.Random, sequences: Sequence[Sequence[str]]) -> list[str]:
    """All of ``sequences`` in a random order that keeps the order of each."""
    order = [place for place, sequence in enumerate(sequences) for _ in sequence]
    dice.shuffle(order)
    remaining = [iter(sequence) for sequence in sequences]
    return [next(remaining[place]) for place in order]


def _turns(
    dice: random.Random, material: dict[str, Any], statements: Sequence[str], length: int
) -> list[tuple[str, str]]:
    """``length`` turns of the user, each with its answer: the statements in their order, small talk between."""
    if len(statements) > length:  # told in fewer turns
        joined = " ".join(statements[: len(statements) - length + 1])
        statements = [joined, *statements[len(statements) - length + 1 :]]
    places = set(dice.sample(range(length), len(statements)))
    talk = iter(dice.sample(material["small_talk"], length - len(statements)))
    telling = iter(statements)
    return [
        (next(telling), dice.choice(material["acknowledgements"])) if place in places else tuple(next(talk))
        for place in range(length)
    ]


def named(value: str, text: str) -> bool:
    """Whether ``text`` has ``value`` as whole words, in any case."""
    return _where(value, text) >= 0


def _where(value: str, text: str) -> int:
    """The place of ``value`` in ``text``, as whole words in any case; -1 if it is not there."""
    found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE)
    return -1 if found is None else found.start()
