"""The probes that two configs were both asked, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.intervals import Sample, sample
from quipu.evidence.paired import beside_interval, difference_interval, group_sums, sign_flip
from quipu.evidence.snapshot import Cell, Outcome
from quipu.evidence.standing import THIN


@dataclass(frozen=True)
class Pairing:
    """Shared probes of one capability. Differences are a's score minus b's."""

    pairs: Sequence[tuple[Outcome, Outcome]]
    """By probe."""
    binary: bool

    @property
    def shared(self) -> int:
        """How many there are."""
        return len(self.pairs)

    @property
    def enough(self) -> bool:
        """Whether they are enough to compare."""
        return self.shared >= THIN

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """float64 [shared]."""
        return np.array([a.value - b.value for a, b in self.pairs], np.float64)

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """float64 [groups]: the sum of the differences of each group."""
        return group_sums(self.differences, [a.group for a, _ in self.pairs])

    @cached_property
    def sample(self) -> Sample:
        """Of the differences. Raises ValueError where nothing is shared."""
        return sample(self.differences.tolist(), [a.group for a, _ in self.pairs], binary=self.binary)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 %, of the mean difference; everything where nothing is shared."""
        return difference_interval(self.sample) if self.pairs else (-1.0, 1.0)

    @cached_property
    def p(self) -> float:
        """That two configs which are the same differ so much; above 0.05 where the interval holds 0."""
        return beside_interval(sign_flip(self.sums), self.sample.mean, *self.interval)

    @property
    def square(self) -> float:
        """The mean of squared differences: the discordance of right or wrong."""
        return self.sample.variance + self.sample.mean**2


def pair(a: Cell | None, b: Cell | None) -> Pairing:
    """The shared probes of two cells of one capability; none where either is missing."""
    if a is None or b is None:
        return Pairing((), True)
    shared = sorted(a.outcomes.keys() & b.outcomes.keys())
    return Pairing([(a.outcomes[probe], b.outcomes[probe]) for probe in shared], a.binary and b.binary)
