"""Which of two configs is better for a whole workload."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from quipu.evidence.needed import MOST, POWER, planned
from quipu.evidence.paired import beside_interval, sign_flip
from quipu.evidence.pairing import Pairing
from quipu.evidence.standing import COVERED, THIN
from quipu.evidence.words import points, probability, seen

Verdict = Literal["a better", "b better", "equal", "cannot tell"]
"""``equal`` is within the margin."""


@dataclass(frozen=True, slots=True)
class Overall:
    """The verdict for a workload: the weighted difference over the capabilities that are compared.

    One question of its own, asked at alpha; Holm's correction is for the capabilities one by one.
    """

    verdict: Verdict
    difference: float | None
    """Over the capabilities compared; None when coverage is below 0.8."""
    low: float
    """Of its 95 % interval; -1 and 1 where nothing is compared."""
    high: float
    lower_bound: float
    """Of the difference over the whole workload: what is not compared counts -1 here, and 1 in the upper bound."""
    upper_bound: float
    p: float | None
    coverage: float
    """Weight of the capabilities with at least 20 shared probes."""
    shared: int
    within_margin: bool
    needed: int | None
    """About how many more shared probes, of all capabilities together, would tell; None with a verdict."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Weighted:
    """The weighted mean of the differences of several capabilities."""

    difference: float
    low: float
    high: float
    p: float


def weighted(pairings: Mapping[str, Pairing], weights: Mapping[str, float]) -> Weighted:
    """Over ``pairings``, none of them empty, whose ``weights`` are divided by their sum.

    The test flips groups as `paired.sign_flip` does. The interval is put together from those of the capabilities
    (MOVER: Zou & Donner, Statistics in Medicine 27, 2008).
    """
    total = sum(weights[each] for each in pairings)
    shares = {each: weights[each] / total for each in pairings}
    sums = [shares[each] / pairing.shared * pairing.sums for each, pairing in sorted(pairings.items())]
    difference = sum(shares[each] * pairing.sample.mean for each, pairing in pairings.items())
    below = sum((shares[each] * (pairing.sample.mean - pairing.interval[0])) ** 2 for each, pairing in pairings.items())
    above = sum((shares[each] * (pairing.interval[1] - pairing.sample.mean)) ** 2 for each, pairing in pairings.items())
    # The sign of a sum over one capability is that of its own whole numbers, without a grid.
    p = next(iter(pairings.values())).p if len(pairings) == 1 else sign_flip(np.concatenate(sums))
    low, high = difference - math.sqrt(below), difference + math.sqrt(above)
    return Weighted(difference, low, high, beside_interval(p, difference, low, high))


def overall(pairings: Mapping[str, Pairing], weights: Mapping[str, float], margin: float, alpha: float) -> Overall:
    """The verdict over the capabilities with weight. ``pairings``: by capability; missing ones share no probe."""
    used = {each: pairings[each] for each in sorted(pairings) if weights.get(each, 0) and pairings[each].enough}
    coverage = min(1.0, sum(weights[each] for each in used))
    shared = sum(pairing.shared for pairing in used.values())
    if not used:
        missing, reason = _to_cover(pairings, weights, margin, alpha), "no capability was measured on both"
        return Overall("cannot tell", None, -1.0, 1.0, -1.0, 1.0, None, 0.0, 0, False, missing, reason)
    found = weighted(used, weights)
    covered = coverage >= COVERED - 1e-9
    inside = covered and -margin <= found.low and found.high <= margin
    verdict: Verdict = "cannot tell"
    if covered and found.p <= alpha and found.difference:
        verdict = "a better" if found.difference > 0 else "b better"
    elif inside:
        verdict = "equal"
    needed = None
    if not covered:
        needed = _to_cover(pairings, weights, margin, alpha)
    elif verdict == "cannot tell":
        needed = _more(found, shared, margin, alpha)
    return Overall(
        verdict=verdict,
        difference=found.difference if covered else None,
        low=found.low,
        high=found.high,
        lower_bound=coverage * found.difference - (1 - coverage),
        upper_bound=coverage * found.difference + (1 - coverage),
        p=found.p,
        coverage=coverage,
        shared=shared,
        within_margin=inside,
        needed=needed,
        reason=_reason(verdict, found, shared, coverage, margin),
    )


def _more(found: Weighted, shared: int, margin: float, alpha: float) -> int | None:
    """More shared probes until either verdict, if everything stays as seen: errors shrink with the root of n."""
    normal = NormalDist()
    error = (found.high - found.low) / 2 / normal.inv_cdf(0.975)
    size = abs(found.difference)
    times = [
        ((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)) * error / size) ** 2 if size else math.inf,
        (normal.inv_cdf(0.975) * error / (margin - size)) ** 2 if size < margin else math.inf,
    ]
    more = (min(times) - 1) * shared
    return max(1, math.ceil(more)) if more <= MOST else None


def _to_cover(pairings: Mapping[str, Pairing], weights: Mapping[str, float], margin: float, alpha: float) -> int:
    """Shared probes until enough of the workload is compared, and enough in all to see a difference of the margin."""
    have = {each: pairings[each].shared if each in pairings else 0 for each in weights}
    coverage, missing = 0.0, 0
    for each in sorted(weights, key=lambda each: (-weights[each], have[each])):
        if coverage >= COVERED - 1e-9:
            break
        coverage += weights[each]
        missing += max(0, THIN - have[each])
    return max(missing, planned(margin, alpha) - sum(have[each] for each in weights if weights[each]), 1)


def _reason(verdict: Verdict, found: Weighted, shared: int, coverage: float, margin: float) -> str:
    if coverage < COVERED - 1e-9:
        return f"{100 * coverage:.0f} % of the workload was measured on both; a verdict takes {100 * COVERED:.0f} %"
    told = seen(found.difference, found.low, found.high, shared)
    told += "" if coverage > 1 - 1e-9 else f", over {100 * coverage:.0f} % of the workload"
    if verdict == "equal":
        return f"{told}: within {points(margin)}"
    if verdict == "cannot tell":
        return f"{told}; it may be chance ({probability(found.p)}), or more than {points(margin)}"
    return f"{told}; {probability(found.p)}"
