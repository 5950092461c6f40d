"""What an answer about a picture is worth: how much of a text, a place, or the numbers of a chart is right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from rapidfuzz.distance import Levenshtein

COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "hexagon")
_SAME = {
    "violet": "purple", "disc": "circle", "disk": "circle", "dot": "circle", "round": "circle", "rectangle": "square",
    "plus": "cross", "crosses": "cross",
}  # fmt: skip
TOLERANCE = 0.05
"""Of a number read off a chart: that of ChartQA's relaxed accuracy (Masry et al. 2022)."""
NO_TEXT = 0.5
"""A similarity below this counts as nothing read: the threshold of ANLS (Biten et al. 2019)."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def words_of(text: str, among: Collection[str]) -> list[str]:
    """Those of ``among`` that ``text`` says, in its order: singular, and other names of the same made one."""
    said = (word if word in _SAME or word in among else word.removesuffix("s") for word in _words(text))
    return [word for word in (_SAME.get(each, each) for each in said) if word in among]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def f1(found: Iterable[str], expected: Iterable[str]) -> float:
    """Harmonic mean of the shares that are right of ``found`` and of ``expected``; 1 if both are empty."""
    got, wanted = Counter(found), Counter(expected)
    both, all_of = (got & wanted).total(), got.total() + wanted.total()
    return 2 * both / all_of if all_of else 1.0


def text_similarity(text: str, expected: str) -> float:
    """ANLS: 1 less the edit distance by the longer length, and 0 below NO_TEXT; runs of space count as one."""
    similarity = Levenshtein.normalized_similarity(" ".join(text.split()), " ".join(expected.split()))
    return similarity if similarity >= NO_TEXT else 0.0


def overlap(box: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    union = _area(box) + _area(other) - both
    return both / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def relative_error(value: float, expected: float) -> float:
    """By how much ``value`` is off, as a share of ``expected``; of 0, 0 or infinite."""
    off = abs(value - expected)
    return off / abs(expected) if expected else (float("inf") if off else 0.0)


def values_right(values: Sequence[float], expected: Sequence[float]) -> float:
    """Share of the longer of both whose number at its place is within TOLERANCE."""
    right = sum(relative_error(value, wanted) <= TOLERANCE for value, wanted in zip(values, expected, strict=False))
    return right / max(len(values), len(expected), 1)
