"""How many tokens a number of words may take."""

from __future__ import annotations

import math

LATIN = 0x0250
"""The first code point beyond Latin letters."""


def tokens_for(words: int, like: str) -> int:
    """Tokens that suffice for ``words`` words in the language of ``like``, and for half as many again.

    English takes 1.3 tokens a word, the languages of Europe up to 2; scripts that a small vocabulary spells by bytes
    up to 8.
    """
    beginning = [letter for letter in like[:2000] if letter.isalpha()]
    foreign = sum(ord(letter) >= LATIN for letter in beginning) * 2 > len(beginning)
    return 24 + math.ceil(words * (8 if foreign else 2))
