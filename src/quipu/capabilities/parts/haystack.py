"""Long documents with facts hidden in them: the prose is made from lists of words, and the facts are arbitrary."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOKENS_PER_WORD = 1.25
"""Of this prose, with its stops and commas, by the tokenizer of SmolLM2; Llama 3's needs fewer."""
SENTENCES_PER_PARAGRAPH = 6


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence hidden in a document, at a depth from 0 (the beginning) to 1, and what one can ask about it."""

    fact: str
    question: str
    value: str
    depth: float


def hide(
    words: Mapping[str, Any], tokens: int, needles: int, kinds: int, random: random.Random
) -> tuple[str, list[Needle]]:
    """A document of about ``tokens`` tokens with ``needles`` facts spread over it; ``words`` is the material.

    Each fact is about someone else. They are of ``kinds`` different kinds: fewer than needles make near misses.
    """
    hidden = _needles(words["needles"], needles, kinds, random)
    left = tokens / TOKENS_PER_WORD - sum(len(needle.fact.split()) for needle in hidden)
    sentences: list[str] = []
    while left > 0:
        sentences.append(_sentence(words, random))
        left -= len(sentences[-1].split())
    for needle in reversed(hidden):
        sentences.insert(round(needle.depth * len(sentences)), needle.fact)
    paragraphs = [
        " ".join(sentences[start : start + SENTENCES_PER_PARAGRAPH])
        for start in range(0, len(sentences), SENTENCES_PER_PARAGRAPH)
    ]
    return "\n\n".join(paragraphs), hidden


def _needles(words: Mapping[str, Any], count: int, different: int, random: random.Random) -> list[Needle]:
    firsts, lasts = random.sample(words["first"], count), random.sample(words["last"], count)
    towns = random.sample(words["town"], count)
    pairs = random.sample(words["word"], 2 * count)
    numbers = random.sample(range(1_000, 10_000), count)
    chosen: Sequence[Mapping[str, str]] = random.sample(words["kinds"], different)
    kinds = random.sample([chosen[place % different] for place in range(count)], count)
    needles = []
    for place in range(count):
        kind = kinds[place]
        filled = {
            "name": f"{firsts[place]} {lasts[place]}",
            "number": str(numbers[place]),
            "town": towns[place],
            "word": pairs[2 * place],
            "word2": pairs[2 * place + 1],
        }
        value = next(each.format(**filled) for each in ("{number}", "{word} {word2}", "{town}") if each in kind["fact"])
        depth = (place + random.random()) / count
        needles.append(Needle(kind["fact"].format(**filled), kind["question"].format(**filled), value, depth))
    return needles


def _sentence(words: Mapping[str, Any], random: random.Random) -> str:
    lists = words["words"]
    chosen = {name: random.choice(lists[name]) for name in lists}
    chosen["person2"] = random.choice(lists["person"])
    chosen["thing2"] = random.choice(lists["thing"])
    chosen["When"] = chosen["when"].capitalize()
    return str(random.choice(words["sentences"])).format(**chosen)
