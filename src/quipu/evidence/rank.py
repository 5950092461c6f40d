"""Who is best for a workload, as far as that can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quipu.evidence.overall import weighted
from quipu.evidence.paired import holm
from quipu.evidence.pairing import pair
from quipu.evidence.score import Scored, Term, drawn, scored, value
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import COVERED, FORMULA, THIN
from quipu.evidence.workload import Workload

__all__ = ["COVERED", "Ranked", "Ranking", "Scored", "Term", "rank", "scored"]


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


def _common(scores: Mapping[str, Scored], rated: Sequence[str]) -> list[str]:
    """The capabilities that all of ``rated`` were measured on."""
    if not rated:
        return []
    measured = [{term.capability for term in scores[each].terms if term.standing.n >= THIN} for each in rated]
    return [term.capability for term in scores[rated[0]].terms if all(term.capability in each for each in measured)]


def _common_score(found: Scored, weights: Mapping[str, float]) -> float:
    return 100 * sum(
        weights[each.capability] * value(each.standing) for each in found.terms if each.capability in weights
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
    totals = np.array([drawn(snapshot, each, weights) for each in order])
    ranks = 1 + (totals[None, :, :] > totals[:, None, :]).sum(axis=1)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=1, method="inverted_cdf")
    best = (ranks == 1).mean(axis=1)
    return {each: (int(low[row]), int(high[row]), float(best[row])) for row, each in enumerate(order)}
