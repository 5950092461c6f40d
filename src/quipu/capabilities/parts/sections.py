"""A long text as sections that a model can read one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

BOUNDARIES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\n(?=#{1,6} )",  # before a heading
        r"\n[ \t]*\n",
        r"\n",
        r"[.!?।。！？]['\")»”’]*\s",
        r"\s",
    )
)
"""Where a text may be cut, the best first; failing all, between any two characters."""
USUAL = 4.0
"""Characters of a token, to begin with; after that, those of the section before."""


def sections(text: str, size: int, count: Callable[[str], int]) -> Iterator[str]:
    """``text`` in pieces of at most ``size`` tokens (16 or more) by ``count``: joined, they are ``text`` again.

    A cut is at the last of the best boundaries in the second half of what fits. Lazy, and linear in the length of what
    is taken: a piece is counted once or twice.
    """
    start, characters = 0, USUAL
    while start < len(text):
        end = start + max(1, int(size * characters))
        while True:
            piece = text[start : _cut(text, start, end)]
            tokens = max(1, count(piece))
            if tokens <= size:
                break
            end = start + max(1, int(len(piece) * size / tokens * 0.95))
        characters = len(piece) / tokens
        start += len(piece)
        yield piece


def _cut(text: str, start: int, end: int) -> int:
    if end >= len(text) or end - start < 2:
        return end
    half = start + (end - start) // 2
    for boundary in BOUNDARIES:
        places = [found.end() for found in boundary.finditer(text, half, end)]
        if places:
            return places[-1]
    return end
