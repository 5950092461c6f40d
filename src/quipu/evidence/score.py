"""A config's score from 0 to 100 for a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.posterior import DRAWS, draws
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import COVERED, Standing, standings
from quipu.evidence.workload import Workload


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


def scored(snapshot: Snapshot, config: str, workload: Workload) -> Scored:
    """The score of the config with this id; one that the snapshot lacks is unrated."""
    found = standings(snapshot, config, [each for each, weight in workload.weights.items() if weight])
    measured = [each for each in found if each.mean is not None]
    coverage = min(1.0, sum(workload.weights[each.capability] for each in measured))
    rated = coverage >= COVERED - 1e-9
    shares = {each.capability: workload.weights[each.capability] / coverage for each in measured}
    points = {each.capability: 100 * shares[each.capability] * value(each) for each in measured}
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
    """What a capability counts in the bounds: its point, its interval without a point, 0 and 1 if unmeasured."""
    return (found.low, found.high) if found.mean is None else (found.mean, found.mean)


def value(found: Standing) -> float:
    """The point of a capability that has one."""
    assert found.mean is not None
    return found.mean


def _interval(snapshot: Snapshot, config: str, shares: Mapping[str, float], score: float) -> tuple[float, float]:
    """The middle 95 % of what the score may be; a point at the very end of the scale is inside."""
    low, high = np.quantile(100 * drawn(snapshot, config, shares), [0.025, 0.975])
    return min(float(low), score), max(float(high), score)


def drawn(snapshot: Snapshot, config: str, shares: Mapping[str, float]) -> NDArray[np.float64]:
    """float64 [DRAWS]: what the weighted mean may be. Configs that were asked the same probes err alike."""
    total = np.zeros(DRAWS)
    for each, share in shares.items():
        total += share * draws(snapshot.cells[config, each])
    return total
