"""Scores from 0 to 100 for a workload, and who is best, as far as that can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.overall import weighted
from quipu.evidence.paired import holm
from quipu.evidence.pairing import pair
from quipu.evidence.posterior import draws
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import COVERED, FORMULA, THIN, Standing, standings
from quipu.evidence.workload import Workload

__all__ = ["COVERED", "Ranked", "Ranking", "Scored", "Term", "rank", "scored"]


@dataclass(frozen=True, slots=True)
class Term:
    """What one capability adds to a score: ``points`` = 100 x weight x value / coverage."""

    capability: str
    weight: float
    standing: Standing
    points: float | None
    """None where the capability counts in the bounds only."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A config's score for a workload, in points from 0 to 100."""

    config: str
    score: float | None
    """None below a coverage of 0.8."""
    low: float | None
    high: float | None
    """Of the 95 % interval of the score; None where there is no score."""
    lower_bound: float
    upper_bound: float
    """With 0 and with 1 for what is not measured."""
    coverage: float
    """Weight of the capabilities with at least 20 probes."""
    n: int
    """Probes of the capabilities with weight."""
    told: str
    """``72.4 (69.1 to 75.5)``, or ``unrated: 35 % of the workload measured; somewhere in 21 to 86``."""
    terms: tuple[Term, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A config's place among those that have a score, over the capabilities measured for all of them."""

    scored: Scored
    tier: int | None
    """From 1; None for a config without a score. One tier: nobody in it can be told from its best."""
    rank_low: int | None
    rank_high: int | None
    """The 95 % interval of the rank, from 1."""
    best: float | None
    """The probability of being the best of all that are ranked."""
    common: float | None
    """The score over the common capabilities alone, which is what the order follows."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """All configs in order: first those with a score, best first, then those without by name."""

    snapshot: int
    snapshot_hash: str
    at: str
    formula: str
    workload: Workload
    common: tuple[str, ...]
    """The capabilities with weight, measured for all that are ranked."""
    rows: tuple[Ranked, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "workload": self.workload.as_dict()}


def scored(snapshot: Snapshot, config: str, workload: Workload) -> Scored:
    """The score of the config with this id; one that the snapshot lacks is unrated."""
    found = standings(snapshot, config, [each for each, weight in workload.weights.items() if weight])
    measured = [each for each in found if each.mean is not None]
    coverage = min(1.0, sum(workload.weights[each.capability] for each in measured))
    rated = coverage >= COVERED - 1e-9
    shares = {each.capability: workload.weights[each.capability] / coverage for each in measured}
    points = {each.capability: 100 * shares[each.capability] * _value(each) for each in measured}
    score = sum(points.values()) if rated else None
    low, high = _interval(snapshot, config, shares, score) if score is not None else (None, None)
    lower, upper = (
        100 * sum(workload.weights[each.capability] * ends(each)[side] for each in found) for side in (0, 1)
    )
    return Scored(
        config=config,
        score=score,
        low=low,
        high=high,
        lower_bound=lower,
        upper_bound=upper,
        coverage=coverage,
        n=sum(each.n for each in found),
        told=f"{score:.1f} ({low:.1f} to {high:.1f})"
        if score is not None
        else f"unrated: {100 * coverage:.0f} % of the workload measured; somewhere in {lower:.0f} to {upper:.0f}",
        terms=tuple(
            Term(
                each.capability, workload.weights[each.capability], each, points.get(each.capability) if rated else None
            )
            for each in found
        ),
    )


def ends(found: Standing) -> tuple[float, float]:
    """What a capability counts in the bounds: its point, its interval where there is no point, 0 and 1 if unmeasured."""
    return (found.low, found.high) if found.mean is None else (found.mean, found.mean)


def rank(snapshot: Snapshot, workload: Workload, configs: Sequence[str] | None = None) -> Ranking:
    """All configs of the snapshot, or ``configs`` (ids), in order. The order they are given in changes nothing."""
    scores = {each: scored(snapshot, each, workload) for each in sorted(configs or snapshot.configs)}
    rated = [each for each, found in scores.items() if found.score is not None]
    common = _common(scores, rated)
    weights = {each: workload.weights[each] / sum(workload.weights[every] for every in common) for each in common}
    values = {each: _common_score(scores[each], weights) for each in rated} if common else {}
    order = sorted(values, key=lambda each: (-values[each], each))
    tiers = _tiers(snapshot, order, weights)
    places = _places(snapshot, order, weights)
    rest = sorted((each for each in scores if each not in values), key=lambda each: (-scores[each].coverage, each))
    return Ranking(
        snapshot=snapshot.number,
        snapshot_hash=snapshot.hash,
        at=snapshot.at,
        formula=FORMULA,
        workload=workload,
        common=tuple(common),
        rows=(
            *(Ranked(scores[each], tiers[each], *places[each], values[each]) for each in order),
            *(Ranked(scores[each], None, None, None, None, None) for each in rest),
        ),
    )


def _value(found: Standing) -> float:
    assert found.mean is not None
    return found.mean


def _interval(snapshot: Snapshot, config: str, shares: Mapping[str, float], score: float) -> tuple[float, float]:
    """The middle 95 % of what the score may be; a point at the very end of the scale is inside."""
    low, high = np.quantile(100 * _drawn(snapshot, config, shares), [0.025, 0.975])
    return min(float(low), score), max(float(high), score)


def _drawn(snapshot: Snapshot, config: str, shares: Mapping[str, float]) -> NDArray[np.float64]:
    """float64 [DRAWS]: what the weighted mean may be. Configs that were asked the same probes err alike."""
    return np.sum([share * draws(snapshot.cells[config, each]) for each, share in shares.items()], axis=0)


def _common(scores: Mapping[str, Scored], rated: Sequence[str]) -> list[str]:
    """The capabilities that all of ``rated`` were measured on."""
    if not rated:
        return []
    measured = [{term.capability for term in scores[each].terms if term.standing.n >= THIN} for each in rated]
    return [term.capability for term in scores[rated[0]].terms if all(term.capability in each for each in measured)]


def _common_score(found: Scored, weights: Mapping[str, float]) -> float:
    return 100 * sum(
        weights[each.capability] * _value(each.standing) for each in found.terms if each.capability in weights
    )


def _tiers(snapshot: Snapshot, order: Sequence[str], weights: Mapping[str, float]) -> dict[str, int]:
    """Each config's tier: with the best that is left, all whose paired difference to it, by Holm, may be 0."""
    tiers: dict[str, int] = {}
    left, tier = list(order), 0
    while left:
        tier += 1
        leader, others = left[0], left[1:]
        adjusted = holm([_difference(snapshot, leader, each, weights) for each in others])
        tiers[leader] = tier
        tiers.update({each: tier for each, p in zip(others, adjusted, strict=True) if p > 0.05})
        left = [each for each in others if each not in tiers]
    return tiers


def _difference(snapshot: Snapshot, a: str, b: str, weights: Mapping[str, float]) -> float:
    """How probable the difference is by chance; 1 where too few probes are shared to tell."""
    pairings = {each: pair(snapshot.cells[a, each], snapshot.cells[b, each]) for each in weights}
    return weighted(pairings, weights).p if all(pairing.enough for pairing in pairings.values()) else 1.0


def _places(
    snapshot: Snapshot, order: Sequence[str], weights: Mapping[str, float]
) -> dict[str, tuple[int, int, float]]:
    """Of each config the 95 % interval of its rank and the probability of being best."""
    if not order:
        return {}
    totals = np.array([_drawn(snapshot, each, weights) for each in order])
    ranks = 1 + (totals[None, :, :] > totals[:, None, :]).sum(axis=1)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=1, method="inverted_cdf")
    best = (ranks == 1).mean(axis=1)
    return {each: (int(low[row]), int(high[row]), float(best[row])) for row, each in enumerate(order)}
