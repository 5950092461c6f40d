"""What a capability's true score may be, as a distribution: for chances, where an interval is not enough."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.intervals import Sample, Z
from quipu.evidence.snapshot import Cell
from quipu.evidence.standing import sample_of

DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Posterior:
    """A Beta distribution: Jeffreys's prior (1/2, 1/2) and what the probes add."""

    alpha: float
    beta: float

    @classmethod
    def of(cls, found: Sample) -> Posterior:
        """Beta(1/2 + successes, 1/2 + failures), of as many right-or-wrong probes as tell what ``found`` tells.

        That number is n over the design effect; less for few groups (Korn & Graubard, Survey Methodology 24, 1998);
        and more where scores spread less than right or wrong would.
        """
        mean, spread = found.mean, found.cautious_variance
        trials = found.effective * (Z / found.critical) ** 2 * (mean * (1 - mean) / spread if spread > 0 else 1.0)
        return cls(0.5 + trials * mean, 0.5 + trials * (1 - mean))


def draws(cell: Cell) -> NDArray[np.float64]:
    """float64 [DRAWS]: what the capability's true score may be. The same each time, whatever else is drawn.

    Each follows the posterior. Cells of one capability are drawn together: where one draw has a probe's group count
    for more, it counts for more in all (a Bayesian bootstrap of groups, Rubin 1981, gives the order; Iman & Conover,
    1982, put another distribution in such an order). So models that fail on the same probes are told apart as well as
    pairs of their answers allow.
    """
    outcomes = [(each.group, each.value) for each in cell.outcomes.values()]
    return _draws(cell.config, cell.capability, Posterior.of(sample_of(cell)), tuple(outcomes))


@lru_cache(maxsize=512)
def _draws(
    config: str, capability: str, posterior: Posterior, outcomes: tuple[tuple[str, float], ...]
) -> NDArray[np.float64]:
    """Kept, because they are the same for every workload. ``outcomes``: group and value of each."""
    groups, places = np.unique([group for group, _ in outcomes], return_inverse=True)
    sums, sizes = np.bincount(places, weights=[value for _, value in outcomes]), np.bincount(places)
    counts = np.array([_counts(capability, str(group)) for group in groups])
    order = (sums @ counts) / (sizes @ counts)
    drawn = _random(config, capability).beta(posterior.alpha, posterior.beta, DRAWS)
    placed = np.empty(DRAWS)
    placed[np.lexsort((drawn, order))] = np.sort(drawn)
    placed.flags.writeable = False
    return placed


@lru_cache(maxsize=4096)
def _counts(capability: str, group: str) -> NDArray[np.float64]:
    """float64 [DRAWS]: how much a group counts in each draw, for any config."""
    return _random(capability, group).exponential(size=DRAWS)


def _random(*names: str) -> np.random.Generator:
    seed = hashlib.sha256("\0".join(names).encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "big"))
