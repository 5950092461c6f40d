"""Scores from 0 to 100 for a workload, and who is best, as far as that can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import Standing
from quipu.evidence.workload import Workload

COVERED = 0.8
"""Coverage from which on a score is shown."""


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
    raise NotImplementedError


def rank(snapshot: Snapshot, workload: Workload, configs: Sequence[str] | None = None) -> Ranking:
    """All configs of the snapshot, or ``configs`` (ids), in order. The order they are given in changes nothing."""
    raise NotImplementedError
