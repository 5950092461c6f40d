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


Span = tuple[int, int]
"""Where a section begins and ends, in characters."""


def sections(text: str, size: int, count: Callable[[str], int]) -> Iterator[str]:
    """``text`` in pieces of at most ``size`` tokens (16 or more) by ``count``: joined, they are ``text`` again.

    A cut is at the last of the best boundaries in the second half of what fits. Lazy, and linear in the length of what
    is taken: a piece is counted once or twice.
    """
    return (text[start:end] for start, end in spans(text, size, count))


def spans(text: str, size: int, count: Callable[[str], int], overlap: int = 0) -> Iterator[Span]:
    """Where ``sections`` are that have at least the last ``overlap`` tokens of the one before again.

    What is shorter than ``overlap`` is whole in one of them. They go back to the best boundary in half as much again,
    and never over more than half of a section, by characters.
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
        end = start + len(piece)
        yield start, end
        if end == len(text):
            return
        start = _back(text, start, end, overlap, count) if overlap else end


def _back(text: str, start: int, end: int, overlap: int, count: Callable[[str], int]) -> int:
    """Where the section after that from ``start`` to ``end`` begins."""
    first = start + max(1, (end - start) // 2)
    length = min(end - first, overlap)
    while length < end - first and (tokens := count(text[end - length : end])) < overlap:
        length = min(end - first, 1 + int(length * max(1.1, overlap / max(1, tokens))))
    begin = end - length
    return _last_boundary(text, max(first, begin - length // 2), begin)


def _cut(text: str, start: int, end: int) -> int:
    if end >= len(text) or end - start < 2:
        return end
    return _last_boundary(text, start + (end - start) // 2, end)


def _last_boundary(text: str, low: int, high: int) -> int:
    """The last of the best boundaries there; ``high`` if there is none."""
    for boundary in BOUNDARIES:
        places = [found.end() for found in boundary.finditer(text, low, high)]
        if places:
            return places[-1]
    return high
