"""Whether two models differ on the probes that both were asked, allowing for probes that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.intervals import Sample, Z, numbered, wilson
from quipu.evidence.student import within

GRID = 1 << 14
"""Steps that the sum of all differences is cut into, where they are not whole."""
FARTHEST = 40.0
"""Standard errors beyond which a probability is 0."""
HALVINGS = 50
"""Steps of a search, after which nothing changes."""
TINY = 1e-12
"""A variance that is 0 but for rounding."""


def sign_flip(sums: NDArray[np.float64]) -> float:
    """How probable it is that sums of differences, one a group, add up to as much as they do if neither side is better.

    Two-sided and exact: of two models that are the same, each group could as well have come out the other way round,
    so all 2^groups signs are equally likely (Fisher, 1935; for groups Gail et al., Statistics in Medicine 15, 1996,
    which is the wild cluster bootstrap with the null imposed of Cameron, Gelbach & Miller, 2008). For right or wrong
    and groups of one it is McNemar's exact test. Nothing is drawn: the distribution is convolved, on a grid where
    sums are not whole.
    """
    sizes = np.abs(sums[np.abs(sums) > TINY])
    if not len(sizes):
        return 1.0
    whole = bool(np.all(sizes == np.round(sizes)))
    unit = 1.0 if whole else float(sizes.sum()) / GRID
    steps = np.round(sizes / unit).astype(np.int64)
    total = int(steps.sum())
    chances = np.zeros(total + 1)  # of the sum of those that are positive
    chances[0] = 1.0
    reached = 0
    for step in steps:
        chances[: reached + 1] *= 0.5
        moved = chances[: reached + 1].copy()
        chances[step : reached + step + 1] += moved
        reached += int(step)
    # Rounding to the grid must not tear apart sums that are the same.
    tolerance = 0.0 if whole else math.sqrt(len(steps))
    observed = abs(float(sums.sum())) / unit - tolerance
    return min(1.0, float(chances[np.abs(2 * np.arange(total + 1) - total) >= observed - 1e-9].sum()))


def beside_interval(p: float, difference: float, low: float, high: float) -> float:
    """``p`` of a ``difference``; where its 95 % interval holds 0 no less than that says, if errors are normal.

    The test asks whether the two could be the same, the interval allows for groups of which no probe was asked. Few
    small differences to one side can be too many for chance and still tell little of the mean.
    """
    if not low <= 0 <= high or difference == 0:
        return p
    reach = difference - low if difference > 0 else high - difference
    return max(p, 2 * NormalDist().cdf(-Z * abs(difference) / reach))


def group_sums(differences: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """The sum of the differences of each group."""
    return np.bincount(numbered(groups), weights=differences).astype(np.float64)


def difference_interval(found: Sample, critical: float | None = None) -> tuple[float, float]:
    """The 95 % interval of the mean of differences from -1 to 1; ``critical`` standard errors instead, if given.

    Of right or wrong Tango's score interval (Statistics in Medicine 17, 1998), as used with clusters by Yang, Sun &
    Hardin (2012); of anything between Wilson's of (1 + difference) / 2. Where no probe came out differently both reach
    from -z^2 / (n + z^2) to z^2 / (n + z^2): that a few probes agree does not show that two models are equal.
    """
    reach = found.critical if critical is None else critical
    if found.binary:
        return _limit(found, reach, -1.0), _limit(found, reach, 1.0)
    low, high = wilson((1 + found.mean) / 2, found.effective, found.variance / 4, reach)
    return 2 * low - 1, 2 * high - 1


def tango(found: Sample, difference: float) -> float:
    """How many standard errors the mean of differences -1, 0 and 1 is above a true ``difference``: Tango's score."""
    n, square = found.effective, found.variance + found.mean**2
    losses = n * max(0.0, square - found.mean) / 2
    wins = losses + n * found.mean
    linear = (2 * n - wins + losses) * difference - wins - losses
    constant = -losses * difference * (1 - difference)
    rate = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * rate + difference * (1 - difference))
    above = n * (found.mean - difference)
    return above / math.sqrt(variance) if variance > TINY else math.copysign(FARTHEST, above) if above else 0.0


def inside(found: Sample, margin: float, reach: float) -> bool:
    """Whether the interval that reaches ``reach`` standard errors lies within ``margin`` of 0."""
    if found.binary:
        return tango(found, -margin) >= reach and -tango(found, margin) >= reach
    low, high = difference_interval(found, reach)
    return -margin <= low and high <= margin


def beyond_margin(found: Sample, margin: float) -> float:
    """How probable so small a difference is if the true one is as large as ``margin``: small means equal.

    Two one-sided tests (Schuirmann, 1987), the larger of them doubled, so that it is at most 0.05 just where the 95 %
    interval lies within the margin.
    """
    low, high = 0.0, FARTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(found, margin, middle) else (low, middle)
    return 2 * NormalDist().cdf(-low) if found.freedom is None else 1 - within(low, found.freedom)


def _limit(found: Sample, reach: float, end: float) -> float:
    """The difference between the mean and ``end`` that is ``reach`` standard errors away; ``end`` if none is."""
    if abs(tango(found, end)) < reach:
        return end
    inside, outside = found.mean, end
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if abs(tango(found, middle)) < reach else (inside, middle)
    return inside


def holm(probabilities: Sequence[float]) -> list[float]:
    """Each probability as it counts among all of them (Holm, 1979), in the order given."""
    adjusted, highest = [0.0] * len(probabilities), 0.0
    for step, place in enumerate(sorted(range(len(probabilities)), key=lambda place: probabilities[place])):
        highest = max(highest, min(1.0, (len(probabilities) - step) * probabilities[place]))
        adjusted[place] = highest
    return adjusted
