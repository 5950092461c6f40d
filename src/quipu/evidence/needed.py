"""How many probes would tell: sample sizes for paired comparisons."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

from quipu.evidence.intervals import Sample
from quipu.evidence.paired import inside

POWER = 0.8
"""How often that many probes show a difference as large as the one seen."""
DISCORDANCE = 0.2
"""Share of probes that only one of two passes, as long as nothing was measured."""
MOST = 10**7
"""More probes than this are as good as never."""


def for_difference(difference: float, square: float, alpha: float, effect: float = 1.0) -> int | None:
    """Shared probes after which a difference shows, four times of five (Connor, Biometrics 43, 1987).

    ``square``: the mean of squared differences, which is the discordance for right or wrong; ``effect``: the design
    effect. None where there is no difference to show.
    """
    if difference == 0:
        return None
    normal = NormalDist()
    reach = normal.inv_cdf(1 - alpha / 2) * math.sqrt(square)
    reach += normal.inv_cdf(POWER) * math.sqrt(max(0.0, square - difference * difference))
    count = math.ceil(effect * (reach / difference) ** 2)
    return count if count <= MOST else None


def beyond_interval(count: int, n: int, difference: float, low: float, high: float) -> int | None:
    """``count``, or where more: how many it takes until the 95 % interval of ``n`` probes would no longer hold 0.

    Its ends come nearer with the root of n. None where there is no end to it.
    """
    if low <= 0 <= high:
        reach = difference - low if difference > 0 else high - difference
        count = max(count, math.ceil(min(n * (reach / difference) ** 2, MOST + 1)))
    return count if count <= MOST else None


def for_equality(found: Sample, margin: float, alpha: float) -> int | None:
    """Shared probes after which the interval lies within ``margin``, if everything else stays as seen.

    None where the difference is as large as the margin.
    """
    reach = NormalDist().inv_cdf(1 - alpha / 2)
    effect = found.n / found.effective
    if not _inside(found, MOST, effect, reach, margin):
        return None
    low, high = 0, MOST  # not enough, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _inside(found, middle, effect, reach, margin) else (middle, high)
    return high


def planned(margin: float, alpha: float) -> int:
    """Shared probes that show a difference of ``margin``, when nothing is known but that probes differ sometimes."""
    count = for_difference(margin, max(DISCORDANCE, margin), alpha)
    return MOST if count is None else count


def _inside(found: Sample, n: int, effect: float, reach: float, margin: float) -> bool:
    return inside(replace(found, n=n, effective=n / effect), margin, reach)
