"""Student's t distribution for whole degrees of freedom, without the library that has it."""

from __future__ import annotations

import math
from functools import cache

LARGEST = 1e9
"""No quantile is looked for beyond it."""


def within(t: float, freedom: int) -> float:
    """The probability of a value from -t to t, for t from 0 (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    even = freedom % 2 == 0
    term = 1.0 if even else cosine
    total = term if freedom > 1 else 0.0
    for step in range(2 if even else 3, freedom, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    return math.sin(angle) * total if even else 2 / math.pi * (angle + math.sin(angle) * total)


@cache
def quantile(probability: float, freedom: int) -> float:
    """The value that is exceeded with 1 - ``probability``, which is from 0.5 to 1. ``freedom``: from 1."""
    low, high = 0.0, LARGEST
    while high - low > 1e-12 * max(1.0, low):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return high
