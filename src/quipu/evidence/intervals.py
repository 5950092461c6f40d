"""How sure a mean of probe scores is: 95 % intervals that allow for probes which are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % bounds; ``effective`` is the number of independent probes that tell as much as ``n``."""

    mean: float
    low: float
    high: float
    n: int
    effective: float
    method: str


def interval(scores: Sequence[float], groups: Sequence[str], *, binary: bool) -> Interval:
    """The interval of the mean of ``scores``, where scores of one group are alike.

    Right or wrong: Wilson with n divided by the design effect. Anything between: a bootstrap that draws whole groups.
    Raises ValueError when there is no score.
    """
    values = np.asarray(scores, np.float64)
    if not len(values):
        raise ValueError("there is no score")
    effect = design_effect(values, groups)
    effective = len(values) / effect
    mean = float(values.mean())
    if binary:
        low, high = wilson(mean, effective)
        method = "Wilson" if effect == 1 else f"Wilson, design effect {effect:.2f}"
    else:
        low, high = bootstrap(values, groups)
        method = f"bootstrap of {len(set(groups))} groups"
    return Interval(mean, low, high, len(values), effective, method)


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927) for a ``rate`` seen in ``n`` trials, at 95 %. ``n`` need not be whole."""
    spread = Z * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    middle, width = rate + Z * Z / (2 * n), 1 + Z * Z / n
    # The bounds of 0 and 1 are themselves, which rounding would miss.
    return (0.0 if rate == 0 else (middle - spread) / width), (1.0 if rate == 1 else (middle + spread) / width)


def bootstrap(values: NDArray[np.float64], groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % percentile interval of the mean when whole groups are drawn with replacement (Davison & Hinkley, 3.8).

    The draws are the same each time.
    """
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(places, weights=values), np.bincount(places)
    chosen = np.random.default_rng(0).integers(0, len(sizes), (DRAWS, len(sizes)))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def design_effect(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    """How many times more the mean varies than that of independent scores; at least 1 (Kish, 1965).

    1 + (m - 1) rho, with the intraclass correlation rho from the analysis of variance and m the mean size of a group
    weighted by size.
    """
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(places)
    n, k = len(values), len(sizes)
    if k in (1, n):
        return 1.0
    means = np.bincount(places, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[places]) ** 2).sum()) / (n - k)
    typical = (n - float((sizes**2).sum()) / n) / (k - 1)
    spread = between + (typical - 1) * within
    correlation = (between - within) / spread if spread > 0 else 0.0
    return max(1.0, 1 + (float((sizes**2).sum()) / n - 1) * correlation)
