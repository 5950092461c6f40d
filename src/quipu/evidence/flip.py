"""What would turn a verdict: the smallest change of workload, or of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.compare import Judgement
from quipu.evidence.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Shift:
    """The smallest change of weights at which the other one leads."""

    moved: float
    """The share of the workload that moves."""
    weights: Mapping[str, float]
    """By capability uri, as they are then."""
    text: str
    """The same as ``--workload`` takes it."""
    told: str


@dataclass(frozen=True, slots=True)
class Reversal:
    """Probes of one capability that would have to come out otherwise for its verdict to fall (its fragility index)."""

    capability: str
    probes: int
    told: str


@dataclass(frozen=True, slots=True)
class Purchase:
    """Evidence that would bring a verdict where there is none."""

    capability: str
    probes: int
    """About how many more shared probes."""
    available: int
    """Of the capability's set, not yet asked of both."""
    minutes: float | None
    commands: tuple[str, ...]
    told: str


@dataclass(frozen=True, slots=True)
class Flip:
    """What would turn the verdict on two configs."""

    judgement: Judgement
    shift: Shift | None
    """None where no weights turn it: one leads nowhere, or nothing is compared."""
    reversals: tuple[Reversal, ...]
    purchases: tuple[Purchase, ...]
    """Cheapest first."""
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "judgement": self.judgement.as_dict()}


def flip(snapshot: Snapshot, judgement: Judgement, probes: Mapping[str, int]) -> Flip:
    """What would turn ``judgement``, which was made from ``snapshot``. ``probes``: see ``gaps.probe_counts``."""
    raise NotImplementedError
