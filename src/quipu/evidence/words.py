"""Numbers as they stand in sentences."""

from __future__ import annotations


def points(share: float) -> str:
    """The size of a difference of shares, in points of 100: ``3.4 points``."""
    size = f"{abs(100 * share):.1f}".removesuffix(".0")
    return f"{size} point{'s' if size != '1' else ''}"


def seen(difference: float, low: float, high: float, count: int) -> str:
    """``A scores 3.4 points more than B on 160 shared probes (95 % interval -1.2 to 8.1)``."""
    if f"{abs(100 * difference):.1f}" == "0.0":
        start = "A and B score the same"
    else:
        start = f"A scores {points(difference)} {'more' if difference > 0 else 'less'} than B"
    # Added zeros, so that -0.04 is not -0.0.
    ends = f"{round(100 * low, 1) + 0.0:.1f} to {round(100 * high, 1) + 0.0:.1f}"
    return f"{start} on {probes(count)} (95 % interval {ends})"


def probes(count: int) -> str:
    """``1 shared probe``, ``1,200 shared probes``."""
    return f"{count:,} shared probe{'s' if count != 1 else ''}"


def probability(p: float) -> str:
    """``p = 0.031``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.995 else "p = 1"
