"""What a capability's true score may be, as a distribution: for chances, where an interval is not enough."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.intervals import Z, Sample

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
        and more where scores spread less than right or wrong would, the spread taken with the prior's two halves.
        """
        n, mean = found.effective * (Z / found.critical) ** 2, found.mean
        prior_mean = (n * mean + 0.5) / (n + 1)
        spread = (n * found.variance + 0.25 + n / (n + 1) * (mean - 0.5) ** 2) / (n + 1)
        trials = n * max(1.0, prior_mean * (1 - prior_mean) / spread)
        return cls(0.5 + trials * mean, 0.5 + trials * (1 - mean))

    def draws(self, name: str) -> NDArray[np.float64]:
        """float64 [DRAWS], the same each time for the same ``name``, whatever else is drawn."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).beta(self.alpha, self.beta, DRAWS)


NOTHING = Posterior(0.5, 0.5)
"""Before any probe."""
